//! One read of a secret.

use std::borrow::Cow;

use aws_sdk_secretsmanager::Client;
use aws_types::SdkConfig;
use zeroize::Zeroizing;

use crate::aws;

/// The service's name, in causes.
pub(super) const SERVICE: &str = "Secrets Manager";

/// Answers that say that the key is not to be used any more, unlike an outage
/// (<https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html>).
pub(super) const REVOKED: [&str; 4] =
    ["AccessDeniedException", NOT_FOUND, "InvalidRequestException", "DecryptionFailure"];
const NOT_FOUND: &str = "ResourceNotFoundException";

/// Secrets Manager; clones share its client.
#[derive(Clone, Debug)]
pub(super) struct SecretsManager {
    client: Client,
    settings: SdkConfig,
}

/// Why a read failed.
#[derive(Debug)]
pub(super) enum ReadError {
    /// Secrets Manager is down, or throttles: a cached merchant serves on.
    Unavailable(Cow<'static, str>),
    /// Secrets Manager has answered that there is no key to use.
    Revoked {
        cause: Cow<'static, str>,
        /// Whether there is no such secret.
        is_missing: bool,
    },
}

impl SecretsManager {
    pub(super) fn new(settings: SdkConfig) -> Self {
        Self { client: Client::new(&settings), settings }
    }

    /// The secret, be it stored as a string or as binary.
    pub(super) async fn read(&self, secret_id: &str) -> Result<Zeroizing<Vec<u8>>, ReadError> {
        let output = self.client.get_secret_value().secret_id(secret_id).send().await.map_err(|error| {
            let cause = aws::cause(SERVICE, &self.settings, &error);
            match aws::error_code(&error) {
                Some(code) if REVOKED.contains(&code) => ReadError::Revoked { cause, is_missing: code == NOT_FOUND },
                _ => ReadError::Unavailable(cause),
            }
        })?;
        let binary = output.secret_binary.map(aws_smithy_types::Blob::into_inner);
        Ok(Zeroizing::new(output.secret_string.map(String::into_bytes).or(binary).unwrap_or_default()))
    }
}
