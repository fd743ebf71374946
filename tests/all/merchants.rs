//! Several merchants in one deployment: each order is closed with the key of the merchant that it names, and what is wrong
//! with one merchant's secret changes nothing for another's orders.

use sandbox::{
    Sandbox,
    mock::gateway::TradeState,
    mock::identity::{Api, Flaw, Identity, MchType, Merchant},
};
use serde_json::{Value, json};

use crate::support::{World, batch, function, order, values};

/// Merchants of both kinds and both interfaces, with the numbers from 1 on.
fn merchants(count: usize) -> Vec<Merchant> {
    let merchant = |number: usize| {
        let mut identity = Identity::numbered(&number.to_string(), number % 4);
        identity.mch_type = if number.is_multiple_of(2) { MchType::Merchant } else { MchType::Partner };
        identity.api = if number.is_multiple_of(3) { Api::V3 } else { Api::V2 };
        Merchant { identity, flaw: None }
    };
    (1..=count).map(merchant).collect()
}

async fn world(merchants: &[Merchant]) -> World {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.know(merchants);
    let function = function(&sandbox).env("SECRET_CACHE_TTL_SECONDS", "3600").start().await.unwrap();
    World { sandbox, function }
}

/// An order of this merchant.
fn order_of(merchant: &Merchant, out_trade_no: &str) -> Value {
    let mut order = order(out_trade_no);
    order["mch_id"] = json!(merchant.identity.mch_id);
    if merchant.identity.mch_type == MchType::Merchant {
        order.as_object_mut().unwrap().remove("sub_mch_id");
    }
    order
}

fn secret_name(merchant: &Merchant) -> String {
    format!("wechat-pay/{}", merchant.identity.mch_id)
}

#[tokio::test]
async fn orders_of_many_merchants_are_closed_each_with_its_own_key_and_each_key_is_read_once() {
    let mut merchants = merchants(60);
    let mut world = world(&merchants).await;
    let start = &world.function.wait_for_lines("start", 1).await[0];
    assert_eq!((&start["secret_read"], start.get("mch_type")), (&json!(false), None), "{start}");
    assert_eq!(world.sandbox.secrets.reads(), 0, "nothing is read ahead");

    for era in ["a", "b"] {
        // Interleaved: no two orders in a row are one merchant's.
        let orders: Vec<_> = (0..3 * merchants.len())
            .map(|place| (&merchants[place % merchants.len()], format!("order-{era}{place}")))
            .collect();
        for (_, number) in &orders {
            world.sandbox.gateway.put_order(number, TradeState::NotPay);
        }
        let event = batch(orders.iter().map(|(merchant, number)| order_of(merchant, number)));
        let answer = world.function.invoke(&event).await.json();
        assert_eq!(answer, json!({"batchItemFailures": []}));
        let is_closed = |number: &str| world.sandbox.gateway.order(number) == Some(TradeState::Closed);
        assert!(orders.iter().all(|(_, number)| is_closed(number)));
        for merchant in &merchants {
            let reads = if era == "b" && merchant.identity.api == Api::V2 { 2 } else { 1 };
            assert_eq!(world.sandbox.secrets.reads_of(&secret_name(merchant)), reads, "{merchant:?}");
        }
        // Every key of API v2 is rotated; the rejected signature has it read anew.
        for (place, merchant) in merchants.iter_mut().enumerate() {
            if merchant.identity.api == Api::V2 {
                merchant.identity.api_key = format!("{place:f>32}");
            }
        }
        world.sandbox.know(&merchants);
    }
}

#[tokio::test]
async fn a_number_without_a_secret_is_a_warning_of_its_own_and_asked_for_once_in_five_seconds() {
    let mut all = merchants(2);
    all[0].flaw = Some(Flaw::NoSecret);
    let mut world = world(&all).await;
    for _ in 0..3 {
        let invocation = world.function.invoke(&order_of(&all[0], "1")).await;
        assert_eq!(invocation.error_type().as_deref(), Some("CredentialsUnavailable"), "{invocation:?}");
        assert!(invocation.text().contains("[not_sent]"), "{invocation:?}");
    }
    assert_eq!(world.sandbox.secrets.reads_of(&secret_name(&all[0])), 1);
    let lines = world.function.wait_for_order_lines(3).await;
    for line in lines {
        assert_eq!(values(&line, ["level", "reason", "outcome"]), ["WARN", "no_such_merchant", "not_sent"], "{line}");
    }
    assert!(world.function.lines("the secret could not be read").is_empty(), "it may be a sender's mistake");
    assert_eq!(world.function.invoke(&order_of(&all[1], "2")).await.json()["outcome"], "closed");
}

#[tokio::test]
async fn a_wrong_or_malformed_secret_is_its_merchants_alone() {
    let mut all = merchants(4);
    all[0].flaw = Some(Flaw::WrongKey);
    let mut world = world(&all).await;
    // The third merchant's secret has the number of the fourth.
    world.sandbox.secrets.put(&secret_name(&all[2]), &all[3].identity.secret());
    let outcomes = ["rejected", "closed", "not_sent", "closed"];
    let numbers: Vec<_> = (0..8).map(|place| format!("order-{place}")).collect();
    for number in &numbers {
        world.sandbox.gateway.put_order(number, TradeState::NotPay);
    }
    let orders = numbers.iter().zip(all.iter().cycle()).map(|(number, merchant)| order_of(merchant, number));
    let answer = world.function.invoke(&batch(orders)).await.json();
    let failed = ["0", "2", "4", "6"].map(|id| json!({"itemIdentifier": id}));
    assert_eq!(answer, json!({"batchItemFailures": failed}));
    for line in world.function.wait_for_order_lines(8).await {
        let place = numbers.iter().position(|number| line["out_trade_no"] == **number).unwrap();
        assert_eq!(line["outcome"], outcomes[place % 4], "{line}");
    }
    let malformed = &world.function.wait_for_lines("the secret is malformed", 1).await[0];
    assert_eq!(values(malformed, ["mch_id", "level"]), [&*all[2].identity.mch_id, "WARN"], "{malformed}");
    let reads = all.iter().map(|merchant| world.sandbox.secrets.reads_of(&secret_name(merchant)));
    assert_eq!(reads.collect::<Vec<_>>(), [2, 1, 1, 1], "the rejected key was read anew, once");
}

#[tokio::test]
async fn an_order_that_names_no_merchant_is_rejected_and_nothing_is_read_for_it() {
    let all = merchants(2);
    let mut world = world(&all).await;
    let answer = world.function.invoke(&order("1")).await.json();
    assert_eq!(values(&answer, ["outcome", "returnCode"]), ["not_sent", "FAIL"], "{answer}");
    assert!(answer["errMsg"].as_str().unwrap().contains("mch_id is required"), "{answer}");
    let failures = world.function.invoke(&batch([order("1")])).await.json();
    assert_eq!(failures, json!({"batchItemFailures": [{"itemIdentifier": "0"}]}));
    assert_eq!(world.sandbox.secrets.reads(), 0);
}
