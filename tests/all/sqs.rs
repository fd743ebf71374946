//! SQS: a batch of orders, closed side by side; what is not done comes back.

use std::collections::BTreeSet;

use sandbox::{
    mock::gateway::{Fault, Times, TradeState},
    mock::identity::Identity,
};
use serde_json::{Value, json};

use crate::support::{beijing_time, event, ms, order, world, world_with};

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
async fn a_message_is_done_when_its_order_is_closed_or_cant_be_and_all_else_comes_back() {
    let mut world = world_with(Identity::default(), |function| function.env("WECHAT_PAY_TIMEOUT_MS", "300")).await;
    let gateway = &world.sandbox.gateway;
    gateway.put_order("unpaid", TradeState::NotPay);
    gateway.put_order("closed", TradeState::Closed);
    gateway.put_order("paid", TradeState::Success);
    gateway.put_order("paying", TradeState::UserPaying);
    for (out_trade_no, fault) in [
        ("notexist", Fault::Error("ORDERNOTEXIST")),
        ("system", Fault::Error("SYSTEMERROR")),
        ("sign", Fault::Error("SIGNERROR")),
        ("forged", Fault::Forge),
        ("hangs", Fault::Hang),
        ("refused", Fault::Body("<xml><return_code>FAIL</return_code><return_msg>no</return_msg></xml>".into())),
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
        (json!(old.to_string()), true),
        (message("paying"), false),
        (message("system"), false),
        (message("sign"), false),
        (message("forged"), false),
        (message("hangs"), false),
        (message("refused"), false),
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
    assert_eq!(world.function.wait_for_order_lines(messages.len()).await.len(), messages.len(), "one line an order");
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
async fn records_of_another_service_are_bad_input() {
    let mut world = world().await;
    let event = json!({"Records": [{"EventSource": "aws:sns", "Sns": {"Message": order("1").to_string()}}]});
    let reply = world.function.invoke(&event).await.json();
    assert_eq!(reply["errCode"], -501_007, "{reply}");
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
        assert!(invocation.error_type().is_some(), "the whole batch comes back: {odd} {invocation:?}");
    }
}
