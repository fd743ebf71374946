//! SQS: orders that timed out, closed side by side, each record's body one order.
//!
//! A record is done when its order is closed or can't be. All else is a batch item failure, which SQS retries and, in
//! the end, moves to the dead-letter queue.

use std::borrow::Cow;

use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::http::BODY;
use crate::{
    close_order::{CloseOrder, Invocation},
    fault::Fault,
    order::{Invalid, Order, Problem},
    wechat_pay::Verdict,
};

/// How many orders of a batch are under way at once: SQS's own largest batch without a batching window.
const AT_ONCE: usize = 10;

/// The messages of a batch.
#[derive(Debug)]
pub(super) struct Batch<'a>(Vec<Record<'a>>);

/// One message, as far as it can be read.
#[derive(Debug)]
struct Record<'a> {
    id: Option<Cow<'a, str>>,
    body: Option<Cow<'a, str>>,
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

impl<'a> Batch<'a> {
    /// Takes records for a batch of messages, unless they are those of another service. A record that can't be read is
    /// in the batch too: were the batch no batch, SQS would take its messages for done.
    pub(super) fn parse(records: &'a RawValue) -> Option<Self> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Raw<'a> {
            #[serde(borrow)]
            message_id: Option<&'a RawValue>,
            #[serde(borrow)]
            body: Option<&'a RawValue>,
            #[serde(borrow)]
            event_source: Option<&'a RawValue>,
            /// As SNS spells it.
            #[serde(rename = "EventSource")]
            other_source: Option<IgnoredAny>,
        }

        let text = |raw: Option<&'a RawValue>| raw.and_then(|raw| serde_json::from_str::<Cow<'a, str>>(raw.get()).ok());
        let records: Vec<&'a RawValue> = serde_json::from_str(records.get()).ok()?;
        let is_empty = records.is_empty();
        let mut is_sqs = false;
        let records = records.into_iter().map(|record| {
            let raw = match record.get() {
                object if object.starts_with('{') => serde_json::from_str(object).unwrap_or_default(),
                _ => Raw::default(),
            };
            let source = text(raw.event_source);
            let looks_like_sqs = source.is_none() && raw.other_source.is_none() && raw.message_id.is_some();
            is_sqs |= looks_like_sqs || source.is_some_and(|source| source == "aws:sqs");
            Record { id: text(raw.message_id), body: text(raw.body) }
        });
        let batch = Self(records.collect());
        (is_sqs || is_empty).then_some(batch)
    }
}

/// Closes the orders of a batch.
///
/// # Errors
/// When a message has no id to call it by: then the whole batch has to come back.
pub(super) async fn answer(
    close_order: &CloseOrder,
    Batch(records): &Batch<'_>,
    invocation: Invocation<'_>,
) -> Result<Answer, Fault> {
    if records.iter().any(|record| record.id.is_none()) {
        return Err(Fault::BadInput(Invalid::new("messageId", Problem::Missing)));
    }
    let close = |record| async move { (!is_done(close_order, record, invocation).await).then_some(record) };
    let failed = stream::iter(records).map(close).buffer_unordered(AT_ONCE).filter_map(std::future::ready);
    let fail = |record: &Record<'_>| Failure { item_identifier: record.id.as_deref().unwrap_or_default().to_owned() };
    Ok(Answer { batch_item_failures: failed.map(fail).collect().await })
}

async fn is_done(close_order: &CloseOrder, record: &Record<'_>, invocation: Invocation<'_>) -> bool {
    let order = match &record.body {
        Some(body) => Order::from_json(body, BODY),
        None => Err(Invalid::new(BODY, Problem::NotAnObject)),
    };
    let reply = close_order.close(order, invocation).await;
    reply.is_ok_and(|reply| match reply.verdict() {
        Verdict::Closed | Verdict::AlreadyClosed | Verdict::Paid | Verdict::NotFound => true,
        Verdict::SystemError | Verdict::SignRefused | Verdict::Refused => false,
    })
}
