//! Any bytes as WeChat Pay's reply over API v3, with any status, signed or not: nothing panics, nothing that is not signed
//! says what became of an order, and of what is signed an empty 204 alone closes one.
#![no_main]

use std::{sync::LazyLock, time::SystemTime};

use base64::{Engine, prelude::BASE64_STANDARD};
use close_order::{
    answer::Answer,
    order::Order,
    outcome::Outcome,
    wechat_pay::{Account, Call, MAX_BYTES, Payment, ReplyCode, Request, WireResponse},
};
use libfuzzer_sys::fuzz_target;
use ring::{
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use serde_json::{Value, json};

static KEYS: LazyLock<Value> = LazyLock::new(|| {
    let vectors: Value = serde_json::from_str(include_str!("../../tests/vectors-v3.json")).unwrap();
    vectors["keys"].clone()
});

static PLATFORM: LazyLock<RsaKeyPair> = LazyLock::new(|| {
    let der = BASE64_STANDARD.decode(KEYS["platform_private_pkcs8_b64"].as_str().unwrap()).unwrap();
    RsaKeyPair::from_pkcs8(&der).unwrap()
});

static ACCOUNTS: LazyLock<[Account; 2]> = LazyLock::new(|| {
    let pem = |label: &str, name: &str| {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", KEYS[name].as_str().unwrap())
    };
    ["partner", "merchant"].map(|mch_type| {
        let secret = json!({
            "mch_type": mch_type, "mch_id": "1", "serial_no": KEYS["merchant_serial"], "public_key_id": "PUB_KEY_ID_1",
            "private_key": pem("PRIVATE KEY", "merchant_private_pkcs8_b64"),
            "public_key": pem("PUBLIC KEY", "platform_public_spki_b64"),
        });
        Account::from_secret(secret.to_string().as_bytes()).unwrap()
    })
});

static ORDERS: LazyLock<[Order; 2]> = LazyLock::new(|| {
    [r#"{"sub_mch_id":"2","out_trade_no":"3"}"#, r#"{"out_trade_no":"3"}"#]
        .map(|order| Order::from_json(order, "event").unwrap())
});

/// Signs as the platform does, as of now.
fn sign(response: &mut WireResponse) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs().to_string();
    let text = [now.as_bytes(), b"\nnonce\n", &response.body, b"\n"].concat();
    let mut signature = vec![0; PLATFORM.public().modulus_len()];
    PLATFORM.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &text, &mut signature).unwrap();
    response.headers.insert("wechatpay-signature", BASE64_STANDARD.encode(signature).parse().unwrap());
    response.headers.insert("wechatpay-serial", "PUB_KEY_ID_1".parse().unwrap());
    response.headers.insert("wechatpay-nonce", "nonce".parse().unwrap());
    response.headers.insert("wechatpay-timestamp", now.parse().unwrap());
}

fuzz_target!(|input: &[u8]| {
    let Some((&[kind, high, low], body)) = input.split_first_chunk::<3>() else { return };
    let mut response = WireResponse::ok(body);
    response.status = u16::from_be_bytes([high, low]) % 500;
    match kind % 3 {
        0 => {}
        1 => sign(&mut response),
        // Signed, and changed since.
        _ => {
            sign(&mut response);
            response.body.push(b' ');
        }
    }
    for (account, order) in ACCOUNTS.iter().zip(ORDERS.iter()) {
        for request in [Request::close(order, account), Request::query(order, account)] {
            let Ok(reply) = request.verify(&response) else { continue };
            assert!(response.body.len() <= MAX_BYTES && reply.is_signed() == (kind % 3 == 1));
            let is_unsigned = matches!(
                reply.code(),
                ReplyCode::Rejected
                    | ReplyCode::SignatureRejected
                    | ReplyCode::SystemError
                    | ReplyCode::RateLimited
                    | ReplyCode::UnsignedOther
            );
            assert!(reply.is_signed() || is_unsigned && (400..500).contains(&response.status), "{reply:?}");
            let is_closed = reply.code() == ReplyCode::Success && request.call == Call::CloseOrder;
            assert!(!is_closed || response.status == 204 && body.is_empty(), "{reply:?}");
            assert!(reply.state().is_none() || request.call == Call::OrderQuery && response.status == 200, "{reply:?}");
            let answer = Answer::reply(Outcome::Rejected, &reply, Payment::default(), request.ids());
            let answer = serde_json::to_string(&answer).unwrap();
            let json: Value = serde_json::from_str(&answer).unwrap();
            // Read back, the last of two fields of one name would hide the first.
            assert_eq!(json.to_string().len(), answer.len());
            assert_eq!(json["returnCode"], if reply.is_signed() { "SUCCESS" } else { "FAIL" });
            assert!(reply.is_signed() || json.get("result_code").is_none() && json.get("err_code").is_none());
        }
    }
});
