//! A service of AWS with a JSON protocol over HTTP: the server and the checks of a request. A mock is what it makes of a
//! request that is right.

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

/// What a mock knows, and what it makes of a request.
pub(super) trait Service: Send + 'static {
    /// What requests to it are signed for (Signature Version 4).
    const SIGNING_NAME: &'static str;
    /// What comes before the operation in `X-Amz-Target`, such as `secretsmanager.`.
    const TARGET: &'static str;

    /// Takes a request, which came by a connection that was used before, or not; `None` for an operation that it does not
    /// have.
    fn receive(&mut self, operation: &str, request: &Value, is_reused: bool) -> Option<Reaction>;

    /// How long it takes to react.
    fn delay(&self) -> Duration;
}

/// What comes of a request.
#[derive(Clone, Debug)]
pub(super) enum Reaction {
    /// It is answered.
    Answer(Value),
    /// It is answered with an error: HTTP status, name, message.
    Error(u16, &'static str, String),
    /// HTTP status 503 without a body.
    Unavailable,
    /// No answer ever comes.
    Hang,
    /// The connection is reset.
    Reset,
}

impl Reaction {
    /// An error with a message that is known beforehand.
    pub(super) fn error(status: u16, name: &'static str, message: &str) -> Self {
        Self::Error(status, name, message.to_owned())
    }
}

/// A mock at its address; clones share what it knows.
#[derive(Debug)]
pub(super) struct AwsServer<S> {
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    service: Arc<Mutex<S>>,
    /// It ends with the last clone.
    server: Arc<Server>,
}

impl<S> Clone for AwsServer<S> {
    fn clone(&self) -> Self {
        Self {
            address: self.address,
            tls: self.tls.clone(),
            service: Arc::clone(&self.service),
            server: Arc::clone(&self.server),
        }
    }
}

impl<S: Service> AwsServer<S> {
    /// Starts a mock, over TLS if told how; port 0 lets the system choose.
    pub(super) async fn start(tls: Option<Arc<ServerConfig>>, address: SocketAddr, service: S) -> anyhow::Result<Self> {
        let service = Arc::new(Mutex::new(service));
        let listener = BreakableListener::bind(address, Connections::default(), tls.clone()).await?;
        let address = axum::serve::Listener::local_addr(&listener)?;
        let router = Router::new().fallback(handle::<S>).with_state(Arc::clone(&service));
        Ok(Self { address, tls, service, server: Arc::new(Server::start(listener, router)) })
    }

    /// The value of the variable that names its endpoint.
    pub(super) fn url(&self) -> String {
        tls::url(self.tls.as_ref(), self.address)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it knows.
    pub(super) fn lock(&self) -> MutexGuard<'_, S> {
        lock(&self.service)
    }
}

async fn handle<S: Service>(
    State(service): State<Arc<Mutex<S>>>,
    ConnectInfo(ThisConnection(breaker)): ConnectInfo<ThisConnection>,
    request: Request,
) -> Response {
    let is_reused = breaker.begin_request() > 1;
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_REQUEST).await.unwrap_or_default();
    let request = serde_json::from_slice(&body).unwrap_or_default();
    let (reaction, delay) = {
        let mut service = lock(&service);
        let reaction = operation::<S>(&parts.headers).and_then(|operation| {
            let unknown = || Reaction::error(400, "UnknownOperationException", "the sandbox does not know this action");
            service.receive(operation, &request, is_reused).ok_or_else(unknown)
        });
        (reaction.unwrap_or_else(|rejection| rejection), service.delay())
    };
    // Tokio's shortest sleep is a millisecond.
    if !delay.is_zero() {
        sleep(delay).await;
    }
    match reaction {
        Reaction::Answer(value) => answer(StatusCode::OK, &value),
        Reaction::Error(status, name, message) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut response = answer(status, &json!({"__type": name, "message": message}));
            response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(name));
            response
        }
        Reaction::Unavailable => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        }
        Reaction::Hang => std::future::pending().await,
        Reaction::Reset => {
            breaker.trip(Break::Reset);
            Response::new(Body::empty())
        }
    }
}

/// The operation that a request asks for, if it is one of this service's and signed for it.
fn operation<S: Service>(headers: &HeaderMap) -> Result<&str, Reaction> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let authorization = header("authorization");
    let credential = authorization.strip_prefix("AWS4-HMAC-SHA256 Credential=").unwrap_or_default();
    let scope = credential.split(',').next().unwrap_or_default();
    if !scope.ends_with(&format!("/{}/aws4_request", S::SIGNING_NAME))
        || !["SignedHeaders=", "Signature="].iter().all(|part| authorization.contains(part))
    {
        return Err(Reaction::error(400, "MissingAuthenticationTokenException", "Missing Authentication Token"));
    }
    Ok(header("x-amz-target").strip_prefix(S::TARGET).unwrap_or_default())
}

fn answer(status: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
    response
}
