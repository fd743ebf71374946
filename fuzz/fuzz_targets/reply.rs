//! Any bytes as WeChat Pay's reply to either call: nothing panics, and nothing that is not signed with the key says what
//! became of an order.
#![no_main]

use std::sync::LazyLock;

use close_order::{
    answer::Answer,
    order::Order,
    outcome::Outcome,
    wechat_pay::{Account, MAX_BYTES, Payment, ReplyCode, Request, WireResponse},
};
use libfuzzer_sys::fuzz_target;

static ACCOUNTS: LazyLock<Vec<Account>> = LazyLock::new(|| {
    let secret = |mch_type: &str, sign_type: &str| {
        format!(
            r#"{{"mch_type":"{mch_type}","appid":"wx1","mch_id":"1","api_key":"k3yN0b0dyKn0wsk3yN0b0dyKn0ws0000","sign_type":"{sign_type}"}}"#
        )
    };
    [("partner", "MD5"), ("partner", "HMAC-SHA256"), ("merchant", "MD5")]
        .map(|(mch_type, sign_type)| Account::from_secret(secret(mch_type, sign_type).as_bytes()).unwrap())
        .into()
});

static ORDER: LazyLock<Order> =
    LazyLock::new(|| Order::from_json(r#"{"sub_mch_id":"2","out_trade_no":"3"}"#, "event").unwrap());

fuzz_target!(|body: &[u8]| {
    for account in ACCOUNTS.iter() {
        for request in [Request::close(&ORDER, account), Request::query(&ORDER, account)] {
            let Ok(reply) = request.verify(&WireResponse::ok(body)) else { continue };
            assert!(body.len() <= MAX_BYTES);
            let is_unsigned = matches!(
                reply.code(),
                ReplyCode::Rejected | ReplyCode::SignatureRejected | ReplyCode::SystemError | ReplyCode::RateLimited
            );
            assert!(is_unsigned && !reply.is_signed(), "{reply:?}");
            let answer = serde_json::to_string(&Answer::reply(Outcome::Rejected, &reply, Payment::default(), request.ids())).unwrap();
            let json: serde_json::Value = serde_json::from_str(&answer).unwrap();
            // Read back, the last of two fields of one name would hide the first.
            assert_eq!(json.to_string().len(), answer.len());
            assert_eq!(json["returnCode"], "FAIL");
            assert!(json.get("result_code").is_none() && json.get("resultCode").is_none());
        }
    }
});
