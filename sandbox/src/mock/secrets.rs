//! Secrets Manager: `GetSecretValue` over the AWS JSON protocol, of the sandbox's own secret and of others by name.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio_rustls::rustls::ServerConfig;

use crate::mock::aws_json::{AwsServer, Reaction, Service};

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
    /// The connection is reset if it was used before, as one that died while the process was frozen.
    ResetOnReuse,
}

/// The mock; clones share the same secrets.
#[derive(Clone, Debug)]
pub struct Secrets(AwsServer<State>);

#[derive(Debug)]
struct State {
    /// By name. The sandbox's own is always there.
    secrets: HashMap<String, Secret>,
    failure: Option<Failure>,
    delay: Duration,
    reads: Vec<String>,
}

#[derive(Clone, Debug)]
struct Secret {
    value: SecretValue,
    version: u32,
}

#[derive(Clone, Debug)]
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
        let secret = Secret { value: SecretValue::String(secret.to_string()), version: 1 };
        let secrets = HashMap::from([(SECRET_ID.to_owned(), secret)]);
        let state = State { secrets, failure: None, delay: Duration::ZERO, reads: Vec::new() };
        Ok(Self(AwsServer::start(tls, address, state).await?))
    }

    /// The value of `AWS_ENDPOINT_URL_SECRETS_MANAGER`.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Replaces the secret.
    pub fn set(&self, secret: &Value) {
        self.set_text(&secret.to_string());
    }

    /// Replaces the secret by any text.
    pub fn set_text(&self, secret: &str) {
        self.replace(SECRET_ID, SecretValue::String(secret.to_owned()));
    }

    /// Replaces the secret by secret binary.
    pub fn set_binary(&self, secret: &[u8]) {
        self.replace(SECRET_ID, SecretValue::Binary(secret.to_vec()));
    }

    /// Adds another secret by its name, or replaces it.
    pub fn put(&self, name: &str, secret: &Value) {
        self.replace(name, SecretValue::String(secret.to_string()));
    }

    /// Deletes a secret.
    pub fn delete(&self, name: &str) {
        self.0.lock().secrets.remove(name);
    }

    fn replace(&self, name: &str, value: SecretValue) {
        let secrets = &mut self.0.lock().secrets;
        let version = secrets.get(name).map_or(1, |secret| secret.version + 1);
        secrets.insert(name.to_owned(), Secret { value, version });
    }

    /// Makes every read go wrong, or none.
    pub fn set_failure(&self, failure: Option<Failure>) {
        self.0.lock().failure = failure;
    }

    /// Delays every answer.
    pub fn set_delay(&self, delay: Duration) {
        self.0.lock().delay = delay;
    }

    /// How often a secret was asked for, failures included.
    #[must_use]
    pub fn reads(&self) -> usize {
        self.0.lock().reads.len()
    }

    /// How often this secret was asked for, failures included.
    #[must_use]
    pub fn reads_of(&self, name: &str) -> usize {
        self.0.lock().reads.iter().filter(|read| *read == name).count()
    }
}

impl Service for State {
    const SIGNING_NAME: &'static str = "secretsmanager";
    const TARGET: &'static str = "secretsmanager.";

    fn receive(&mut self, operation: &str, request: &Value, is_reused: bool) -> Option<Reaction> {
        if operation != "GetSecretValue" {
            return None;
        }
        let name = match request.get("SecretId").and_then(Value::as_str).unwrap_or_default() {
            SECRET_ARN => SECRET_ID,
            name => name,
        };
        self.reads.push(name.to_owned());
        let secret = self.secrets.get(name);
        let failure = self.failure.filter(|failure| is_reused || *failure != Failure::ResetOnReuse);
        Some(match (failure, secret) {
            (None, Some(secret)) => Reaction::Answer(secret.answer(name)),
            (failure, _) => failure.unwrap_or(Failure::NotFound).reaction(),
        })
    }

    fn delay(&self) -> Duration {
        self.delay
    }
}

impl Failure {
    fn reaction(self) -> Reaction {
        let (status, name, message) = match self {
            Self::Hang => return Reaction::Hang,
            Self::Reset | Self::ResetOnReuse => return Reaction::Reset,
            Self::Unavailable => return Reaction::Unavailable,
            Self::AccessDenied => (400, "AccessDeniedException", "not authorized to perform GetSecretValue"),
            Self::NotFound => (400, "ResourceNotFoundException", "Secrets Manager can't find the specified secret."),
            Self::InvalidRequest => (400, "InvalidRequestException", "the secret was marked for deletion"),
            Self::DecryptionFailure => (400, "DecryptionFailure", "the KMS key can't decrypt the secret"),
            Self::InternalError => (500, "InternalServiceError", "internal error"),
            Self::Throttled => (400, "ThrottlingException", "Rate exceeded"),
        };
        Reaction::error(status, name, message)
    }
}

impl Secret {
    fn answer(&self, name: &str) -> Value {
        let (kind, value) = match &self.value {
            SecretValue::String(text) => ("SecretString", text.clone()),
            SecretValue::Binary(bytes) => ("SecretBinary", BASE64_STANDARD.encode(bytes)),
        };
        let arn = SECRET_ARN.replace(SECRET_ID, name);
        json!({
            "ARN": arn,
            "Name": name,
            "VersionId": format!("00000000-0000-4000-8000-{:012}", self.version),
            kind: value,
            "VersionStages": ["AWSCURRENT"],
            "CreatedDate": 1_795_392_000,
        })
    }
}
