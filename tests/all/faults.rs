//! What goes wrong between the function and WeChat Pay: retried, failed over, told apart.

use std::net::SocketAddr;

use sandbox::{
    Sandbox,
    mock::function::Invocation,
    mock::gateway::{Call, Fault, Gateway, Times, TradeState},
    mock::identity::Identity,
    mock::listener::{BlackHole, Break},
    mock::runtime::Deadline,
    mock::tls::Authority,
};
use serde_json::json;

use crate::support::{ORDER, SHORT_MS, World, batch, beijing_time, function, ms, order, values, world, world_with};

async fn short() -> World {
    world_with(Identity::default(), |function| function.env("WECHAT_PAY_TIMEOUT_MS", SHORT_MS)).await
}

/// A world whose function has these endpoints.
async fn with_endpoints(endpoints: &[&str], timeout_ms: &str) -> World {
    let endpoints = endpoints.join(",");
    let adapt = |function: sandbox::mock::function::FunctionBuilder| {
        function.env("WECHAT_PAY_ENDPOINTS", &endpoints).env("WECHAT_PAY_TIMEOUT_MS", timeout_ms)
    };
    world_with(Identity::default(), adapt).await
}

#[tokio::test]
async fn what_one_endpoint_does_not_answer_the_next_one_does() {
    for fault in [
        Fault::Hang,
        Fault::HangAfter,
        Fault::Truncate,
        Fault::Status(500),
        Fault::Status(503),
        Fault::Status(404),
        Fault::Body(Vec::new()),
        Fault::Body(b"<html></html>".to_vec()),
        Fault::Flood(1024 * 1024),
    ] {
        let mut world = short().await;
        world.sandbox.gateway.fault_on_next_calls(Times::Next(1), fault.clone());
        let reply = world.function.invoke(&order(ORDER)).await.json();
        assert_eq!(reply["outcome"], "closed", "{fault:?}: {reply}");
        assert_eq!(world.sandbox.gateway.order(ORDER), Some(TradeState::Closed));
        assert_eq!(world.closed_at(), [0, 1], "{fault:?}");
        let line = world.order_line(1).await;
        assert_eq!(values(&line, ["attempts", "queries", "level"]), [json!(2), json!(0), json!("INFO")], "{line}");
        world.sandbox.gateway.clear_received();
        world.function.invoke(&order("2")).await;
        assert_eq!(world.closed_at(), [1], "{fault:?}: the one that failed is second choice from then on");
    }
}

#[tokio::test]
async fn a_connection_that_is_lost_is_retried_at_once_on_a_new_one_to_the_same_endpoint() {
    for fault in [Fault::Reset, Fault::ResetAfter, Fault::CloseAfter] {
        let mut world = world().await;
        world.sandbox.gateway.fault_on_next_calls(Times::Next(1), fault.clone());
        let reply = world.function.invoke(&order(ORDER)).await.json();
        assert_eq!(reply["outcome"], "closed", "{fault:?}: {reply}");
        let received = world.sandbox.gateway.received();
        let pause = received[1].at - received[0].at;
        assert!(pause < ms(50), "{fault:?}: a pause of {pause:?}");
        world.sandbox.gateway.fault_on_next_calls(Times::Next(2), fault.clone());
        assert_eq!(world.function.invoke(&order("2")).await.json()["outcome"], "closed", "{fault:?}");
        world.function.invoke(&order("3")).await;
        assert_eq!(world.closed_at(), [0, 0, 0, 0, 1, 1], "{fault:?}: only the new connection's loss counts");
    }
}

#[tokio::test]
async fn a_kept_connection_that_dies_costs_an_attempt_and_not_the_endpoints_rank() {
    let mut world = world().await;
    world.function.invoke(&order("1")).await;
    world.sandbox.gateway.fault_on_next_calls(Times::Next(1), Fault::ResetIfReused);
    assert_eq!(world.function.invoke(&order(ORDER)).await.json()["outcome"], "closed");
    let line = world.order_line(2).await;
    assert_eq!(values(&line, ["attempts", "level"]), [json!(2), json!("INFO")], "{line}");
    world.function.invoke(&order("3")).await;
    assert_eq!(world.closed_at(), [0, 0, 0, 0]);
}

#[tokio::test]
async fn when_every_kept_connection_has_died_an_order_costs_two_attempts() {
    let mut world = world().await;
    let orders = |numbers: std::ops::Range<u32>| {
        batch(numbers.map(|number| {
            let mut order = order(&number.to_string());
            order["confirm"] = json!(false);
            order
        }))
    };
    world.sandbox.gateway.fault_on_next_calls(Times::Next(10), Fault::Delay(ms(100)));
    world.function.invoke(&orders(0..10)).await;
    assert!(world.sandbox.gateway.endpoints()[0].connections() >= 10, "a connection for each order of the batch");
    world.sandbox.gateway.fault_on_next_calls(Times::Always, Fault::ResetIfReused);
    assert_eq!(world.function.invoke(&order(ORDER)).await.json()["outcome"], "closed");
    assert_eq!(world.order_line(11).await["attempts"], 2, "nine more of them are dead");
    assert_eq!(world.function.invoke(&orders(10..20)).await.json(), json!({"batchItemFailures": []}));
    assert!(world.closed_at().iter().all(|&endpoint| endpoint == 0), "{:?}", world.closed_at());
    for line in &world.function.wait_for_order_lines(21).await[11..] {
        assert!(line["attempts"].as_u64().unwrap() <= 2 && line["outcome"] == "closed", "{line}");
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
    signal("-CONT");
    assert_eq!(world.function.invoke(&order("2")).await.json()["outcome"], "closed");
    assert!(world.closed_at().iter().all(|&endpoint| endpoint == 0), "{:?}", world.closed_at());
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
async fn an_endpoint_that_refuses_connections_is_passed_over_and_second_choice_from_then_on() {
    let mut world = world().await;
    world.sandbox.gateway.endpoints()[0].go_down().await;
    assert_eq!(world.function.invoke(&order(ORDER)).await.json()["outcome"], "closed");
    world.sandbox.gateway.endpoints()[0].come_up().await.unwrap();
    world.function.invoke(&order("2")).await;
    assert_eq!(world.closed_at(), [1, 1]);
}

#[tokio::test]
async fn after_three_attempts_without_a_reply_nobody_knows() {
    for (fault, error_type, closed_at) in [
        (Fault::Reset, "GatewayUnreachable", [0, 0, 1]),
        (Fault::CloseAfter, "GatewayUnreachable", [0, 0, 1]),
        (Fault::Hang, "GatewayUnreachable", [0, 1, 0]),
        (Fault::Status(500), "ReplyInvalid", [0, 1, 0]),
        (Fault::Body(b"no reply".to_vec()), "ReplyInvalid", [0, 1, 0]),
    ] {
        let mut world = short().await;
        world.sandbox.gateway.fault_on_next_calls(Times::Always, fault.clone());
        let invocation = world.function.invoke(&order(ORDER)).await;
        assert_eq!(invocation.error_type().as_deref(), Some(error_type), "{fault:?}: {invocation:?}");
        assert!(invocation.text().contains("the order may be closed"), "{invocation:?}");
        assert_eq!(world.closed_at(), closed_at, "{fault:?}");
        let line = world.order_line(1).await;
        assert_eq!(values(&line, ["outcome", "attempts", "queries"]), [json!("unknown"), json!(3), json!(2)], "{line}");
    }
}

#[tokio::test]
async fn of_several_attempts_the_weightiest_counts() {
    let mut world = short().await;
    let gateway = world.sandbox.gateway.clone();
    gateway.fault_on_order(ORDER, Times::Next(1), Fault::Body(b"no reply".to_vec()));
    gateway.fault_on_order(ORDER, Times::Always, Fault::Hang);
    let invocation = world.function.invoke(&order(ORDER)).await;
    assert_eq!(invocation.error_type().as_deref(), Some("ReplyInvalid"), "a reply, then none: {invocation:?}");

    gateway.fault_on_order("2", Times::Next(1), Fault::Error("SYSTEMERROR"));
    gateway.fault_on_order("2", Times::Always, Fault::Body(b"no reply".to_vec()));
    let reply = world.function.invoke(&order("2")).await.json();
    assert_eq!(values(&reply, ["err_code", "outcome"]), ["SYSTEMERROR", "unknown"], "{reply}");

    let mut world = short().await;
    world.sandbox.gateway.fault_on_next_calls(Times::Next(1), Fault::Hang);
    world.sandbox.gateway.endpoints()[1].go_down().await;
    world.sandbox.gateway.fault_on_call(Call::OrderQuery, Times::Always, Fault::Hang);
    world.sandbox.gateway.fault_on_order(ORDER, Times::Always, Fault::Hang);
    let invocation = world.function.invoke_within(&order(ORDER), ms(1300)).await;
    assert!(invocation.text().contains("the order may be closed"), "sent, then refused: {invocation:?}");
}

#[tokio::test]
async fn without_any_connection_nothing_was_sent() {
    let mut world = world().await;
    for endpoint in world.sandbox.gateway.endpoints() {
        endpoint.go_down().await;
    }
    let invocation = world.function.invoke(&order(ORDER)).await;
    assert_eq!(invocation.error_type().as_deref(), Some("GatewayUnreachable"), "{invocation:?}");
    assert!(invocation.text().contains("nothing was sent"), "{invocation:?}");
    assert!(invocation.took >= ms(150), "pauses lie between the attempts: {:?}", invocation.took);
    let line = world.order_line(1).await;
    let names = ["level", "outcome", "reason", "cause", "attempts", "queries"];
    let expected = [json!("ERROR"), json!("not_sent"), json!("GatewayUnreachable")];
    assert_eq!(values(&line, names)[..3], expected, "{line}");
    assert_eq!(values(&line, names)[3..], [json!("the connection was refused"), json!(3), json!(0)], "{line}");
}

#[tokio::test]
async fn a_connect_timeout_is_no_connection_and_nothing_was_sent() {
    let [one, two] = [BlackHole::open().await.unwrap(), BlackHole::open().await.unwrap()];
    let mut world = with_endpoints(&[&one.url(), &two.url()], "300").await;
    for (number, time) in [(1, ms(5000)), (2, ms(450))] {
        let invocation = world.function.invoke_within(&order(ORDER), time).await;
        assert!(invocation.text().contains("nothing was sent"), "{invocation:?}");
        let line = world.order_line(number).await;
        assert_eq!(values(&line, ["level", "outcome", "queries"]), [json!("ERROR"), json!("not_sent"), json!(0)]);
    }
    let [in_time, too_late] = [0, 1].map(|place| world.function.lines("order")[place].clone());
    let names = ["reason", "cause", "attempts"];
    assert_eq!(values(&in_time, names), [json!("GatewayUnreachable"), json!("connect timed out"), json!(3)]);
    assert_eq!(too_late["reason"], "DeadlineExceeded", "{too_late}");

    // The client's own limit for a connection is below that of an attempt by default.
    let sandbox = Sandbox::start().await.unwrap();
    let endpoints = [one.url(), sandbox.gateway.endpoints()[1].url()].join(",");
    let mut function = function(&sandbox).env("WECHAT_PAY_ENDPOINTS", &endpoints).start().await.unwrap();
    let invocation = function.invoke(&order(ORDER)).await;
    assert_eq!(invocation.json()["outcome"], "closed", "{invocation:?}");
    assert!((ms(2000)..ms(4000)).contains(&invocation.took), "{:?}", invocation.took);
}

#[tokio::test]
async fn a_connect_timeout_does_not_undo_a_reply_in_hand() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.gateway.fault_on_order(ORDER, Times::Always, Fault::Error("SYSTEMERROR"));
    let black_hole = BlackHole::open().await.unwrap();
    let endpoints = [sandbox.gateway.endpoints()[0].url(), black_hole.url()].join(",");
    let mut function = function(&sandbox).env("WECHAT_PAY_ENDPOINTS", &endpoints).start().await.unwrap();
    let reply = function.invoke_within(&order(ORDER), ms(1400)).await.json();
    assert_eq!(values(&reply, ["err_code", "outcome"]), ["SYSTEMERROR", "unknown"], "{reply}");
    assert_eq!(function.wait_for_order_lines(1).await[0]["attempts"], 2);
}

#[tokio::test]
async fn a_cause_says_what_is_wrong_in_one_fixed_phrase() {
    let [trusted, other] = [Authority::new().unwrap(), Authority::new().unwrap()];
    let loopback = [SocketAddr::from(([127, 0, 0, 1], 0))];
    let stranger = Gateway::start(Some(other.server()), Identity::default(), &loopback).await.unwrap();
    let roots = std::env::temp_dir().join(format!("close-order-causes-{}.pem", std::process::id()));
    std::fs::write(&roots, trusted.pem()).unwrap();
    let sandbox = Sandbox::start().await.unwrap();
    let [alive, down] = [0, 1].map(|place| sandbox.gateway.endpoints()[place].url());
    sandbox.gateway.endpoints()[1].go_down().await;
    let black_hole = BlackHole::open().await.unwrap();
    for (endpoint, fault, cause, is_sent) in [
        ("https://nobody.invalid".to_owned(), None, "the host name does not resolve", false),
        (down, None, "the connection was refused", false),
        (black_hole.url(), None, "connect timed out", false),
        (stranger.urls(), None, "SSL_CERT_FILE", false),
        (alive.replace("http://", "https://"), None, "TLS", false),
        (alive.clone(), Some(Fault::Reset), "the connection was lost", true),
        (alive, Some(Fault::Hang), "no answer in time", true),
    ] {
        sandbox.gateway.clear_faults();
        if let Some(fault) = fault {
            sandbox.gateway.fault_on_next_calls(Times::Always, fault);
        }
        let function = function(&sandbox).env("SSL_CERT_FILE", roots.to_str().unwrap());
        let function = function.env("WECHAT_PAY_ENDPOINTS", &endpoint).env("WECHAT_PAY_TIMEOUT_MS", "300");
        let mut function = function.start().await.unwrap();
        let invocation = function.invoke(&order(ORDER)).await;
        assert_eq!(invocation.error_type().as_deref(), Some("GatewayUnreachable"), "{endpoint}: {invocation:?}");
        let what = if is_sent { "the order may be closed" } else { "nothing was sent" };
        assert!(invocation.text().contains(cause) && invocation.text().contains(what), "{endpoint}: {invocation:?}");
        let line = &function.wait_for_order_lines(1).await[0];
        assert!(line["cause"].as_str().unwrap().contains(cause), "{line}");
        assert_eq!(line["outcome"], if is_sent { "unknown" } else { "not_sent" }, "{line}");
    }
    std::fs::remove_file(roots).unwrap();
}

#[tokio::test]
async fn a_page_instead_of_a_reply_is_told_by_its_http_status() {
    let mut world = world().await;
    world.sandbox.gateway.fault_on_next_calls(Times::Always, Fault::Status(403));
    let invocation = world.function.invoke(&order(ORDER)).await;
    assert_eq!(invocation.error_type().as_deref(), Some("ReplyInvalid"), "{invocation:?}");
    let line = world.order_line(1).await;
    assert!(line["cause"].as_str().unwrap().starts_with("HTTP status 403"), "{line}");
}

#[tokio::test]
async fn a_system_error_is_retried_and_returned_as_it_is_in_the_end() {
    let mut world = world().await;
    world.sandbox.gateway.fault_on_order(ORDER, Times::Next(2), Fault::Error("SYSTEMERROR"));
    assert_eq!(world.function.invoke(&order(ORDER)).await.json()["outcome"], "closed");
    assert_eq!(world.closed_at(), [0, 1, 0]);
    world.sandbox.gateway.clear_received();
    world.sandbox.gateway.fault_on_order("2", Times::Always, Fault::Error("SYSTEMERROR"));
    let reply = world.function.invoke(&order("2")).await.json();
    assert_eq!(values(&reply, ["err_code", "outcome"]), ["SYSTEMERROR", "unknown"], "{reply}");
    assert_eq!(world.closed_at(), [0, 1, 0], "an endpoint that answers has not failed");
}

#[tokio::test]
async fn a_system_error_is_not_forgotten_over_an_endpoint_that_is_down() {
    let mut world = world().await;
    world.sandbox.gateway.endpoints()[0].go_down().await;
    world.sandbox.gateway.fault_on_order(ORDER, Times::Always, Fault::Error("SYSTEMERROR"));
    assert_eq!(world.function.invoke(&order(ORDER)).await.json()["err_code"], "SYSTEMERROR");
    assert_eq!(world.closed_at(), [1, 1], "the one that answers is asked again");
}

#[tokio::test]
async fn a_passing_fault_told_in_an_unsigned_fail_is_retried_and_then_unknown() {
    let by_err_code = "<xml><return_code>FAIL</return_code><return_msg>fail</return_msg>\
                       <err_code>SYSTEMERROR</err_code></xml>";
    for fault in [
        Fault::UnsignedFail("系统繁忙,请稍后再试"),
        Fault::UnsignedFail("System Error"),
        Fault::UnsignedFail("SYSTEM ERROR"),
        Fault::Body(by_err_code.into()),
    ] {
        let mut world = world().await;
        world.sandbox.gateway.fault_on_order("1", Times::Next(1), fault.clone());
        assert_eq!(world.function.invoke(&order("1")).await.json()["outcome"], "closed", "{fault:?}");
        world.sandbox.gateway.fault_on_order(ORDER, Times::Always, fault.clone());
        let reply = world.function.invoke(&order(ORDER)).await.json();
        assert_eq!(values(&reply, ["returnCode", "outcome"]), ["FAIL", "unknown"], "{fault:?}: {reply}");
        assert_eq!(world.closed_at(), [0, 1, 0, 1, 0], "{fault:?}");
        let line = world.order_line(2).await;
        let names = ["level", "reason", "attempts", "queries"];
        assert_eq!(values(&line, names), [json!("ERROR"), json!("unsigned_fail"), json!(3), json!(1)], "{line}");
    }
}

#[tokio::test]
async fn a_rate_limit_is_not_answered_with_more_load() {
    let mut world = world().await;
    for (number, text) in (1..).zip(["频率限制", "调用频率超过限制,系统繁忙"]) {
        world.sandbox.gateway.clear_faults();
        world.sandbox.gateway.fault_on_order(ORDER, Times::Always, Fault::UnsignedFail(text));
        let mut event = order(ORDER);
        event["confirm"] = json!(true);
        let reply = world.function.invoke(&event).await.json();
        assert_eq!(values(&reply, ["returnMsg", "outcome"]), [text, "unknown"], "{reply}");
        let line = world.order_line(number).await;
        let names = ["level", "reason", "return_msg", "attempts", "queries"];
        let expected = [json!("WARN"), json!("rate_limited"), json!(text), json!(1), json!(0)];
        assert_eq!(values(&line, names), expected, "{line}");
    }
}

#[tokio::test]
async fn a_rejection_after_an_attempt_that_may_have_closed_the_order_is_unknown_and_queried() {
    let mut world = short().await;
    let gateway = world.sandbox.gateway.clone();
    for (number, first) in (1..).zip([Fault::Reset, Fault::Status(500), Fault::Error("SYSTEMERROR"), Fault::HangAfter])
    {
        gateway.put_order(ORDER, TradeState::NotPay);
        gateway.clear_faults();
        gateway.fault_on_order_call(ORDER, Call::CloseOrder, Times::Next(1), first.clone());
        gateway.fault_on_order_call(ORDER, Call::CloseOrder, Times::Always, Fault::Error("NOAUTH"));
        gateway.fault_on_call(Call::OrderQuery, Times::Always, Fault::Status(500));
        let reply = world.function.invoke(&order(ORDER)).await.json();
        assert_eq!(values(&reply, ["err_code", "outcome"]), ["NOAUTH", "unknown"], "{first:?}: {reply}");
        let line = world.order_line(number).await;
        let names = ["level", "reason", "attempts", "queries"];
        assert_eq!(values(&line, names), [json!("ERROR"), json!("NOAUTH"), json!(2), json!(2)], "{first:?}: {line}");
    }
    assert_eq!(gateway.order(ORDER), Some(TradeState::Closed), "the last one's first attempt closed it");
    gateway.put_order(ORDER, TradeState::NotPay);
    gateway.clear_faults();
    gateway.fault_on_order_call(ORDER, Call::CloseOrder, Times::Next(1), Fault::ResetAfter);
    gateway.fault_on_order_call(
        ORDER,
        Call::CloseOrder,
        Times::Always,
        Fault::UnsignedFail("商户号mch_id与appid不匹配"),
    );
    let reply = world.function.invoke(&order(ORDER)).await.json();
    assert_eq!(values(&reply, ["err_code", "outcome"]), ["ORDERCLOSED", "closed"], "the query proves it: {reply}");
}

#[tokio::test]
async fn a_rejection_after_no_connection_stays_one() {
    let mut world = world().await;
    world.sandbox.gateway.endpoints()[0].go_down().await;
    world.sandbox.gateway.fault_on_order(ORDER, Times::Always, Fault::Error("NOAUTH"));
    assert_eq!(world.function.invoke(&order(ORDER)).await.json()["outcome"], "rejected");
    assert!(world.queried_at().is_empty());
}

#[tokio::test]
async fn a_final_reply_is_never_asked_for_twice() {
    let mut world = world().await;
    let gateway = world.sandbox.gateway.clone();
    gateway.put_order("paid", TradeState::Success);
    gateway.put_order("closed", TradeState::Closed);
    gateway.fault_on_order("limited", Times::Always, Fault::Error("FREQUENCY_LIMITED"));
    gateway.fault_on_order("rejected", Times::Always, Fault::UnsignedFail("商户号mch_id与appid不匹配"));
    gateway.fault_on_order("other", Times::Always, Fault::Edit(vec![("mch_id", Some("1".to_owned()))]));
    for out_trade_no in [ORDER, "paid", "closed", "limited", "rejected", "other"] {
        gateway.clear_received();
        world.function.invoke(&order(out_trade_no)).await;
        assert_eq!(world.closed_at(), [0], "{out_trade_no}");
    }
}

#[tokio::test]
async fn a_hanging_endpoint_does_not_use_up_a_short_invocation() {
    let invoke = |seconds: u64| async move {
        let mut world = world().await;
        world.sandbox.gateway.fault_on_endpoint(0, None, Fault::Hang);
        let invocation = world.function.invoke_within(&order(ORDER), ms(seconds * 1000)).await;
        assert_eq!(invocation.json()["outcome"], "closed", "{seconds} s: {invocation:?}");
        world.function.invoke_within(&order("2"), ms(seconds * 1000)).await;
        assert_eq!(world.closed_at(), [0, 1, 1], "{seconds} s: and it is second choice from then on");
    };
    tokio::join!(invoke(2), invoke(3), invoke(6));
}

#[tokio::test]
async fn whatever_hangs_the_function_answers_before_its_time_is_up() {
    let invoke = |time: u64| async move {
        let mut world = world().await;
        world.sandbox.gateway.fault_on_next_calls(Times::Always, Fault::Hang);
        let invocation = world.function.invoke_within(&order(ORDER), ms(time)).await;
        assert!(invocation.text().contains("the order may be closed"), "{invocation:?}");
        assert!(invocation.took < ms(time), "{:?}", invocation.took);
        let line = world.order_line(1).await;
        assert_eq!(line["outcome"], "unknown", "{line}");
        (invocation.error_type().unwrap(), line["attempts"].as_u64().unwrap())
    };
    let (short, long) = tokio::join!(invoke(600), invoke(3000));
    assert_eq!(short, ("DeadlineExceeded".to_owned(), 1));
    // How many there are depends on how long the pauses between them are.
    assert_eq!(long.0, "GatewayUnreachable", "what an attempt brought is not replaced");
    assert!(long.1 >= 2, "{long:?}");
}

#[tokio::test]
async fn an_attempt_that_the_deadline_cut_short_counts_against_its_endpoint_from_a_second_on() {
    let mut world = world().await;
    world.sandbox.gateway.fault_on_order("1", Times::Always, Fault::Hang);
    world.function.invoke_within(&order("1"), ms(700)).await;
    world.function.invoke(&order("2")).await;
    assert_eq!(world.closed_at(), [0, 0], "less than half a second says nothing");
    world.sandbox.gateway.clear_received();

    world.sandbox.gateway.fault_on_order("3", Times::Next(2), Fault::Error("SYSTEMERROR"));
    world.sandbox.gateway.fault_on_order("3", Times::Always, Fault::Hang);
    let invocation = world.function.invoke_within(&order("3"), ms(2500)).await;
    let reply = invocation.json();
    assert_eq!(values(&reply, ["err_code", "outcome"]), ["SYSTEMERROR", "unknown"], "{invocation:?}");
    assert!(invocation.took < ms(2500), "{:?}", invocation.took);
    world.function.invoke(&order("4")).await;
    assert_eq!(world.closed_at(), [0, 1, 0, 1]);
}

#[tokio::test]
async fn what_is_in_hand_when_the_deadline_comes_is_returned() {
    let mut world = world().await;
    let gateway = world.sandbox.gateway.clone();
    gateway.fault_on_order("1", Times::Next(1), Fault::Error("SYSTEMERROR"));
    gateway.fault_on_order("1", Times::Always, Fault::Hang);
    gateway.fault_on_order("2", Times::Always, Fault::Error("SYSTEMERROR"));
    for (out_trade_no, time) in [("1", ms(900)), ("2", ms(500))] {
        let invocation: Invocation = world.function.invoke_within(&order(out_trade_no), time).await;
        let reply = invocation.json();
        assert_eq!(values(&reply, ["err_code", "outcome"]), ["SYSTEMERROR", "unknown"], "{invocation:?}");
        assert!(invocation.took < time, "{:?}", invocation.took);
    }
    gateway.fault_on_order("3", Times::Next(1), Fault::Body(b"no reply".to_vec()));
    gateway.fault_on_order("3", Times::Always, Fault::Hang);
    let invocation = world.function.invoke_within(&order("3"), ms(900)).await;
    assert_eq!(invocation.error_type().as_deref(), Some("ReplyInvalid"), "a fault is in hand, too: {invocation:?}");
}

#[tokio::test]
async fn a_deadline_that_has_passed_on_arrival_counts_as_ten_seconds() {
    let mut world = world().await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let just_passed = u64::try_from(now.as_millis()).unwrap() - 1000;
    for header in [600_000, 0, just_passed] {
        world.sandbox.gateway.put_order(ORDER, TradeState::NotPay);
        let invocation = world.function.invoke_text(order(ORDER).to_string(), Deadline::Header(header)).await;
        assert_eq!(invocation.json()["resultCode"], "SUCCESS", "{header}: {invocation:?}");
    }
}

#[tokio::test]
async fn an_order_too_young_is_not_sent_and_an_older_one_is() {
    let mut world = world().await;
    for (age, is_sent) in [(-10, false), (60, false), (590, false), (-290, false), (-310, true), (-100_000, true)] {
        world.sandbox.gateway.clear_received();
        let mut event = order(ORDER);
        event["time_start"] = json!(beijing_time(age));
        let reply = world.function.invoke(&event).await.json();
        assert_eq!(!world.closed_at().is_empty(), is_sent, "{age}");
        if !is_sent {
            let sentence = "订单生成后不能马上调用关单接口,最短调用时间间隔为5分钟";
            let expected = [json!(sentence), json!(-501_007), json!("not_sent")];
            assert_eq!(values(&reply, ["returnMsg", "errCode", "outcome"]), expected, "{age}");
            assert!(reply["errMsg"].as_str().unwrap().starts_with("cloudPay.closeOrder:fail "));
        }
    }
    let mut event = order(ORDER);
    event["time_start"] = json!(beijing_time(610));
    let reply = world.function.invoke(&event).await.json();
    let expected = [
        "参数格式校验错误: time_start 晚于当前时间,应为北京时间",
        "cloudPay.closeOrder:fail invalid parameters: time_start is in the future; expected Beijing time",
    ];
    assert_eq!(values(&reply, ["returnMsg", "errMsg"]), expected, "another zone's clock: {reply}");
}

#[tokio::test]
async fn an_order_too_young_is_rejected_however_little_time_is_left() {
    let mut world = world().await;
    let mut event = order(ORDER);
    event["time_start"] = json!(beijing_time(-10));
    let invocation = world.function.invoke_within(&event, ms(200)).await;
    assert_eq!(invocation.json()["errCode"], -501_007, "{invocation:?}");
}

#[tokio::test]
async fn an_invocation_without_time_to_answer_sends_nothing() {
    let mut world = world().await;
    let invocation = world.function.invoke_within(&order(ORDER), ms(200)).await;
    assert_eq!(invocation.error_type().as_deref(), Some("DeadlineExceeded"), "{invocation:?}");
    assert!(invocation.text().contains("nothing was sent"), "{invocation:?}");
    assert!(world.closed_at().is_empty());
    assert_eq!(world.order_line(1).await["outcome"], "not_sent");
}

#[tokio::test]
async fn a_fault_is_logged_once() {
    let mut world = world().await;
    world.sandbox.gateway.fault_on_order("1", Times::Always, Fault::Status(500));
    for out_trade_no in ["1", "2"] {
        world.function.invoke(&order(out_trade_no)).await;
    }
    world.function.wait_for_order_lines(2).await;
    let logs = world.function.logs();
    assert_eq!(logs.lines().count(), 3, "the start and two orders: {logs}");
}
