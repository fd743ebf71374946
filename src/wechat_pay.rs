//! WeChat Pay API v2 as a client sees it: endpoints, signed requests, one attempt, verified replies. Whether another
//! attempt follows is decided elsewhere.
//!
//! `POST {endpoint}/pay/closeorder` and `/pay/orderquery`, signed XML, no client certificate
//! (<https://pay.weixin.qq.com/wiki/doc/api/jsapi_sl.php?chapter=9_3>).

mod endpoint;
mod merchant;
mod replay;
mod reply;
mod request;
pub mod signature;
mod xml;

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use tokio::time::timeout;

pub use endpoint::{Endpoint, Endpoints};
pub use merchant::{Malformed, MchType, Merchant};
pub use reply::{Reply, ReplyCode, VerifyError};
pub use request::{Call, Request};
pub use xml::{Fields, MAX_BYTES, XmlError};

use crate::http_client::{self, HttpClients, SendError};
use replay::ReplayGuard;
use signature::Signature;

/// Longest Request-ID that goes into the log, in characters: whoever replied chose it, not necessarily WeChat Pay.
const MAX_REQUEST_ID: usize = 128;

/// A client of WeChat Pay.
#[derive(Debug)]
pub struct WechatPay {
    http: HttpClients,
    replays: ReplayGuard,
}

/// On which connection a request goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connection {
    /// One from the pool, or a new one.
    Pooled,
    /// Certainly a new one: those of the pool may have died while Lambda froze the process.
    New,
}

/// What one attempt came to.
#[derive(Debug)]
pub struct Exchange {
    /// The verified reply, or why there is none.
    pub result: Result<Reply, ExchangeError>,
    /// The `Request-ID` header, by which WeChat Pay's support finds the call.
    pub request_id: Option<String>,
    /// The request's signature, so that no log line shows it.
    pub signature: Signature,
}

/// Why an attempt brought no verified reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// Nothing came back.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Something came back that is no verified reply.
    #[error(transparent)]
    Reply(#[from] ReplyError),
}

/// A response that is no verified reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyError {
    /// The HTTP status; WeChat Pay answers 200 to everything, errors included.
    pub status: u16,
    /// The first rule that it broke; `None` for HTTP 5xx, whose body is not looked at.
    pub error: Option<VerifyError>,
}

impl std::fmt::Display for ReplyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.status, self.error) {
            (200, Some(error)) => write!(f, "{error}"),
            (status, Some(error)) => write!(f, "HTTP status {status}, {error}"),
            (status, None) => write!(f, "HTTP status {status}"),
        }
    }
}

impl std::error::Error for ReplyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.as_ref().map(|error| error as _)
    }
}

impl WechatPay {
    /// A client; nothing is sent yet.
    #[must_use]
    pub fn new(http: HttpClients) -> Self {
        Self { http, replays: ReplayGuard::default() }
    }

    /// Sends a request once and verifies what comes back, within `limit`, connect to last byte.
    pub async fn exchange(
        &self,
        endpoint: &Endpoint,
        request: &Request<'_>,
        connection: Connection,
        limit: Duration,
    ) -> Exchange {
        let (document, signature) = request.to_xml();
        let client = match connection {
            Connection::Pooled => &self.http.pooled,
            Connection::New => &self.http.unpooled,
        };
        let (body, was_sent) = http_client::watched_body(document);
        let post = client
            .post(endpoint.url(request.call()).clone())
            .header(CONTENT_TYPE, "text/xml; charset=utf-8")
            .body(body);
        let exchange = async {
            let response = post.send().await?;
            let (status, request_id) = (response.status().as_u16(), request_id(response.headers(), &signature));
            let body = http_client::read_at_most(xml::MAX_BYTES, response).await?;
            Ok((status, request_id, body))
        };
        let (result, request_id) = match timeout(limit, exchange).await {
            Ok(Ok((status, request_id, body))) => {
                let error = |error| ExchangeError::Reply(ReplyError { status, error });
                let result = match body {
                    _ if status >= 500 => Err(error(None)),
                    None => Err(error(Some(XmlError::TooLarge.into()))),
                    Some(body) => self.verify(&body, request).map_err(|invalid| error(Some(invalid))),
                };
                (result, request_id)
            }
            Ok(Err(failure)) => (Err(SendError::new(&failure, was_sent.get()).into()), None),
            Err(_) => (Err(SendError::timed_out(was_sent.get()).into()), None),
        };
        Exchange { result, request_id, signature }
    }

    fn verify(&self, body: &[u8], request: &Request<'_>) -> Result<Reply, VerifyError> {
        let reply = Reply::verify(body, request)?;
        if self.replays.is_replay(&reply, request) { Err(VerifyError::Replayed) } else { Ok(reply) }
    }
}

/// The `Request-ID`, unless it is none: it goes into the log, where nobody may echo the signature.
fn request_id(headers: &HeaderMap, signature: &Signature) -> Option<String> {
    let value = headers.get("request-id")?.to_str().ok()?;
    let is_plain = value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    (is_plain && value.len() <= MAX_REQUEST_ID && !value.to_ascii_uppercase().contains(signature.as_str()))
        .then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::{signature::SignType, *};

    #[test]
    fn a_request_id_that_is_none_does_not_reach_the_log() {
        let signature = SignType::Md5.sign(&SecretString::from("k"), &Fields::new());
        let read = |value: &str| {
            let headers = HeaderMap::from_iter([("request-id".parse().unwrap(), value.parse().unwrap())]);
            request_id(&headers, &signature)
        };
        assert_eq!(read("08F78BB5AF0610D302-0").as_deref(), Some("08F78BB5AF0610D302-0"));
        let echo = format!("X-{}", signature.as_str());
        for wrong in [&echo, &echo.to_lowercase(), "<sign>", "a b", &"x".repeat(MAX_REQUEST_ID + 1)] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_status_other_than_200_comes_first() {
        let text = |status, error| ReplyError { status, error }.to_string();
        assert_eq!(text(200, Some(VerifyError::Signature)), "its signature does not match");
        assert_eq!(text(403, Some(XmlError::Root.into())), "HTTP status 403, its root is not <xml>");
        assert_eq!(text(502, None), "HTTP status 502");
    }
}
