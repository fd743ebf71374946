//! A request as API v3 writes it
//! (close: <https://pay.weixin.qq.com/doc/v3/merchant/4012791860>, query: <https://pay.weixin.qq.com/doc/v3/merchant/4012791859>).

use std::time::SystemTime;

use reqwest::{
    Method,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
};

use super::{keys::Keys, signature::request_text};
use crate::{
    order::NonceStr,
    wechat_pay::{Call, Request, wire::WireRequest},
};

/// The header that names the key: in a request the one that the reply is to be signed with, in a reply the one that it is.
pub(super) const WECHATPAY_SERIAL: &str = "wechatpay-serial";

/// A request with a nonce of its own, signed at this time.
pub(in crate::wechat_pay) fn write(request: &Request<'_>, keys: &Keys) -> WireRequest {
    let timestamp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |now| now.as_secs());
    write_at(request, keys, timestamp, NonceStr::generate().as_str())
}

fn write_at(request: &Request<'_>, keys: &Keys, timestamp: u64, nonce: &str) -> WireRequest {
    let mch_id = request.merchant().mch_id();
    let order = escape(request.out_trade_no());
    let (method, path, body) = match (request.call, request.sub_mch_id()) {
        (Call::CloseOrder, None) => {
            let path = format!("/v3/pay/transactions/out-trade-no/{order}/close");
            (Method::POST, path, format!(r#"{{"mchid":"{mch_id}"}}"#))
        }
        (Call::CloseOrder, Some(sub_mch_id)) => {
            let path = format!("/v3/pay/partner/transactions/out-trade-no/{order}/close");
            (Method::POST, path, format!(r#"{{"sp_mchid":"{mch_id}","sub_mchid":"{sub_mch_id}"}}"#))
        }
        (Call::OrderQuery, None) => {
            (Method::GET, format!("/v3/pay/transactions/out-trade-no/{order}?mchid={mch_id}"), String::new())
        }
        (Call::OrderQuery, Some(sub_mch_id)) => {
            let path = "/v3/pay/partner/transactions/out-trade-no";
            (Method::GET, format!("{path}/{order}?sp_mchid={mch_id}&sub_mchid={sub_mch_id}"), String::new())
        }
    };
    let signature = keys.sign(&request_text(&method, &path, timestamp, nonce, &body));
    let authorization = format!(
        r#"WECHATPAY2-SHA256-RSA2048 mchid="{mch_id}",nonce_str="{nonce}",signature="{}",timestamp="{timestamp}",serial_no="{}""#,
        signature.as_str(),
        keys.serial_no(),
    );
    let mut authorization = header(&authorization);
    authorization.set_sensitive(true);
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(WECHATPAY_SERIAL, header(keys.public_key_id()));
    headers.insert(AUTHORIZATION, authorization);
    if !body.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    WireRequest { method, path, headers, body, signature }
}

#[expect(clippy::expect_used, reason = "made of digits, letters, base64 and quotes alone")]
fn header(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("visible ASCII")
}

/// Percent-encodes what is not unreserved (RFC 3986): the text that is signed is the one that is sent, byte for byte.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
