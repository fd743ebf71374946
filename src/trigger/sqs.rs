//! SQS: orders that timed out, closed side by side, each record's body one order.
//!
//! A record is done when its order is settled and, with an event bus, its event is published. All else is a batch item
//! failure, which SQS delivers again and, in the end, moves to the dead-letter queue.

use std::time::Duration;

use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::error;

use super::{
    Function,
    event::{BODY, order_in_body},
    shown,
};
use crate::{
    answer::Answer,
    close_order::{self, Invocation},
    concurrent,
    fault::Fault,
    order::{Invalid, Problem},
    outcome_events::OutcomeEvent,
};

/// How many orders of a batch are under way at once: SQS's own largest batch without a batching window.
const AT_ONCE: usize = 10;

/// The time that is kept for publishing, and the least that an invocation has for it to be as much: below, it is a third.
const TIME_TO_PUBLISH: Duration = Duration::from_secs(3);
const TIME_FOR_BOTH: Duration = Duration::from_secs(9);

/// The most messages of a batch
/// (<https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html>).
const MAX_RECORDS: usize = 10_000;

/// The messages of a batch, which are read one by one.
#[derive(Debug)]
pub(super) struct Batch<'a>(Vec<&'a RawValue>);

/// One message, as far as it can be read.
#[derive(Debug, Default)]
struct Record {
    message_id: Option<String>,
    body: Option<String>,
    /// Whether it is one of SQS's, and not another service's.
    is_of_sqs: bool,
}

/// The answer to SQS: what is to come back.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchResponse {
    batch_item_failures: Vec<Failure>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    item_identifier: String,
}

impl<'a> Batch<'a> {
    /// Takes `Records` for a batch of messages, unless they are those of another service. A record that can't be read is
    /// in the batch, too: were the batch no batch, SQS would take its messages for done.
    pub(super) fn of(records: &'a RawValue) -> Option<Self> {
        let records: Vec<&RawValue> = serde_json::from_str(records.get()).ok()?;
        let is_batch = records.len() <= MAX_RECORDS
            && (records.is_empty() || records.iter().any(|record| Record::read(record).is_of_sqs));
        is_batch.then_some(Self(records))
    }
}

impl Record {
    fn read(record: &RawValue) -> Self {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct RawRecord<'a> {
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

        let text = |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str::<String>(raw.get()).ok());
        // A derived struct can be read from a list, too.
        if !record.get().starts_with('{') {
            return Self::default();
        }
        let raw: RawRecord<'_> = serde_json::from_str(record.get()).unwrap_or_default();
        let is_of_sqs = match text(raw.event_source) {
            Some(source) => source == "aws:sqs",
            None => raw.other_source.is_none() && (raw.message_id.is_some() || raw.body.is_some()),
        };
        Self { message_id: text(raw.message_id), body: text(raw.body), is_of_sqs }
    }
}

/// Closes the orders of a batch and publishes what became of them.
///
/// # Errors
/// [`Fault::InvalidBatch`] when a message has no id to report: then the whole batch has to come back, no order of it is
/// looked at, and one log line says so.
pub(super) async fn handle(
    function: &Function,
    Batch(records): &Batch<'_>,
    deadline: Instant,
    invocation: Invocation<'_>,
) -> Result<BatchResponse, Fault> {
    let records: Vec<Record> = records.iter().map(|record| Record::read(record)).collect();
    let records: Option<Vec<_>> =
        records.iter().map(|record| Some((record.message_id.as_deref()?, record.body.as_deref()))).collect();
    let Some(records) = records else {
        error!(
            reason = Fault::InvalidBatch.reason(),
            cause = %Fault::InvalidBatch,
            requestId = invocation.request_id,
            "invalid batch"
        );
        return Err(Fault::InvalidBatch);
    };
    let orders_end = match &function.outcome_events {
        None => deadline,
        Some(_) => deadline - time_to_publish(deadline.saturating_duration_since(Instant::now())),
    };
    let batch = close_order::Batch::default();
    let close = |&(message_id, body): &(_, Option<&_>)| {
        let order = match body {
            Some(body) => order_in_body(body),
            None => Err(Invalid::no_order(BODY, Problem::NOT_AN_OBJECT)),
        };
        let invocation = Invocation { message_id: Some(shown(message_id)), batch: Some(&batch), ..invocation };
        function.close_order.close(order, true, orders_end, invocation)
    };
    let answers: Vec<Answer> = concurrent::all(records.iter().map(close), AT_ONCE).await;
    let ids = records.iter().map(|(message_id, _)| *message_id);
    let is_done = publish(function, ids.clone().zip(&answers), deadline, invocation).await;
    let failed = ids.zip(is_done).filter(|(_, is_done)| !is_done);
    let batch_item_failures = failed.map(|(id, _)| Failure { item_identifier: id.to_owned() }).collect();
    Ok(BatchResponse { batch_item_failures })
}

/// Says for each message whether it is done, and publishes what became of those that are, if there is a bus.
async fn publish<'a>(
    function: &Function,
    answers: impl Iterator<Item = (&'a str, &'a Answer)> + Clone,
    deadline: Instant,
    invocation: Invocation<'_>,
) -> Vec<bool> {
    let settled = |answer: &'a Answer| answer.result.as_ref().ok().filter(|_| answer.outcome.is_terminal());
    let mut is_done: Vec<bool> = answers.clone().map(|(_, answer)| settled(answer).is_some()).collect();
    let Some(outcome_events) = &function.outcome_events else { return is_done };
    let settled: Vec<_> =
        answers.filter_map(|(message_id, answer)| Some((message_id, answer, settled(answer)?))).collect();
    let events: Vec<_> =
        settled.iter().map(|(message_id, answer, replied)| OutcomeEvent::new(answer, replied, message_id)).collect();
    let published = outcome_events.publish(&events, deadline).await;
    let done = is_done.iter_mut().filter(|is_done| **is_done);
    for ((is_done, (message_id, _, replied)), published) in done.zip(settled).zip(published) {
        if let Err(cause) = published {
            *is_done = false;
            error!(
                cause = %cause,
                message_id,
                out_trade_no = replied.ids.out_trade_no,
                requestId = invocation.request_id,
                "outcome event not published"
            );
        }
    }
    is_done
}

/// How much of the time that is left is kept for `PutEvents`: one order that hangs must not keep the events of the others.
fn time_to_publish(left: Duration) -> Duration {
    if left < TIME_FOR_BOTH { left / 3 } else { TIME_TO_PUBLISH }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishing_has_three_seconds_or_a_third_of_the_time() {
        for (left, expected) in [(60_000, 3000), (9000, 3000), (8999, 2999), (3000, 1000), (0, 0)] {
            let kept = time_to_publish(Duration::from_millis(left));
            assert_eq!(kept.as_millis(), expected, "{left}");
        }
    }
}
