//! Lambda's runtime: several invocations at once where Lambda asks for it, and what a caller can hand it that is not an
//! event.

use std::collections::BTreeSet;

use sandbox::{
    Sandbox,
    mock::function::{FunctionBuilder, Outcome},
    mock::gateway::{Fault, Times},
};
use serde_json::Value;

use crate::support::{ORDER, function, ms, order};

fn concurrent(function: FunctionBuilder) -> FunctionBuilder {
    function.env("AWS_LAMBDA_MAX_CONCURRENCY", "4").env("AWS_LAMBDA_INITIALIZATION_TYPE", "lambda-managed-instances")
}

#[tokio::test]
async fn with_a_concurrency_of_four_four_slow_orders_take_the_time_of_one() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.gateway.fault_on_next_calls(Times::Always, Fault::Delay(ms(500)));
    let orders: Vec<Value> = (0..4).map(|number| order(&number.to_string())).collect();
    let mut function = concurrent(function(&sandbox)).start().await.unwrap();
    let start = std::time::Instant::now();
    let invocations = function.invoke_together(&orders).await;
    assert!((ms(500)..ms(1500)).contains(&start.elapsed()), "{:?}", start.elapsed());
    let lines = function.wait_for_order_lines(4).await;
    for (number, invocation) in invocations.iter().enumerate() {
        let number = number.to_string();
        assert_eq!(invocation.json()["out_trade_no"], number.as_str(), "{invocation:?}");
        let line = lines.iter().find(|line| line["out_trade_no"] == number.as_str()).unwrap();
        assert_eq!(line["requestId"], invocation.ids.request_id.as_str(), "{line}");
        let trace_id = line["xray_trace_id"].as_str().unwrap();
        assert!(invocation.ids.trace_id.contains(trace_id), "{line}");
    }
    assert_eq!(lines.iter().filter(|line| line["cold_start"] == true).count(), 1, "{lines:?}");
}

#[tokio::test]
async fn ordinary_lambda_is_served_one_invocation_after_the_other() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.gateway.fault_on_next_calls(Times::Always, Fault::Delay(ms(100)));
    let mut function = function(&sandbox).start().await.unwrap();
    let start = std::time::Instant::now();
    let orders: Vec<Value> = (0..4).map(|number| order(&number.to_string())).collect();
    let invocations = function.invoke_together(&orders).await;
    assert!(start.elapsed() >= ms(400), "{:?}", start.elapsed());
    let request_ids: BTreeSet<_> = invocations.into_iter().map(|invocation| invocation.ids.request_id).collect();
    assert_eq!(request_ids.len(), 4);
}

#[tokio::test]
async fn a_client_context_that_the_runtime_cant_read_ends_the_process_and_is_never_shown() {
    let sandbox = Sandbox::start().await.unwrap();
    for is_concurrent in [false, true] {
        for client_context in [r#"{"custom":{"canary":1}}"#, r#"{"custom":"canary"}"#, "canary", "[\"canary\"]"] {
            let function = function(&sandbox).env("AWS_LAMBDA_LOG_LEVEL", "TRACE").env("RUST_BACKTRACE", "1");
            let function = if is_concurrent { concurrent(function) } else { function };
            let mut function = function.start().await.unwrap();
            function.set_client_context(Some(client_context));
            let invocation = function.invoke(&order(ORDER)).await;
            assert_eq!(invocation.outcome, Outcome::Exited, "{is_concurrent} {client_context}: {invocation:?}");
            let logs = crate::support::wait_for_log(&function, "close-order: ").await;
            assert!(!logs.contains("canary") && !logs.contains("panicked"), "{logs}");
            assert!(logs.contains("client context"), "{logs}");
        }
    }
}

#[tokio::test]
async fn a_client_context_as_the_sdks_send_it_is_harmless() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut function = function(&sandbox).start().await.unwrap();
    let mobile = r#"{"client":{"installation_id":"1","app_title":"shop","app_version_name":"1","app_version_code":"1",
        "app_package_name":"shop"},"custom":{},"env":{}}"#
        .replace(['\n', ' '], "");
    for client_context in ["{}", r#"{"custom":{"a":"b"}}"#, &mobile] {
        function.set_client_context(Some(client_context));
        let invocation = function.invoke(&order(ORDER)).await;
        assert_eq!(invocation.json()["returnCode"], "SUCCESS", "{client_context}: {invocation:?}");
    }
}
