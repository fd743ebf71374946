//! SQS: orders whose time has come, closed concurrently, each record's body one order.
//!
//! A record is acknowledged (deleted) when its order's outcome is terminal and, with an event bus, its event is published,
//! or when it is invalid and was sent to the queue of invalid orders. All else is a batch item failure, which SQS delivers
//! again: after the queue's visibility timeout, or, if the order's earliest time has not come, at that time.

mod record;

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use serde::Serialize;
use tokio::time::Instant;
use tracing::{error, info, warn};

use self::record::Record;
use super::{
    Function,
    event::{BODY, order_in_body},
    shown,
};
use crate::{
    close_order::{self, Invocation, Receipt},
    concurrent,
    fault::Fault,
    order::{Invalid, InvalidKind, KnownIds, MchId, Order, OutTradeNo, Problem, SubMchId, Wait},
    outcome_events::OutcomeEvent,
    queue::{self, Queue, SetAside},
};

pub(super) use record::Batch;

/// How many orders of a batch are under way at once: SQS's own largest batch without a batching window.
const AT_ONCE: usize = 10;

/// The time that is kept for publishing, and the least that an invocation has for it to be as much: below, it is a third.
const TIME_TO_PUBLISH: Duration = Duration::from_secs(3);
const TIME_FOR_BOTH: Duration = Duration::from_secs(9);

const OTHER_QUEUE: Problem = Problem::new(
    "不是环境变量ORDERS_QUEUE_URL所指的队列",
    "is not that of the queue that ORDERS_QUEUE_URL names: the record is not attempted",
);

/// The answer to SQS: what is to be delivered again.
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

/// One message of a batch, and what is to be done with it.
#[derive(Debug)]
struct Message<'a> {
    /// Its place in the batch.
    place: usize,
    record: &'a Record,
    invocation: Invocation<'a>,
    plan: Plan,
}

/// What is to be done with a message.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// Its order is closed, or was found invalid and is delivered again.
    Close(Result<Order, Invalid>),
    /// It stays in the queue until its order's earliest time.
    Wait(KnownIds, Wait),
    /// It goes to the queue of invalid orders.
    SetAside(Invalid),
    /// It is not attempted.
    Reject(Fault),
}

/// What became of a message.
#[derive(Debug)]
struct Handled<'m> {
    message: &'m Message<'m>,
    is_acknowledged: bool,
    /// What is to be published first.
    event: Option<OutcomeEvent>,
}

/// Closes the orders of a batch and publishes what became of them; has those wait whose time has not come, and sets those
/// aside that are invalid.
///
/// # Errors
/// [`Fault::InvalidBatch`] when a message has no id to report: then the whole batch has to come back, no order of it is
/// looked at, and one log line says so.
pub(super) async fn handle(
    function: &Function,
    batch: &Batch<'_>,
    deadline: Instant,
    invocation: Invocation<'_>,
) -> Result<BatchResponse, Fault> {
    let records = batch.records();
    let orders = close_order::Batch::default();
    let invocation = Invocation { batch: Some(&orders), ..invocation };
    let (queue, now) = (function.queue.as_ref(), SystemTime::now());
    let messages: Option<Vec<Message<'_>>> =
        records.iter().enumerate().map(|(place, record)| Message::new(place, record, queue, now, invocation)).collect();
    let Some(messages) = messages else {
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
    let (mut handled, set_aside, ()) = tokio::join!(
        close(function, &messages, orders_end),
        set_aside(function, &messages, orders_end),
        wait(function, &messages, orders_end),
    );
    function.close_order.end_batch(&orders);
    publish(function, &mut handled, deadline).await;
    let mut is_acknowledged = vec![false; messages.len()];
    for handled in handled.into_iter().chain(set_aside) {
        if let Some(is_acknowledged) = is_acknowledged.get_mut(handled.message.place) {
            *is_acknowledged = handled.is_acknowledged;
        }
    }
    let failed = messages.iter().zip(is_acknowledged).filter(|(_, is_acknowledged)| !is_acknowledged);
    let failure = |(message, _): (&Message<'_>, bool)| Failure { item_identifier: message.id().to_owned() };
    Ok(BatchResponse { batch_item_failures: failed.map(failure).collect() })
}

impl<'a> Message<'a> {
    /// Plans what to do with a record; `None` if it has no id.
    fn new(
        place: usize,
        record: &'a Record,
        queue: Option<&Queue>,
        now: SystemTime,
        invocation: Invocation<'a>,
    ) -> Option<Self> {
        let order = match record.body.as_deref() {
            Some(body) => order_in_body(body),
            None => Err(Invalid::no_order(BODY, Problem::NOT_AN_OBJECT)),
        };
        let earliest = order.as_ref().ok().and_then(Order::earliest);
        let receipt =
            Receipt { receives: record.receives, due_since: earliest.max(record.first_receive), is_set_aside: false };
        let message_id = Some(shown(record.message_id.as_deref()?));
        let invocation = Invocation { message_id, receipt: Some(receipt), ..invocation };
        Some(Self { place, record, invocation, plan: Plan::new(order, record, queue, now) })
    }

    fn id(&self) -> &str {
        self.record.message_id.as_deref().unwrap_or_default()
    }
}

impl Plan {
    fn new(order: Result<Order, Invalid>, record: &Record, queue: Option<&Queue>, now: SystemTime) -> Self {
        let Some(queue) = queue else { return Self::Close(order) };
        if !record.event_source_arn.as_deref().is_some_and(|arn| queue.owns(arn)) {
            let (kind, ids) = match order {
                Ok(order) => (InvalidKind::Contradicted, Box::new(order.ids())),
                Err(invalid) => (invalid.kind, invalid.ids),
            };
            return Self::Reject(Fault::OtherQueue(Invalid {
                field: "eventSourceARN",
                problem: OTHER_QUEUE,
                kind,
                ids,
            }));
        }
        let wait = order.as_ref().map_or(Ok(None), |order| order.wait(now));
        match (order, wait) {
            (Ok(order), Ok(Some(wait))) => Self::Wait(order.ids(), wait),
            (Ok(order), Ok(None)) => Self::Close(Ok(order)),
            // A message without a body can't be sent.
            (Err(invalid), _) | (_, Err(invalid)) => match &record.body {
                Some(body) if queue.takes_invalid_orders() && !body.is_empty() => Self::SetAside(invalid),
                _ => Self::Close(Err(invalid)),
            },
        }
    }
}

/// Closes the orders that are to be closed, and logs those that are not attempted.
async fn close<'m>(function: &Function, messages: &'m [Message<'m>], deadline: Instant) -> Vec<Handled<'m>> {
    concurrent::all(messages.iter().filter_map(|message| close_one(function, message, deadline)), AT_ONCE).await
}

fn close_one<'m>(
    function: &Function,
    message: &'m Message<'m>,
    deadline: Instant,
) -> Option<impl Future<Output = Handled<'m>>> {
    let order = match &message.plan {
        Plan::Close(order) => Ok(order.as_ref()),
        Plan::Reject(fault) => Err(fault.clone()),
        Plan::Wait(..) | Plan::SetAside(_) => return None,
    };
    Some(async move {
        let answer = match order {
            Ok(order) => function.close(order, true, deadline, message.invocation).await,
            Err(fault) => function.close_order.log_fault(fault, message.invocation),
        };
        // Only what is needed is kept: a batch may have thousands of orders.
        let replied = answer.result.as_ref().ok().filter(|_| answer.outcome.is_terminal());
        let event = replied.filter(|_| function.outcome_events.is_some());
        let event = event.map(|replied| OutcomeEvent::new(&answer, replied, message.id()));
        Handled { message, is_acknowledged: replied.is_some(), event }
    })
}

/// Sends invalid orders to their queue. Each has its log line when SQS has answered.
async fn set_aside<'m>(function: &Function, messages: &'m [Message<'m>], deadline: Instant) -> Vec<Handled<'m>> {
    let Some(queue) = &function.queue else { return Vec::new() };
    let mut invalid = Vec::new();
    for message in messages {
        if let Plan::SetAside(why) = &message.plan {
            invalid.push((message, why, why.to_string()));
        }
    }
    let mut entries = Vec::with_capacity(invalid.len());
    for (message, _, reason) in &invalid {
        entries.push(SetAside { body: message.record.body.as_deref().unwrap_or_default(), reason });
    }
    let accepted = queue.set_aside(&entries, deadline).await;
    let mut handled = Vec::with_capacity(accepted.len());
    for ((message, why, _), accepted) in invalid.iter().zip(accepted) {
        let receipt = message.invocation.receipt.map(|receipt| Receipt { is_set_aside: accepted.is_ok(), ..receipt });
        let invocation = Invocation { receipt, ..message.invocation };
        function.close_order.log_fault((*why).clone().into(), invocation);
        if let Err(cause) = &accepted {
            let Invocation { message_id, request_id, .. } = invocation;
            error!(%cause, message_id, requestId = request_id, "invalid order not set aside");
        }
        handled.push(Handled { message, is_acknowledged: accepted.is_ok(), event: None });
    }
    handled
}

/// Has messages stay in the queue until their orders' earliest time: a visibility timeout of their own. If SQS does not
/// accept that, they are delivered again after the queue's.
async fn wait(function: &Function, messages: &[Message<'_>], deadline: Instant) {
    let Some(queue) = &function.queue else { return };
    let mut waiting = Vec::new();
    for message in messages {
        let Plan::Wait(ids, wait) = &message.plan else { continue };
        info!(
            mch_id = ids.mch_id.as_ref().map(MchId::as_str),
            sub_mch_id = ids.sub_mch_id.as_ref().map(SubMchId::as_str),
            out_trade_no = ids.out_trade_no.as_ref().map(OutTradeNo::as_str),
            message_id = message.invocation.message_id,
            until = wait.until(),
            requestId = message.invocation.request_id,
            "waiting"
        );
        let seconds = u32::try_from(wait.seconds()).unwrap_or(u32::MAX);
        let receipt_handle = message.record.receipt_handle.as_deref();
        waiting.extend(receipt_handle.map(|receipt_handle| (message, queue::Wait { receipt_handle, seconds })));
    }
    let entries: Vec<_> = waiting.iter().map(|(_, entry)| *entry).collect();
    let accepted = queue.wait(&entries, deadline).await;
    for ((message, _), accepted) in waiting.into_iter().zip(accepted) {
        if let Err(cause) = accepted {
            let Invocation { message_id, request_id, .. } = message.invocation;
            warn!(%cause, message_id, requestId = request_id, "visibility timeout not changed");
        }
    }
}

/// Publishes what became of the orders, if there is a bus. A message is acknowledged only if its event was accepted.
async fn publish(function: &Function, handled: &mut [Handled<'_>], deadline: Instant) {
    let Some(outcome_events) = &function.outcome_events else { return };
    let mut unpublished = Vec::new();
    let mut events = Vec::new();
    for handled in handled {
        if let Some(event) = handled.event.take() {
            handled.is_acknowledged = false;
            events.push(event);
            unpublished.push(handled);
        }
    }
    let published = outcome_events.publish(&events, deadline).await;
    for (handled, published) in unpublished.into_iter().zip(published) {
        match published {
            Ok(()) => handled.is_acknowledged = true,
            Err(cause) => log_unpublished(handled.message, &cause),
        }
    }
}

fn log_unpublished(message: &Message<'_>, cause: &Cow<'static, str>) {
    let out_trade_no = match &message.plan {
        Plan::Close(Ok(order)) => Some(order.out_trade_no.as_str()),
        _ => None,
    };
    let Invocation { message_id, request_id, .. } = message.invocation;
    error!(%cause, message_id, out_trade_no, requestId = request_id, "outcome event not published");
}

/// How much of the time that is left is kept for `PutEvents`: one order that hangs must not keep the events of the others.
fn time_to_publish(left: Duration) -> Duration {
    if left < TIME_FOR_BOTH { left / 3 } else { TIME_TO_PUBLISH }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{http_client, queue::QueueUrl};

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn queue(takes_invalid_orders: bool) -> Queue {
        let url = |name: &str| QueueUrl::parse(&format!("https://sqs.example/123456789012/{name}")).unwrap();
        let http = http_client::new(rustls::RootCertStore::empty()).unwrap();
        Queue::new(url("orders"), takes_invalid_orders.then(|| url("invalid")), http)
    }

    fn record(body: Option<&Value>) -> Record {
        Record {
            message_id: Some("m".to_owned()),
            body: body.map(|body| body.as_str().map_or_else(|| body.to_string(), str::to_owned)),
            event_source_arn: Some("arn:aws:sqs:eu-central-1:123456789012:orders".to_owned()),
            ..Record::default()
        }
    }

    fn plan(record: &Record, queue: Option<&Queue>) -> Plan {
        Message::new(0, record, queue, NOW, Invocation::default()).unwrap().plan
    }

    #[test]
    fn an_order_waits_is_closed_or_goes_aside_by_what_it_says() {
        let (with, without) = (queue(true), queue(false));
        for (body, expected) in [
            (json!({"out_trade_no": "1"}), "close"),
            (json!({"out_trade_no": "1", "close_at": "1970-01-01T00:00:05Z"}), "close"),
            (json!({"out_trade_no": "1", "close_at": "1970-01-01T00:00:06Z"}), "wait"),
            (json!({"out_trade_no": "1", "time_start": "19700101080000"}), "wait"),
            (json!({"out_trade_no": "1", "close_at": "1970-01-03T00:00:00Z"}), "aside"),
            (json!({"out_trade_no": "1", "time_start": "19700101083000"}), "aside"),
            (json!({"out_trade_no": "a b"}), "aside"),
            (json!({"out_trade_no": null}), "aside"),
            (json!({"detail": {"out_trade_no": "1"}}), "aside"),
            (json!({"outcome": "closed", "message_id": "m", "out_trade_no": "1"}), "aside"),
            (json!("poison"), "aside"),
            (json!([]), "aside"),
            (json!(""), "close invalid"),
        ] {
            let record = record(Some(&body));
            let name = |plan: Plan| match plan {
                Plan::Close(Ok(_)) => "close",
                Plan::Close(Err(_)) => "close invalid",
                Plan::Wait(..) => "wait",
                Plan::SetAside(_) => "aside",
                Plan::Reject(_) => "reject",
            };
            assert_eq!(name(plan(&record, Some(&with))), expected, "{body}");
            let without_aside = if expected == "aside" { "close invalid" } else { expected };
            assert_eq!(name(plan(&record, Some(&without))), without_aside, "{body}");
            assert!(name(plan(&record, None)).starts_with("close"), "without a queue it is delivered again: {body}");
        }
        assert!(matches!(plan(&record(None), Some(&with)), Plan::Close(Err(_))), "nothing that can be sent");
    }

    #[test]
    fn a_record_of_another_queue_is_not_attempted_and_the_log_names_the_order_and_the_variable() {
        let queue = queue(true);
        for arn in [
            None,
            Some("arn:aws:sqs:eu-central-1:123456789012:others"),
            Some("arn:aws:sqs:eu-central-1:210987654321:orders"),
        ] {
            for (body, is_no_order) in [(json!({"outTradeNo": "1"}), false), (json!([]), true)] {
                let record = Record { event_source_arn: arn.map(str::to_owned), ..record(Some(&body)) };
                let Plan::Reject(fault) = plan(&record, Some(&queue)) else { panic!("{arn:?} {body}") };
                assert_eq!((fault.reason(), fault.is_error(), fault.is_no_order()), ("other_queue", true, is_no_order));
                assert!(fault.to_string().contains("ORDERS_QUEUE_URL"), "{fault}");
                assert_eq!(fault.invalid().unwrap().ids.out_trade_no.is_none(), is_no_order);
                assert!(matches!(plan(&record, None), Plan::Close(_)), "without a queue every record is taken");
            }
        }
    }

    #[test]
    fn a_record_is_due_since_its_earliest_time_or_its_first_receive_whichever_is_later() {
        let at = |seconds: u64| NOW + Duration::from_secs(seconds);
        for (body, first_receive, expected) in [
            (json!({"out_trade_no": "1"}), Some(at(7)), Some(at(7))),
            (json!({"out_trade_no": "1", "close_at": "1970-01-01T00:00:09Z"}), Some(at(7)), Some(at(9))),
            (json!({"out_trade_no": "1", "close_at": "1970-01-01T00:00:05Z"}), Some(at(7)), Some(at(7))),
            (json!({"out_trade_no": "1", "close_at": "1970-01-01T00:00:09Z"}), None, Some(at(9))),
            (json!({"out_trade_no": "1", "time_start": "19700101080000"}), Some(at(7)), Some(at(300))),
            (json!({"out_trade_no": "1"}), None, None),
            (json!("poison"), Some(at(7)), Some(at(7))),
        ] {
            let record = Record { first_receive, receives: Some(3), ..record(Some(&body)) };
            let receipt =
                Message::new(0, &record, None, NOW, Invocation::default()).unwrap().invocation.receipt.unwrap();
            assert_eq!((receipt.due_since, receipt.receives), (expected, Some(3)), "{body}");
        }
    }

    #[test]
    fn publishing_has_three_seconds_or_a_third_of_the_time() {
        for (left, expected) in [(60_000, 3000), (9000, 3000), (8999, 2999), (3000, 1000), (0, 0)] {
            let kept = time_to_publish(Duration::from_millis(left));
            assert_eq!(kept.as_millis(), expected, "{left}");
        }
    }
}
