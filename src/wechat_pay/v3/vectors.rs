//! `tests/vectors-v3.json` for the tests beside it: published keys, and texts that were signed with openssl.

use std::{sync::LazyLock, time::SystemTime};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{
    der::{self, Der},
    keys::Keys,
    signature::PrivateKey,
};
use crate::{
    order::Order,
    wechat_pay::{Account, Credentials},
};

pub(in crate::wechat_pay) static VECTORS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../../tests/vectors-v3.json")).unwrap());

pub(in crate::wechat_pay) const MCH_ID: &str = "1900007291";
pub(in crate::wechat_pay) const SUB_MCH_ID: &str = "1230000109";
pub(in crate::wechat_pay) const ORDER: &str = "1217752501201407033233368018";
pub(in crate::wechat_pay) const SERIAL_NO: &str = "408B07E79B8269FEC3D5D3E6AB8ED163A6A380DB";
pub(in crate::wechat_pay) const PUBLIC_KEY_ID: &str = "PUB_KEY_ID_0000000000000024101100397200000006";

/// When the replies were signed.
pub(in crate::wechat_pay) const TIMESTAMP: u64 = 1_722_850_421;

pub(in crate::wechat_pay) fn key(name: &str) -> &'static str {
    VECTORS["keys"][name].as_str().unwrap()
}

pub(in crate::wechat_pay) fn der(name: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(key(name)).unwrap()
}

/// PEM as openssl writes it.
pub(in crate::wechat_pay) fn pem(label: &str, der: &[u8]) -> String {
    let base64 = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

pub(in crate::wechat_pay) fn private_pem() -> String {
    pem("PRIVATE KEY", &der("merchant_private_pkcs8_b64"))
}

pub(in crate::wechat_pay) fn public_pem() -> String {
    pem("PUBLIC KEY", &der("platform_public_spki_b64"))
}

/// The PKCS#1 key in a PKCS#8 one.
pub(in crate::wechat_pay) fn pkcs1(pkcs8: &[u8]) -> Vec<u8> {
    const OCTET_STRING: u8 = 0x04;
    let mut fields = Der::new(Der::new(pkcs8).take(der::SEQUENCE).unwrap());
    fields.take(der::INTEGER).unwrap();
    fields.take(der::SEQUENCE).unwrap();
    fields.take(OCTET_STRING).unwrap().to_vec()
}

/// The platform's key, to sign replies with that the vectors do not have.
pub(super) static PLATFORM: LazyLock<PrivateKey> =
    LazyLock::new(|| PrivateKey::from_der(&der("platform_private_pkcs8_b64")).unwrap());

pub(in crate::wechat_pay) fn secret(mch_type: &str) -> Value {
    json!({
        "mch_type": mch_type, "mch_id": MCH_ID, "private_key": private_pem(), "serial_no": SERIAL_NO,
        "public_key_id": PUBLIC_KEY_ID, "public_key": public_pem(),
    })
}

pub(in crate::wechat_pay) fn account(mch_type: &str) -> Account {
    Account::from_secret(secret(mch_type).to_string().as_bytes()).unwrap()
}

pub(in crate::wechat_pay) fn keys(account: &Account) -> &Keys {
    let Credentials::V3(keys) = &account.credentials else { unreachable!() };
    keys
}

/// An order of a partner's sub-merchant, or of an ordinary merchant's own.
pub(in crate::wechat_pay) fn order(mch_type: &str, out_trade_no: &str) -> Order {
    let sub_mch_id = (mch_type == "partner").then_some(SUB_MCH_ID);
    Order::from_json(&json!({"sub_mch_id": sub_mch_id, "out_trade_no": out_trade_no}).to_string(), "event").unwrap()
}

pub(in crate::wechat_pay) fn at(unix_seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(unix_seconds)
}
