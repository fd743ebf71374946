//! One signed request of API v2: what is sent, and what a reply to it has to match.

use super::{
    merchant::{MchType, Merchant},
    signature::Signature,
    xml::{self, Fields},
};
use crate::order::{NonceStr, Order, SubAppid, SubMchId};

/// The calls of API v2 that are made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Closes an order (<https://pay.weixin.qq.com/wiki/doc/api/jsapi_sl.php?chapter=9_3>).
    CloseOrder,
    /// Asks for an order's state (<https://pay.weixin.qq.com/wiki/doc/api/jsapi_sl.php?chapter=9_2>).
    OrderQuery,
}

impl Call {
    /// Its path below a base URL.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::CloseOrder => "/pay/closeorder",
            Self::OrderQuery => "/pay/orderquery",
        }
    }
}

/// One request about one order in the name of one merchant.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    call: Call,
    order: &'a Order,
    merchant: &'a Merchant,
    nonce_str: NonceStr,
}

impl<'a> Request<'a> {
    /// A request to close an order, with the order's own `nonce_str`.
    #[must_use]
    pub fn close(order: &'a Order, merchant: &'a Merchant) -> Self {
        Self { call: Call::CloseOrder, order, merchant, nonce_str: order.nonce_str.clone() }
    }

    /// A request for an order's state, with a `nonce_str` of its own.
    #[must_use]
    pub fn query(order: &'a Order, merchant: &'a Merchant) -> Self {
        Self { call: Call::OrderQuery, order, merchant, nonce_str: NonceStr::generate() }
    }

    /// Which call it is.
    #[must_use]
    pub fn call(&self) -> Call {
        self.call
    }

    /// The merchant in whose name it is signed.
    #[must_use]
    pub fn merchant(&self) -> &'a Merchant {
        self.merchant
    }

    /// The order's number.
    #[must_use]
    pub fn out_trade_no(&self) -> &'a str {
        self.order.out_trade_no.as_str()
    }

    /// The sub-merchant that is sent: a partner's only.
    #[must_use]
    pub fn sub_mch_id(&self) -> Option<&'a str> {
        let is_sent = self.merchant.mch_type() == MchType::Partner;
        self.order.sub_mch_id.as_ref().filter(|_| is_sent).map(SubMchId::as_str)
    }

    /// The mini-program's appid that is sent, if any: the order's, or else the secret's; a partner's only.
    #[must_use]
    pub fn sub_appid(&self) -> Option<&'a str> {
        let is_sent = self.merchant.mch_type() == MchType::Partner;
        let own = self.order.sub_appid.as_ref().map(SubAppid::as_str);
        own.or(self.merchant.sub_appid()).filter(|_| is_sent)
    }

    /// The document and the signature in it.
    #[must_use]
    pub fn to_xml(&self) -> (String, Signature) {
        let fields = [
            ("appid", Some(self.merchant.appid())),
            ("mch_id", Some(self.merchant.mch_id())),
            ("nonce_str", Some(self.nonce_str.as_str())),
            ("out_trade_no", Some(self.out_trade_no())),
            ("sign_type", self.merchant.sign_type().wire_value()),
            ("sub_appid", self.sub_appid()),
            ("sub_mch_id", self.sub_mch_id()),
        ];
        let sent = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
        let mut fields: Fields = sent.collect();
        let signature = self.merchant.sign(&fields);
        fields.insert("sign".to_owned(), signature.as_str().to_owned());
        (xml::write(&fields), signature)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// The requests of `tests/vectors.json`, whose signatures were made with openssl.
    #[test]
    fn a_request_is_the_published_one() {
        let vectors: Vec<Value> = serde_json::from_str(include_str!("../../tests/vectors.json")).unwrap();
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
                let merchant = Merchant::from_secret(secret.to_string().as_bytes()).unwrap();
                let order = Order::from_json(&params.to_string(), "event").unwrap();
                let (document, signature) = Request::close(&order, &merchant).to_xml();
                let mut sent = xml::parse(document.as_bytes()).unwrap();
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
        let merchant = Merchant::from_secret(secret.to_string().as_bytes()).unwrap();
        let event = r#"{"sub_mch_id": "1900000109", "sub_appid": "wx8888888888888888", "out_trade_no": "1"}"#;
        let order = Order::from_json(event, "event").unwrap();
        for request in [Request::close(&order, &merchant), Request::query(&order, &merchant)] {
            let sent = xml::parse(request.to_xml().0.as_bytes()).unwrap();
            let names: Vec<_> = sent.keys().map(String::as_str).collect();
            assert_eq!(names, ["appid", "mch_id", "nonce_str", "out_trade_no", "sign"]);
        }
    }

    #[test]
    fn a_query_has_a_nonce_of_its_own_each_time() {
        let secret = json!({"appid": "wx1", "mch_id": "1", "api_key": "k".repeat(32)});
        let merchant = Merchant::from_secret(secret.to_string().as_bytes()).unwrap();
        let order = Order::from_json(r#"{"sub_mch_id": "2", "out_trade_no": "3", "nonce_str": "n"}"#, "event").unwrap();
        let nonce = |request: Request<'_>| xml::parse(request.to_xml().0.as_bytes()).unwrap().remove("nonce_str");
        assert_eq!(nonce(Request::close(&order, &merchant)).as_deref(), Some("n"));
        let (one, other) = (nonce(Request::query(&order, &merchant)), nonce(Request::query(&order, &merchant)));
        assert!(one != other && one.as_deref() != Some("n"), "{one:?} {other:?}");
    }
}
