//! When an order is queried, and what that decides.

use sandbox::{
    mock::gateway::{Call, Fault, OPENID, Order, Times, TradeState},
    mock::identity::Identity,
};
use serde_json::{Value, json};

use crate::support::{ORDER, World, ms, order, values, world, world_with};

fn confirmed(out_trade_no: &str) -> Value {
    let mut event = order(out_trade_no);
    event["confirm"] = json!(true);
    event
}

/// How many closes and queries were sent.
fn sent(world: &World) -> [usize; 2] {
    [Call::CloseOrder, Call::OrderQuery].map(|call| world.sandbox.gateway.count(call))
}

async fn short() -> World {
    world_with(Identity::default(), |function| function.env("WECHAT_PAY_TIMEOUT_MS", "400")).await
}

#[tokio::test]
async fn without_confirm_a_clear_answer_is_not_queried() {
    let mut world = world().await;
    for state in [TradeState::NotPay, TradeState::Success, TradeState::Closed] {
        world.sandbox.gateway.put_order(ORDER, state);
        world.sandbox.gateway.clear_received();
        let reply = world.function.invoke(&order(ORDER)).await.json();
        let got = (sent(&world), reply.get("trade_state"), &reply["confirmed"]);
        assert_eq!(got, ([1, 0], None, &json!(false)), "{state:?}: {reply}");
    }
}

#[tokio::test]
async fn a_query_proves_what_closeorder_said() {
    let mut world = world().await;
    for (state, outcome, err_code, trade_state) in [
        (TradeState::NotPay, "closed", json!(null), "CLOSED"),
        (TradeState::Closed, "closed", json!("ORDERCLOSED"), "CLOSED"),
        (TradeState::Success, "paid", json!("ORDERPAID"), "SUCCESS"),
        (TradeState::Refund, "paid", json!("ORDERPAID"), "REFUND"),
    ] {
        world.sandbox.gateway.put_order(ORDER, state);
        world.sandbox.gateway.clear_received();
        let reply = world.function.invoke(&confirmed(ORDER)).await.json();
        let expected = [json!(outcome), err_code, json!(trade_state), json!(trade_state), json!("SUCCESS")];
        let got = values(&reply, ["outcome", "err_code", "trade_state", "tradeState", "returnCode"]);
        assert_eq!(got, expected, "{reply}");
        assert!(reply["sign"].is_string(), "closeorder's own reply is kept: {reply}");
        assert_eq!(reply["confirmed"], true, "{reply}");
        assert_eq!(sent(&world), [1, 1]);
        let line = world.function.wait_for_order_lines(1).await.pop().unwrap();
        let expected = [json!(1), json!(1), json!(true)];
        assert_eq!(values(&line, ["queries", "attempts", "confirmed"]), expected, "{line}");
    }
}

#[tokio::test]
async fn a_paid_order_says_what_was_paid_and_not_by_whom() {
    let mut world = world().await;
    world.sandbox.gateway.put_order(ORDER, TradeState::Success);
    let invocation = world.function.invoke(&confirmed(ORDER)).await;
    let reply = invocation.json();
    for name in ["transaction_id", "transactionId", "total_fee", "totalFee", "time_end", "timeEnd", "trade_type"] {
        assert!(reply[name].is_string(), "{name}: {reply}");
    }
    assert_eq!(world.sandbox.gateway.received()[1].path, "/pay/orderquery");
    assert!(world.sandbox.gateway.received()[1].reply.as_ref().unwrap().contains(OPENID));
    let said = format!("{} {}", invocation.text(), world.function.logs());
    assert!(!said.contains(OPENID) && !said.contains("openid"), "{said}");
}

#[tokio::test]
async fn the_answer_is_the_one_that_closeorder_gives_for_what_the_query_has_shown() {
    let mut world = world().await;
    for (state, outcome, err_code, trade_state) in [
        (Some(TradeState::Success), "paid", "ORDERPAID", json!("SUCCESS")),
        (Some(TradeState::Refund), "paid", "ORDERPAID", json!("REFUND")),
        (Some(TradeState::Closed), "closed", "ORDERCLOSED", json!("CLOSED")),
        (Some(TradeState::Revoked), "closed", "ORDERCLOSED", json!("REVOKED")),
        (None, "not_found", "ORDERNOTEXIST", json!(null)),
    ] {
        for fault in [Fault::Error("SYSTEMERROR"), Fault::Error("FREQUENCY_LIMITED"), Fault::Forge, Fault::Reset] {
            let number = format!("{outcome}_{}", rand_suffix(&format!("{state:?}{fault:?}")));
            if let Some(state) = state {
                world.sandbox.gateway.put_order(&number, state);
            }
            world.sandbox.gateway.fault_on_order_call(&number, Call::CloseOrder, Times::Always, fault.clone());
            let reply = world.function.invoke(&order(&number)).await.json();
            let expected = [
                json!("SUCCESS"),
                json!("OK"),
                json!("FAIL"),
                json!(err_code),
                json!(outcome),
                trade_state.clone(),
                json!(0),
                json!("1900000109"),
                json!(null),
                json!(null),
            ];
            let names = [
                "returnCode",
                "returnMsg",
                "resultCode",
                "err_code",
                "outcome",
                "trade_state",
                "errCode",
                "subMchId",
                "sign",
                "nonce_str",
            ];
            assert_eq!(values(&reply, names), expected, "{state:?} {fault:?}: {reply}");
            assert!(reply["err_code_des"].as_str().unwrap().starts_with("查单结果"), "{reply}");
        }
    }
}

/// A short number for a text, so that each case has an order of its own.
fn rand_suffix(text: &str) -> u32 {
    text.bytes().fold(7, |hash: u32, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)))
}

#[tokio::test]
async fn an_order_that_is_open_is_called_open_and_a_fault_stays_a_fault() {
    let mut world = world().await;
    for (fault, err_code) in [
        (Fault::Error("SYSTEMERROR"), json!("SYSTEMERROR")),
        (Fault::Error("FREQUENCY_LIMITED"), json!("FREQUENCY_LIMITED")),
        (Fault::Error("USERPAYING"), json!("USERPAYING")),
    ] {
        world.sandbox.gateway.fault_on_order_call(ORDER, Call::CloseOrder, Times::Next(3), fault);
        let reply = world.function.invoke(&order(ORDER)).await.json();
        assert_eq!(values(&reply, ["outcome", "err_code", "trade_state"]), [json!("open"), err_code, json!("NOTPAY")]);
        world.sandbox.gateway.clear_faults();
    }
    world.sandbox.gateway.fault_on_order_call(ORDER, Call::CloseOrder, Times::Always, Fault::Forge);
    let invocation = world.function.invoke(&order(ORDER)).await;
    assert_eq!(invocation.error_type().as_deref(), Some("ReplyInvalid"));
    assert!(invocation.text().contains("still open"), "{invocation:?}");
    let line = world.function.wait_for_order_lines(4).await.pop().unwrap();
    let expected = ["ERROR", "open", "ReplyInvalid", "NOTPAY"];
    assert_eq!(values(&line, ["level", "outcome", "reason", "trade_state"]), expected, "{line}");
}

#[tokio::test]
async fn a_success_for_a_number_that_nobody_has_is_not_found_out_without_confirm_and_is_with_it() {
    let mut world = world().await;
    assert_eq!(world.function.invoke(&order("nobody")).await.json()["outcome"], "closed");
    let reply = world.function.invoke(&confirmed("nobody")).await.json();
    let expected = ["not_found", "ORDERNOTEXIST", "FAIL"];
    assert_eq!(values(&reply, ["outcome", "err_code", "result_code"]), expected, "{reply}");
    let line = world.function.wait_for_order_lines(2).await.pop().unwrap();
    assert_eq!(values(&line, ["level", "outcome"]), ["WARN", "not_found"], "{line}");
}

#[tokio::test]
async fn a_close_that_does_not_stick_is_made_once_more() {
    let mut world = world().await;
    let stuck = |times| Order { closes_not_sticking: times, ..TradeState::NotPay.into() };
    for (times, outcome, err_code, trade_state) in
        [(Times::Next(1), "closed", json!(null), "CLOSED"), (Times::Always, "open", json!("ORDERNOTCLOSED"), "NOTPAY")]
    {
        world.sandbox.gateway.put_order(ORDER, stuck(times));
        world.sandbox.gateway.clear_received();
        let invocation = world.function.invoke(&confirmed(ORDER)).await;
        let reply = invocation.json();
        let expected = [json!(outcome), err_code, json!(trade_state)];
        assert_eq!(values(&reply, ["outcome", "err_code", "trade_state"]), expected, "{reply}");
        assert_eq!(sent(&world), [2, 2]);
        assert!((ms(500)..ms(2500)).contains(&invocation.took), "a pause of about a second: {:?}", invocation.took);
    }
}

#[tokio::test]
async fn without_time_for_a_second_round_there_is_none() {
    let mut world = world().await;
    let stuck = Order { closes_not_sticking: Times::Always, ..TradeState::NotPay.into() };
    world.sandbox.gateway.put_order(ORDER, stuck);
    let invocation = world.function.invoke_within(&confirmed(ORDER), ms(3000)).await;
    let reply = invocation.json();
    assert_eq!(values(&reply, ["outcome", "err_code", "trade_state"]), ["open", "ORDERNOTCLOSED", "NOTPAY"], "{reply}");
    assert_eq!(sent(&world), [1, 1]);
    assert!(invocation.took < ms(1000), "{:?}", invocation.took);
}

#[tokio::test]
async fn what_a_query_has_shown_open_is_not_called_closed_again_on_closeorder_s_word() {
    let mut world = short().await;
    for (fault, call) in [
        (Fault::Status(503), Call::OrderQuery),
        (Fault::Hang, Call::OrderQuery),
        (Fault::Forge, Call::CloseOrder),
        (Fault::UnsignedFail("商户号mch_id与appid不匹配"), Call::CloseOrder),
        (Fault::Error("ORDERNOTEXIST"), Call::OrderQuery),
    ] {
        let gateway = &world.sandbox.gateway;
        gateway.put_order(ORDER, Order { closes_not_sticking: Times::Always, ..TradeState::NotPay.into() });
        gateway.clear_received();
        gateway.fault_on_order_call(ORDER, call, Times::Next(1), Fault::Delay(ms(1)));
        gateway.fault_on_order_call(ORDER, call, Times::Always, fault.clone());
        let reply = world.function.invoke(&confirmed(ORDER)).await.json();
        let expected = ["open", "ORDERNOTCLOSED", "NOTPAY"];
        assert_eq!(values(&reply, ["outcome", "err_code", "trade_state"]), expected, "{fault:?}: {reply}");
        world.sandbox.gateway.clear_faults();
    }
    let line = world.function.wait_for_order_lines(5).await.pop().unwrap();
    let expected = "ORDERNOTEXIST, although another reply shows that the order exists";
    assert_eq!(line["query_cause"], expected, "{line}");
}

#[tokio::test]
async fn orderpaid_that_a_query_does_not_prove_is_not_called_paid_where_proof_was_asked_for() {
    let mut world = world().await;
    let paid = Order { queries_lagging: Times::Always, ..TradeState::Success.into() };
    world.sandbox.gateway.put_order(ORDER, paid);
    let reply = world.function.invoke(&confirmed(ORDER)).await.json();
    let expected = [json!("unknown"), json!("NOTCONFIRMED"), json!("NOTPAY")];
    assert_eq!(values(&reply, ["outcome", "err_code", "trade_state"]), expected, "{reply}");
    world.sandbox.gateway.fault_on_order_call(ORDER, Call::OrderQuery, Times::Always, Fault::Error("ORDERNOTEXIST"));
    let reply = world.function.invoke(&confirmed(ORDER)).await.json();
    let expected = [json!("unknown"), json!("NOTCONFIRMED"), json!(null)];
    assert_eq!(values(&reply, ["outcome", "err_code", "trade_state"]), expected, "{reply}");
    let reply = world.function.invoke(&order(ORDER)).await.json();
    assert_eq!(values(&reply, ["outcome", "confirmed"]), [json!("paid"), json!(false)], "{reply}");
}

#[tokio::test]
async fn orderpaid_against_a_closed_order_is_unknown() {
    let mut world = world().await;
    world.sandbox.gateway.put_order(ORDER, TradeState::Closed);
    world.sandbox.gateway.fault_on_order_call(ORDER, Call::CloseOrder, Times::Always, Fault::Error("ORDERPAID"));
    let reply = world.function.invoke(&confirmed(ORDER)).await.json();
    let expected = ["unknown", "NOTCONFIRMED", "CLOSED"];
    assert_eq!(values(&reply, ["outcome", "err_code", "trade_state"]), expected, "{reply}");
}

#[tokio::test]
async fn an_order_that_exists_is_not_called_not_found_over_a_query_that_names_no_order() {
    let mut world = world().await;
    for (err_code, outcome) in [("USERPAYING", "open"), ("TRADE_STATE_ERROR", "unknown")] {
        let gateway = &world.sandbox.gateway;
        gateway.fault_on_order_call(ORDER, Call::CloseOrder, Times::Next(1), Fault::Error(err_code));
        gateway.fault_on_order_call(ORDER, Call::OrderQuery, Times::Next(1), Fault::Error("ORDERNOTEXIST"));
        let reply = world.function.invoke(&confirmed(ORDER)).await.json();
        let expected = [json!(outcome), json!(err_code), json!(false)];
        assert_eq!(values(&reply, ["outcome", "err_code", "confirmed"]), expected, "{reply}");
        let line = world.function.wait_for_order_lines(1).await.pop().unwrap();
        assert!(line["query_cause"].as_str().unwrap().starts_with("ORDERNOTEXIST"), "{line}");
    }
}

#[tokio::test]
async fn what_no_query_has_proved_is_not_said_where_proof_was_asked_for_and_never_becomes_a_fault() {
    let mut world = short().await;
    for (fault, cause) in [
        (Fault::Hang, "no answer in time"),
        (Fault::Reset, "the connection was lost"),
        (Fault::ResetAfter, "the connection was lost"),
        (Fault::Status(502), "HTTP status 502"),
        (Fault::Body(b"<html/>".to_vec()), "its root is not <xml>"),
        (Fault::Body(Vec::new()), "it is not one well-formed XML document"),
        (Fault::Forge, "its signature does not match"),
        (Fault::OtherCall, "its out_trade_no is missing"),
        (Fault::Error("SYSTEMERROR"), "SYSTEMERROR"),
        (Fault::Error("NOAUTH"), "NOAUTH"),
        (Fault::UnsignedFail("系统繁忙"), "an unsigned reply"),
        (
            Fault::Edit(vec![("out_trade_no", Some("another".to_owned()))]),
            "its out_trade_no is not the one that was sent",
        ),
        (Fault::Edit(vec![("out_trade_no", None)]), "its out_trade_no is missing"),
        (Fault::Edit(vec![("trade_state", None)]), "its trade_state is missing"),
    ] {
        world.sandbox.gateway.fault_on_call(Call::OrderQuery, Times::Always, fault.clone());
        for (state, said) in [(TradeState::NotPay, "SUCCESS"), (TradeState::Success, "ORDERPAID")] {
            for time in [20_000, 2000] {
                world.sandbox.gateway.put_order(ORDER, state);
                let reply = world.function.invoke_within(&confirmed(ORDER), ms(time)).await.json();
                let expected = ["unknown", "SUCCESS", "FAIL", "NOTCONFIRMED"];
                let got = values(&reply, ["outcome", "returnCode", "resultCode", "err_code"]);
                assert_eq!(got, expected, "{fault:?} {time}: {reply}");
                assert_eq!(
                    (&reply["confirmed"], reply.get("trade_state")),
                    (&json!(false), None),
                    "{fault:?}: {reply}"
                );
                assert!(reply["err_code_des"].as_str().unwrap().contains(said), "{reply}");
                assert_eq!((reply.get("sign"), reply.get("nonce_str")), (None, None), "{reply}");
                let line = world.function.wait_for_order_lines(1).await.pop().unwrap();
                assert_eq!(values(&line, ["level", "reason"]), ["ERROR", "NOTCONFIRMED"], "{line}");
                assert_eq!(line["query_cause"], cause, "{fault:?} {time}: {line}");
            }
        }
        world.sandbox.gateway.put_order(ORDER, TradeState::NotPay);
        let reply = world.function.invoke(&order(ORDER)).await.json();
        assert_eq!(values(&reply, ["outcome", "confirmed"]), [json!("closed"), json!(false)], "not asked for: {reply}");
        world.sandbox.gateway.clear_faults();
    }
    world.sandbox.gateway.put_order(ORDER, TradeState::NotPay);
    let reply = world.function.invoke_within(&confirmed(ORDER), ms(1100)).await.json();
    assert_eq!(reply["err_code"], "NOTCONFIRMED", "{reply}");
    let line = world.function.wait_for_order_lines(1).await.pop().unwrap();
    assert_eq!(line["query_cause"], "no time was left for a query", "{line}");
}

#[tokio::test]
async fn a_query_has_two_attempts_the_second_at_the_next_endpoint_or_on_a_new_connection() {
    for (fault, queries) in [
        (Fault::Status(503), vec![0, 1]),
        (Fault::Reset, vec![0, 1]),
        (Fault::Hang, vec![0, 1]),
        (Fault::Body(b"no".to_vec()), vec![0, 1]),
        (Fault::OtherCall, vec![0, 0]),
        (Fault::Edit(vec![("out_trade_no", Some("another".to_owned()))]), vec![0, 0]),
        (Fault::Error("ORDERPAID"), vec![0, 0]),
        (Fault::Forge, vec![0]),
        (Fault::Error("SYSTEMERROR"), vec![0]),
    ] {
        let mut world = short().await;
        world.sandbox.gateway.put_order(ORDER, TradeState::NotPay);
        world.sandbox.gateway.fault_on_call(Call::OrderQuery, Times::Next(1), fault.clone());
        let reply = world.function.invoke(&confirmed(ORDER)).await.json();
        assert_eq!(reply["outcome"], if queries.len() == 2 { "closed" } else { "unknown" }, "{fault:?}: {reply}");
        assert_eq!(reply.get("trade_state").is_some(), queries.len() == 2, "{fault:?}: {reply}");
        let received = world.sandbox.gateway.received();
        let asked = received.iter().filter(|received| received.path == "/pay/orderquery");
        assert_eq!(asked.map(|received| received.endpoint).collect::<Vec<_>>(), queries, "{fault:?}");
    }
}

#[tokio::test]
async fn a_rejection_is_not_queried_unless_an_earlier_attempt_may_have_closed_the_order() {
    let mut world = short().await;
    let mismatch = Fault::UnsignedFail("商户号mch_id与appid不匹配");
    for (first, outcome, calls) in [
        (None, "rejected", [1, 0]),
        (Some(Fault::Reset), "unknown", [2, 1]),
        (Some(Fault::ResetAfter), "closed", [2, 1]),
        (Some(Fault::HangAfter), "closed", [2, 1]),
        (Some(Fault::Status(500)), "unknown", [2, 1]),
    ] {
        let gateway = &world.sandbox.gateway;
        gateway.put_order(ORDER, TradeState::NotPay);
        gateway.clear_received();
        if let Some(first) = &first {
            gateway.fault_on_order_call(ORDER, Call::CloseOrder, Times::Next(1), first.clone());
        }
        gateway.fault_on_order_call(ORDER, Call::CloseOrder, Times::Always, mismatch.clone());
        if outcome == "unknown" {
            gateway.fault_on_order_call(ORDER, Call::OrderQuery, Times::Always, Fault::Error("SYSTEMERROR"));
        }
        let reply = world.function.invoke(&order(ORDER)).await.json();
        assert_eq!((reply["outcome"].as_str(), sent(&world)), (Some(outcome), calls), "{first:?}: {reply}");
        world.sandbox.gateway.clear_faults();
    }
}

#[tokio::test]
async fn a_rate_limit_brings_no_more_load() {
    let mut world = world().await;
    world.sandbox.gateway.fault_on_next_calls(Times::Always, Fault::UnsignedFail("调用频率超限,请降低频率"));
    let reply = world.function.invoke(&confirmed(ORDER)).await.json();
    assert_eq!(values(&reply, ["outcome", "returnCode"]), ["unknown", "FAIL"], "{reply}");
    assert_eq!(sent(&world), [1, 0]);
    let line = world.function.wait_for_order_lines(1).await.pop().unwrap();
    let expected = ["WARN", "rate_limited", "调用频率超限,请降低频率"];
    assert_eq!(values(&line, ["level", "reason", "return_msg"]), expected, "{line}");
}

#[tokio::test]
async fn with_closeorder_down_the_query_still_tells() {
    let mut world = short().await;
    world.sandbox.gateway.fault_on_call(Call::CloseOrder, Times::Always, Fault::Status(503));
    for (state, outcome) in [(TradeState::Success, "paid"), (TradeState::Closed, "closed")] {
        world.sandbox.gateway.put_order(ORDER, state);
        let reply = world.function.invoke(&order(ORDER)).await.json();
        assert_eq!(reply["outcome"], outcome, "{reply}");
    }
}

#[tokio::test]
async fn an_endpoint_whose_query_hangs_is_second_choice_from_then_on() {
    let mut world = short().await;
    world.sandbox.gateway.fault_on_endpoint(0, Some(Call::OrderQuery), Fault::Hang);
    for (number, endpoints) in [("1", vec![0, 0, 1]), ("2", vec![1, 1])] {
        world.sandbox.gateway.put_order(number, TradeState::NotPay);
        world.sandbox.gateway.clear_received();
        assert_eq!(world.function.invoke(&confirmed(number)).await.json()["trade_state"], "CLOSED");
        let asked: Vec<_> = world.sandbox.gateway.received().iter().map(|received| received.endpoint).collect();
        assert_eq!(asked, endpoints, "order {number}");
    }
}

#[tokio::test]
async fn a_query_starts_at_the_endpoint_whose_reply_is_in_hand() {
    let mut world = short().await;
    let gateway = &world.sandbox.gateway;
    gateway.put_order(ORDER, TradeState::NotPay);
    gateway.fault_on_order_call(ORDER, Call::CloseOrder, Times::Next(2), Fault::Error("SYSTEMERROR"));
    gateway.fault_on_order_call(ORDER, Call::CloseOrder, Times::Next(1), Fault::Hang);
    let reply = world.function.invoke(&order(ORDER)).await.json();
    assert_eq!(values(&reply, ["outcome", "err_code", "trade_state"]), ["open", "SYSTEMERROR", "NOTPAY"], "{reply}");
    let asked: Vec<_> = world.sandbox.gateway.received().iter().map(|received| received.endpoint).collect();
    assert_eq!(asked, [0, 1, 0, 1]);
    let line = world.function.wait_for_order_lines(1).await.remove(0);
    assert_eq!(line["endpoint"], world.sandbox.gateway.endpoints()[1].url(), "{line}");
    assert_eq!(line["wechat_pay_request_id"], "SANDBOX-0000000000000002-0", "{line}");
}

#[tokio::test]
async fn the_log_shows_the_state_that_the_answer_rests_on() {
    let mut world = short().await;
    let gateway = &world.sandbox.gateway;
    let stuck = Order { closes_not_sticking: Times::Always, ..TradeState::NotPay.into() };
    let lagging = Order { queries_lagging: Times::Always, ..TradeState::Success.into() };
    gateway.put_order("stuck", stuck);
    gateway.put_order("lagging", lagging);
    gateway.fault_on_order_call("stuck", Call::OrderQuery, Times::Next(1), Fault::Delay(ms(1)));
    gateway.fault_on_order_call("stuck", Call::OrderQuery, Times::Always, Fault::Error("ORDERNOTEXIST"));
    gateway.fault_on_order_call("stuck", Call::CloseOrder, Times::Next(1), Fault::Delay(ms(1)));
    gateway.fault_on_order_call("stuck", Call::CloseOrder, Times::Always, Fault::Error("ORDERCLOSED"));
    for (number, expected) in
        [("stuck", [json!("open"), json!("NOTPAY")]), ("lagging", [json!("unknown"), json!("NOTPAY")])]
    {
        let reply = world.function.invoke(&confirmed(number)).await.json();
        assert_eq!(values(&reply, ["outcome", "trade_state"]), expected, "{reply}");
        let line = world.function.wait_for_order_lines(1).await.pop().unwrap();
        assert_eq!(values(&line, ["outcome", "trade_state"]), expected, "{line}");
    }
}
