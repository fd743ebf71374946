//! WeChat Pay API v2 as a client sees it: endpoints, timeouts, one try. Whether to try again is decided elsewhere.
//!
//! `POST {endpoint}/pay/closeorder`, signed XML, no client certificate
//! (<https://pay.weixin.qq.com/wiki/doc/api/jsapi_sl.php?chapter=9_3>).

mod endpoint;
mod reply;
pub mod sign;
mod xml;

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap};

pub use endpoint::{Endpoint, Endpoints, InvalidEndpoint};
pub use reply::{Disbelief, Reply, Verdict};
pub use xml::{MAX_BYTES, NotFlat};

use crate::{http_client, merchant::Merchant, order::Order};
use sign::Sign;

/// Longest Request-ID that goes into the log, in characters: it is whoever answered's word, not WeChat Pay's.
const MAX_REQUEST_ID: usize = 128;

/// One order's request in the name of one merchant: what is sent, and what a reply must answer to.
#[derive(Clone, Copy, Debug)]
pub struct CloseRequest<'a> {
    order: &'a Order,
    merchant: &'a Merchant,
}

impl<'a> CloseRequest<'a> {
    /// Puts the order into the merchant's hands.
    #[must_use]
    pub fn new(order: &'a Order, merchant: &'a Merchant) -> Self {
        Self { order, merchant }
    }

    /// Who asks, and so whose key the reply's sign needs.
    #[must_use]
    pub fn merchant(&self) -> &'a Merchant {
        self.merchant
    }

    /// The sub-merchant that is sent.
    #[must_use]
    pub fn sub_mch_id(&self) -> &'a str {
        self.order.sub_mch_id.as_str()
    }

    /// The mini-program's appid that is sent, if any: the order's, or else the merchant's.
    #[must_use]
    pub fn sub_appid(&self) -> Option<&'a str> {
        self.order.sub_appid.as_ref().map_or(self.merchant.sub_appid(), |sub_appid| Some(sub_appid.as_str()))
    }

    /// The signed document.
    #[must_use]
    pub fn to_xml(&self) -> String {
        self.signed().0
    }

    fn signed(&self) -> (String, Sign) {
        // In the byte order of their names, as the sign needs them; those that aren't sent are empty.
        let fields = [
            ("appid", self.merchant.appid()),
            ("mch_id", self.merchant.mch_id()),
            ("nonce_str", self.order.nonce_str.as_str()),
            ("out_trade_no", self.order.out_trade_no.as_str()),
            ("sign_type", self.merchant.sign_type().wire_value().unwrap_or_default()),
            ("sub_appid", self.sub_appid().unwrap_or_default()),
            ("sub_mch_id", self.sub_mch_id()),
        ];
        let sent = fields.into_iter().filter(|(_, value)| !value.is_empty());
        let sign = self.merchant.sign(sent.clone());
        (xml::write(sent.chain([("sign", sign.as_str())])), sign)
    }
}

/// A client of WeChat Pay.
#[derive(Debug)]
pub struct WechatPay {
    http: reqwest::Client,
    /// One try, connect to last byte.
    timeout: Duration,
}

/// What came back from one try, not yet believed.
#[derive(Debug)]
pub struct Answer {
    /// WeChat Pay answers 200 to everything, errors included.
    pub status: u16,
    /// The body; `None` when it is larger than any reply.
    pub body: Option<Vec<u8>>,
    /// The `Request-ID` header, by which WeChat Pay's support finds the call.
    pub request_id: Option<String>,
}

/// Why nothing came back from one try. The request may have arrived all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    /// No connection.
    #[error("no connection")]
    NoConnection,
    /// The connection was lost between request and reply.
    #[error("the connection was lost")]
    ConnectionLost,
    /// The try's time was up.
    #[error("no answer in time")]
    Timeout,
}

impl WechatPay {
    /// A client whose tries take `timeout` at most.
    #[must_use]
    pub fn new(http: reqwest::Client, timeout: Duration) -> Self {
        Self { http, timeout }
    }

    /// Sends a request once.
    ///
    /// # Errors
    /// [`Unreached`] when no whole answer came back.
    pub async fn send(&self, endpoint: &Endpoint, request: &CloseRequest<'_>) -> Result<Answer, Unreached> {
        let (document, sign) = request.signed();
        let request = self
            .http
            .post(endpoint.close_order_url().clone())
            .header(CONTENT_TYPE, "text/xml; charset=utf-8")
            .timeout(self.timeout)
            .body(document);
        let response = request.send().await.map_err(|error| Unreached::from(&error))?;
        let status = response.status().as_u16();
        let request_id = request_id(response.headers(), &sign);
        let body = http_client::read_at_most(xml::MAX_BYTES, response).await.map_err(|e| Unreached::from(&e))?;
        Ok(Answer { status, body, request_id })
    }
}

/// The `Request-ID`, unless it is none: it goes into the log, where nobody may echo the sign.
fn request_id(headers: &HeaderMap, sign: &Sign) -> Option<String> {
    let value = headers.get("request-id")?.to_str().ok()?;
    let is_plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    (is_plain && value.len() <= MAX_REQUEST_ID && !value.contains(sign.as_str())).then(|| value.to_owned())
}

impl From<&reqwest::Error> for Unreached {
    fn from(error: &reqwest::Error) -> Self {
        match error {
            _ if error.is_timeout() => Self::Timeout,
            _ if error.is_connect() => Self::NoConnection,
            _ => Self::ConnectionLost,
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::{sign::SignType, *};

    #[test]
    fn a_request_id_that_is_none_does_not_reach_the_log() {
        let sign = SignType::Md5.sign(&SecretString::from("k"), [("a", "1")].into_iter());
        let read = |value: &str| {
            let headers = HeaderMap::from_iter([("request-id".parse().unwrap(), value.parse().unwrap())]);
            request_id(&headers, &sign)
        };
        assert_eq!(read("08F78BB5AF0610D302-0").as_deref(), Some("08F78BB5AF0610D302-0"));
        let echo = format!("X-{}", sign.as_str());
        for wrong in [&echo, "<sign>", "a b", &"x".repeat(MAX_REQUEST_ID + 1)] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
