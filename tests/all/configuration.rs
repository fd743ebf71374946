//! The environment: what is wrong stops the start with one line, and what is right is honoured.

use sandbox::{Sandbox, mock::function::FunctionBuilder};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{ORDER, function, order};

async fn rejected(builder: FunctionBuilder) -> String {
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
        ("WECHAT_PAY_ENDPOINTS", "httpx://127.0.0.1:9"),
        ("WECHAT_PAY_ENDPOINTS", "https://api.mch.weixin.qq.com,,"),
        ("WECHAT_PAY_ENDPOINTS", "https://api.mch.weixin.qq.com;https://api2.mch.weixin.qq.com"),
        ("WECHAT_PAY_ENDPOINTS", "https://api.mch.weixin.qq.com\nhttps://api2.mch.weixin.qq.com"),
        ("WECHAT_PAY_ENDPOINTS", "https://api.mch.weixin.qq.com https://api2.mch.weixin.qq.com"),
        ("WECHAT_PAY_ENDPOINTS", "https://api.mch.weixin.qq.com/;https://api2.mch.weixin.qq.com/"),
        ("WECHAT_PAY_ENDPOINTS", "https://api.mch.weixin.qq.com/pay/closeorder"),
        ("WECHAT_PAY_ENDPOINTS", "https://api.mch.weixin.qq.com,https://api2.mch.weixin.qq.com/pay/orderquery"),
        ("WECHAT_PAY_TIMEOUT_MS", "soon"),
        ("WECHAT_PAY_TIMEOUT_MS", "0"),
        ("WECHAT_PAY_TIMEOUT_MS", "-5"),
        ("SECRET_CACHE_TTL_SECONDS", "5m"),
        ("SSL_CERT_FILE", "/nonexistent.pem"),
        ("SSL_CERT_FILE", "/dev/null"),
        ("OUTCOME_EVENT_BUS", "my bus"),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "not a url"),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://secrets.example"),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "httpx://127.0.0.1:9"),
        ("AWS_ENDPOINT_URL_EVENTBRIDGE", "http://10.0.0.1"),
        ("AWS_ENDPOINT_URL", "http://10.0.0.1"),
        ("AWS_ENDPOINT_URL_SQS", "http://10.0.0.1"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "big"),
        ("AWS_LAMBDA_MAX_CONCURRENCY", "1000000"),
        ("AWS_LAMBDA_MAX_CONCURRENCY", "10001"),
        ("AWS_LAMBDA_MAX_CONCURRENCY", "0"),
        ("AWS_LAMBDA_MAX_CONCURRENCY", "many"),
        ("WECHAT_PAY_ENDPOINTS", "https://api.mch.weixin.qq.com/pay"),
        ("WECHAT_PAY_SECRET_ID", "wechat-pay/{mchId}"),
        ("WECHAT_PAY_SECRET_ID", "{mch_id}"),
        ("ORDERS_QUEUE_URL", "orders"),
        ("ORDERS_QUEUE_URL", "https://sqs.eu-central-1.amazonaws.com/123456789012/orders.fifo"),
        ("INVALID_ORDERS_QUEUE_URL", "https://sqs.eu-central-1.amazonaws.com/123456789012/invalid"),
    ] {
        let output = rejected(function(&sandbox).env(variable, value)).await;
        assert_eq!(output.lines().count(), 1, "{output}");
        assert!(output.starts_with(&format!("close-order: {variable} ")) && output.contains("expected"), "{output}");
    }
    let output = rejected(function(&sandbox).env("WECHAT_PAY_ENDPOINTS", "https://proxy.example/pay/closeorder")).await;
    assert!(output.contains("ends in /pay/closeorder or /pay/orderquery, which are added to it"), "{output}");
    let output = rejected(function(&sandbox).env_remove("WECHAT_PAY_SECRET_ID")).await;
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
        let output = rejected(function(&sandbox).env_remove(variable)).await;
        assert!(output.contains(variable) && !output.contains("panicked"), "{output}");
    }
}

#[tokio::test]
async fn an_endpoint_can_be_anything_that_a_base_address_can_be() {
    let sandbox = Sandbox::start().await.unwrap();
    let port = sandbox.gateway.endpoints()[0].address().port();
    for endpoints in [
        format!("http://localhost:{port}"),
        format!(" http://127.0.0.1:{port}/ , https://api2.mch.weixin.qq.com"),
        format!("http://127.0.0.1:{port}//"),
    ] {
        let mut function = function(&sandbox).env("WECHAT_PAY_ENDPOINTS", &endpoints).start().await.unwrap();
        let invocation = function.invoke(&order(ORDER)).await;
        assert_eq!(invocation.json()["returnCode"], "SUCCESS", "{endpoints}: {invocation:?}");
    }
}

#[tokio::test]
async fn the_aws_sdks_general_endpoint_is_honoured() {
    let sandbox = Sandbox::start().await.unwrap();
    let url = sandbox.secrets.url();
    let general = function(&sandbox).env_remove("AWS_ENDPOINT_URL_SECRETS_MANAGER").env("AWS_ENDPOINT_URL", &url);
    let mut general = general.start().await.unwrap();
    assert_eq!(general.invoke(&order(ORDER)).await.json()["returnCode"], "SUCCESS");
}

#[tokio::test]
async fn an_empty_bus_is_none() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut function = function(&sandbox).env("OUTCOME_EVENT_BUS", "").start().await.unwrap();
    let answer = function.invoke(&crate::support::batch([order(ORDER)])).await.json();
    assert_eq!(answer, serde_json::json!({"batchItemFailures": []}));
}

/// A Runtime API that hands out one and the same event, with these headers.
async fn runtime_api(headers: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let event = order(ORDER).to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\nlambda-runtime-aws-request-id: 1\r\n{headers}content-length: {}\r\n\r\n",
        event.len()
    );
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(format!("{head}{event}").as_bytes()).await;
        }
    });
    address
}

#[tokio::test]
async fn what_the_runtime_cant_read_of_an_invocation_is_named() {
    let sandbox = Sandbox::start().await.unwrap();
    let deadline = "lambda-runtime-deadline-ms: 9999999999999\r\n";
    for (headers, named) in [
        (format!("{deadline}lambda-runtime-cognito-identity: {{}}\r\n"), "Lambda-Runtime-Cognito-Identity"),
        (format!("{deadline}lambda-runtime-client-context: canary\r\n"), "Lambda-Runtime-Client-Context"),
        ("lambda-runtime-deadline-ms: canary\r\n".to_owned(), "Lambda-Runtime-Deadline-Ms"),
    ] {
        let builder = function(&sandbox).env("AWS_LAMBDA_RUNTIME_API", &runtime_api(&headers).await);
        let (status, output) = builder.run_to_end().await.unwrap();
        assert!(!status.success() && output.contains(named) && !output.contains("canary"), "{output}");
    }
}
