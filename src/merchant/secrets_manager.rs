//! A client of AWS Secrets Manager, set up by the variables that Lambda sets and the AWS SDK documents.
//!
//! Not by `aws-config`: what it adds (profiles, SSO, STS, instance metadata) never applies in Lambda, where role
//! credentials come in variables, and it costs a fifth of the binary and a good part of the start.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_secretsmanager::{
    Client,
    config::{BehaviorVersion, Builder, Region, SharedAsyncSleep, retry::RetryConfig, timeout::TimeoutConfig},
};
use aws_smithy_async::rt::sleep::TokioSleep;

use crate::http_client::AwsHttpClient;

/// Longest wait for one answer of Secrets Manager.
const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1500);

/// Longest wait for the secret, the SDK's own second try included.
const OPERATION_TIMEOUT: Duration = Duration::from_millis(3500);

/// Sets the client up; `get` reads one variable. A missing region or missing credentials show when the secret is read.
#[must_use]
pub fn secrets_manager(http: reqwest::Client, get: impl Fn(&str) -> Option<String>) -> Client {
    // An empty variable is how templates say that there is none.
    let get = |name: &str| get(name).filter(|value| !value.is_empty());
    let is_on = |name: &str| get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let mut config = Builder::new()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(AwsHttpClient(http))
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .timeout_config(
            TimeoutConfig::builder()
                .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                .operation_timeout(OPERATION_TIMEOUT)
                .build(),
        )
        .retry_config(RetryConfig::standard().with_max_attempts(2))
        .use_fips(is_on("AWS_USE_FIPS_ENDPOINT"))
        .use_dual_stack(is_on("AWS_USE_DUALSTACK_ENDPOINT"))
        .region(get("AWS_REGION").or_else(|| get("AWS_DEFAULT_REGION")).map(Region::new));
    config.set_endpoint_url(get("AWS_ENDPOINT_URL_SECRETS_MANAGER").or_else(|| get("AWS_ENDPOINT_URL")));
    // What can't stand in a header is no credential; the SDK would panic over it.
    let credential = |name: &str| get(name).filter(|value| value.bytes().all(|b| b.is_ascii_graphic()));
    if let (Some(id), Some(secret)) = (credential("AWS_ACCESS_KEY_ID"), credential("AWS_SECRET_ACCESS_KEY")) {
        let token = credential("AWS_SESSION_TOKEN");
        config = config.credentials_provider(Credentials::new(id, secret, token, None, "environment"));
    }
    Client::from_conf(config.build())
}
