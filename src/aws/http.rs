//! The HTTP client as the AWS SDK takes one.

use std::fmt;

use crate::http_client::{HttpClients, SendError, read_at_most};
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

/// Largest response that is read, in bytes: a secret has 64 KiB at most, its JSON some more.
const MAX_RESPONSE: usize = 512 * 1024;

/// The header by which the SDK numbers its attempts: `attempt=2; max=2`.
const ATTEMPT: &str = "amz-sdk-request";

/// The clients as the AWS SDK takes one. Its first attempt goes out on a kept connection; a second one on a new one, since
/// the others may have died with the first while Lambda froze the process.
#[derive(Clone)]
pub(crate) struct AwsHttpClient(pub HttpClients);

impl HttpClient for AwsHttpClient {
    /// The SDK's connect and read timeouts are not looked at: the client has its own, and the SDK's attempt and
    /// operation timeouts bound the whole.
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for AwsHttpClient {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let client = if is_first_attempt(&request) { &self.0.pooled } else { &self.0.unpooled }.clone();
        HttpConnectorFuture::new(async move { exchange(&client, request).await })
    }
}

fn is_first_attempt(request: &HttpRequest) -> bool {
    request.headers().get(ATTEMPT).is_none_or(|header| header.split("; ").any(|pair| pair == "attempt=1"))
}

async fn exchange(client: &reqwest::Client, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
    let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
    let request = request.map(|body| body.bytes().map(<[u8]>::to_vec).unwrap_or_default());
    let request = reqwest::Request::try_from(request).map_err(|error| ConnectorError::user(error.into()))?;

    let response = client.execute(request).await.map_err(|e| connector_error(&e))?;
    let status = StatusCode::try_from(response.status().as_u16()).map_err(|e| ConnectorError::other(e.into(), None))?;
    let headers = response.headers().clone();
    let body = read_at_most(MAX_RESPONSE, response).await.map_err(|e| connector_error(&e))?;
    let body = body.ok_or_else(|| ConnectorError::other("the response is too large".into(), None))?;

    let mut sdk_response = HttpResponse::new(status, SdkBody::from(body));
    for (name, value) in &headers {
        if let Ok(value) = value.to_str() {
            sdk_response.headers_mut().append(name.as_str().to_owned(), value.to_owned());
        }
    }
    Ok(sdk_response)
}

fn connector_error(error: &reqwest::Error) -> ConnectorError {
    let cause = SendError::new(error, !error.is_connect());
    if error.is_timeout() { ConnectorError::timeout(cause.into()) } else { ConnectorError::io(cause.into()) }
}

impl fmt::Debug for AwsHttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AwsHttpClient")
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use tokio::net::TcpListener;

    use super::*;
    use crate::http_client::tests::{clients, response, server};

    async fn call(url: String) -> Result<HttpResponse, ConnectorError> {
        let mut request = HttpRequest::new(SdkBody::from("{}"));
        request.set_method("POST").unwrap();
        request.set_uri(url).unwrap();
        AwsHttpClient(clients()).call(request).await
    }

    #[tokio::test]
    async fn the_aws_sdk_gets_status_headers_and_body_or_the_cause() {
        let received = call(format!("http://{}", server(Some(response(3))).await)).await.unwrap();
        assert_eq!((received.status().as_u16(), received.headers().get("x-tea")), (418, Some("green")));
        assert_eq!(received.body().bytes(), Some(&b"xxx"[..]));

        let too_large = call(format!("http://{}", server(Some(response(MAX_RESPONSE + 1))).await)).await.unwrap_err();
        assert!(!too_large.is_io() && !too_large.is_timeout(), "{too_large:?}");

        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        for (address, expected) in
            [(nobody, SendError::Refused), (server(Some(Vec::new())).await, SendError::ConnectionLost)]
        {
            let error = call(format!("http://{address}")).await.unwrap_err();
            assert!(error.is_io(), "{error:?}");
            assert_eq!(error.source().and_then(|cause| cause.downcast_ref()), Some(&expected));
        }
    }
}
