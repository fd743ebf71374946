//! Secrets Manager: `GetSecretValue` over the AWS JSON protocol, of the sandbox's own secret and of others by name.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tokio_rustls::rustls::ServerConfig;

pub use super::aws_json::Failure;
use super::aws_json::{AwsMock, Rejection, Service, UNKNOWN};

/// The name of the secret.
pub const SECRET_ID: &str = "wechat-pay/close-order";

/// The ARN of the secret.
const SECRET_ARN: &str = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:wechat-pay/close-order-SaNdBx";

/// The mock; clones share the same secrets.
pub type Secrets = AwsMock<Vault>;

/// The secrets by name.
#[derive(Debug, Default)]
pub struct Vault(HashMap<String, Secret>);

#[derive(Debug)]
struct Secret {
    /// `SecretString` or `SecretBinary`.
    kind: &'static str,
    value: String,
    version: u32,
}

impl Secrets {
    /// Starts Secrets Manager with one secret, over TLS if told how; port 0 lets the system choose.
    pub async fn start(tls: Option<Arc<ServerConfig>>, address: SocketAddr, secret: &Value) -> anyhow::Result<Self> {
        let secrets = Self::serve(tls, address, Vault::default()).await?;
        secrets.set(secret);
        Ok(secrets)
    }

    /// Replaces the sandbox's own secret.
    pub fn set(&self, secret: &Value) {
        self.put(SECRET_ID, secret);
    }

    /// Replaces the sandbox's own secret by any text.
    pub fn set_text(&self, secret: &str) {
        self.replace(SECRET_ID, "SecretString", secret.to_owned());
    }

    /// Replaces the sandbox's own secret by secret binary.
    pub fn set_binary(&self, secret: &[u8]) {
        self.replace(SECRET_ID, "SecretBinary", BASE64_STANDARD.encode(secret));
    }

    /// Adds another secret by its name, or replaces it.
    pub fn put(&self, name: &str, secret: &Value) {
        self.replace(name, "SecretString", secret.to_string());
    }

    /// Deletes a secret.
    pub fn delete(&self, name: &str) {
        self.lock().service.0.remove(name);
    }

    fn replace(&self, name: &str, kind: &'static str, value: String) {
        let secrets = &mut self.lock().service.0;
        let version = secrets.get(name).map_or(1, |secret| secret.version + 1);
        secrets.insert(name.to_owned(), Secret { kind, value, version });
    }

    /// How often a secret was asked for, failures included.
    pub fn reads(&self) -> usize {
        self.lock().requests.len()
    }

    /// How often this secret was asked for, failures included.
    pub fn reads_of(&self, name: &str) -> usize {
        self.lock().requests.iter().filter(|request| request.get("SecretId").is_some_and(|it| it == name)).count()
    }
}

impl Service for Vault {
    const SIGNING_NAME: &'static str = "secretsmanager";
    const TARGET: &'static str = "secretsmanager.";
    const INTERNAL_ERROR: &'static str = "InternalServiceError";

    fn receive(&mut self, operation: &str, request: &Value, _: &mut dyn FnMut() -> bool) -> Result<Value, Rejection> {
        if operation != "GetSecretValue" {
            return Err(UNKNOWN);
        }
        let name = match request.get("SecretId").and_then(Value::as_str).unwrap_or_default() {
            SECRET_ARN => SECRET_ID,
            name => name,
        };
        let not_found = ("ResourceNotFoundException", "Secrets Manager can't find the specified secret.");
        let Secret { kind, value, version } = self.0.get(name).ok_or(not_found)?;
        Ok(json!({
            "ARN": SECRET_ARN.replace(SECRET_ID, name),
            "Name": name,
            "VersionId": format!("00000000-0000-4000-8000-{version:012}"),
            *kind: value,
            "VersionStages": ["AWSCURRENT"],
            "CreatedDate": 1_795_392_000,
        }))
    }
}
