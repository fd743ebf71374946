//! One HTTP exchange as either version of the API writes and reads it.

use std::fmt;

use reqwest::{Method, header::HeaderMap};

/// What goes over HTTP for one request.
pub struct WireRequest {
    /// The method.
    pub method: Method,
    /// Path and query below the endpoint's base URL, escaped as they are sent.
    pub path: String,
    /// What the HTTP client does not add by itself.
    pub headers: HeaderMap,
    /// The body; empty for none.
    pub body: String,
    /// The signature that is in body or headers.
    pub signature: Signature,
}

/// What came back, with a status below 500.
pub struct WireResponse {
    /// The HTTP status.
    pub status: u16,
    /// All headers.
    pub headers: HeaderMap,
    /// The body as it came.
    pub body: Vec<u8>,
}

impl WireResponse {
    /// HTTP 200 with a body.
    #[must_use]
    pub fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self { status: 200, headers: HeaderMap::new(), body: body.into() }
    }
}

/// A request's signature, which no log line and no `Debug` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Signature(pub(super) String);

impl Signature {
    /// The signature as it goes over the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_signature() {
        assert_eq!(format!("{:?}", Signature("FEED".to_owned())), "Signature(…)");
    }
}
