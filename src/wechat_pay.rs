//! WeChat Pay as a client sees it: endpoints, signed requests, one attempt, verified replies. Whether another attempt
//! follows is decided elsewhere.
//!
//! What differs between the versions of the API is in [`v2`] and `v3`; all else is shared.

mod account;
mod endpoint;
mod json;
mod merchant;
mod replay;
mod reply;
mod request;
mod secret;
pub mod v2;
mod v3;
mod wire;

use std::{future::Future, time::Duration};

use tokio::time::timeout;

pub use account::Account;
pub use endpoint::{Endpoint, Endpoints};
pub use merchant::{MchType, Merchant};
pub use reply::{Fields, OrderState, Payment, Reply, ReplyCode, VerifyError};
pub use request::{Call, OrderIds, Request};
pub use secret::Malformed;
pub use wire::{Signature, WireRequest, WireResponse};

use crate::http_client::{self, HttpClients, SendError};
use account::Credentials;
use replay::ReplayGuard;

/// The largest reply that is read: 64 KiB; real ones are below 2 KiB.
pub const MAX_BYTES: usize = 64 * 1024;

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
    /// The verified reply, or what came instead.
    pub result: Result<Reply, ExchangeError>,
    /// The `Request-ID` header, by which WeChat Pay's support finds the call, as whoever replied sent it.
    pub request_id: Option<String>,
    /// The request's signature, so that no log line shows it.
    pub signature: Signature,
}

/// Why an attempt did not bring a verified reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// Nothing came back.
    #[error(transparent)]
    Send(#[from] SendError),
    /// Something came back that could not be verified.
    #[error(transparent)]
    Reply(#[from] ReplyError),
}

/// A response that could not be verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyError {
    /// The HTTP status; with API v2, WeChat Pay replies with 200 to everything, errors included.
    pub status: u16,
    /// The first rule that it broke; `None` for HTTP 5xx, whose body is not read, and for another status than 200 whose body
    /// did not arrive.
    pub error: Option<VerifyError>,
}

impl std::fmt::Display for ReplyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.status, &self.error) {
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

/// What sends one request to WeChat Pay. The operation goes by nothing else, so that it can be tested by scripts of
/// replies on a paused clock.
pub trait Exchanger {
    /// Sends a request once and verifies what comes back, within `limit`, connect to last byte.
    fn exchange(
        &self,
        endpoint: &Endpoint,
        request: Request<'_>,
        connection: Connection,
        limit: Duration,
    ) -> impl Future<Output = Exchange> + Send;
}

impl WechatPay {
    /// A client; nothing is sent yet.
    #[must_use]
    pub fn new(http: HttpClients) -> Self {
        Self { http, replays: ReplayGuard::default() }
    }

    fn verify(&self, response: &WireResponse, request: &Request<'_>) -> Result<Reply, VerifyError> {
        let reply = request.verify(response)?;
        if self.replays.is_replay(&reply, request) { Err(VerifyError::Replayed) } else { Ok(reply) }
    }
}

impl Exchanger for WechatPay {
    async fn exchange(
        &self,
        endpoint: &Endpoint,
        request: Request<'_>,
        connection: Connection,
        limit: Duration,
    ) -> Exchange {
        let WireRequest { method, path, headers, body, signature } = request.write();
        let client = match connection {
            Connection::Pooled => &self.http.pooled,
            Connection::New => &self.http.unpooled,
        };
        let (body, was_sent) = http_client::watched_body(body);
        let sending = client.request(method, endpoint.url(&path)).headers(headers).body(body);
        // Outlives a body that does not arrive.
        let (mut status, mut request_id) = (200, None);
        let response = async {
            let response = sending.send().await?;
            status = response.status().as_u16();
            let headers = response.headers().clone();
            request_id = headers.get("request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
            // HTTP 5xx says that nobody knows, whatever its body says.
            if status >= 500 {
                return Ok(None);
            }
            let body = http_client::read_at_most(MAX_BYTES, response).await?;
            Ok::<_, reqwest::Error>(body.map(|body| WireResponse { status, headers, body }))
        };
        let received = timeout(limit, response).await;
        let error = |error| Err(ReplyError { status, error }.into());
        let result = match received {
            Ok(Ok(Some(response))) => self.verify(&response, &request).or_else(|invalid| error(Some(invalid))),
            Ok(Ok(None)) if status >= 500 => error(None),
            Ok(Ok(None)) => error(Some(VerifyError::TOO_LARGE)),
            Ok(Err(_)) | Err(_) if status != 200 => error(None),
            Err(_) => Err(SendError::timed_out(was_sent.get()).into()),
            Ok(Err(failure)) => Err(SendError::new(&failure, was_sent.get()).into()),
        };
        Exchange { result, request_id, signature }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_other_than_200_comes_first() {
        let text = |status, error| ReplyError { status, error }.to_string();
        assert_eq!(text(200, Some(VerifyError::Signature)), "its signature does not match");
        assert_eq!(
            text(403, Some(VerifyError::not_a_reply("its root is not <xml>"))),
            "HTTP status 403, its root is not <xml>"
        );
        assert_eq!(text(502, None), "HTTP status 502");
    }
}
