//! `sandbox invoke`, with an echo in the function's place: the event is the answer.

use std::{io::Write, process::Output};

use serde_json::Value;
use tokio::process::Command;

async fn invoke(event: &[u8], arguments: &[&str]) -> Output {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(event).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandbox"));
    command.arg("invoke").arg(file.path()).args(["--program", env!("CARGO_BIN_EXE_baseline")]).args(arguments);
    command.output().await.unwrap()
}

#[tokio::test]
async fn the_outcome_comes_first_and_decides_the_exit_code() {
    for (answer, outcome, means, code) in [
        (r#"{"outcome":"closed"}"#, "closed", "not confirmed", 0),
        (r#"{"outcome":"closed","confirmed":false}"#, "closed", "未经查单确认", 0),
        (r#"{"outcome":"closed","confirmed":true}"#, "closed", "a query confirmed it / 订单已关闭，已经查单确认", 0),
        (r#"{"outcome":"paid"}"#, "paid", "is paid", 0),
        (r#"{"outcome":"not_found"}"#, "not_found", "no such order", 0),
        (r#"{"outcome":"open"}"#, "open", "may be paid any moment / 订单未关闭，仍可支付", 0),
        (r#"{"outcome":"unknown","err_code":"SYSTEMERROR"}"#, "unknown", "nobody can say", 0),
        (r#"{"outcome":"rejected"}"#, "rejected", "rejected the request", 1),
        (r#"{"outcome":"not_sent","errMsg":"the field is missing"}"#, "not_sent", "nothing was sent", 1),
        (r#"{"outcome":"unknown","errorType":"ReplyInvalid"}"#, "unknown", "nobody can say", 1),
        (r#"{"statusCode":200,"body":"{\"outcome\":\"open\"}"}"#, "open", "may be paid any moment", 0),
        (r#"{"statusCode":504,"body":"{\"outcome\":\"unknown\"}"}"#, "unknown", "nobody can say", 1),
        (
            r#"{"batchItemFailures":[],"Records":[]}"#,
            "a",
            "0 of 0 messages are redelivered / 0 条消息中 0 条会重新投递",
            0,
        ),
    ] {
        let output = invoke(answer.as_bytes(), &[]).await;
        let told = String::from_utf8(output.stderr).unwrap();
        let first = told.lines().next().unwrap();
        assert_eq!(first.split_whitespace().take(2).collect::<Vec<_>>(), ["outcome", outcome], "{told}");
        assert!(first.contains(means), "{told}");
        let answer: Value = serde_json::from_str(answer).unwrap();
        for name in ["err_code", "errMsg"] {
            let why = answer.get(name).and_then(Value::as_str).unwrap_or_default();
            assert!(told.contains(why), "{told}");
        }
        assert_eq!(output.status.code(), Some(code), "{answer}");
        assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), answer);
    }
}

#[tokio::test]
async fn an_event_file_can_begin_with_a_byte_order_mark_and_must_be_json() {
    let output = invoke("\u{feff}{\"outcome\": \"closed\"}".as_bytes(), &["--sign-type", "hmac-sha256"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let output = invoke(b"no JSON", &[]).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("is not JSON"));
}

#[tokio::test]
async fn merchants_are_given_by_number_and_words_and_nothing_else() {
    let several = ["--mch-id", "1230000109", "--mch-id", "1230000110:merchant:v3:wrong-key", "--mch-id", "1:no-secret"];
    let output = invoke(b"{\"outcome\": \"closed\"}", &several).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    for wrong in ["abc", "", "1:v4", "1:", "123456789012345678901234567890123"] {
        let output = invoke(b"{}", &["--mch-id", wrong]).await;
        assert_eq!(output.status.code(), Some(2), "{wrong}");
    }
}

#[tokio::test]
async fn a_timeout_that_lambda_does_not_have_is_rejected() {
    for timeout in ["0", "901", "18446744073709551615", "18446744073709551616"] {
        let output = invoke(b"{}", &["--timeout", timeout]).await;
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.starts_with("error: invalid value") && !told.contains("panicked"), "{told}");
        assert_eq!(output.status.code(), Some(2));
    }
}
