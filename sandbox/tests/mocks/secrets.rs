//! Secrets Manager.

use std::io::ErrorKind;

use sandbox::{
    Sandbox,
    mock::secrets::{Failure, SECRET_ID},
};
use serde_json::{Value, json};

use crate::support::{KEY, authorization, body_of, exchange};

async fn read_secret(sandbox: &Sandbox, id: &str) -> std::io::Result<(String, Value)> {
    read_secret_as(sandbox, id, &authorization("secretsmanager")).await
}

async fn read_secret_as(sandbox: &Sandbox, id: &str, authorization: &str) -> std::io::Result<(String, Value)> {
    let headers = format!("x-amz-target: secretsmanager.GetSecretValue\r\n{authorization}");
    let body = json!({"SecretId": id}).to_string();
    let reply = exchange(&sandbox.secrets.url(), "POST /", &headers, body.as_bytes()).await?;
    let json = serde_json::from_str(body_of(&reply)).unwrap_or_default();
    Ok((reply, json))
}

#[tokio::test]
async fn the_secret_is_read_by_its_name_and_can_be_replaced() {
    let sandbox = Sandbox::start().await.unwrap();
    let (reply, secret) = read_secret(&sandbox, SECRET_ID).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200") && reply.contains("application/x-amz-json-1.1"), "{reply}");
    let value: Value = serde_json::from_str(secret["SecretString"].as_str().unwrap()).unwrap();
    assert_eq!(value["api_key"], KEY);
    let version = secret["VersionId"].clone();
    sandbox.secrets.set_text("no JSON");
    let (_, secret) = read_secret(&sandbox, secret["ARN"].as_str().unwrap()).await.unwrap();
    assert_eq!(secret["SecretString"], "no JSON");
    assert_ne!(secret["VersionId"], version);
    assert_eq!(sandbox.secrets.reads(), 2);
}

#[tokio::test]
async fn a_read_that_fails_fails_as_aws_does() {
    let sandbox = Sandbox::start().await.unwrap();
    let unsigned = read_secret_as(&sandbox, SECRET_ID, "").await.unwrap();
    let for_another = read_secret_as(&sandbox, SECRET_ID, &authorization("events")).await.unwrap();
    let unknown = read_secret(&sandbox, "another").await.unwrap();
    let mut failures = vec![
        (unsigned, 400, "MissingAuthenticationTokenException"),
        (for_another, 400, "MissingAuthenticationTokenException"),
        (unknown, 400, "ResourceNotFoundException"),
    ];
    for (failure, status, name) in [
        (Failure::AccessDenied, 400, "AccessDeniedException"),
        (Failure::NotFound, 400, "ResourceNotFoundException"),
        (Failure::InvalidRequest, 400, "InvalidRequestException"),
        (Failure::DecryptionFailure, 400, "DecryptionFailure"),
        (Failure::InternalError, 500, "InternalServiceError"),
        (Failure::Throttled, 400, "ThrottlingException"),
    ] {
        sandbox.secrets.set_failure(Some(failure));
        failures.push((read_secret(&sandbox, SECRET_ID).await.unwrap(), status, name));
    }
    for ((reply, error), status, name) in failures {
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{reply}");
        assert!(reply.contains(&format!("x-amzn-errortype: {name}")), "{reply}");
        assert_eq!(error["__type"], name);
    }
    sandbox.secrets.set_failure(Some(Failure::Reset));
    assert_eq!(read_secret(&sandbox, SECRET_ID).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    sandbox.secrets.set_failure(Some(Failure::Unavailable));
    let (reply, _) = read_secret(&sandbox, SECRET_ID).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 503") && body_of(&reply).is_empty(), "{reply}");
}

#[tokio::test]
async fn a_secret_can_be_binary_and_begin_with_a_byte_order_mark() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.secrets.set_binary(b"{}");
    let (_, secret) = read_secret(&sandbox, SECRET_ID).await.unwrap();
    assert_eq!((secret.get("SecretString"), &secret["SecretBinary"]), (None, &json!("e30=")));
    sandbox.secrets.set_text("\u{feff}{}");
    assert_eq!(read_secret(&sandbox, SECRET_ID).await.unwrap().1["SecretString"], "\u{feff}{}");
}

#[tokio::test]
async fn other_secrets_are_read_by_their_names_until_they_are_deleted() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.secrets.put("wechat-pay/1", &json!({"mch_id": "1"}));
    let (_, secret) = read_secret(&sandbox, "wechat-pay/1").await.unwrap();
    assert_eq!((&secret["Name"], &secret["SecretString"]), (&json!("wechat-pay/1"), &json!("{\"mch_id\":\"1\"}")));
    sandbox.secrets.delete("wechat-pay/1");
    let (_, error) = read_secret(&sandbox, "wechat-pay/1").await.unwrap();
    assert_eq!(error["__type"], "ResourceNotFoundException");
    assert_eq!((sandbox.secrets.reads(), sandbox.secrets.reads_of("wechat-pay/1")), (2, 2));
}
