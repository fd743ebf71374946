//! Nothing secret shows, whatever happens and however much is logged.

use sandbox::{
    Sandbox,
    mock::event_bus,
    mock::function::{ACCESS_KEY_ID, Function, SECRET_ACCESS_KEY, SESSION_TOKEN},
    mock::gateway::{Call, Fault, OPENID, Order, Times, TradeState, V3Fault},
    mock::identity::{Api, Identity},
    mock::rsa::Key,
    mock::secrets::Failure,
    mock::signed_xml::read_xml,
};
use serde_json::{Value, json};

use crate::support::{batch, event, order, wait_for_log};

const KEY: &str = "CANARYcanaryCANARYcanaryCANARY00";

/// What the function answered, all of it.
struct Answers(Vec<String>);

impl Answers {
    async fn add(&mut self, function: &mut Function, event: &Value) {
        self.0.push(function.invoke(event).await.text().to_owned());
    }
}

#[tokio::test]
async fn no_log_error_or_answer_shows_a_key_credentials_a_signature_or_a_request() {
    let identity = Identity { api_key: KEY.to_owned(), ..Identity::default() };
    let sandbox = Sandbox::start_as(identity.clone()).await.unwrap();
    let traced = sandbox.function_with_events(env!("CARGO_BIN_EXE_close-order"));
    let traced = traced
        .env("AWS_LAMBDA_LOG_LEVEL", "TRACE")
        .env("RUST_LOG", "trace")
        .env("RUST_BACKTRACE", "1")
        .env("WECHAT_PAY_TIMEOUT_MS", "300")
        .env("SECRET_CACHE_TTL_SECONDS", "0");
    let mut function = traced.start().await.unwrap();
    let mut answers = Answers(Vec::new());
    let gateway = sandbox.gateway.clone();
    gateway.put_order("paid", TradeState::Success);
    gateway.put_order("paying", TradeState::UserPaying);
    gateway.put_order("open", Order { closes_not_sticking: Times::Always, ..TradeState::NotPay.into() });
    for (out_trade_no, fault) in [
        ("closed", None),
        ("paid", None),
        ("paying", None),
        ("open", None),
        ("reset", Some(Fault::Reset)),
        ("hangs", Some(Fault::Hang)),
        ("status", Some(Fault::Status(500))),
        ("garbled", Some(Fault::Body(b"<xml><sign>".to_vec()))),
        ("forged", Some(Fault::Forge)),
        ("signerror", Some(Fault::Error("SIGNERROR"))),
        ("other_call", Some(Fault::OtherCall)),
        ("flood", Some(Fault::Flood(100_000))),
    ] {
        if let Some(fault) = fault {
            gateway.fault_on_order_call(out_trade_no, Call::CloseOrder, Times::Always, fault);
        }
        let mut event = order(out_trade_no);
        event["confirm"] = json!(true);
        answers.add(&mut function, &event).await;
    }
    // WeChat Pay, or whoever answers in its place, sends the request back in a text that is logged: this order's
    // nonce_str is the caller's, so that its signature is known before.
    let echoed = gateway.received()[0].clone();
    let sign = &echoed.fields["sign"];
    for text in [format!("sign={sign}"), sign.to_lowercase()] {
        let fail = format!("<xml><return_code>FAIL</return_code><return_msg>签名错误 {text}</return_msg></xml>");
        gateway.fault_on_order_call("closed", Call::CloseOrder, Times::Next(1), Fault::Body(fail.into()));
        // Only the answer, which goes to the caller alone, passes a text on as it is.
        function.invoke(&order("closed")).await;
    }
    answers.add(&mut function, &event("api-gateway-http")).await;
    for failure in [None, Some(event_bus::Failure::AccessDenied), Some(event_bus::Failure::Reset)] {
        sandbox.events.set_failure(failure);
        answers.add(&mut function, &batch([order("paid"), order("closed"), json!(KEY)])).await;
    }
    for wrong in [json!(null), json!({"out_trade_no": [KEY]}), json!({"sub_mch_id": 1}), json!([KEY]), json!(KEY)] {
        answers.add(&mut function, &wrong).await;
    }
    for failure in [Failure::AccessDenied, Failure::InternalError, Failure::Reset] {
        sandbox.secrets.set_failure(Some(failure));
        answers.add(&mut function, &order("closed")).await;
    }
    sandbox.secrets.set_failure(None);
    for malformed in [KEY.to_owned(), format!("{{\"api_key\":\"{KEY}"), json!({"api_key": KEY}).to_string()] {
        sandbox.secrets.set_text(&malformed);
        answers.add(&mut function, &order("closed")).await;
    }
    answers.add(&mut function, &order("the_last")).await;
    let logs = wait_for_log(&function, "\"out_trade_no\":\"the_last\"").await;

    assert!(logs.lines().count() > 30, "{logs}");
    let received = gateway.received();
    assert!(received.len() > 30);
    assert!(sandbox.events.events().len() >= 2, "events were published, too");
    for (place, text) in answers.0.iter().chain([&logs]).enumerate() {
        for secret in [KEY, ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN, "AWS4-HMAC-SHA256", OPENID] {
            assert!(!text.contains(secret), "{place}: {secret} in {text}");
        }
        for request in &received {
            assert!(!text.contains(&request.fields["sign"]), "{place}: a request's signature in {text}");
            assert!(!text.to_uppercase().contains(&request.fields["sign"]), "{place}: in lower case in {text}");
            assert!(!text.contains(&request.body), "{place}: a request in {text}");
        }
    }
    for reply in received.iter().filter_map(|received| received.reply.as_deref()) {
        if let Some(sign) = read_xml(reply).unwrap().get("sign") {
            assert!(!logs.contains(sign), "a reply's signature in the log");
        }
    }
}

#[tokio::test]
async fn no_log_error_or_answer_shows_the_private_key_or_a_signature_of_api_v3() {
    let identity = Identity::default().with_api(Api::V3);
    let sandbox = Sandbox::start_as(identity.clone()).await.unwrap();
    let traced = sandbox.function(env!("CARGO_BIN_EXE_close-order"));
    let traced = traced
        .env("AWS_LAMBDA_LOG_LEVEL", "TRACE")
        .env("RUST_LOG", "trace")
        .env("RUST_BACKTRACE", "1")
        .env("WECHAT_PAY_TIMEOUT_MS", "300")
        .env("SECRET_CACHE_TTL_SECONDS", "0");
    let mut function = traced.start().await.unwrap();
    let mut answers = Answers(Vec::new());
    let gateway = sandbox.gateway.clone();
    gateway.put_order("paid_1", TradeState::Success);
    gateway.put_order("paying", TradeState::UserPaying);
    let unsigned = |status, body| Fault::V3(V3Fault::Unsigned(status, body));
    for (out_trade_no, fault) in [
        ("closed", None),
        ("paid_1", None),
        ("paying", None),
        ("resets", Some(Fault::Reset)),
        ("hangs_", Some(Fault::Hang)),
        ("status", Some(Fault::Status(500))),
        ("forged", Some(Fault::Forge)),
        ("probed", Some(Fault::V3(V3Fault::SignTest))),
        ("switch", Some(Fault::V3(V3Fault::Certificate))),
        ("out_of", Some(Fault::OtherCall)),
        ("reject", Some(unsigned(401, r#"{"code":"SIGN_ERROR","message":"x"}"#))),
        ("others", Some(unsigned(400, r#"{"code":"ORDERPAID"}"#))),
    ] {
        if let Some(fault) = fault {
            gateway.fault_on_order(out_trade_no, Times::Next(3), fault);
        }
        let mut event = order(out_trade_no);
        event["confirm"] = json!(true);
        answers.add(&mut function, &event).await;
    }
    // A key that WeChat Pay does not know gets the signed text back in the reply.
    gateway.set_identity(Identity {
        v3: sandbox::mock::identity::V3 { key: Key::Merchant(1), ..identity.v3.clone() },
        ..identity.clone()
    });
    answers.add(&mut function, &order("unknown_key")).await;
    gateway.set_identity(identity.clone());
    let private_pem = Key::Merchant(0).private_pem();
    let with = |name: &str, value: Value| {
        let mut secret = identity.secret();
        secret[name] = value;
        secret.to_string()
    };
    for malformed in [
        private_pem.clone(),
        json!({"private_key": private_pem}).to_string(),
        with("public_key", json!(private_pem)),
        with("private_key", json!(private_pem[..800])),
        with("private_key", json!(private_pem.replace("-----", ""))),
        with("private_key", json!([private_pem])),
        with("serial_no", json!(private_pem)),
        with("public_key_id", json!(private_pem)),
        with("mch_id", json!(private_pem)),
        with("other_public_keys", json!({private_pem.clone(): private_pem})),
        with(&private_pem, json!(1)),
    ] {
        sandbox.secrets.set_text(&malformed);
        answers.add(&mut function, &order("closed")).await;
    }
    answers.add(&mut function, &order("the_last")).await;
    let logs = wait_for_log(&function, "\"out_trade_no\":\"the_last\"").await;

    let received = gateway.received();
    assert!(received.len() > 20 && logs.lines().count() > 25, "{logs}");
    let lines: Vec<_> = private_pem.lines().filter(|line| line.len() == 64).collect();
    assert!(lines.len() > 20, "{private_pem}");
    for (place, text) in answers.0.iter().chain([&logs]).enumerate() {
        for secret in lines.iter().chain(&[ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN, "AWS4-HMAC-SHA256", OPENID])
        {
            assert!(!text.contains(secret), "{place}: {secret} in {text}");
        }
        assert!(!text.contains("WECHATPAY2-SHA256-RSA2048") && !text.contains("sign_information"), "{place}: {text}");
        for request in &received {
            let (_, signature) = request.headers["authorization"].split_once("signature=\"").unwrap();
            let signature = signature.split('"').next().unwrap();
            assert!(!text.contains(&signature[..40]), "{place}: a request's signature in {text}");
            assert!(request.body.is_empty() || !text.contains(&request.body), "{place}: a request in {text}");
            if let Some(signature) = request.reply_headers.get("wechatpay-signature") {
                assert!(!text.contains(signature), "{place}: a reply's signature in {text}");
            }
        }
    }
}
