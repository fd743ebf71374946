//! What the mocks of AWS's JSON services share: the check of a request, an error, an answer.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::Response,
};
use serde_json::{Value, json};

/// What a request gets that is not for this action, or not signed for this service (Signature Version 4).
pub(super) fn reject(headers: &HeaderMap, target: &str, service: &str) -> Option<Response> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if header("x-amz-target") != target {
        return Some(error(400, "UnknownOperationException", "the sandbox does not know this action"));
    }
    let authorization = header("authorization");
    let credential = authorization.strip_prefix("AWS4-HMAC-SHA256 Credential=").unwrap_or_default();
    let scope = credential.split(',').next().unwrap_or_default();
    if !scope.ends_with(&format!("/{service}/aws4_request"))
        || !["SignedHeaders=", "Signature="].iter().all(|part| authorization.contains(part))
    {
        return Some(error(400, "MissingAuthenticationTokenException", "Missing Authentication Token"));
    }
    None
}

/// An error as the protocol has it.
pub(super) fn error(status: u16, name: &'static str, message: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = answer(status, &json!({"__type": name, "message": message}));
    response.headers_mut().insert("x-amzn-errortype", HeaderValue::from_static(name));
    response
}

/// An answer.
pub(super) fn answer(status: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-amz-json-1.1"));
    response
}
