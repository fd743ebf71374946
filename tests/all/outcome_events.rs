//! Outcome events: what became of each order that leaves the queue.

use std::collections::BTreeSet;

use sandbox::{
    Sandbox,
    mock::event_bus::{BUS, Failure},
    mock::gateway::{Fault, Order, Times, TradeState, transaction_id},
    mock::identity::Identity,
};
use serde_json::{Value, json};

use crate::support::{World, event, ms, order, values};

async fn world() -> World {
    world_as(Identity::default()).await
}

async fn world_as(identity: Identity) -> World {
    let sandbox = Sandbox::start_as(identity).await.unwrap();
    let function = sandbox.function_with_events(env!("CARGO_BIN_EXE_close-order")).start().await.unwrap();
    World { sandbox, function }
}

fn batch(numbers: &[String]) -> Value {
    let template = event("sqs")["Records"][0].clone();
    let record = |number: &String| {
        let mut record = template.clone();
        record["messageId"] = json!(format!("message of {number}"));
        record["body"] = json!(order(number).to_string());
        record
    };
    json!({"Records": numbers.iter().map(record).collect::<Vec<_>>()})
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("order{n}")).collect()
}

fn failed(answer: &Value) -> BTreeSet<String> {
    let failures = answer["batchItemFailures"].as_array().unwrap();
    failures.iter().map(|failure| failure["itemIdentifier"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_event_says_what_became_of_its_order_and_nothing_of_the_payer() {
    let mut world = world().await;
    let gateway = &world.sandbox.gateway;
    gateway.put_order("unpaid", TradeState::NotPay);
    gateway.put_order("paid", TradeState::Success);
    let numbers = ["unpaid", "paid", "nobody"].map(str::to_owned);
    let answer = world.function.invoke(&batch(&numbers)).await.json();
    assert_eq!(failed(&answer), BTreeSet::new());
    assert_eq!(world.sandbox.events.calls(), [3], "one call");
    let mut events = world.sandbox.events.events();
    for event in &events {
        assert_eq!([&*event.bus, &event.source, &event.detail_type], [BUS, "close-order", "Order Outcome"]);
    }
    let paid = events.remove(1).detail;
    let identity = Identity::default();
    let expected = json!({
        "outcome": "paid", "confirmed": true, "err_code": "ORDERPAID", "trade_state": "SUCCESS",
        "mch_id": identity.mch_id, "sub_mch_id": "1900000109", "out_trade_no": "paid", "message_id": "message of paid",
        "transaction_id": transaction_id("paid"), "total_fee": "10", "fee_type": "CNY", "time_end": paid["time_end"],
    });
    assert_eq!(paid, expected);
    let others: Vec<_> = events.iter().map(|event| &event.detail).collect();
    assert_eq!(values(others[0], ["outcome", "trade_state"]), ["closed", "CLOSED"]);
    assert_eq!(values(others[1], ["outcome", "err_code"]), ["not_found", "ORDERNOTEXIST"]);
}

#[tokio::test]
async fn an_ordinary_merchant_s_event_has_no_sub_merchant() {
    let mut world = world_as(Identity::merchant()).await;
    let record = json!({"messageId": "m", "eventSource": "aws:sqs", "body": json!({"out_trade_no": "1"}).to_string()});
    world.function.invoke(&json!({"Records": [record]})).await;
    let event = world.sandbox.events.events().remove(0).detail;
    assert_eq!((event.get("sub_mch_id"), &event["mch_id"]), (None, &json!(Identity::merchant().mch_id)));
}

#[tokio::test]
async fn events_are_published_in_groups_of_ten() {
    let mut world = world().await;
    let numbers = numbers(25);
    for number in &numbers {
        world.sandbox.gateway.put_order(number, TradeState::NotPay);
    }
    let answer = world.function.invoke(&batch(&numbers)).await.json();
    assert_eq!(failed(&answer), BTreeSet::new());
    let mut calls = world.sandbox.events.calls();
    calls.sort_unstable();
    assert_eq!(calls, [5, 10, 10]);
    let published: BTreeSet<_> = world
        .sandbox
        .events
        .events()
        .iter()
        .map(|event| event.detail["out_trade_no"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(published, numbers.into_iter().collect());
}

#[tokio::test]
async fn only_orders_that_leave_the_queue_are_published() {
    let mut world = world().await;
    let gateway = &world.sandbox.gateway;
    gateway.put_order("stuck", Order { closes_not_sticking: Times::Always, ..TradeState::NotPay.into() });
    gateway.fault_on_order("forged", Times::Always, Fault::Forge);
    let numbers = ["stuck", "forged", "not a number"].map(str::to_owned);
    let answer = world.function.invoke(&batch(&numbers)).await.json();
    assert_eq!(failed(&answer).len(), 3);
    world.function.invoke(&order("1")).await;
    world.function.invoke(&event("function-url")).await;
    assert!(world.sandbox.events.calls().is_empty(), "nor are direct and HTTP calls");
}

#[tokio::test]
async fn a_message_whose_event_is_not_accepted_comes_back_and_is_published_later() {
    let mut world = world().await;
    let numbers = numbers(10);
    for (failure, cause) in [
        (Failure::InternalError, "InternalException"),
        (Failure::AccessDenied, "AccessDeniedException"),
        (Failure::Throttled, "ThrottlingException"),
        (Failure::Hang, "did not answer in time"),
    ] {
        world.sandbox.events.set_failure(Some(failure));
        let before = world.function.lines("outcome event not published").len();
        let invocation = world.function.invoke_within(&batch(&numbers), ms(6000)).await;
        assert_eq!(failed(&invocation.json()).len(), 10, "{failure:?}: {invocation:?}");
        let lines = world.function.wait_for_lines("outcome event not published", before + 10).await;
        assert_eq!(lines.len(), before + 10, "one line per record");
        let line = lines.last().unwrap();
        assert!(line["cause"].as_str().unwrap().contains(cause), "{failure:?}: {line}");
        assert!(line["level"] == "ERROR" && line["message_id"].is_string() && line["requestId"].is_string(), "{line}");
    }
    world.sandbox.events.set_failure(None);
    let answer = world.function.invoke(&batch(&numbers)).await.json();
    assert_eq!(failed(&answer), BTreeSet::new());
    assert_eq!(world.sandbox.events.events().len(), 10);
}

#[tokio::test]
async fn of_a_call_that_is_accepted_in_part_only_the_rest_comes_back() {
    let mut world = world().await;
    world.sandbox.events.set_failure(Some(Failure::EveryNth(3)));
    let answer = world.function.invoke(&batch(&numbers(10))).await.json();
    let published: BTreeSet<_> = world
        .sandbox
        .events
        .events()
        .iter()
        .map(|event| event.detail["message_id"].as_str().unwrap().to_owned())
        .collect();
    let failed = failed(&answer);
    assert_eq!(failed.len(), 3, "{answer}");
    assert!(published.is_disjoint(&failed) && published.len() == 7, "{published:?}");
}

#[tokio::test]
async fn one_order_that_hangs_does_not_keep_the_events_of_the_others() {
    let mut world = world().await;
    world.sandbox.gateway.fault_on_order("order3", Times::Always, Fault::Hang);
    for time in [4000, 12_000] {
        world.sandbox.events.clear();
        let invocation = world.function.invoke_within(&batch(&numbers(10)), ms(time)).await;
        assert_eq!(failed(&invocation.json()), BTreeSet::from(["message of order3".to_owned()]), "{invocation:?}");
        assert_eq!(world.sandbox.events.events().len(), 9);
        let kept = if time < 9000 { time / 3 } else { 3000 };
        assert!(invocation.took < ms(time - kept + 100), "{:?} of {time}", invocation.took);
    }
}

#[tokio::test]
async fn without_a_bus_nothing_is_published_and_all_else_is_the_same() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut function = sandbox
        .function_with_events(env!("CARGO_BIN_EXE_close-order"))
        .env_remove("OUTCOME_EVENT_BUS")
        .start()
        .await
        .unwrap();
    let answer = function.invoke(&batch(&numbers(3))).await.json();
    assert_eq!((failed(&answer), sandbox.events.calls()), (BTreeSet::new(), vec![]));
}

#[tokio::test]
async fn publishing_may_take_the_time_that_is_kept_for_it() {
    let mut world = world().await;
    world.sandbox.events.set_delay(ms(2000));
    let invocation = world.function.invoke_within(&batch(&numbers(2)), ms(12_000)).await;
    assert_eq!(failed(&invocation.json()), BTreeSet::new(), "{invocation:?}");
    assert_eq!(world.sandbox.events.calls(), [2], "no event is published twice");
}

#[tokio::test]
async fn connections_that_died_while_the_process_was_frozen_cost_no_event() {
    let mut world = world().await;
    // Two calls at once leave two connections behind.
    world.sandbox.events.set_delay(ms(200));
    world.function.invoke(&batch(&numbers(20))).await;
    world.sandbox.events.set_delay(ms(0));
    world.sandbox.events.clear();
    world.sandbox.events.set_failure(Some(Failure::ResetOnReuse));
    let answer = world.function.invoke(&batch(&numbers(10))).await.json();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert_eq!(world.sandbox.events.calls(), [10, 10], "the second attempt goes out on a new connection");
    assert_eq!(world.sandbox.events.events().len(), 10);
}
