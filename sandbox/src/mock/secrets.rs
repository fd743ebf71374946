//! Secrets Manager: `GetSecretValue` of one secret over the AWS JSON protocol.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{ConnectInfo, Request, State},
    http::StatusCode,
    response::Response,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio::time::sleep;
use tokio_rustls::rustls::ServerConfig;

use crate::mock::{
    aws_json,
    listener::{Break, BreakableListener, Connections, Server, ThisConnection},
    lock, tls,
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
    /// The secret is gone.
    NotFound,
    /// The secret is marked for deletion.
    InvalidRequest,
    /// The secret can't be decrypted.
    DecryptionFailure,
    /// AWS has a fault.
    InternalError,
    /// Too many reads.
    Throttled,
    /// HTTP status 503 without a body.
    Unavailable,
    /// No answer ever comes.
    Hang,
    /// The connection is reset.
    Reset,
}

/// The mock; clones share the same secret.
#[derive(Clone, Debug)]
pub struct Secrets {
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    state: Arc<Mutex<Secret>>,
    _server: Arc<Server>,
}

#[derive(Debug)]
struct Secret {
    value: SecretValue,
    version: u32,
    failure: Option<Failure>,
    delay: Duration,
    reads: usize,
}

#[derive(Debug)]
enum SecretValue {
    String(String),
    Binary(Vec<u8>),
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
        let state = Arc::new(Mutex::new(Secret {
            value: SecretValue::String(secret.to_string()),
            version: 1,
            failure: None,
            delay: Duration::ZERO,
            reads: 0,
        }));
        let listener = BreakableListener::bind(address, Connections::default(), tls.clone()).await?;
        let address = axum::serve::Listener::local_addr(&listener)?;
        let server = Server::start(listener, Router::new().fallback(handle).with_state(Arc::clone(&state)));
        Ok(Self { address, tls, state, _server: Arc::new(server) })
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
        self.replace(SecretValue::String(secret.to_owned()));
    }

    /// Replaces the secret by secret binary.
    pub fn set_binary(&self, secret: &[u8]) {
        self.replace(SecretValue::Binary(secret.to_vec()));
    }

    fn replace(&self, value: SecretValue) {
        let mut secret = lock(&self.state);
        secret.value = value;
        secret.version += 1;
    }

    /// Makes every read go wrong, or none.
    pub fn set_failure(&self, failure: Option<Failure>) {
        lock(&self.state).failure = failure;
    }

    /// Delays every answer.
    pub fn set_delay(&self, delay: Duration) {
        lock(&self.state).delay = delay;
    }

    /// How often the secret was asked for, failures included.
    #[must_use]
    pub fn reads(&self) -> usize {
        lock(&self.state).reads
    }
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
    let target = "secretsmanager.GetSecretValue";
    if let Some(rejection) = aws_json::reject(&parts.headers, target, "secretsmanager") {
        return rejection;
    }
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let is_known = matches!(request.get("SecretId").and_then(Value::as_str), Some(SECRET_ID | SECRET_ARN));
    let failure = failure.or((!is_known).then_some(Failure::NotFound));
    let (status, name, message) = match failure {
        None => return aws_json::answer(StatusCode::OK, &lock(&state).answer()),
        Some(Failure::Hang) => std::future::pending().await,
        Some(Failure::Reset) => {
            breaker.trip(Break::Reset);
            return Response::new(Body::empty());
        }
        Some(Failure::Unavailable) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            return response;
        }
        Some(Failure::AccessDenied) => (400, "AccessDeniedException", "not authorized to perform GetSecretValue"),
        Some(Failure::NotFound) => {
            (400, "ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
        }
        Some(Failure::InvalidRequest) => (400, "InvalidRequestException", "the secret was marked for deletion"),
        Some(Failure::DecryptionFailure) => (400, "DecryptionFailure", "the KMS key can't decrypt the secret"),
        Some(Failure::InternalError) => (500, "InternalServiceError", "internal error"),
        Some(Failure::Throttled) => (400, "ThrottlingException", "Rate exceeded"),
    };
    aws_json::error(status, name, message)
}

impl Secret {
    fn answer(&self) -> Value {
        let (name, value) = match &self.value {
            SecretValue::String(text) => ("SecretString", text.clone()),
            SecretValue::Binary(bytes) => ("SecretBinary", BASE64_STANDARD.encode(bytes)),
        };
        json!({
            "ARN": SECRET_ARN,
            "Name": SECRET_ID,
            "VersionId": format!("00000000-0000-4000-8000-{:012}", self.version),
            name: value,
            "VersionStages": ["AWSCURRENT"],
            "CreatedDate": 1_795_392_000,
        })
    }
}
