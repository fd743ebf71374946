//! Any bytes as WeChat Pay's reply: nothing panics, and nothing that is not signed with the key closes an order.
#![no_main]

use std::sync::LazyLock;

use close_order::{
    merchant::Merchant,
    order::Order,
    wechat_pay::{CloseRequest, MAX_BYTES, Reply, Verdict},
};
use libfuzzer_sys::fuzz_target;

static MERCHANTS: LazyLock<Vec<Merchant>> = LazyLock::new(|| {
    let secret = |sign_type: &str| {
        format!(
            r#"{{"appid":"wx1","mch_id":"1","api_key":"k3yN0b0dyKn0wsk3yN0b0dyKn0ws0000","sign_type":"{sign_type}"}}"#
        )
    };
    ["MD5", "HMAC-SHA256"].map(|sign_type| Merchant::from_secret(&secret(sign_type)).unwrap()).into()
});

static ORDER: LazyLock<Order> =
    LazyLock::new(|| Order::from_json(r#"{"sub_mch_id":"2","out_trade_no":"3"}"#, "event").unwrap());

fuzz_target!(|body: &[u8]| {
    for merchant in MERCHANTS.iter() {
        let Ok(reply) = Reply::believe(body, &CloseRequest::new(&ORDER, merchant)) else { continue };
        assert!(body.len() <= MAX_BYTES);
        assert!(matches!(reply.verdict(), Verdict::Refused | Verdict::SignRefused), "{reply:?}");
        let answer = serde_json::to_string(&reply).unwrap();
        let json: serde_json::Value = serde_json::from_str(&answer).unwrap();
        // Read back, the last of two fields of one name would hide the first.
        assert_eq!(json.to_string().len(), answer.len());
        assert_eq!(json["returnCode"], "FAIL");
        assert!(json.get("result_code").is_none() && json.get("resultCode").is_none());
    }
});
