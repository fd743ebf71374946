//! A service of AWS as the SDK's HTTP client meets it, on tokio's clock.

use std::{fmt, sync::Arc, time::Duration};

use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn},
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
    },
    http::StatusCode,
};
use aws_smithy_types::{body::SdkBody, retry::RetryConfig};
use aws_types::SdkConfig;
use serde_json::Value;
use tokio::time::sleep;

use super::Service;
use crate::http_client;

/// How long an answer takes.
const DELAY: Duration = Duration::from_millis(100);

/// What the service does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// It answers with this status and JSON.
    Answer(u16, Value),
    /// The connection is lost.
    Lost,
    /// No answer ever comes.
    Hang,
}

/// Settings for a client of a mock, which is handed the JSON of each request. The client sends one request per call, so that
/// calls can be counted.
pub(crate) fn settings(service: Service, behave: impl Fn(&Value) -> Behaviour + Send + Sync + 'static) -> SdkConfig {
    let variable = |name: &str| match name {
        "AWS_REGION" => Some("eu-central-1".to_owned()),
        "AWS_ACCESS_KEY_ID" | "AWS_SECRET_ACCESS_KEY" => Some("test".to_owned()),
        _ => None,
    };
    let http = http_client::new(rustls::RootCertStore::empty()).unwrap();
    let connector = SharedHttpConnector::new(Mock(Arc::new(behave)));
    let settings = super::settings(service, http, variable).into_builder().retry_config(RetryConfig::disabled());
    settings.http_client(http_client_fn(move |_, _| connector.clone())).build()
}

#[derive(Clone)]
struct Mock(Arc<dyn Fn(&Value) -> Behaviour + Send + Sync>);

impl fmt::Debug for Mock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mock")
    }
}

impl HttpConnector for Mock {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let request: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
        let behaviour = self.0(&request);
        HttpConnectorFuture::new(async move {
            sleep(DELAY).await;
            match behaviour {
                Behaviour::Answer(status, json) => {
                    let status = StatusCode::try_from(status).unwrap();
                    Ok(HttpResponse::new(status, SdkBody::from(json.to_string())))
                }
                Behaviour::Lost => Err(ConnectorError::io("lost".into())),
                Behaviour::Hang => std::future::pending().await,
            }
        })
    }
}
