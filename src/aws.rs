//! What the clients of AWS services share, set up by the variables that Lambda sets and the AWS SDK documents.
//!
//! Not by `aws-config`: what it adds (profiles, SSO, STS, instance metadata) never applies in Lambda, where role
//! credentials come in variables, and it costs a fifth of the binary and a good part of the start.

mod http;
#[cfg(test)]
pub(crate) mod mock;

use std::{borrow::Cow, error::Error, time::Duration};

use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_runtime_api::client::{behavior_version::BehaviorVersion, result::SdkError};
use aws_smithy_types::{error::metadata::ProvideErrorMetadata, retry::RetryConfig, timeout::TimeoutConfig};
use aws_types::{SdkConfig, region::Region};

use crate::http_client::{HttpClients, SendError};
use http::AwsHttpClient;

/// The longest pause before a second attempt.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The services that are called here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Holds the merchant's key.
    SecretsManager,
    /// Takes outcome events.
    EventBridge,
    /// Has records wait, and takes invalid orders.
    Sqs,
}

impl Service {
    /// How long its calls may take. Secrets Manager's and SQS's have a second attempt after one that hangs; `PutEvents` has
    /// all the time that its caller keeps for it, since an attempt that is given up may have been accepted.
    fn timeouts(self) -> TimeoutConfig {
        match self {
            Self::SecretsManager | Self::Sqs => TimeoutConfig::builder()
                .operation_attempt_timeout(Duration::from_millis(1500))
                .operation_timeout(Duration::from_millis(3500))
                .build(),
            Self::EventBridge => TimeoutConfig::disabled(),
        }
    }

    /// The variables that name another endpoint for it, the first that is set wins
    /// (<https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>).
    #[must_use]
    pub(crate) fn endpoint_variables(self) -> [&'static str; 2] {
        match self {
            Self::SecretsManager => ["AWS_ENDPOINT_URL_SECRETS_MANAGER", "AWS_ENDPOINT_URL"],
            Self::EventBridge => ["AWS_ENDPOINT_URL_EVENTBRIDGE", "AWS_ENDPOINT_URL"],
            Self::Sqs => ["AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL"],
        }
    }
}

/// The settings of a service's client; `get` reads one variable. A missing region or missing credentials show when the
/// service is called.
#[must_use]
pub fn settings(service: Service, http: HttpClients, get: impl Fn(&str) -> Option<String>) -> SdkConfig {
    // An empty variable is how templates say that there is none.
    let get = |name: &str| get(name).filter(|value| !value.is_empty());
    let is_on = |name: &str| get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    // A credential that can't stand in a header is left out: the SDK would panic over it.
    let credential = |name: &str| get(name).filter(|value| value.bytes().all(|b| b.is_ascii_graphic()));
    let key = credential("AWS_ACCESS_KEY_ID").zip(credential("AWS_SECRET_ACCESS_KEY"));
    let credentials =
        key.map(|(id, secret)| Credentials::new(id, secret, credential("AWS_SESSION_TOKEN"), None, "environment"));
    let mut settings = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(AwsHttpClient(http))
        .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
        .timeout_config(service.timeouts())
        // The SDK's own pause, up to a second, would be a good part of a short invocation's time.
        .retry_config(RetryConfig::standard().with_max_attempts(2).with_initial_backoff(RETRY_PAUSE))
        .use_fips(is_on("AWS_USE_FIPS_ENDPOINT"))
        .use_dual_stack(is_on("AWS_USE_DUALSTACK_ENDPOINT"))
        .region(get("AWS_REGION").or_else(|| get("AWS_DEFAULT_REGION")).map(Region::new));
    settings.set_endpoint_url(service.endpoint_variables().into_iter().find_map(get));
    settings.set_credentials_provider(credentials.map(SharedCredentialsProvider::new));
    settings.build()
}

/// Why a call failed, by AWS's error code or a fixed phrase, and never with AWS's own message: that of a signature
/// mismatch quotes the session token. `service` is the service's name.
pub fn cause<E, R>(service: &str, settings: &SdkConfig, error: &SdkError<E, R>) -> Cow<'static, str>
where
    E: ProvideErrorMetadata + Error + 'static,
{
    if let Some(code) = error_code(error) {
        return format!("{service} answered {code}").into();
    }
    match error {
        _ if settings.region().is_none() => format!("{service} can't be called: AWS_REGION is not set").into(),
        _ if settings.credentials_provider().is_none() => {
            format!("{service} can't be called: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set").into()
        }
        SdkError::TimeoutError(_) => format!("{service} did not answer in time").into(),
        SdkError::DispatchFailure(failure) => {
            let send_error = failure.as_connector_error().and_then(|error| error.source()?.downcast_ref::<SendError>());
            match send_error {
                Some(SendError::TimedOut) => format!("{service} did not answer in time").into(),
                Some(send_error) => format!("{service} can't be reached: {send_error}").into(),
                None => format!("{service} can't be called").into(),
            }
        }
        SdkError::ServiceError(_) => format!("{service} answered with an error").into(),
        SdkError::ConstructionFailure(_) => format!("{service} can't be called").into(),
        _ => format!("{service}'s answer can't be read").into(),
    }
}

/// The code of an error that the service itself answered with, if it looks like one.
pub(crate) fn error_code<E: ProvideErrorMetadata, R>(error: &SdkError<E, R>) -> Option<&str> {
    let SdkError::ServiceError(answered) = error else { return None };
    answered.err().code().filter(|code| is_plain(code))
}

/// Whether an error code looks like one, so that it may stand in a log.
pub(crate) fn is_plain(code: &str) -> bool {
    code.len() <= 64 && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.')
}

#[cfg(test)]
mod tests {
    use aws_sdk_secretsmanager::{config::ProvideCredentials, operation::get_secret_value::GetSecretValueError};
    use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::ConnectorError};
    use aws_smithy_types::{body::SdkBody, error::ErrorMetadata};

    use super::*;

    type Failure = SdkError<GetSecretValueError, HttpResponse>;

    const CREDENTIALS: [(&str, &str); 3] =
        [("AWS_REGION", "eu-central-1"), ("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "key")];

    fn settings_by(service: Service, variables: &[(&str, &str)]) -> SdkConfig {
        let http = crate::http_client::new(rustls::RootCertStore::empty()).unwrap();
        let get = |name: &str| variables.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned());
        settings(service, http, get)
    }

    fn answered(code: &str) -> Failure {
        let metadata = ErrorMetadata::builder().code(code).message("the security token QUOTED is invalid").build();
        let response = HttpResponse::new(400.try_into().unwrap(), SdkBody::empty());
        SdkError::service_error(GetSecretValueError::generic(metadata), response)
    }

    #[test]
    fn a_cause_is_awss_code_or_a_fixed_phrase_and_never_awss_message() {
        let unreachable = |cause| SdkError::dispatch_failure(ConnectorError::io(Box::new(cause)));
        let [region, _, key] = CREDENTIALS;
        for (variables, failure, expected) in [
            (&CREDENTIALS[..], answered("AccessDeniedException"), "Service answered AccessDeniedException"),
            (
                &CREDENTIALS,
                answered("AWS.SimpleQueueService.NonExistentQueue"),
                "Service answered AWS.SimpleQueueService.NonExistentQueue",
            ),
            (&CREDENTIALS, answered("not a code"), "Service answered with an error"),
            (&CREDENTIALS, answered(&"x".repeat(65)), "Service answered with an error"),
            (&CREDENTIALS, Failure::timeout_error("late"), "Service did not answer in time"),
            (&CREDENTIALS, unreachable(SendError::TimedOut), "Service did not answer in time"),
            (&CREDENTIALS, unreachable(SendError::Refused), "Service can't be reached: the connection was refused"),
            (
                &CREDENTIALS,
                unreachable(SendError::UntrustedCertificate),
                "Service can't be reached: the server's certificate is not trusted (SSL_CERT_FILE names the trusted \
                 root certificates)",
            ),
            (&CREDENTIALS, Failure::construction_failure("what"), "Service can't be called"),
            (&[], Failure::construction_failure("what"), "Service can't be called: AWS_REGION is not set"),
            (
                &[region, key],
                Failure::construction_failure("what"),
                "Service can't be called: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set",
            ),
        ] {
            assert_eq!(cause("Service", &settings_by(Service::SecretsManager, variables), &failure), expected);
        }
    }

    #[test]
    fn a_services_own_endpoint_comes_before_the_general_one_and_an_empty_one_is_none() {
        let general = ("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
        for (service, variables, expected) in [
            (Service::SecretsManager, &[][..], None),
            (Service::SecretsManager, &[("AWS_ENDPOINT_URL_SECRETS_MANAGER", "")], None),
            (Service::SecretsManager, &[general], Some("http://127.0.0.1:1")),
            (
                Service::SecretsManager,
                &[general, ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:2")],
                Some("http://127.0.0.1:2"),
            ),
            (
                Service::EventBridge,
                &[general, ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:2")],
                Some("http://127.0.0.1:1"),
            ),
            (
                Service::EventBridge,
                &[("AWS_ENDPOINT_URL_EVENTBRIDGE", "http://127.0.0.1:3")],
                Some("http://127.0.0.1:3"),
            ),
            (Service::Sqs, &[general, ("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:4")], Some("http://127.0.0.1:4")),
        ] {
            assert_eq!(settings_by(service, variables).endpoint_url(), expected, "{service:?} {variables:?}");
        }
    }

    #[tokio::test]
    async fn credentials_are_lambdas_and_what_can_not_stand_in_a_header_is_none() {
        let with = |token| [&CREDENTIALS[..], &[("AWS_SESSION_TOKEN", token)]].concat();
        for (variables, expected) in [
            (with("token"), Some(("id", "key", Some("token")))),
            (with(""), Some(("id", "key", None))),
            (with("to\nken"), Some(("id", "key", None))),
            (vec![("AWS_ACCESS_KEY_ID", "id")], None),
            (vec![("AWS_ACCESS_KEY_ID", "i\nd"), ("AWS_SECRET_ACCESS_KEY", "key")], None),
        ] {
            let provider = settings_by(Service::SecretsManager, &variables).credentials_provider();
            let credentials = match provider {
                Some(provider) => Some(provider.provide_credentials().await.unwrap()),
                None => None,
            };
            let shown = credentials.as_ref().map(|it| (it.access_key_id(), it.secret_access_key(), it.session_token()));
            assert_eq!(shown, expected, "{variables:?}");
        }
    }
}
