//! Secrets Manager: `GetSecretValue` of one secret over the AWS JSON protocol.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
use tokio::{task::JoinHandle, time::sleep};
use tokio_rustls::rustls::ServerConfig;

use crate::{
    mock::listener::{Break, BreakableListener, Connections, ThisConnection},
    mock::tls,
};

/// The name of the secret.
pub const SECRET_ID: &str = "wechat-pay/close-order";

/// The ARN of the secret.
pub const SECRET_ARN: &str = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:wechat-pay/close-order-SaNdBx";

/// What goes wrong with a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The function's role may not read the secret.
    AccessDenied,
    /// AWS has a fault.
    InternalError,
    /// Too many reads.
    Throttled,
    /// The secret holds binary data.
    Binary,
    /// No answer ever comes.
    Hang,
    /// The connection is reset.
    Reset,
}

/// The stand-in; clones share the same secret.
#[derive(Clone, Debug)]
pub struct Secrets {
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    state: Arc<Mutex<Secret>>,
    _server: Arc<Server>,
}

#[derive(Debug)]
struct Secret {
    value: String,
    version: u32,
    failure: Option<Failure>,
    delay: Duration,
    reads: usize,
}

#[derive(Debug)]
struct Server(JoinHandle<()>);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Secrets {
    /// Starts Secrets Manager with one secret; port 0 lets the system choose.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start(address: SocketAddr, secret: &Value) -> anyhow::Result<Self> {
        Self::start_over(None, address, secret).await
    }

    /// Starts Secrets Manager, over TLS if told how.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start_over(
        tls: Option<Arc<ServerConfig>>,
        address: SocketAddr,
        secret: &Value,
    ) -> anyhow::Result<Self> {
        let secret = Secret { value: secret.to_string(), version: 1, failure: None, delay: Duration::ZERO, reads: 0 };
        let state = Arc::new(Mutex::new(secret));
        let listener = BreakableListener::bind(address, Connections::default(), tls.clone()).await?;
        let address = axum::serve::Listener::local_addr(&listener)?;
        let router = Router::new().fallback(handle).with_state(Arc::clone(&state));
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router.into_make_service_with_connect_info::<ThisConnection>()).await;
        });
        Ok(Self { address, tls, state, _server: Arc::new(Server(server)) })
    }

    /// The value of `AWS_ENDPOINT_URL_SECRETS_MANAGER`.
    #[must_use]
    pub fn url(&self) -> String {
        tls::url(self.tls.as_ref(), self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the secret.
    pub fn set(&self, secret: &Value) {
        self.set_text(&secret.to_string());
    }

    /// Replaces the secret by any text.
    pub fn set_text(&self, secret: &str) {
        let mut state = self.lock();
        secret.clone_into(&mut state.value);
        state.version += 1;
    }

    /// Makes every read go wrong, or none.
    pub fn set_failure(&self, failure: Option<Failure>) {
        self.lock().failure = failure;
    }

    /// Delays every answer.
    pub fn set_delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// How often the secret was asked for, failures included.
    #[must_use]
    pub fn reads(&self) -> usize {
        self.lock().reads
    }

    fn lock(&self) -> MutexGuard<'_, Secret> {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<Secret>) -> MutexGuard<'_, Secret> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn handle(
    State(state): State<Arc<Mutex<Secret>>>,
    ConnectInfo(ThisConnection(breaker)): ConnectInfo<ThisConnection>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, 64 * 1024).await.unwrap_or_default();
    let (failure, delay) = {
        let mut secret = lock(&state);
        secret.reads += 1;
        (secret.failure, secret.delay)
    };
    // Tokio's shortest sleep is a millisecond.
    if !delay.is_zero() {
        sleep(delay).await;
    }
    if let Some(refusal) = refuse(&parts.headers, &body) {
        return refusal;
    }
    let secret = lock(&state).answer();
    match failure {
        None => json_response(StatusCode::OK, &secret),
        Some(Failure::AccessDenied) => error(400, "AccessDeniedException", "not authorized to perform GetSecretValue"),
        Some(Failure::InternalError) => error(500, "InternalServiceError", "internal error"),
        Some(Failure::Throttled) => error(400, "ThrottlingException", "Rate exceeded"),
        Some(Failure::Binary) => {
            let mut secret = secret;
            if let Value::Object(fields) = &mut secret {
                fields.remove("SecretString");
                fields.insert("SecretBinary".to_owned(), json!("AAAA"));
            }
            json_response(StatusCode::OK, &secret)
        }
        Some(Failure::Hang) => std::future::pending().await,
        Some(Failure::Reset) => {
            breaker.trip(Break::Reset);
            Response::new(Body::empty())
        }
    }
}

/// What a request gets that AWS would not take.
fn refuse(headers: &HeaderMap, body: &[u8]) -> Option<Response> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if header("x-amz-target") != "secretsmanager.GetSecretValue" {
        return Some(error(400, "UnknownOperationException", "only GetSecretValue is known here"));
    }
    if !header("authorization").starts_with("AWS4-HMAC-SHA256 Credential=") {
        return Some(error(400, "MissingAuthenticationTokenException", "Missing Authentication Token"));
    }
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    match request.get("SecretId").and_then(Value::as_str) {
        Some(SECRET_ID | SECRET_ARN) => None,
        _ => Some(error(400, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")),
    }
}

impl Secret {
    fn answer(&self) -> Value {
        json!({
            "ARN": SECRET_ARN,
            "Name": SECRET_ID,
            "VersionId": format!("00000000-0000-4000-8000-{:012}", self.version),
            "SecretString": self.value,
            "VersionStages": ["AWSCURRENT"],
            "CreatedDate": 1_795_392_000,
        })
    }
}

fn error(status: u16, name: &'static str, message: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_response(status, &json!({"__type": name, "message": message}));
    response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(name));
    response
}

fn json_response(status: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
    response
}
