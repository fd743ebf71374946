//! One HTTP client for WeChat Pay and AWS: one pool, one set of roots, one TLS stack.
//!
//! TLS is rustls on ring: AWS-LC, the default, gathers CPU-jitter entropy at its first handshake, which takes longer
//! than everything else in a cold start together.

use std::{fmt, sync::Arc, time::Duration};

use aws_smithy_runtime_api::{
    client::{
        http::{HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector},
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use reqwest::{Client, Response, redirect};
use rustls::{ClientConfig, RootCertStore, crypto::ring};

/// The longest wait for a connection, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Largest answer of AWS that is read, in bytes: a secret has 64 KiB at most, its JSON some more.
const MAX_AWS_ANSWER: usize = 512 * 1024;

/// Builds the client.
///
/// It follows no redirect, uses no proxy from the environment and asks for no compression.
///
/// # Errors
/// When rustls refuses the TLS settings, which are constants.
pub fn new(roots: RootCertStore) -> Result<Client, Box<dyn std::error::Error + Send + Sync>> {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(CONNECT_TIMEOUT)
        .redirect(redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy()
        .user_agent(concat!("close-order/", env!("CARGO_PKG_VERSION")))
        .build()?;
    Ok(client)
}

/// Reads a body to its end, unless it is larger than `limit` bytes: then `None`, and the rest is never read.
///
/// # Errors
/// When the connection is lost or the request's time is up.
pub async fn read_at_most(limit: usize, mut response: Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// The client as the AWS SDK takes one.
#[derive(Clone)]
pub struct AwsHttpClient(pub Client);

impl HttpClient for AwsHttpClient {
    /// The SDK's connect and read timeouts are not looked at: the client has its own, and the SDK's attempt and
    /// operation timeouts bound the whole.
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for AwsHttpClient {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = self.0.clone();
        HttpConnectorFuture::new(async move { exchange(&client, request).await })
    }
}

async fn exchange(client: &Client, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
    let request = request.map(|body| body.bytes().map(<[u8]>::to_vec).unwrap_or_default());
    let request = reqwest::Request::try_from(request).map_err(|error| ConnectorError::user(error.into()))?;

    let response = client.execute(request).await.map_err(connector_error)?;
    let status = StatusCode::try_from(response.status().as_u16()).map_err(|e| ConnectorError::other(e.into(), None))?;
    let headers = response.headers().clone();
    let body = read_at_most(MAX_AWS_ANSWER, response).await.map_err(connector_error)?;
    let body = body.ok_or_else(|| ConnectorError::other("the answer is too large".into(), None))?;

    let mut answer = HttpResponse::new(status, SdkBody::from(body));
    for (name, value) in &headers {
        if let Ok(value) = value.to_str() {
            answer.headers_mut().append(name.as_str().to_owned(), value.to_owned());
        }
    }
    Ok(answer)
}

fn connector_error(error: reqwest::Error) -> ConnectorError {
    if error.is_timeout() { ConnectorError::timeout(error.into()) } else { ConnectorError::io(error.into()) }
}

impl fmt::Debug for AwsHttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwsHttpClient")
    }
}
