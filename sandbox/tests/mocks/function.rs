//! The real binary's place.

use std::time::Duration;

use sandbox::{
    Sandbox,
    mock::function::{FunctionBuilder, Outcome},
};
use serde_json::json;

use crate::support::function;

#[tokio::test]
async fn a_function_that_ends_at_its_start_says_why() {
    let error = FunctionBuilder::new("/bin/ls").env("LC_ALL", "C").start().await.unwrap_err().to_string();
    assert!(error.contains("exit status"), "{error}");
}

#[tokio::test]
async fn a_function_sees_only_the_environment_that_lambda_gives_it() {
    let sandbox = Sandbox::start().await.unwrap();
    let (status, output) = sandbox.function("/usr/bin/env").env_remove("TZ").run_to_end().await.unwrap();
    assert!(status.success());
    assert!(output.contains("AWS_LAMBDA_FUNCTION_NAME=close-order\n"), "{output}");
    assert!(!output.contains("HOME=") && !output.contains("CARGO") && !output.contains("TZ="), "{output}");
}

#[tokio::test]
async fn a_function_that_dies_over_an_event_has_exited_and_one_that_dawdles_timed_out() {
    let mut dies = function("exit 3").start().await.unwrap();
    assert_eq!(dies.invoke(&json!({})).await.outcome, Outcome::Exited);
    let mut dawdles = function("exec sleep 60").start().await.unwrap();
    let invocation = dawdles.invoke_within(&json!({}), Duration::from_millis(300)).await;
    assert_eq!(invocation.outcome, Outcome::TimedOut);
    assert!(invocation.took < Duration::from_secs(2), "{:?}", invocation.took);
    let mut answers = function("answer \"$event\"").start().await.unwrap();
    assert_eq!(answers.invoke(&json!({"a": 1})).await.json(), json!({"a": 1}));
}
