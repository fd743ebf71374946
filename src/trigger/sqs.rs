//! SQS: orders that timed out, closed side by side, each record's body one order.
//!
//! A record is done when its order is closed or can't be. All else is a batch item failure, which SQS retries and, in
//! the end, moves to the dead-letter queue.

use std::borrow::Cow;

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::http::BODY;
use crate::{
    close_order::{CloseOrder, Invocation},
    order::{Invalid, Order, Problem},
    wechat_pay::Verdict,
};

/// How many orders of a batch are under way at once: SQS's own largest batch without a batching window.
const AT_ONCE: usize = 10;

/// One message.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record<'a> {
    #[serde(borrow)]
    message_id: Cow<'a, str>,
    #[expect(dead_code, reason = "that it parses is the check")]
    event_source: Source,
    #[serde(default)]
    body: Value,
}

/// The services whose records are orders.
#[derive(Deserialize)]
enum Source {
    #[serde(rename = "aws:sqs")]
    Sqs,
}

/// The answer to SQS: what is to come back.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    batch_item_failures: Vec<Failure>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    item_identifier: String,
}

pub(super) async fn answer(close_order: &CloseOrder, records: &[Record<'_>], invocation: Invocation<'_>) -> Answer {
    let close = |record| async move { (!is_done(close_order, record, invocation).await).then_some(record) };
    let failed = stream::iter(records).map(close).buffer_unordered(AT_ONCE).filter_map(std::future::ready);
    let fail = |record: &Record<'_>| Failure { item_identifier: record.message_id.clone().into_owned() };
    Answer { batch_item_failures: failed.map(fail).collect().await }
}

async fn is_done(close_order: &CloseOrder, record: &Record<'_>, invocation: Invocation<'_>) -> bool {
    let order = match &record.body {
        Value::String(body) => Order::from_json(body, BODY),
        _ => Err(Invalid::new(BODY, Problem::NotAnObject)),
    };
    let reply = close_order.close(order, invocation).await;
    reply.is_ok_and(|reply| match reply.verdict() {
        Verdict::Closed | Verdict::AlreadyClosed | Verdict::Paid | Verdict::NotFound => true,
        Verdict::SystemError | Verdict::SignRefused | Verdict::Refused => false,
    })
}
