//! Any text, and any DER in PEM, as a key of API v3: nothing panics, no error quotes it, and what is taken for a key signs.
#![no_main]

use std::sync::LazyLock;

use base64::{Engine, prelude::BASE64_STANDARD};
use close_order::{
    order::Order,
    wechat_pay::{Account, Request},
};
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};

static KEYS: LazyLock<Value> = LazyLock::new(|| {
    let vectors: Value = serde_json::from_str(include_str!("../../tests/vectors-v3.json")).unwrap();
    vectors["keys"].clone()
});

static ORDER: LazyLock<Order> = LazyLock::new(|| Order::from_json(r#"{"out_trade_no":"3"}"#, "event").unwrap());

const PRIVATE: (&str, &str) = ("merchant_private_pkcs8_b64", "PRIVATE KEY");
const PUBLIC: (&str, &str) = ("platform_public_spki_b64", "PUBLIC KEY");

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der))
}

fn genuine(name: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(KEYS[name].as_str().unwrap()).unwrap()
}

/// A genuine key with bytes exchanged: each edit is a place and a value.
fn edited(name: &str, edits: &[u8]) -> Vec<u8> {
    let mut der = genuine(name);
    for edit in edits.chunks_exact(3) {
        let place = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % der.len();
        der[place] = edit[2];
    }
    der
}

fuzz_target!(|input: &[u8]| {
    let Some((kind, data)) = input.split_first() else { return };
    let (field, (name, label)) = if kind % 2 == 0 { ("private_key", PRIVATE) } else { ("public_key", PUBLIC) };
    let text = match kind / 2 % 4 {
        0 => String::from_utf8_lossy(data).into_owned(),
        1 => pem(label, data),
        2 => pem(label, &edited(name, data)),
        _ => pem(&format!("RSA {label}"), data),
    };
    let mut secret = json!({
        "mch_type": "merchant", "mch_id": "1900007291", "serial_no": KEYS["merchant_serial"],
        "private_key": pem(PRIVATE.1, &genuine(PRIVATE.0)), "public_key": pem(PUBLIC.1, &genuine(PUBLIC.0)),
        "public_key_id": "PUB_KEY_ID_1",
    });
    secret[field] = json!(text);
    match Account::from_secret(secret.to_string().as_bytes()) {
        Ok(account) => {
            let request = Request::query(&ORDER, &account).write();
            assert!(request.signature.as_str().len() >= 344 && request.body.is_empty());
            assert!(format!("{account:?}").len() < 400);
        }
        Err(malformed) => assert!(malformed.to_string().len() < 200),
    }
});
