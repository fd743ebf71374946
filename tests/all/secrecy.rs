//! Nothing secret shows, whatever happens and however much is logged.

use sandbox::{
    Sandbox,
    mock::function::{ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN},
    mock::gateway::{Fault, Times, TradeState},
    mock::identity::Identity,
    mock::secrets::Failure,
};
use serde_json::json;

use crate::support::{event, function, order};

const KEY: &str = "CANARYcanaryCANARYcanaryCANARY00";

#[tokio::test]
async fn no_log_error_or_reply_shows_a_key_credentials_a_sign_or_a_request() {
    let identity = Identity { api_key: KEY.to_owned(), ..Identity::default() };
    let sandbox = Sandbox::start_as(identity.clone()).await.unwrap();
    let traced = function(&sandbox)
        .env("AWS_LAMBDA_LOG_LEVEL", "TRACE")
        .env("RUST_LOG", "trace")
        .env("RUST_BACKTRACE", "1")
        .env("WECHAT_PAY_TIMEOUT_MS", "300")
        .env("SECRET_CACHE_TTL_SECONDS", "0");
    let mut function = traced.start().await.unwrap();
    let mut texts = Vec::new();
    let gateway = sandbox.gateway.clone();
    gateway.put_order("paid", TradeState::Success);
    for (out_trade_no, fault) in [
        ("closed", None),
        ("paid", None),
        ("reset", Some(Fault::Reset)),
        ("hangs", Some(Fault::Hang)),
        ("status", Some(Fault::Status(500))),
        ("garbled", Some(Fault::Body(b"<xml><sign>".to_vec()))),
        ("forged", Some(Fault::Forge)),
        ("signerror", Some(Fault::Error("SIGNERROR"))),
        ("flood", Some(Fault::Flood(100_000))),
    ] {
        if let Some(fault) = fault {
            gateway.fault_on_order(out_trade_no, Times::Always, fault);
        }
        texts.push(function.invoke(&order(out_trade_no)).await.text().to_owned());
        texts.push(function.invoke(&event("api-gateway-http")).await.text().to_owned());
    }
    for wrong in [json!(null), json!({"out_trade_no": [KEY]}), json!({"sub_mch_id": 1})] {
        texts.push(function.invoke(&wrong).await.text().to_owned());
    }
    for failure in [Failure::AccessDenied, Failure::InternalError, Failure::Reset] {
        sandbox.secrets.set_failure(Some(failure));
        texts.push(function.invoke(&order("closed")).await.text().to_owned());
    }
    sandbox.secrets.set_failure(None);
    for malformed in [KEY.to_owned(), format!("{{\"api_key\":\"{KEY}"), json!({"api_key": KEY}).to_string()] {
        sandbox.secrets.set_text(&malformed);
        texts.push(function.invoke(&order("closed")).await.text().to_owned());
    }
    tokio::time::sleep(crate::support::ms(200)).await;

    let logs = function.logs();
    assert!(logs.lines().count() > 15, "{logs}");
    let received = gateway.received();
    assert!(received.len() > 15);
    for (place, text) in texts.iter().chain([&logs]).enumerate() {
        for secret in [KEY, ACCESS_KEY_ID, SECRET_ACCESS_KEY, SESSION_TOKEN, "AWS4-HMAC-SHA256"] {
            assert!(!text.contains(secret), "{place}: {secret} in {text}");
        }
        for request in &received {
            assert!(!text.contains(&request.fields["sign"]), "{place}: a request's sign in {text}");
            assert!(!text.contains(&request.body), "{place}: a request in {text}");
        }
    }
    for reply in received.iter().filter_map(|received| received.reply.as_deref()) {
        let fields = sandbox::mock::signed_xml::read_xml(reply).unwrap();
        if let Some(sign) = fields.get("sign") {
            assert!(!logs.contains(sign), "a reply's sign in the log");
        }
    }
}
