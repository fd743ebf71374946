//! A request as API v2 writes it.

use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderMap, HeaderValue},
};

use super::{Key, xml};
use crate::{
    order::NonceStr,
    wechat_pay::{Call, Fields, Request, wire::WireRequest},
};

/// The path of a call, for a close
/// (<https://pay.weixin.qq.com/wiki/doc/api/jsapi_sl.php?chapter=9_3>) and a query
/// (<https://pay.weixin.qq.com/wiki/doc/api/jsapi_sl.php?chapter=9_2>).
fn path(call: Call) -> &'static str {
    match call {
        Call::CloseOrder => "/pay/closeorder",
        Call::OrderQuery => "/pay/orderquery",
    }
}

/// A signed request: a close has the order's own `nonce_str`, a query one of its own each time.
pub(in crate::wechat_pay) fn write(request: &Request<'_>, key: &Key) -> WireRequest {
    let nonce_str = match request.call {
        Call::CloseOrder => request.order.nonce_str.clone(),
        Call::OrderQuery => NonceStr::generate(),
    };
    let fields = [
        ("appid", request.merchant().appid()),
        ("mch_id", Some(request.merchant().mch_id())),
        ("nonce_str", Some(nonce_str.as_str())),
        ("out_trade_no", Some(request.out_trade_no())),
        ("sign_type", key.sign_type().wire_value()),
        ("sub_appid", request.sub_appid()),
        ("sub_mch_id", request.sub_mch_id()),
    ];
    let sent = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    let mut fields: Fields = sent.collect();
    let signature = key.sign(&fields);
    fields.insert("sign".to_owned(), signature.as_str().to_owned());
    WireRequest {
        method: Method::POST,
        path: path(request.call).to_owned(),
        headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/xml; charset=utf-8"))]),
        body: xml::write(&fields),
        signature,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        order::Order,
        wechat_pay::{Account, Credentials},
    };

    fn write(request: &Request<'_>) -> WireRequest {
        let Credentials::V2(key) = &request.account.credentials else { unreachable!() };
        super::write(request, key)
    }

    fn sent(request: &Request<'_>) -> Fields {
        xml::parse(write(request).body.as_bytes()).unwrap()
    }

    /// The requests of `tests/vectors.json`, whose signatures were made with openssl.
    #[test]
    fn a_request_is_the_published_one() {
        let vectors: Vec<Value> = serde_json::from_str(include_str!("../../../tests/vectors.json")).unwrap();
        let mut checked = 0;
        for vector in vectors.iter().filter(|vector| vector["name"].as_str().unwrap().contains("closeorder request")) {
            let params = &vector["params"];
            for (sign_type, name) in [("MD5", "MD5"), ("HMAC-SHA256", "HMAC-SHA256")] {
                if vector[name].is_null() {
                    continue;
                }
                let mch_type = if params["sub_mch_id"].is_null() { "merchant" } else { "partner" };
                let secret = json!({
                    "mch_type": mch_type, "appid": params["appid"], "mch_id": params["mch_id"],
                    "api_key": vector["key"], "sign_type": sign_type,
                });
                let merchant = Account::from_secret(secret.to_string().as_bytes()).unwrap();
                let order = Order::from_json(&params.to_string(), "event").unwrap();
                let WireRequest { path, body, signature, .. } = write(&Request::close(&order, &merchant));
                assert_eq!(path, "/pay/closeorder");
                let mut sent = xml::parse(body.as_bytes()).unwrap();
                assert_eq!(sent.remove("sign").as_deref(), vector[name].as_str(), "{}", vector["name"]);
                assert_eq!(json!(sent), *params);
                assert_eq!(Some(signature.as_str()), vector[name].as_str());
                checked += 1;
            }
        }
        assert_eq!(checked, 5);
    }

    #[test]
    fn an_ordinary_merchant_sends_no_sub_merchant_even_if_the_order_names_its_own() {
        let secret = json!({
            "mch_type": "merchant", "appid": "wx8888888888888888", "mch_id": "1900000109", "api_key": "k".repeat(32),
        });
        let merchant = Account::from_secret(secret.to_string().as_bytes()).unwrap();
        let event = r#"{"sub_mch_id": "1900000109", "sub_appid": "wx8888888888888888", "out_trade_no": "1"}"#;
        let order = Order::from_json(event, "event").unwrap();
        for request in [Request::close(&order, &merchant), Request::query(&order, &merchant)] {
            let sent = sent(&request);
            let names: Vec<_> = sent.keys().map(String::as_str).collect();
            assert_eq!(names, ["appid", "mch_id", "nonce_str", "out_trade_no", "sign"]);
        }
    }

    #[test]
    fn a_query_has_a_nonce_of_its_own_each_time() {
        let secret = json!({"appid": "wx1", "mch_id": "1", "api_key": "k".repeat(32)});
        let merchant = Account::from_secret(secret.to_string().as_bytes()).unwrap();
        let order = Order::from_json(r#"{"sub_mch_id": "2", "out_trade_no": "3", "nonce_str": "n"}"#, "event").unwrap();
        assert_eq!(write(&Request::query(&order, &merchant)).path, "/pay/orderquery");
        let nonce = |request: Request<'_>| sent(&request).remove("nonce_str");
        assert_eq!(nonce(Request::close(&order, &merchant)).as_deref(), Some("n"));
        let (one, other) = (nonce(Request::query(&order, &merchant)), nonce(Request::query(&order, &merchant)));
        assert!(one != other && one.as_deref() != Some("n"), "{one:?} {other:?}");
    }
}
