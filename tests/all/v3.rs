//! API v3: the same outcomes and answers over another wire. The mock verifies requests and signs replies by code of its own.

use sandbox::{
    Sandbox,
    mock::gateway::{Call, Fault, Times, TradeState, V3Fault},
    mock::identity::{Api, Identity, V3},
    mock::rsa::Key,
};
use serde_json::{Value, json};

use crate::support::{ORDER, SHORT_MS, World, batch, function, order, values, world_with};

const CLOSE: Call = Call::CloseOrder;
const QUERY: Call = Call::OrderQuery;

fn partner() -> Identity {
    Identity::default().with_api(Api::V3)
}

fn merchant() -> Identity {
    Identity::merchant().with_api(Api::V3)
}

async fn world() -> World {
    world_with(partner(), |function| function).await
}

/// An order whose outcome a query has to prove.
fn confirmed(out_trade_no: &str) -> Value {
    let mut order = order(out_trade_no);
    order["confirm"] = json!(true);
    order
}

#[tokio::test]
async fn both_kinds_of_merchant_close_and_query_over_api_v3() {
    for identity in [partner(), merchant()] {
        let mut world = world_with(identity.clone(), |function| function).await;
        let sub_mch_id = (identity == partner()).then_some("1900000109");
        let event = json!({"out_trade_no": ORDER, "sub_mch_id": sub_mch_id, "sub_appid": "wx1", "confirm": true});
        let answer = world.function.invoke(&event).await.json();
        let expected = json!({
            "returnCode": "SUCCESS", "returnMsg": "OK", "errCode": 0, "errMsg": "cloudPay.closeOrder:ok",
            "outcome": "closed", "confirmed": true, "result_code": "SUCCESS", "resultCode": "SUCCESS",
            "mch_id": identity.mch_id, "mchId": identity.mch_id, "out_trade_no": ORDER, "outTradeNo": ORDER,
            "trade_state": "CLOSED", "tradeState": "CLOSED", "trade_state_desc": "订单已关闭",
            "tradeStateDesc": "订单已关闭", "total_fee": "10", "totalFee": "10",
        });
        let mut expected = expected;
        if let Some(sub_mch_id) = sub_mch_id {
            expected["sub_mch_id"] = json!(sub_mch_id);
            expected["subMchId"] = json!(sub_mch_id);
        }
        assert_eq!(answer, expected);
        assert_eq!(world.sandbox.gateway.order(ORDER), Some(TradeState::Closed));
        let received = world.sandbox.gateway.received();
        let sent: Vec<_> =
            received.iter().map(|it| (it.method.as_str(), it.path.as_str(), it.query.as_str())).collect();
        let (path, query) = match sub_mch_id {
            Some(sub_mch_id) => ("/v3/pay/partner/transactions", format!("sp_mchid=1230000109&sub_mchid={sub_mch_id}")),
            None => ("/v3/pay/transactions", "mchid=1230000109".to_owned()),
        };
        let path = format!("{path}/out-trade-no/{ORDER}");
        assert_eq!(sent, [("POST", &*format!("{path}/close"), ""), ("GET", &*path, &*query)]);
        assert!(!received.iter().any(|it| it.headers.contains_key("accept-encoding")), "{received:?}");
        assert!(!received[1].headers.contains_key("content-length"), "a GET has no body: {received:?}");
        assert!(received[1].body.is_empty());
        let line = world.order_line(1).await;
        let logged = values(&line, ["outcome", "confirmed", "mch_id", "attempts", "queries"]);
        assert_eq!(logged, [json!("closed"), json!(true), json!("1230000109"), json!(1), json!(1)], "{line}");
    }
}

#[tokio::test]
async fn the_path_is_sent_as_it_is_signed_whatever_the_number_holds() {
    for identity in [partner(), merchant()] {
        let mut world = world_with(identity, |function| function).await;
        for (number, escaped) in [
            ("a|b*c@d_e-f", "a%7Cb%2Ac%40d_e-f"),
            ("||||||", "%7C%7C%7C%7C%7C%7C"),
            ("******", "%2A%2A%2A%2A%2A%2A"),
            ("@@@@@@", "%40%40%40%40%40%40"),
            ("_-_-_-", "_-_-_-"),
        ] {
            world.sandbox.gateway.put_order(number, TradeState::NotPay);
            world.sandbox.gateway.clear_received();
            let event = json!({"out_trade_no": number, "confirm": true});
            let event = if world.sandbox.identity.mch_type == merchant().mch_type { event } else { confirmed(number) };
            let answer = world.function.invoke(&event).await.json();
            assert_eq!(values(&answer, ["outcome", "confirmed"]), [json!("closed"), json!(true)], "{number}: {answer}");
            assert_eq!(world.sandbox.gateway.order(number), Some(TradeState::Closed), "{number}");
            let received = world.sandbox.gateway.received();
            assert!(received[0].path.ends_with(&format!("/out-trade-no/{escaped}/close")), "{received:?}");
            assert!(received[1].path.ends_with(&format!("/out-trade-no/{escaped}")), "{received:?}");
        }
    }
}

#[tokio::test]
async fn a_path_of_the_endpoint_s_own_is_not_signed() {
    let sandbox = Sandbox::start_as(merchant()).await.unwrap();
    sandbox.gateway.put_order(ORDER, TradeState::NotPay);
    let base = format!("{}/relay/", sandbox.gateway.endpoints()[0].url());
    let mut function = function(&sandbox).env("WECHAT_PAY_ENDPOINTS", &base).start().await.unwrap();
    function.invoke(&json!({"out_trade_no": ORDER})).await;
    let received = &sandbox.gateway.received()[0];
    let close = format!("/v3/pay/transactions/out-trade-no/{ORDER}/close");
    assert_eq!(received.path, format!("/relay{close}"));
    let field = |name: &str| {
        let (_, rest) = received.headers["authorization"].split_once(&format!("{name}=\"")).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let text = format!("POST\n{close}\n{}\n{}\n{}\n", field("timestamp"), field("nonce_str"), received.body);
    assert!(Key::Merchant(0).verify(&text, &field("signature")), "{received:?}");
}

#[tokio::test]
async fn what_wechat_pay_says_means_what_it_means_over_v2() {
    let mut world = world().await;
    for (number, state) in [
        ("unpaid_1", TradeState::NotPay),
        ("closed_1", TradeState::Closed),
        ("closed_2", TradeState::Closed),
        ("paid_1", TradeState::Success),
        ("paid_2", TradeState::Success),
        ("paying", TradeState::UserPaying),
        ("refund", TradeState::Refund),
        ("failed", TradeState::PayError),
    ] {
        world.sandbox.gateway.put_order(number, state);
    }
    for (number, outcome, err_code, trade_state) in [
        ("unpaid_1", "closed", json!(null), json!("CLOSED")),
        ("closed_1", "closed", json!("ORDERCLOSED"), json!("CLOSED")),
        ("closed_2", "closed", json!("ORDERCLOSED"), json!("CLOSED")),
        ("paid_1", "paid", json!("ORDERPAID"), json!("SUCCESS")),
        ("paid_2", "paid", json!("ORDERPAID"), json!("SUCCESS")),
        ("paying", "open", json!("USERPAYING"), json!("USERPAYING")),
        ("refund", "paid", json!("ORDERPAID"), json!("REFUND")),
        ("failed", "open", json!("TRADE_ERROR"), json!("PAYERROR")),
        ("nobody", "not_found", json!("ORDERNOTEXIST"), json!(null)),
    ] {
        let answer = world.function.invoke(&confirmed(number)).await.json();
        let said = values(&answer, ["outcome", "confirmed", "err_code", "trade_state"]);
        assert_eq!(said, [json!(outcome), json!(true), err_code, trade_state], "{number}: {answer}");
        assert!(answer.get("sign").is_none() && answer.get("nonce_str").is_none() && answer.get("appid").is_none());
    }
    let answer = world.function.invoke(&confirmed("paid_1")).await.json();
    let payment = values(&answer, ["time_end", "fee_type", "total_fee", "trade_type", "timeEnd"]);
    assert_eq!(payment, ["20261123081500", "CNY", "10", "JSAPI", "20261123081500"]);
    assert!(answer["transaction_id"].is_string() && !answer.to_string().contains("openid"), "{answer}");
}

/// With what a reply that must not count comes to: nothing reads as closed, and the secret is read anew only where a changed
/// key could look like it.
#[tokio::test]
async fn a_badly_signed_reply_never_counts() {
    const REREAD: bool = true;
    let header = |name, value| Fault::V3(V3Fault::Header(name, value));
    for (fault, is_reread, cause) in [
        (Fault::Forge, REREAD, "its signature does not match"),
        (header("wechatpay-signature", Some("AAAA")), REREAD, "its signature does not match"),
        (header("wechatpay-nonce", Some("another")), REREAD, "its signature does not match"),
        (header("wechatpay-serial", Some("PUB_KEY_ID_1")), REREAD, "its Wechatpay-Serial PUB_KEY_ID_1 names a key"),
        (
            Fault::V3(V3Fault::Certificate),
            REREAD,
            "its Wechatpay-Serial 4534ACDA663850A04AD37B52BD48E1D84D841E86 names",
        ),
        (Fault::V3(V3Fault::SignTest), false, "SIGNTEST"),
        (Fault::V3(V3Fault::Clock(-310)), false, "its Wechatpay-Timestamp is not within 300 seconds"),
        (Fault::V3(V3Fault::Clock(310)), false, "its Wechatpay-Timestamp is not within 300 seconds"),
        (header("wechatpay-timestamp", Some("yesterday")), false, "its Wechatpay-Timestamp is not within 300 seconds"),
        (header("wechatpay-timestamp", None), false, "its Wechatpay-Timestamp is missing"),
        (header("wechatpay-serial", None), false, "its Wechatpay-Serial is missing"),
        (header("wechatpay-nonce", Some("")), false, "its Wechatpay-Nonce is missing"),
        (header("wechatpay-signature", Some("")), false, "its Wechatpay-Signature is empty"),
        (
            Fault::V3(V3Fault::HeaderTwice("wechatpay-signature")),
            false,
            "its Wechatpay-Signature is empty or there twice",
        ),
        (Fault::V3(V3Fault::Signed(200, "{}")), false, "it has no code"),
        (Fault::V3(V3Fault::Signed(200, "")), false, "it is not a JSON object"),
        (Fault::V3(V3Fault::Signed(304, "")), false, "it is not a JSON object"),
        (Fault::V3(V3Fault::Unsigned(204, "")), false, "it has no Wechatpay-Signature"),
        (Fault::V3(V3Fault::Unsigned(200, r#"{"code":"ORDERPAID"}"#)), false, "it has no Wechatpay-Signature"),
        (Fault::V3(V3Fault::Signed(400, r#"{"code":"ORDERPAID","code":"A"}"#)), false, "it has a field twice"),
        (Fault::UnifiedOrder, false, "it has no code"),
        (Fault::OtherCall, false, "it has no code"),
    ] {
        let mut world = world().await;
        world.sandbox.gateway.fault_on_call(CLOSE, Times::Always, fault.clone());
        world.sandbox.gateway.fault_on_call(QUERY, Times::Always, Fault::Status(500));
        let invocation = world.function.invoke(&order(ORDER)).await;
        assert_eq!(invocation.error_type().as_deref(), Some("ReplyInvalid"), "{fault:?}: {invocation:?}");
        assert!(invocation.text().contains("[unknown]"), "{fault:?}: {invocation:?}");
        let line = world.order_line(1).await;
        assert!(line["cause"].as_str().unwrap().contains(cause), "{fault:?}: {line}");
        // What is no reply is attempted three times; a key that stays wrong, once.
        let (attempts, reads) = if is_reread { (1, 2) } else { (3, 1) };
        assert_eq!(values(&line, ["attempts", "queries"]), [attempts, 2], "{fault:?}: {line}");
        assert_eq!(world.sandbox.secrets.reads(), reads, "{fault:?}");
    }
}

#[tokio::test]
async fn a_genuine_204_to_another_order_is_a_replay() {
    let mut world = world().await;
    world.sandbox.gateway.put_order("another", TradeState::NotPay);
    assert_eq!(world.function.invoke(&order("another")).await.json()["outcome"], "closed");
    world.sandbox.gateway.fault_on_order_call(ORDER, CLOSE, Times::Always, Fault::Replay);
    let invocation = world.function.invoke(&order(ORDER)).await;
    // The query shows that nobody closed it.
    assert_eq!(invocation.error_type().as_deref(), Some("ReplyInvalid"), "{invocation:?}");
    assert!(invocation.text().contains("[open]"), "{invocation:?}");
    let line = world.order_line(2).await;
    assert_eq!(line["cause"], "HTTP status 204, it is the reply to another order or call", "{line}");
    assert_eq!(world.sandbox.gateway.order(ORDER), Some(TradeState::NotPay));
}

#[tokio::test]
async fn a_query_is_answered_by_this_order_s_state_alone() {
    for (fault, cause, endpoints) in [
        (Fault::OtherCall, "its status 204 is not one", [0, 0]),
        (Fault::V3(V3Fault::Unsigned(204, "")), "it has no Wechatpay-Signature", [0, 1]),
        (Fault::Edit(vec![("out_trade_no", Some("another".to_owned()))]), "its out_trade_no is not the one", [0, 0]),
        (Fault::Edit(vec![("trade_state", None)]), "its trade_state is missing", [0, 0]),
        (Fault::Edit(vec![("mch_id", Some("1230000110".to_owned()))]), "its sp_mchid is not the one", [0, 0]),
        (Fault::Edit(vec![("sub_mch_id", Some("1230000109".to_owned()))]), "its sub_mchid is not the one", [0, 0]),
        (Fault::V3(V3Fault::SignTest), "SIGNTEST", [0, 1]),
        (Fault::V3(V3Fault::Clock(-400)), "its Wechatpay-Timestamp is not within", [0, 1]),
    ] {
        let mut world = world_with(partner(), |function| function).await;
        world.sandbox.gateway.fault_on_call(QUERY, Times::Always, fault.clone());
        let answer = world.function.invoke(&confirmed(ORDER)).await.json();
        let said = values(&answer, ["outcome", "confirmed", "err_code"]);
        assert_eq!(said, [json!("unknown"), json!(false), json!("NOTCONFIRMED")], "{fault:?}: {answer}");
        let line = world.order_line(1).await;
        assert!(line["query_cause"].as_str().unwrap().contains(cause), "{fault:?}: {line}");
        assert_eq!(world.queried_at(), endpoints, "{fault:?}");
    }
}

#[tokio::test]
async fn an_order_closed_from_a_query_proves_nothing() {
    // The connection could be out of step, and the reply a close's: a query has one more attempt on another.
    for (code, cause, queries) in
        [("ORDER_CLOSED", "ORDERCLOSED", 2), ("ORDERCLOSED", "ORDERCLOSED", 2), ("RULE_LIMIT", "RULE_LIMIT", 1)]
    {
        let mut world = world().await;
        world.sandbox.gateway.fault_on_call(QUERY, Times::Always, Fault::Error(code));
        let answer = world.function.invoke(&confirmed(ORDER)).await.json();
        assert_eq!(values(&answer, ["outcome", "err_code"]), ["unknown", "NOTCONFIRMED"], "{code}: {answer}");
        let line = world.order_line(1).await;
        assert_eq!(values(&line, ["query_cause", "queries"]), [json!(cause), json!(queries)], "{line}");
    }
}

#[tokio::test]
async fn a_query_that_hangs_was_sent() {
    let adapt = |function: sandbox::mock::function::FunctionBuilder| function.env("WECHAT_PAY_TIMEOUT_MS", SHORT_MS);
    for (fault, cause) in [(Fault::Hang, "no answer in time"), (Fault::Reset, "the connection was lost")] {
        let mut world = world_with(partner(), adapt).await;
        world.sandbox.gateway.fault_on_call(QUERY, Times::Always, fault.clone());
        world.function.invoke(&confirmed(ORDER)).await;
        let line = world.order_line(1).await;
        assert_eq!(line["query_cause"], cause, "{fault:?}: {line}");
    }
}

#[tokio::test]
async fn an_unsigned_code_settles_nothing() {
    let unsigned = |status, body| Fault::V3(V3Fault::Unsigned(status, body));
    for (fault, outcome, reason, level, attempts, queries, reads) in [
        (unsigned(401, r#"{"code":"SIGN_ERROR"}"#), "rejected", "signature", "WARN", 1, 0, 2),
        (unsigned(401, r#"{"code":"签名"}"#), "rejected", "unsigned_fail", "WARN", 1, 0, 1),
        (unsigned(403, r#"{"code":"NO_AUTH"}"#), "rejected", "unsigned_fail", "WARN", 1, 0, 1),
        (unsigned(400, r#"{"code":"PARAM_ERROR"}"#), "rejected", "unsigned_fail", "WARN", 1, 0, 1),
        (unsigned(400, r#"{"code":"SYSTEM_ERROR"}"#), "unknown", "unsigned_fail", "ERROR", 3, 2, 1),
        (unsigned(429, r#"{"code":"FREQUENCY_LIMITED"}"#), "unknown", "rate_limited", "WARN", 1, 0, 1),
        (unsigned(400, r#"{"code":"ORDERPAID"}"#), "unknown", "unsigned_fail", "ERROR", 1, 2, 1),
        (unsigned(400, r#"{"code":"ORDER_CLOSED"}"#), "unknown", "unsigned_fail", "ERROR", 1, 2, 1),
        (unsigned(404, r#"{"code":"ORDER_NOT_EXIST"}"#), "unknown", "unsigned_fail", "ERROR", 1, 2, 1),
        (unsigned(400, r#"{"code":"签名错误"}"#), "unknown", "unsigned_fail", "ERROR", 1, 2, 1),
    ] {
        for confirm in [false, true] {
            let mut world = world().await;
            world.sandbox.gateway.fault_on_call(CLOSE, Times::Always, fault.clone());
            world.sandbox.gateway.fault_on_call(QUERY, Times::Always, Fault::Status(502));
            let mut event = order(ORDER);
            event["confirm"] = json!(confirm);
            let answer = world.function.invoke(&event).await.json();
            assert_eq!(
                values(&answer, ["outcome", "confirmed"]),
                [json!(outcome), json!(false)],
                "{fault:?}: {answer}"
            );
            assert_eq!(answer["returnCode"], "FAIL", "{answer}");
            let Fault::V3(V3Fault::Unsigned(_, body)) = fault else { unreachable!() };
            let code = serde_json::from_str::<Value>(body).unwrap()["code"].clone();
            assert_eq!(answer["returnMsg"], code, "{answer}");
            assert!(answer.get("result_code").is_none() && answer.get("err_code").is_none(), "{answer}");
            let line = world.order_line(1).await;
            assert_eq!(values(&line, ["reason", "level"]), [reason, level], "{fault:?}: {line}");
            assert_eq!(values(&line, ["attempts", "queries"]), [attempts, queries], "{fault:?}: {line}");
            assert_eq!(world.sandbox.secrets.reads(), reads, "{fault:?}");
        }
    }
}

#[tokio::test]
async fn an_unsigned_code_of_unknown_meaning_leaves_the_word_to_the_query() {
    for (state, outcome, confirmed) in
        [(TradeState::NotPay, "open", true), (TradeState::Success, "paid", true), (TradeState::Closed, "closed", true)]
    {
        let mut world = world().await;
        world.sandbox.gateway.put_order(ORDER, state);
        let fault = Fault::V3(V3Fault::Unsigned(400, r#"{"code":"ORDERPAID","message":"x"}"#));
        world.sandbox.gateway.fault_on_call(CLOSE, Times::Always, fault);
        let answer = world.function.invoke(&order(ORDER)).await.json();
        let said = values(&answer, ["outcome", "confirmed"]);
        assert_eq!(said, [json!(outcome), json!(confirmed)], "{state:?}: {answer}");
    }
}

#[tokio::test]
async fn a_signed_code_is_final_but_for_system_error_and_the_signature() {
    for (fault, outcome, reason, attempts, queries, reads) in [
        (Fault::Error("NO_AUTH"), "rejected", "NOAUTH", 1, 0, 1),
        (Fault::Error("PARAM_ERROR"), "rejected", "PARAM_ERROR", 1, 0, 1),
        (Fault::Error("MCH_NOT_EXISTS"), "rejected", "MCH_NOT_EXISTS", 1, 0, 1),
        (Fault::V3(V3Fault::Signed(401, r#"{"code":"SIGN_ERROR"}"#)), "rejected", "SIGNERROR", 1, 0, 2),
        (Fault::V3(V3Fault::Signed(401, r#"{"code":"OTHER"}"#)), "rejected", "OTHER", 1, 0, 1),
        (Fault::V3(V3Fault::Signed(400, r#"{"code":"SYSTEM_ERROR"}"#)), "unknown", "SYSTEMERROR", 3, 2, 1),
        (Fault::Error("RULE_LIMIT"), "unknown", "RULE_LIMIT", 1, 2, 1),
        (Fault::V3(V3Fault::Signed(202, r#"{"code":"ORDERPAID"}"#)), "open", "USERPAYING", 1, 2, 1),
    ] {
        let mut world = world().await;
        world.sandbox.gateway.fault_on_call(CLOSE, Times::Always, fault.clone());
        world.sandbox.gateway.fault_on_call(QUERY, Times::Always, Fault::Status(503));
        let answer = world.function.invoke(&order(ORDER)).await.json();
        let said = values(&answer, ["outcome", "err_code", "returnCode", "result_code"]);
        assert_eq!(said, [outcome, reason, "SUCCESS", "FAIL"], "{fault:?}: {answer}");
        let line = world.order_line(1).await;
        let logged = values(&line, ["reason", "attempts", "queries"]);
        assert_eq!(logged, [json!(reason), json!(attempts), json!(queries)], "{fault:?}: {line}");
        assert_eq!(world.sandbox.secrets.reads(), reads, "{fault:?}");
    }
}

#[tokio::test]
async fn a_server_error_is_one_whatever_it_carries() {
    let mut world = world().await;
    let paid = Fault::V3(V3Fault::Signed(500, r#"{"code":"ORDERPAID"}"#));
    world.sandbox.gateway.fault_on_call(CLOSE, Times::Next(1), paid);
    assert_eq!(world.function.invoke(&order(ORDER)).await.json()["outcome"], "closed");
    assert_eq!(world.closed_at(), [0, 1]);
}

#[tokio::test]
async fn a_key_that_was_changed_on_either_side_is_read_anew() {
    let renewed =
        V3 { key: Key::Merchant(1), serial_no: "5F1C72E2A8931B72A2E13AF8DEE92471EB397115".to_owned(), ..V3::default() };
    for (changed, is_certificate_s) in [(renewed, false), (V3 { other_public_keys: true, ..V3::default() }, true)] {
        let mut world = world().await;
        world.function.invoke(&order("the_first")).await;
        let identity = Identity { v3: changed, ..partner() };
        world.sandbox.gateway.set_identity(identity.clone());
        world.sandbox.secrets.set(&identity.secret());
        if is_certificate_s {
            world.sandbox.gateway.fault_on_next_calls(Times::Always, Fault::V3(V3Fault::Certificate));
        }
        let answer = world.function.invoke(&confirmed(ORDER)).await.json();
        assert_eq!(values(&answer, ["outcome", "confirmed"]), [json!("closed"), json!(true)], "{answer}");
        assert_eq!(world.sandbox.secrets.reads(), 2);
    }
}

#[tokio::test]
async fn a_merchant_that_changes_its_secret_from_one_api_to_the_other_needs_no_new_start() {
    for (before, after) in [(Api::V2, Api::V3), (Api::V3, Api::V2)] {
        let mut world =
            world_with(Identity::default().with_api(before), |function| function.env("SECRET_CACHE_TTL_SECONDS", "0"))
                .await;
        world.function.invoke(&order("the_first")).await;
        world.sandbox.secrets.set(&Identity::default().with_api(after).secret());
        let answer = world.function.invoke(&confirmed(ORDER)).await.json();
        assert_eq!(answer["outcome"], "closed", "{answer}");
        let received = world.sandbox.gateway.received();
        assert_eq!(received.iter().map(|it| it.api.unwrap()).collect::<Vec<_>>(), [before, after, after]);
    }
}

#[tokio::test]
async fn a_batch_waits_for_the_rate_limit_over_api_v3_too() {
    let mut world = world().await;
    let numbers: Vec<_> = (0..6).map(|number| format!("order_{number}")).collect();
    for number in &numbers {
        world.sandbox.gateway.put_order(number, TradeState::NotPay);
    }
    world.sandbox.gateway.set_rate_limit(Some(4));
    let answer = world.function.invoke(&batch(numbers.iter().map(|number| order(number)))).await.json();
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert!(numbers.iter().all(|number| world.sandbox.gateway.order(number) == Some(TradeState::Closed)));
    let limited = world.sandbox.gateway.received().iter().filter(|it| it.status == Some(429)).count();
    assert!(limited > 0, "otherwise nothing was limited");
}
