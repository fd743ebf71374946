//! What is to be done with a message: close its order, have it wait, set it aside, or leave it alone.

use std::time::SystemTime;

use super::record::Record;
use crate::{
    close_order::{Invocation, Receipt},
    fault::Fault,
    order::{Invalid, InvalidKind, KnownIds, Order, Problem, Wait},
    queue::Queue,
    trigger::{
        event::{BODY, order_in_body},
        shown,
    },
};

const OTHER_QUEUE: Problem = Problem::new(
    "不是环境变量ORDERS_QUEUE_URL所指的队列",
    "is not that of the queue that ORDERS_QUEUE_URL names: the record is not attempted",
);

/// One message of a batch, and what is to be done with it.
#[derive(Debug)]
pub(super) struct Message<'a> {
    /// Its place in the batch.
    pub(super) place: usize,
    pub(super) record: &'a Record,
    pub(super) invocation: Invocation<'a>,
    pub(super) plan: Plan,
}

/// What is to be done with a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Its order is closed, or was found invalid and is delivered again.
    Close(Result<Order, Invalid>),
    /// It stays in the queue until its order's earliest time.
    Wait(KnownIds, Wait),
    /// It goes to the queue of invalid orders.
    SetAside(Invalid),
    /// It is not attempted.
    Reject(Fault),
}

impl<'a> Message<'a> {
    /// Plans what to do with a record; `None` if it has no id.
    pub(super) fn new(
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

    pub(super) fn id(&self) -> &str {
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use std::time::Duration;

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
}
