//! What goes wrong between the function and WeChat Pay: tried again, failed over, told apart.

use sandbox::{
    mock::function::Outcome,
    mock::gateway::{Fault, Times, TradeState},
    mock::identity::Identity,
    mock::listener::Break,
    mock::runtime::Deadline,
};
use serde_json::json;

use crate::support::{ORDER, SHORT_MS, World, beijing_time, ms, order, world, world_with};

/// Which endpoint took each request, from 0.
fn asked(world: &World) -> Vec<usize> {
    world.sandbox.gateway.received().iter().map(|received| received.endpoint).collect()
}

async fn short() -> World {
    world_with(Identity::default(), |function| function.env("WECHAT_PAY_TIMEOUT_MS", SHORT_MS)).await
}

#[tokio::test]
async fn what_one_endpoint_does_not_answer_the_next_one_does() {
    for fault in [
        Fault::Reset,
        Fault::ResetAfter,
        Fault::CloseAfter,
        Fault::Hang,
        Fault::Truncate,
        Fault::Status(500),
        Fault::Status(502),
        Fault::Status(503),
        Fault::Status(404),
        Fault::Body(Vec::new()),
        Fault::Body(b"<html></html>".to_vec()),
        Fault::Flood(1024 * 1024),
    ] {
        let mut world = short().await;
        world.sandbox.gateway.fault_on_next_calls(Times::Next(1), fault.clone());
        let reply = world.function.invoke(&order(ORDER)).await.json();
        let is_closed = reply["resultCode"] == "SUCCESS" || reply["err_code"] == "ORDERCLOSED";
        assert!(is_closed, "{fault:?}: {reply}");
        assert_eq!(world.sandbox.gateway.order(ORDER), Some(TradeState::Closed));
        assert_eq!(asked(&world), [0, 1], "{fault:?}");
        let line = &world.function.wait_for_order_lines(1).await[0];
        assert_eq!((&line["tries"], &line["level"]), (&json!(2), &json!("INFO")), "{line}");
    }
}

#[tokio::test]
async fn an_endpoint_that_refuses_connections_is_passed_over_and_second_choice_from_then_on() {
    let mut world = world().await;
    world.sandbox.gateway.endpoints()[0].go_down().await;
    assert_eq!(world.function.invoke(&order(ORDER)).await.json()["resultCode"], "SUCCESS");
    world.sandbox.gateway.endpoints()[0].come_up().await.unwrap();
    world.function.invoke(&order("2")).await;
    assert_eq!(asked(&world), [1, 1]);
}

#[tokio::test]
async fn after_three_tries_nobody_knows() {
    for (fault, error_type) in [
        (Fault::Reset, "GatewayUnreachable"),
        (Fault::ResetAfter, "GatewayUnreachable"),
        (Fault::CloseAfter, "GatewayUnreachable"),
        (Fault::Hang, "GatewayUnreachable"),
        (Fault::Status(500), "ReplyInvalid"),
        (Fault::Body(b"no reply".to_vec()), "ReplyInvalid"),
    ] {
        let mut world = short().await;
        world.sandbox.gateway.fault_on_next_calls(Times::Always, fault.clone());
        let invocation = world.function.invoke(&order(ORDER)).await;
        assert_eq!(invocation.error_type().as_deref(), Some(error_type), "{fault:?}: {invocation:?}");
        assert!(invocation.text().contains("the order may be closed"), "{invocation:?}");
        assert_eq!(asked(&world), [0, 1, 0], "{fault:?}");
    }
}

#[tokio::test]
async fn an_answer_that_cant_be_believed_weighs_more_than_none() {
    let mut world = world().await;
    world.sandbox.gateway.endpoints()[0].set_fault(Some(Fault::Reset));
    world.sandbox.gateway.endpoints()[1].set_fault(Some(Fault::Body(b"no reply".to_vec())));
    let invocation = world.function.invoke(&order(ORDER)).await;
    assert_eq!(invocation.error_type().as_deref(), Some("ReplyInvalid"), "{invocation:?}");
}

#[tokio::test]
async fn with_every_endpoint_down_it_is_unreachable() {
    let mut world = world().await;
    for endpoint in world.sandbox.gateway.endpoints() {
        endpoint.go_down().await;
    }
    let invocation = world.function.invoke(&order(ORDER)).await;
    assert_eq!(invocation.error_type().as_deref(), Some("GatewayUnreachable"), "{invocation:?}");
    assert!(invocation.took >= ms(150), "pauses lie between the tries: {:?}", invocation.took);
}

#[tokio::test]
async fn a_system_error_is_tried_again_and_returned_as_it_is_in_the_end() {
    let mut world = world().await;
    world.sandbox.gateway.fault_on_order(ORDER, Times::Next(2), Fault::Error("SYSTEMERROR"));
    assert_eq!(world.function.invoke(&order(ORDER)).await.json()["resultCode"], "SUCCESS");
    assert_eq!(asked(&world), [0, 1, 0]);
    world.sandbox.gateway.clear_received();
    world.sandbox.gateway.fault_on_order("2", Times::Always, Fault::Error("SYSTEMERROR"));
    assert_eq!(world.function.invoke(&order("2")).await.json()["err_code"], "SYSTEMERROR");
    assert_eq!(asked(&world), [0, 1, 0], "an endpoint that answers has not failed");
}

#[tokio::test]
async fn a_final_answer_is_never_asked_for_twice() {
    let mut world = world().await;
    let gateway = world.sandbox.gateway.clone();
    gateway.put_order("paid", TradeState::Success);
    gateway.put_order("closed", TradeState::Closed);
    gateway.fault_on_order("limited", Times::Always, Fault::Error("FREQUENCY_LIMITED"));
    gateway.fault_on_order("other", Times::Always, Fault::Edit(vec![("mch_id", Some("1".to_owned()))]));
    for out_trade_no in [ORDER, "paid", "closed", "limited", "other"] {
        gateway.clear_received();
        world.function.invoke(&order(out_trade_no)).await;
        assert_eq!(asked(&world), [0], "{out_trade_no}");
    }
}

#[tokio::test]
async fn an_idle_connection_that_the_gateway_closed_meanwhile_costs_nothing_visible() {
    let mut world = world().await;
    world.function.invoke(&order("1")).await;
    for (number, how) in [("2", Break::Close), ("3", Break::Reset), ("4", Break::Close)] {
        world.sandbox.gateway.endpoints()[0].close_connections(how);
        tokio::time::sleep(ms(50)).await;
        world.sandbox.gateway.put_order(number, TradeState::NotPay);
        assert_eq!(world.function.invoke(&order(number)).await.json()["resultCode"], "SUCCESS", "{how:?}");
    }
    assert_eq!(asked(&world), [0, 0, 0, 0]);
    for line in world.function.wait_for_order_lines(4).await {
        assert_eq!(line["tries"], 1, "{line}");
    }
}

#[tokio::test]
async fn a_frozen_function_finds_its_connections_closed_and_opens_new_ones() {
    let mut world = world().await;
    world.function.invoke(&order("1")).await;
    let signal = |name: &str| {
        let pid = world.function.pid().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    signal("-STOP");
    world.sandbox.gateway.endpoints()[0].close_connections(Break::Close);
    tokio::time::sleep(ms(50)).await;
    signal("-CONT");
    assert_eq!(world.function.invoke(&order("2")).await.json()["resultCode"], "SUCCESS");
    assert_eq!(asked(&world), [0, 0]);
}

#[tokio::test]
async fn a_warm_function_keeps_its_connection() {
    let mut world = world().await;
    for number in 0..10 {
        world.function.invoke(&order(&number.to_string())).await;
    }
    assert_eq!(world.sandbox.gateway.endpoints()[0].connections(), 1);
}

#[tokio::test]
async fn whatever_hangs_the_function_answers_before_its_time_is_up() {
    for time in [600, 1000, 3000] {
        let mut world = world().await;
        world.sandbox.gateway.fault_on_next_calls(Times::Always, Fault::Hang);
        let invocation = world.function.invoke_within(&order(ORDER), ms(time)).await;
        assert_eq!(invocation.error_type().as_deref(), Some("DeadlineExceeded"), "{invocation:?}");
        assert!(invocation.text().contains("the order may be closed"), "{invocation:?}");
        assert!(invocation.took < ms(time), "{:?}", invocation.took);
        let line = &world.function.wait_for_order_lines(1).await[0];
        assert_eq!((&line["outcome"], &line["tries"]), (&json!("DeadlineExceeded"), &json!(1)));
    }
}

#[tokio::test]
async fn an_emulators_constant_deadline_counts_as_ten_seconds() {
    let mut world = world().await;
    for header in [600_000, 0] {
        world.sandbox.gateway.put_order(ORDER, TradeState::NotPay);
        let invocation = world.function.invoke_text(order(ORDER).to_string(), Deadline::Header(header)).await;
        assert_eq!(invocation.json()["resultCode"], "SUCCESS", "{invocation:?}");
    }
    world.sandbox.gateway.fault_on_next_calls(Times::Always, Fault::Hang);
    let invocation = world.function.invoke_text(order(ORDER).to_string(), Deadline::Header(600_000)).await;
    assert_eq!(invocation.error_type().as_deref(), Some("DeadlineExceeded"));
    assert!((ms(9000)..ms(10_000)).contains(&invocation.took), "{:?}", invocation.took);
}

#[tokio::test]
async fn a_deadline_that_has_just_passed_sends_nothing() {
    let mut world = world().await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let deadline = Deadline::Header(u64::try_from(now.as_millis()).unwrap() - 1000);
    let invocation = world.function.invoke_text(order(ORDER).to_string(), deadline).await;
    assert_eq!(invocation.error_type().as_deref(), Some("DeadlineExceeded"), "{invocation:?}");
    assert!(asked(&world).is_empty());
}

#[tokio::test]
async fn an_order_too_young_is_not_sent_and_an_older_one_is() {
    let mut world = world().await;
    for (age, is_sent) in [(-10, false), (60, false), (-290, false), (-310, true), (-100_000, true)] {
        world.sandbox.gateway.clear_received();
        let mut event = order(ORDER);
        event["time_start"] = json!(beijing_time(age));
        let reply = world.function.invoke(&event).await.json();
        assert_eq!(!asked(&world).is_empty(), is_sent, "{age}");
        if !is_sent {
            let sentence = "订单生成后不能马上调用关单接口,最短调用时间间隔为5分钟";
            assert_eq!((&reply["returnMsg"], &reply["errCode"]), (&json!(sentence), &json!(-501_007)));
            assert!(reply["errMsg"].as_str().unwrap().starts_with("cloudPay.closeOrder:fail "));
        }
    }
}

#[tokio::test]
async fn the_log_says_in_one_line_what_became_of_an_order() {
    let mut world = world().await;
    world.sandbox.gateway.put_order(ORDER, TradeState::Success);
    let invocation = world.function.invoke(&order(ORDER)).await;
    assert!(matches!(invocation.outcome, Outcome::Answered(_)));
    let lines = world.function.wait_for_order_lines(1).await;
    assert_eq!(lines.len(), 1);
    let line = &lines[0];
    let expected = json!({
        "level": "INFO", "message": "order", "outcome": "paid", "err_code": "ORDERPAID", "sub_mch_id": "1900000109",
        "out_trade_no": ORDER, "endpoint": world.sandbox.gateway.endpoints()[0].url(), "tries": 1,
        "wechat_pay_request_id": "SANDBOX-0000000000000001-0",
        "aws_request_id": invocation.ids.request_id, "target": "close_order::close_order::record",
    });
    let mut rest = line.clone();
    assert!(rest.as_object_mut().unwrap().remove("timestamp").unwrap().is_string());
    assert!(rest.as_object_mut().unwrap().remove("duration_ms").unwrap().as_u64().unwrap() < 5000);
    assert_eq!(rest, expected);
}

#[tokio::test]
async fn a_fault_is_logged_once() {
    let mut world = world().await;
    world.sandbox.gateway.fault_on_next_calls(Times::Always, Fault::Status(500));
    world.function.invoke(&order(ORDER)).await;
    world.function.wait_for_order_lines(1).await;
    let logs = world.function.logs();
    assert_eq!(logs.lines().count(), 1, "{logs}");
    assert!(logs.contains("\"level\":\"ERROR\"") && logs.contains("HTTP status 500"), "{logs}");
}

#[tokio::test]
async fn a_system_error_is_not_forgotten_over_an_endpoint_that_is_down() {
    let mut world = world().await;
    world.sandbox.gateway.endpoints()[0].go_down().await;
    world.sandbox.gateway.fault_on_order(ORDER, Times::Always, Fault::Error("SYSTEMERROR"));
    assert_eq!(world.function.invoke(&order(ORDER)).await.json()["err_code"], "SYSTEMERROR");
    assert_eq!(asked(&world), [1, 1], "the one that answers is asked again");
}

#[tokio::test]
async fn an_order_too_young_is_refused_however_little_time_is_left() {
    let mut world = world().await;
    let mut event = order(ORDER);
    event["time_start"] = json!(beijing_time(-10));
    let invocation = world.function.invoke_within(&event, ms(200)).await;
    assert_eq!(invocation.json()["errCode"], -501_007, "{invocation:?}");
}
