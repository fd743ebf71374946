//! A service of AWS with a JSON protocol over HTTP: the server, the checks of a request, and what can go wrong with it. A
//! mock is what it makes of a request that is right.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::Response,
};
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_rustls::rustls::ServerConfig;

use crate::mock::{
    listener::{Break, BreakableListener, Connections, Server, ThisConnection},
    lock, tls,
};

/// The largest request, in bytes.
const MAX_REQUEST: usize = 2 * 1024 * 1024;

/// How many entries one call may have.
pub(super) const MAX_ENTRIES: usize = 10;

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The function's role may not make it.
    AccessDenied,
    /// What it is about is gone.
    NotFound,
    /// What it is about is marked for deletion.
    InvalidRequest,
    /// The secret can't be decrypted.
    DecryptionFailure,
    /// AWS has a fault.
    InternalError,
    /// There are too many calls.
    Throttled,
    /// HTTP status 503 without a body.
    Unavailable,
    /// No answer ever comes, and nothing is done.
    Hang,
    /// The connection is reset, and nothing is done.
    Reset,
    /// The same if the connection was used before, as one that died while the process was frozen.
    ResetOnReuse,
    /// All is done, and the connection is reset instead of the answer.
    ResetAfter,
    /// Every nth entry, counted over all calls, fails; 1 is every entry.
    EveryNth(usize),
}

/// Why a call is rejected: the error's name and message.
pub(super) type Rejection = (&'static str, &'static str);

/// The rejection of an operation that a mock does not have.
pub(super) const UNKNOWN: Rejection = ("UnknownOperationException", "the sandbox does not know this action");

/// What a mock knows, and what it makes of a request.
pub trait Service: Send + 'static {
    /// What requests to it are signed for (Signature Version 4).
    const SIGNING_NAME: &'static str;
    /// What comes before the operation in `X-Amz-Target`, such as `secretsmanager.`.
    const TARGET: &'static str;
    /// The name of the error when AWS has a fault.
    const INTERNAL_ERROR: &'static str;

    /// Takes a request; asks for each of its entries, if it has any, whether that one fails.
    fn receive(
        &mut self,
        operation: &str,
        request: &Value,
        fails: &mut dyn FnMut() -> bool,
    ) -> Result<Value, Rejection>;
}

/// A mock at its address; clones share what it knows.
#[derive(Debug)]
pub struct AwsMock<S> {
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    state: Arc<Mutex<MockState<S>>>,
    /// It ends with the last clone.
    server: Arc<Server>,
}

#[derive(Debug)]
pub(super) struct MockState<S> {
    pub(super) service: S,
    /// Every request that was signed, failures included.
    pub(super) requests: Vec<Value>,
    failure: Option<Failure>,
    delay: Duration,
    /// How many entries there were so far.
    entries: usize,
}

impl<S> Clone for AwsMock<S> {
    fn clone(&self) -> Self {
        let (state, server) = (Arc::clone(&self.state), Arc::clone(&self.server));
        Self { address: self.address, tls: self.tls.clone(), state, server }
    }
}

impl<S: Service> AwsMock<S> {
    /// Starts a mock, over TLS if told how; port 0 lets the system choose.
    pub(super) async fn serve(tls: Option<Arc<ServerConfig>>, address: SocketAddr, service: S) -> anyhow::Result<Self> {
        let state = MockState { service, requests: Vec::new(), failure: None, delay: Duration::ZERO, entries: 0 };
        let state = Arc::new(Mutex::new(state));
        let listener = BreakableListener::bind(address, Connections::default(), tls.clone()).await?;
        let address = axum::serve::Listener::local_addr(&listener)?;
        let router = Router::new().fallback(handle::<S>).with_state(Arc::clone(&state));
        Ok(Self { address, tls, state, server: Arc::new(Server::start(listener, router)) })
    }

    /// The value of the variable that names its endpoint.
    pub fn url(&self) -> String {
        tls::url(self.tls.as_ref(), self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes every call go wrong, or none.
    pub fn set_failure(&self, failure: Option<Failure>) {
        self.lock().failure = failure;
    }

    /// Delays every answer; what was asked for is done before.
    pub fn set_delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, MockState<S>> {
        lock(&self.state)
    }
}

async fn handle<S: Service>(
    State(state): State<Arc<Mutex<MockState<S>>>>,
    ConnectInfo(ThisConnection(breaker)): ConnectInfo<ThisConnection>,
    request: Request,
) -> Response {
    let is_reused = breaker.begin_request() > 1;
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_REQUEST).await.unwrap_or_default();
    let request = serde_json::from_slice(&body).unwrap_or_default();
    let (response, delay) = lock(&state).react(&parts.headers, request, is_reused);
    // Tokio's shortest sleep is a millisecond.
    if !delay.is_zero() {
        sleep(delay).await;
    }
    response.unwrap_or_else(|| {
        breaker.trip(Break::Reset);
        Response::new(Body::empty())
    })
}

impl<S: Service> MockState<S> {
    /// The response, or none where the connection is reset; and when.
    fn react(&mut self, headers: &HeaderMap, request: Value, is_reused: bool) -> (Option<Response>, Duration) {
        let Some(operation) = operation::<S>(headers) else {
            let missing = ("MissingAuthenticationTokenException", "Missing Authentication Token");
            return (Some(error(400, missing)), self.delay);
        };
        let failure = self.failure.filter(|failure| is_reused || *failure != Failure::ResetOnReuse);
        let n = if let Some(Failure::EveryNth(n)) = failure { n } else { usize::MAX };
        let entries = &mut self.entries;
        let mut fails = || {
            *entries += 1;
            entries.is_multiple_of(n)
        };
        let response = match failure {
            None | Some(Failure::ResetAfter | Failure::EveryNth(_)) => {
                let answer = match self.service.receive(operation, &request, &mut fails) {
                    Ok(value) => answer(200, Body::from(value.to_string())),
                    Err(rejection) => error(400, rejection),
                };
                (failure != Some(Failure::ResetAfter)).then_some(answer)
            }
            Some(Failure::AccessDenied) => Some(error(400, ("AccessDeniedException", "not authorized to do this"))),
            Some(Failure::NotFound) => Some(error(400, ("ResourceNotFoundException", "there is no such thing"))),
            Some(Failure::InvalidRequest) => Some(error(400, ("InvalidRequestException", "it is marked for deletion"))),
            Some(Failure::DecryptionFailure) => Some(error(400, ("DecryptionFailure", "the KMS key can't decrypt it"))),
            Some(Failure::InternalError) => Some(error(500, (S::INTERNAL_ERROR, "internal error"))),
            Some(Failure::Throttled) => Some(error(400, ("ThrottlingException", "Rate exceeded"))),
            Some(Failure::Unavailable) => Some(answer(503, Body::empty())),
            Some(Failure::Hang | Failure::Reset | Failure::ResetOnReuse) => None,
        };
        self.requests.push(request);
        (response, if failure == Some(Failure::Hang) { Duration::MAX } else { self.delay })
    }
}

/// The operation that a request asks for, if it is signed for this service; empty if it is another service's.
fn operation<S: Service>(headers: &HeaderMap) -> Option<&str> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let authorization = header("authorization");
    let scope = authorization.strip_prefix("AWS4-HMAC-SHA256 Credential=")?.split(',').next()?;
    let is_signed = scope.ends_with(&format!("/{}/aws4_request", S::SIGNING_NAME))
        && ["SignedHeaders=", "Signature="].iter().all(|part| authorization.contains(part));
    is_signed.then(|| header("x-amz-target").strip_prefix(S::TARGET).unwrap_or_default())
}

/// The entries of a call that has some.
pub(super) fn entries(request: &Value) -> &[Value] {
    request.get("Entries").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn error(status: u16, (name, message): Rejection) -> Response {
    let mut response = answer(status, Body::from(json!({"__type": name, "message": message}).to_string()));
    response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(name));
    response
}

fn answer(status: u16, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
    response
}
