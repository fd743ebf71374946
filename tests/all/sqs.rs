//! SQS: a batch of orders, closed concurrently; what is not acknowledged is redelivered.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use sandbox::{
    mock::gateway::{Call, Fault, Order, Times, TradeState},
    mock::identity::Identity,
    mock::queue::{self, Queue},
};
use serde_json::{Value, json};

use crate::support::{ORDER, World, beijing_time, event, ms, order, rfc3339, values, world, world_with};

/// A batch of messages with these bodies; the message ids are the bodies' places.
fn batch<'a>(bodies: impl IntoIterator<Item = &'a Value>) -> Value {
    let template = event("sqs")["Records"][0].clone();
    let records = bodies.into_iter().enumerate().map(|(place, body)| {
        let mut record = template.clone();
        record["messageId"] = json!(place.to_string());
        record["body"] = body.clone();
        record
    });
    json!({"Records": records.collect::<Vec<_>>()})
}

fn message(out_trade_no: &str) -> Value {
    json!(order(out_trade_no).to_string())
}

fn failed(answer: &Value) -> BTreeSet<usize> {
    assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
    let failures = answer["batchItemFailures"].as_array().unwrap();
    failures.iter().map(|failure| failure["itemIdentifier"].as_str().unwrap().parse().unwrap()).collect()
}

#[tokio::test]
async fn the_documented_event_is_done() {
    let mut world = world().await;
    world.sandbox.gateway.put_order("ORDERPAID_20261123_0001", TradeState::Success);
    let answer = world.function.invoke(&event("sqs")).await.json();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert_eq!(world.sandbox.gateway.order(crate::support::ORDER), Some(TradeState::Closed));
}

#[tokio::test]
async fn a_message_is_done_when_its_order_is_settled_and_all_else_comes_back() {
    let mut world = world_with(Identity::default(), |function| function.env("WECHAT_PAY_TIMEOUT_MS", "300")).await;
    let gateway = &world.sandbox.gateway;
    gateway.put_order("unpaid", TradeState::NotPay);
    gateway.put_order("closed", TradeState::Closed);
    gateway.put_order("paid", TradeState::Success);
    gateway.put_order("paying", TradeState::UserPaying);
    gateway.put_order("old", TradeState::NotPay);
    gateway.put_order("stuck", Order { closes_not_sticking: Times::Always, ..TradeState::NotPay.into() });
    gateway.put_order("system", TradeState::NotPay);
    gateway.put_order("system_but_paid", TradeState::Success);
    gateway.fault_on_order_call("system_but_paid", Call::CloseOrder, Times::Always, Fault::Error("SYSTEMERROR"));
    gateway.fault_on_order_call("system", Call::CloseOrder, Times::Always, Fault::Error("SYSTEMERROR"));
    gateway.fault_on_order_call("query_down", Call::OrderQuery, Times::Always, Fault::Status(503));
    for (out_trade_no, fault) in [
        ("notexist", Fault::Error("ORDERNOTEXIST")),
        ("sign", Fault::Error("SIGNERROR")),
        ("forged", Fault::Forge),
        ("hangs", Fault::Hang),
        ("rejected", Fault::UnsignedFail("商户号mch_id与appid不匹配")),
    ] {
        gateway.fault_on_order(out_trade_no, Times::Always, fault);
    }
    let mut young = order("young");
    young["time_start"] = json!(beijing_time(-10));
    let mut old = order("old");
    old["time_start"] = json!(beijing_time(-301));
    let messages = [
        (message("unpaid"), true),
        (message("closed"), true),
        (message("paid"), true),
        (message("notexist"), true),
        (message("never_made"), true),
        (message("query_down"), false),
        (message("system_but_paid"), true),
        (json!(old.to_string()), true),
        (message("paying"), false),
        (message("stuck"), false),
        (message("system"), false),
        (message("sign"), false),
        (message("forged"), false),
        (message("hangs"), false),
        (message("rejected"), false),
        (json!(young.to_string()), false),
        (json!("{}"), false),
        (json!("poison"), false),
        (json!(""), false),
        (json!(null), false),
        (json!(1), false),
        (message("an order number that is none"), false),
    ];
    let answer = world.function.invoke(&batch(messages.iter().map(|(body, _)| body))).await.json();
    let expected = messages.iter().enumerate().filter(|(_, (_, is_done))| !is_done).map(|(place, _)| place);
    assert_eq!(failed(&answer), expected.collect());
    world.function.wait_for_lines("no order", 5).await;
    let mut lines = world.function.wait_for_order_lines(messages.len() - 5).await;
    lines.extend(world.function.lines("no order"));
    let ids: BTreeSet<_> = lines.iter().map(|line| line["message_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((lines.len(), ids.len()), (messages.len(), messages.len()), "one line per record");
}

#[tokio::test]
async fn a_batch_of_ten_is_closed_side_by_side() {
    let mut world = world().await;
    world.sandbox.gateway.fault_on_next_calls(Times::Always, Fault::Delay(ms(400)));
    let messages: Vec<Value> = (0..10).map(|n| message(&format!("order{n}"))).collect();
    let invocation = world.function.invoke(&batch(&messages)).await;
    assert_eq!(failed(&invocation.json()), BTreeSet::new());
    assert!(invocation.took < ms(2000), "{:?}", invocation.took);
}

#[tokio::test]
async fn no_more_than_ten_orders_are_under_way_at_once() {
    let mut world = world().await;
    world.sandbox.gateway.fault_on_next_calls(Times::Always, Fault::Delay(ms(300)));
    let messages: Vec<Value> = (0..25).map(|n| message(&format!("order{n}"))).collect();
    let invocation = world.function.invoke(&batch(&messages)).await;
    assert_eq!(failed(&invocation.json()), BTreeSet::new());
    assert!(invocation.took >= ms(900), "three rounds take three delays: {:?}", invocation.took);
    let connections: usize =
        world.sandbox.gateway.endpoints().iter().map(sandbox::mock::gateway::Endpoint::connections).sum();
    assert!(connections <= 10, "{connections}");
}

#[tokio::test]
async fn when_the_time_runs_out_what_is_finished_is_done_and_the_rest_comes_back() {
    let mut world = world().await;
    world.sandbox.gateway.fault_on_order("hangs", Times::Always, Fault::Hang);
    let messages: Vec<Value> =
        (0..10).map(|n| if n == 3 { message("hangs") } else { message(&format!("order{n}")) }).collect();
    let invocation = world.function.invoke_within(&batch(&messages), ms(1500)).await;
    assert_eq!(failed(&invocation.json()), BTreeSet::from([3]), "{invocation:?}");
    assert!(invocation.took < ms(1500));
}

#[tokio::test]
async fn with_everything_down_at_once_every_message_comes_back_in_time() {
    let mut world = world().await;
    for endpoint in world.sandbox.gateway.endpoints() {
        endpoint.go_down().await;
    }
    let messages: Vec<Value> = (0..10).map(|n| message(&format!("order{n}"))).collect();
    let invocation = world.function.invoke_within(&batch(&messages), ms(5000)).await;
    assert_eq!(failed(&invocation.json()), (0..10).collect());
}

#[tokio::test]
async fn a_merchant_whose_every_request_met_the_rate_limit_holds_no_place_in_the_next_batch() {
    let mut world = world().await;
    world.sandbox.gateway.fault_on_next_calls(Times::Always, Fault::RateLimit);
    for is_waited_for in [true, false] {
        world.sandbox.gateway.clear_received();
        let answer = world.function.invoke_within(&batch(&[message("1")]), ms(4000)).await.json();
        assert_eq!(failed(&answer), BTreeSet::from([0]));
        assert_eq!(world.sandbox.gateway.count(Call::CloseOrder) > 1, is_waited_for);
    }
}

#[tokio::test]
async fn without_a_key_a_batch_comes_back_after_one_read_of_the_secret() {
    let mut world = world_with(Identity::default(), |function| function.env("WECHAT_PAY_SECRET_ID", "another")).await;
    let reads = world.sandbox.secrets.reads();
    let messages: Vec<Value> = (0..10).map(|n| message(&format!("order{n}"))).collect();
    let answer = world.function.invoke(&batch(&messages)).await.json();
    assert_eq!(failed(&answer), (0..10).collect());
    assert_eq!(world.sandbox.secrets.reads() - reads, 1, "those who wait share one read, a failed one too");
}

#[tokio::test]
async fn an_empty_batch_has_no_failures() {
    let mut world = world().await;
    assert_eq!(world.function.invoke(&json!({"Records": []})).await.json(), json!({"batchItemFailures": []}));
}

#[tokio::test]
async fn a_record_that_cant_be_read_does_not_make_the_others_done() {
    let mut world = world().await;
    let good = event("sqs")["Records"][0].clone();
    let with_id = json!({"messageId": "odd", "eventSource": "aws:sqs", "body": 1});
    let answer = world.function.invoke(&json!({"Records": [good, with_id]})).await.json();
    assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "odd"}]}));
    for odd in [json!({"eventSource": "aws:sqs", "body": "{}"}), json!({"messageId": null}), json!(1), json!(null)] {
        let invocation = world.function.invoke(&json!({"Records": [good, odd]})).await;
        assert_eq!(invocation.error_type().as_deref(), Some("InvalidBatch"), "the whole batch is redelivered: {odd}");
    }
}

#[tokio::test]
async fn a_batch_without_an_id_says_so_in_the_log_and_sends_nothing() {
    let mut world = world().await;
    let good = event("sqs")["Records"][0].clone();
    world.function.invoke(&json!({"Records": [good, {"eventSource": "aws:sqs", "body": "{}"}]})).await;
    let line = world.function.wait_for_lines("invalid batch", 1).await.remove(0);
    assert_eq!(values(&line, ["level", "reason"]), ["ERROR", "InvalidBatch"], "{line}");
    assert!(line["requestId"].is_string(), "{line}");
    assert!(line["cause"].as_str().unwrap().contains("messageId"), "{line}");
    assert!(world.sandbox.gateway.received().is_empty());
}

#[tokio::test]
async fn an_order_is_confirmed_unless_it_says_otherwise() {
    let mut world = world().await;
    for (confirm, queries) in [(None, 1), (Some(true), 1), (Some(false), 0)] {
        world.sandbox.gateway.put_order("1", TradeState::NotPay);
        world.sandbox.gateway.clear_received();
        let mut body = order("1");
        body["confirm"] = json!(confirm);
        let answer = world.function.invoke(&batch([&json!(body.to_string())])).await.json();
        assert_eq!(failed(&answer), BTreeSet::new());
        assert_eq!(world.sandbox.gateway.count(Call::OrderQuery), queries, "{confirm:?}");
    }
}

#[tokio::test]
async fn an_envelope_in_a_body_comes_back_and_the_log_names_it() {
    let mut world = world().await;
    for (body, named) in [
        (json!({"Type": "Notification", "TopicArn": "arn:aws:sns:::t", "Message": order("1").to_string()}), "SNS"),
        (json!({"detail-type": "Order Outcome", "source": "close-order", "detail": {}}), "EventBridge"),
        (json!({"outcome": "closed", "message_id": "m", "out_trade_no": "1"}), "outcome event"),
    ] {
        let answer = world.function.invoke(&batch([&json!(body.to_string())])).await.json();
        assert_eq!(failed(&answer), BTreeSet::from([0]), "{named}");
    }
    let mut lines = world.function.wait_for_lines("no order", 2).await;
    lines.extend(world.function.wait_for_order_lines(1).await);
    for (line, named) in lines.iter().zip(["$.Message", "EventBridge", "outcome event"]) {
        assert_eq!(values(line, ["outcome", "reason", "message_id"]), ["not_sent", "invalid_input", "0"], "{line}");
        assert!(line["cause"].as_str().unwrap().contains(named), "{line}");
    }
    assert_eq!(lines.len(), 3, "an outcome event has an order number");
    assert!(world.sandbox.gateway.received().is_empty());
}

#[tokio::test]
async fn an_order_that_hangs_does_not_hold_up_the_records_behind_it() {
    let mut world = world().await;
    world.sandbox.gateway.fault_on_order("order0", Times::Always, Fault::Hang);
    let messages: Vec<Value> = (0..20).map(|n| message(&format!("order{n}"))).collect();
    let invocation = world.function.invoke_within(&batch(&messages), ms(4000)).await;
    assert_eq!(failed(&invocation.json()), BTreeSet::from([0]), "{invocation:?}");
}

/// A world whose function has its queues.
async fn world_with_queue() -> (World, Queue) {
    let queue = Queue::start(([127, 0, 0, 1], 0).into(), Duration::from_hours(1), 480).await.unwrap();
    let variables = queue.environment();
    let adapt = |function| variables.into_iter().fold(function, sandbox_env);
    (world_with(Identity::default(), adapt).await, queue)
}

fn sandbox_env(
    function: sandbox::mock::function::FunctionBuilder,
    (name, value): (&str, String),
) -> sandbox::mock::function::FunctionBuilder {
    function.env(name, &value)
}

/// Sends messages, has the function handle them as a batch, and returns the places of those that failed.
async fn deliver(world: &mut World, queue: &Queue, bodies: &[Value]) -> BTreeSet<usize> {
    let text = |body: &Value| body.as_str().map_or_else(|| body.to_string(), str::to_owned);
    let ids: Vec<_> = bodies.iter().map(|body| queue.send(&text(body), Duration::ZERO)).collect();
    let failed = handle(world, queue).await;
    ids.iter().enumerate().filter(|(_, id)| failed.contains(*id)).map(|(place, _)| place).collect()
}

/// Has the function handle what is visible.
async fn handle(world: &mut World, queue: &Queue) -> HashSet<String> {
    let received = queue.receive(10);
    let failed = queue::failed(&world.function.invoke(&queue::event(&received)).await.json()).unwrap();
    queue.finish(&received, Some(&failed));
    failed
}

#[tokio::test]
async fn an_order_stays_in_the_queue_until_its_time_and_is_closed_then() {
    let (mut world, queue) = world_with_queue().await;
    let close_at = rfc3339(7);
    let mut body = order(ORDER);
    body["close_at"] = json!(close_at);
    assert_eq!(deliver(&mut world, &queue, &[body]).await, BTreeSet::from([0]));
    let line = world.function.wait_for_lines("waiting", 1).await.remove(0);
    let expected = [json!("INFO"), json!("1900000109"), json!(ORDER), json!(close_at)];
    assert_eq!(values(&line, ["level", "sub_mch_id", "out_trade_no", "until"]), expected, "{line}");
    assert!(line["message_id"].is_string(), "{line}");
    assert!(world.function.lines("order").is_empty() && world.sandbox.gateway.received().is_empty());

    let visible = queue.next_visible().unwrap();
    assert!(queue.receive(10).is_empty());
    tokio::time::sleep_until(visible).await;
    assert_eq!(handle(&mut world, &queue).await, HashSet::new());
    assert!(rfc3339(0) >= close_at, "not before its time");
    let line = world.order_line(1).await;
    assert_eq!(values(&line, ["outcome", "receives"]), [json!("closed"), json!(2)], "{line}");
    assert!(line["overdue_s"].as_u64().unwrap() < 5, "{line}");
    assert_eq!(queue.left(), (0, 0));
}

#[tokio::test]
async fn an_invalid_order_goes_aside_with_its_reason_and_what_the_secret_contradicts_comes_back() {
    let (mut world, queue) = world_with_queue().await;
    let with = |name: &str, value: &str| {
        let mut body = order("1");
        body[name] = json!(value);
        body
    };
    let bodies = [
        with("out_trade_no", "a b"),
        json!("poison"),
        json!({"detail": order("1")}),
        with("time_start", &beijing_time(3600)),
        with("close_at", "2026-11-28T12:30:00"),
        with("mch_id", "1"),
        json!({"out_trade_no": "1"}),
        order("1"),
    ];
    assert_eq!(deliver(&mut world, &queue, &bodies).await, BTreeSet::from([5, 6]));
    let aside = queue.invalid_orders();
    let reasons = [
        "out_trade_no must be 1 to 32 characters",
        "line 1 column 1",
        "it was found at $.detail",
        "time_start is in the future",
        "close_at must be an RFC 3339 time",
    ];
    assert_eq!(aside.len(), reasons.len(), "{aside:?}");
    for ((aside, body), reason) in aside.iter().zip(&bodies).zip(reasons) {
        assert_eq!(aside.body, body.as_str().map_or_else(|| body.to_string(), str::to_owned));
        assert!(aside.reason.contains(reason), "{aside:?}");
    }
    assert_eq!(world.function.wait_for_lines("no order", 2).await.len(), 2);
    assert_eq!(world.function.wait_for_order_lines(6).await.len(), 6);
}

#[tokio::test]
async fn what_sqs_does_not_take_comes_back_and_the_orders_are_closed_all_the_same() {
    let (mut world, queue) = world_with_queue().await;
    let mut waiting = order("1");
    waiting["close_at"] = json!(rfc3339(600));
    for failure in [queue::Failure::AccessDenied, queue::Failure::Reset, queue::Failure::EveryNth(1)] {
        world.sandbox.gateway.put_order(ORDER, TradeState::NotPay);
        queue.set_failure(Some(failure));
        let bodies = [json!({}), waiting.clone(), order(ORDER)];
        assert_eq!(deliver(&mut world, &queue, &bodies).await, BTreeSet::from([0, 1]), "{failure:?}");
        assert_eq!(world.sandbox.gateway.order(ORDER), Some(TradeState::Closed));
    }
    assert!(queue.invalid_orders().is_empty());
    for message in ["invalid order not set aside", "visibility timeout not changed"] {
        let lines = world.function.wait_for_lines(message, 3).await;
        assert!(lines.len() == 3 && lines.iter().all(|line| line["cause"].is_string()), "{lines:?}");
    }
}

#[tokio::test]
async fn a_record_of_another_queue_is_not_attempted() {
    let (mut world, queue) = world_with_queue().await;
    let _ = queue.send(&order(ORDER).to_string(), Duration::ZERO);
    let mut event = queue::event(&queue.receive(10));
    event["Records"][0]["eventSourceARN"] = json!("arn:aws:sqs:eu-central-1:123456789012:another");
    let answer = world.function.invoke(&event).await.json();
    assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 1, "{answer}");
    let line = world.order_line(1).await;
    let expected = [json!("ERROR"), json!("not_sent"), json!("other_queue"), json!(ORDER)];
    assert_eq!(values(&line, ["level", "outcome", "reason", "out_trade_no"]), expected, "{line}");
    assert!(line["cause"].as_str().unwrap().contains("ORDERS_QUEUE_URL"), "{line}");
    assert!(world.sandbox.gateway.received().is_empty());
}

#[tokio::test]
async fn a_very_large_batch_takes_little_memory() {
    let mut world = world().await;
    world.function.invoke(&order(ORDER)).await;
    let before = world.function.memory_kib("VmHWM").unwrap();
    let messages: Vec<Value> = (0..4000).map(|n| message(&format!("an invalid number {n}"))).collect();
    let event = batch(&messages);
    let size = u64::try_from(event.to_string().len()).unwrap() / 1024;
    let answer = world.function.invoke(&event).await.json();
    assert_eq!(failed(&answer).len(), 4000);
    let grown = world.function.memory_kib("VmHWM").unwrap() - before;
    assert!(grown < 6 * size, "{grown} KiB for a batch of {size} KiB");
}
