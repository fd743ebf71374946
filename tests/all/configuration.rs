//! The environment: what is wrong stops the start with one line, and what is right is honoured.

use sandbox::{Sandbox, mock::function::FunctionBuilder};

use crate::support::{ORDER, function, order};

async fn refused(builder: FunctionBuilder) -> String {
    let (status, output) = builder.env("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9").run_to_end().await.unwrap();
    assert!(!status.success(), "{output}");
    output
}

#[tokio::test]
async fn a_wrong_value_stops_the_start_with_one_line_that_names_the_variable() {
    let sandbox = Sandbox::start().await.unwrap();
    for (variable, value) in [
        ("WECHAT_PAY_SECRET_ID", ""),
        ("WECHAT_PAY_ENDPOINTS", ""),
        ("WECHAT_PAY_ENDPOINTS", "api.mch.weixin.qq.com"),
        ("WECHAT_PAY_ENDPOINTS", "http://api.mch.weixin.qq.com"),
        ("WECHAT_PAY_ENDPOINTS", "https://api.mch.weixin.qq.com,,"),
        ("WECHAT_PAY_TIMEOUT_MS", "soon"),
        ("WECHAT_PAY_TIMEOUT_MS", "0"),
        ("WECHAT_PAY_TIMEOUT_MS", "-5"),
        ("SECRET_CACHE_TTL_SECONDS", "5m"),
        ("SSL_CERT_FILE", "/nonexistent.pem"),
        ("SSL_CERT_FILE", "/dev/null"),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "not a url"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "big"),
        ("AWS_LAMBDA_LOG_FORMAT", "XML"),
        ("AWS_LAMBDA_LOG_LEVEL", "LOUD"),
    ] {
        let output = refused(function(&sandbox).env(variable, value)).await;
        assert_eq!(output.lines().count(), 1, "{output}");
        assert!(output.starts_with(&format!("close-order: {variable} ")) && output.contains("expected"), "{output}");
    }
    let output = refused(function(&sandbox).env_remove("WECHAT_PAY_SECRET_ID")).await;
    assert!(output.starts_with("close-order: WECHAT_PAY_SECRET_ID is not set"), "{output}");
}

#[tokio::test]
async fn outside_lambda_two_lines_say_what_it_is_and_what_to_run_instead() {
    let sandbox = Sandbox::start().await.unwrap();
    let (status, output) = function(&sandbox).run_to_end().await.unwrap();
    assert!(!status.success());
    assert_eq!(output.lines().count(), 2, "{output}");
    assert!(output.contains("AWS Lambda function") && output.contains("AWS_LAMBDA_RUNTIME_API"), "{output}");
    assert!(output.contains("cargo run -p sandbox -- invoke events/close-order.json"), "{output}");
    for variable in ["AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] {
        let output = refused(function(&sandbox).env_remove(variable)).await;
        assert!(output.contains(variable) && !output.contains("panicked"), "{output}");
    }
}

#[tokio::test]
async fn the_log_can_be_text_and_its_level_be_raised() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut text = function(&sandbox).env("AWS_LAMBDA_LOG_FORMAT", "Text").start().await.unwrap();
    text.invoke(&order(ORDER)).await;
    let mut silent = function(&sandbox).env("AWS_LAMBDA_LOG_LEVEL", "ERROR").start().await.unwrap();
    silent.invoke(&order(ORDER)).await;
    tokio::time::sleep(crate::support::ms(200)).await;
    assert!(text.logs().contains("outcome=\"closed\""), "{}", text.logs());
    assert_eq!(silent.logs(), "");
}

#[tokio::test]
async fn the_aws_sdks_own_variables_are_honoured() {
    let sandbox = Sandbox::start().await.unwrap();
    let url = sandbox.secrets.url();
    let general = function(&sandbox).env_remove("AWS_ENDPOINT_URL_SECRETS_MANAGER").env("AWS_ENDPOINT_URL", &url);
    let mut general = general.start().await.unwrap();
    assert_eq!(general.invoke(&order(ORDER)).await.json()["returnCode"], "SUCCESS");

    let nobody = function(&sandbox).env_remove("AWS_ACCESS_KEY_ID").env("AWS_EC2_METADATA_DISABLED", "true");
    let mut nobody = nobody.start().await.unwrap();
    let invocation = nobody.invoke(&order(ORDER)).await;
    assert_eq!(invocation.error_type().as_deref(), Some("CredentialsUnavailable"), "{invocation:?}");
}
