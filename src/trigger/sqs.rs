//! SQS: orders whose time has come, closed concurrently, each record's body one order.
//!
//! A record is acknowledged (deleted) when its order's outcome is terminal and, with an event bus, its event is published,
//! or when it is invalid and was sent to the queue of invalid orders. All else is a batch item failure, which SQS delivers
//! again: after the queue's visibility timeout, or, if the order's earliest time has not come, at that time.

mod message;
mod record;

use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::time::Instant;
use tracing::{error, info, warn};

use self::message::{Message, Plan};
use super::Function;
use crate::{
    close_order::{self, Invocation, Receipt},
    concurrent,
    fault::Fault,
    order::{MchId, OutTradeNo, SubMchId},
    outcome_events::OutcomeEvent,
    queue::{self, SetAside},
};

pub(super) use record::Batch;

/// How many orders of a batch are under way at once: SQS's own largest batch without a batching window.
const AT_ONCE: usize = 10;

/// The time that is kept for publishing, and the least that an invocation has for it to be as much: below, it is a third.
const PUBLISH_RESERVE: Duration = Duration::from_secs(3);
const PUBLISH_RESERVE_IN_FULL: Duration = Duration::from_secs(9);

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
/// [`Fault::InvalidBatch`] when a message has no id to report: then the whole batch is delivered again, no order of it
/// is looked at, and one log line says so.
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
        Some(_) => deadline - publish_reserve(deadline.saturating_duration_since(Instant::now())),
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
            Err(fault) => close_order::log_fault(fault, message.invocation),
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
        close_order::log_fault((*why).clone().into(), invocation);
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

fn log_unpublished(message: &Message<'_>, cause: &str) {
    let out_trade_no = match &message.plan {
        Plan::Close(Ok(order)) => Some(order.out_trade_no.as_str()),
        _ => None,
    };
    let Invocation { message_id, request_id, .. } = message.invocation;
    error!(%cause, message_id, out_trade_no, requestId = request_id, "outcome event not published");
}

/// How much of the time that is left is kept for `PutEvents`: one order that hangs must not keep the events of the others.
fn publish_reserve(left: Duration) -> Duration {
    if left < PUBLISH_RESERVE_IN_FULL { left / 3 } else { PUBLISH_RESERVE }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use lambda_runtime::{Context, LambdaEvent};
    use serde_json::{Value, json, value::RawValue};

    use super::*;
    use crate::{
        aws::{
            Service,
            mock::{self, Behaviour},
        },
        close_order::CloseOrder,
        http_client,
        merchants::{Merchants, SecretId},
        outcome_events::OutcomeEvents,
        queue::{Queue, QueueUrl},
        trigger::tests::Log,
        wechat_pay::{Endpoint, Endpoints, WechatPay},
    };

    /// What SQS was asked, and when.
    type Requests = Arc<Mutex<Vec<(Duration, Value)>>>;

    /// A function whose secret never comes, with queues at a mock of SQS.
    fn function(behave: impl Fn(&Value) -> Behaviour + Send + Sync + 'static) -> (Function, Requests) {
        let http = http_client::new(rustls::RootCertStore::empty()).unwrap();
        let secrets = mock::settings(Service::SecretsManager, |_| Behaviour::Hang);
        let merchants = Merchants::new(SecretId::One("secret".to_owned()), secrets, Duration::from_mins(5));
        let endpoints = Endpoints::new(Endpoint::parse("http://127.0.0.1:9").unwrap(), []);
        let (requests, start) = (Requests::default(), Instant::now());
        let seen = Arc::clone(&requests);
        let sqs = mock::settings(Service::Sqs, move |request| {
            seen.lock().unwrap().push((start.elapsed(), request.clone()));
            behave(request)
        });
        let url = |name: &str| QueueUrl::parse(&format!("https://sqs.example/123456789012/{name}")).unwrap();
        let queue = Queue::with_settings(url("orders"), Some(url("invalid")), sqs);
        let close_order = CloseOrder::new(merchants, WechatPay::new(http), endpoints, Duration::from_secs(5));
        (Function::new(close_order, None, Some(queue)), requests)
    }

    fn record(id: &str, body: &Value, age: u64) -> Value {
        let first_receive = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        let first_receive = first_receive - u128::from(age) * 1000;
        json!({
            "messageId": id, "receiptHandle": format!("handle of {id}"), "body": body.to_string(),
            "attributes": {
                "ApproximateReceiveCount": "7", "ApproximateFirstReceiveTimestamp": first_receive.to_string(),
            },
            "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:orders",
        })
    }

    /// The ids of the failures, and the lines that were logged.
    async fn handle(function: &Function, records: &[Value]) -> (Vec<String>, Vec<String>) {
        handle_within(Duration::from_secs(10), function, records).await
    }

    async fn handle_within(time: Duration, function: &Function, records: &[Value]) -> (Vec<String>, Vec<String>) {
        let log = Log::default();
        let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
        let _logged = tracing::subscriber::set_default(subscriber);
        let event = RawValue::from_string(json!({"Records": records}).to_string()).unwrap();
        let mut context = Context::default();
        let deadline = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + time;
        context.deadline = u64::try_from(deadline.as_millis()).unwrap();
        let answer = function.handle(LambdaEvent::new(event, context)).await.unwrap();
        let answer = serde_json::to_value(answer).unwrap();
        let failures = answer["batchItemFailures"].as_array().unwrap().iter();
        let failures = failures.map(|failure| failure["itemIdentifier"].as_str().unwrap().to_owned()).collect();
        (failures, log.text().lines().map(str::to_owned).collect())
    }

    /// So many seconds from now.
    fn close_at(seconds: u64) -> String {
        let until = time::OffsetDateTime::from(SystemTime::now() + Duration::from_secs(seconds));
        let (date, time) = (until.date(), until.time());
        format!("{date}T{:02}:{:02}:{:02}Z", time.hour(), time.minute(), time.second())
    }

    /// The ids of the entries of a call, all of them accepted but the last, which SQS does not mention.
    fn all_but_the_last(request: &Value) -> Behaviour {
        let entries = request["Entries"].as_array().unwrap();
        let accepted: Vec<_> = entries[..entries.len() - 1]
            .iter()
            .map(|entry| json!({"Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": "0"}))
            .collect();
        Behaviour::Answer(200, json!({"Successful": accepted, "Failed": []}))
    }

    #[tokio::test(start_paused = true)]
    async fn records_wait_and_go_aside_beside_the_closes_and_only_what_sqs_accepted_is_acknowledged() {
        let (function, requests) = function(all_but_the_last);
        let order = json!({"out_trade_no": "1"});
        let mut other = record("other", &order, 0);
        other["eventSourceARN"] = json!("arn:aws:sqs:eu-central-1:123456789012:others");
        let mut soon = order.clone();
        soon["close_at"] = json!(close_at(600));
        let mut later = order.clone();
        later["close_at"] = json!(close_at(80_000));
        let records = [
            record("closing", &order, 0),
            record("invalid 1", &json!({"out_trade_no": "a b"}), 0),
            record("soon", &soon, 0),
            other,
            record("invalid 2", &json!({"detail": order}), 0),
            record("later", &later, 0),
            record("invalid 3", &json!([]), 0),
        ];
        let start = Instant::now();
        let (failures, lines) = handle(&function, &records).await;
        assert_eq!(failures, ["closing", "soon", "other", "later", "invalid 3"]);

        let mut requests = requests.lock().unwrap().clone();
        requests.sort_by_key(|(_, request)| request["QueueUrl"].to_string());
        let [(aside_at, aside), (wait_at, wait)] = requests.as_slice() else { panic!("{requests:?}") };
        assert!(aside_at.is_zero() && wait_at.is_zero() && start.elapsed() > Duration::from_secs(1), "{requests:?}");
        assert_eq!(aside["QueueUrl"], "https://sqs.example/123456789012/invalid");
        let first = &aside["Entries"][0];
        assert_eq!(first["MessageBody"], records[1]["body"], "as it is");
        let reason = first["MessageAttributes"]["reason"]["StringValue"].as_str().unwrap();
        assert_eq!(reason, "out_trade_no must be 1 to 32 characters of 0-9 A-Z a-z _ - | * @");
        assert_eq!(wait["QueueUrl"], "https://sqs.example/123456789012/orders");
        assert_eq!(wait["Entries"][0]["ReceiptHandle"], "handle of soon");
        assert!((598..=600).contains(&wait["Entries"][0]["VisibilityTimeout"].as_u64().unwrap()), "{wait}");
        assert_eq!(wait["Entries"][1]["VisibilityTimeout"], 43_000, "SQS allows 12 hours");

        let of = |parts: &[&str]| lines.iter().filter(|line| parts.iter().all(|part| line.contains(part))).count();
        for (parts, count) in [
            (&["INFO", " waiting ", "out_trade_no=\"1\"", "message_id=\"soon\"", "until="][..], 1),
            (&["INFO", " waiting ", "message_id=\"later\""], 1),
            (&["WARN", " visibility timeout not changed ", "message_id=\"later\"", "did not mention"], 1),
            (&["ERROR", " order ", "reason=\"other_queue\"", "ORDERS_QUEUE_URL", "message_id=\"other\""], 1),
            (&["WARN", " order ", "reason=\"invalid_input\"", "message_id=\"invalid 1\""], 1),
            (&["WARN", " no order ", "reason=\"invalid_input\"", "message_id=\"invalid 2\"", "$.detail"], 1),
            (&["WARN", " no order ", "message_id=\"invalid 3\""], 1),
            (&["ERROR", " invalid order not set aside ", "message_id=\"invalid 3\"", "did not mention"], 1),
            (&["ERROR", " order ", "CredentialsUnavailable", "message_id=\"closing\"", "receives=7"], 1),
            (&["not set aside"], 1),
            (&["receives=7"], 5),
        ] {
            assert_eq!(of(parts), count, "{parts:?}: {lines:#?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn if_sqs_does_not_answer_every_message_is_delivered_again_in_time() {
        let denied = Behaviour::Answer(403, json!({"__type": "AccessDenied"}));
        let time = Duration::from_secs(2);
        for (behaviour, has_bus, within) in [
            (Behaviour::Lost, false, time),
            (denied, false, time),
            (Behaviour::Hang, false, time),
            // The time for publishing is not SQS's.
            (Behaviour::Hang, true, time * 2 / 3),
        ] {
            let (mut function, _) = function(move |_| behaviour.clone());
            let http = http_client::new(rustls::RootCertStore::empty()).unwrap();
            function.outcome_events = has_bus.then(|| OutcomeEvents::new("bus".to_owned(), http));
            let waiting = json!({"out_trade_no": "1", "close_at": close_at(600)});
            let records = [record("waiting", &waiting, 0), record("invalid", &json!({}), 0)];
            let start = Instant::now();
            let (failures, lines) = handle_within(time, &function, &records).await;
            assert_eq!(failures, ["waiting", "invalid"]);
            assert!(start.elapsed() <= within, "{:?}", start.elapsed());
            for text in ["visibility timeout not changed", "invalid order not set aside", " waiting ", " no order "] {
                assert_eq!(lines.iter().filter(|line| line.contains(text)).count(), 1, "{text}: {lines:#?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_that_fails_half_an_hour_after_it_was_due_is_stuck() {
        let (function, _) = function(|request| {
            let id = &request["Entries"][0]["Id"];
            Behaviour::Answer(200, json!({"Successful": [{"Id": id, "MessageId": "m", "MD5OfMessageBody": "0"}]}))
        });
        let order = json!({"out_trade_no": "1"});
        // Clocks may differ by five seconds, and so a little ahead is due, and its delay none.
        let mut due_later = order.clone();
        due_later["close_at"] = json!(close_at(3));
        for (body, age, expected) in [
            (&order, 1600, "overdue_s=1600"),
            (&order, 1620, "stuck=true"),
            (&order, 86_000, "stuck=true"),
            (&due_later, 86_000, "overdue_s=0"),
            (&json!({}), 1620, "overdue_s=1620"),
        ] {
            let (_, lines) = handle(&function, &[record("m", body, age)]).await;
            let line = lines.last().unwrap();
            assert!(line.contains(expected), "{body} {age}: {lines:?}");
            assert_eq!(line.contains("stuck"), expected.starts_with("stuck"), "{body} {age}: {lines:?}");
        }
    }

    #[tokio::test]
    async fn a_message_id_is_cut_in_the_log_and_whole_in_the_answer() {
        let (function, _) = function(|_| Behaviour::Lost);
        let id = "m".repeat(1000);
        let (failures, lines) = handle(&function, &[record(&id, &json!({}), 0)]).await;
        assert_eq!(failures, [id]);
        let cut = format!("message_id=\"{}\"", "m".repeat(128));
        assert!(lines.iter().all(|line| line.contains(&cut)), "{lines:?}");
    }

    #[test]
    fn publishing_has_three_seconds_or_a_third_of_the_time() {
        for (left, expected) in [(60_000, 3000), (9000, 3000), (8999, 2999), (3000, 1000), (0, 0)] {
            let kept = publish_reserve(Duration::from_millis(left));
            assert_eq!(kept.as_millis(), expected, "{left}");
        }
    }
}
