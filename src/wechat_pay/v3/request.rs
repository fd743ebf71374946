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
    let escape_byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape_byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        order::Order,
        wechat_pay::v3::vectors::{MCH_ID, ORDER, PUBLIC_KEY_ID, SERIAL_NO, SUB_MCH_ID, VECTORS, account, keys, order},
    };

    /// The requests of `tests/vectors-v3.json`, whose signatures were made with openssl.
    #[test]
    fn a_request_is_the_one_of_the_vectors() {
        for (name, mch_type, number) in [
            ("close ordinary", "merchant", ORDER),
            ("close partner", "partner", ORDER),
            ("query ordinary", "merchant", ORDER),
            ("query partner", "partner", ORDER),
            ("close a|b*c@d_e-f, %2A form", "merchant", "a|b*c@d_e-f"),
        ] {
            let vector = VECTORS["requests"].as_array().unwrap().iter().find(|it| it["name"] == name).unwrap();
            let field = |name: &str| vector[name].as_str().unwrap();
            let (account, order) = (account(mch_type), order(mch_type, number));
            let call = if name.starts_with("close") { Call::CloseOrder } else { Call::OrderQuery };
            let request = Request { call, order: &order, account: &account };
            let timestamp = field("timestamp").parse().unwrap();
            let written = write_at(&request, keys(&account), timestamp, field("nonce"));
            let WireRequest { method, path, headers, body, signature } = written;
            assert_eq!((method.as_str(), path.as_str(), body.as_str()), (field("method"), field("url"), field("body")));
            assert_eq!(signature.as_str(), field("signature"), "{name}");
            let authorization = format!(
                "WECHATPAY2-SHA256-RSA2048 mchid=\"{MCH_ID}\",nonce_str=\"{}\",signature=\"{}\",timestamp=\"{}\",\
                 serial_no=\"{SERIAL_NO}\"",
                field("nonce"),
                field("signature"),
                field("timestamp"),
            );
            let mut sent: Vec<_> =
                headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
            sent.sort_unstable();
            let content_type = [("content-type", "application/json")];
            let mut expected = vec![
                ("accept", "application/json"),
                ("authorization", &authorization),
                ("wechatpay-serial", PUBLIC_KEY_ID),
            ];
            expected.extend(content_type.iter().filter(|_| call == Call::CloseOrder));
            expected.sort_unstable();
            assert_eq!(sent, expected, "{name}");
            assert!(!format!("{headers:?}").contains(&field("signature")[..20]), "{headers:?}");
        }
    }

    #[test]
    fn a_number_is_escaped_but_for_what_is_unreserved() {
        let allowed: String =
            (0..=127_u8).map(char::from).filter(|it| it.is_ascii_alphanumeric() || "_-|*@".contains(*it)).collect();
        let expected: String = allowed
            .chars()
            .map(|it| match it {
                '|' => "%7C".to_owned(),
                '*' => "%2A".to_owned(),
                '@' => "%40".to_owned(),
                other => other.to_string(),
            })
            .collect();
        assert_eq!(escape(&allowed), expected);
        assert_eq!(escape("~.%/ "), "~.%25%2F%20");
    }

    /// What the HTTP client makes of the URL must not differ from what is signed.
    #[test]
    fn the_path_is_sent_as_it_is_signed() {
        let account = account("merchant");
        for number in ["a|b*c@d_e-f", "-_", "|", "*", "@", "0"] {
            let order = order("merchant", number);
            for request in [Request::close(&order, &account), Request::query(&order, &account)] {
                let path = write(&request, keys(&account)).path;
                let url = reqwest::Url::parse(&format!("https://api.mch.weixin.qq.com{path}")).unwrap();
                let sent = url.query().map_or(url.path().to_owned(), |query| format!("{}?{query}", url.path()));
                assert_eq!(sent, path);
            }
        }
    }

    #[test]
    fn every_request_has_a_nonce_and_a_time_of_its_own() {
        let account = account("partner");
        let event = format!(
            r#"{{"sub_mch_id": "{SUB_MCH_ID}", "out_trade_no": "1", "nonce_str": "of_the_event", "sub_appid": "wx1"}}"#
        );
        let order = Order::from_json(&event, "event").unwrap();
        let request = Request::close(&order, &account);
        let before = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let [one, other] =
            [(); 2].map(|()| write(&request, keys(&account)).headers[AUTHORIZATION].to_str().unwrap().to_owned());
        let after = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let part = |text: &str, name: &str| {
            text.split_once(&format!("{name}=\"")).unwrap().1.split('"').next().unwrap().to_owned()
        };
        assert!(
            part(&one, "nonce_str") != part(&other, "nonce_str") && part(&one, "nonce_str").len() == 32,
            "{one} {other}"
        );
        assert!((before..=after).contains(&part(&one, "timestamp").parse().unwrap()), "{one}");
        let ids = request.ids();
        assert!(!one.contains("of_the_event") && ids.sub_appid.is_none() && ids.appid.is_none(), "{one} {ids:?}");
    }
}
