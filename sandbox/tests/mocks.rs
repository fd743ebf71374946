//! The stand-ins as their callers meet them, over bare sockets: what is tried here is the protocol, not a client.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may stop at the first thing that is not as it should be"
)]

use std::{io::ErrorKind, time::Duration};

use sandbox::{
    Sandbox,
    mock::function::{FunctionBuilder, Outcome},
    mock::gateway::{Fault, Times, TradeState},
    mock::listener::Break,
    mock::runtime::{Answer, Deadline, RuntimeApi},
    mock::secrets::{Failure, SECRET_ID},
    mock::signed_xml::{Fields, read_xml, sign, xml},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

const KEY: &str = "192006250b4c09247ec02edce69f6a2d";

/// Sends one request over a connection of its own and reads until the peer closes it.
async fn exchange(url: &str, request_line: &str, headers: &str, body: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://")).await?;
    let head = format!(
        "{request_line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    // The peer may have answered and hung up before all of a large body is written; its answer is what counts.
    let _ = stream.write_all(body).await;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

fn body_of(reply: &str) -> &str {
    reply.split_once("\r\n\r\n").unwrap().1
}

fn order(out_trade_no: &str) -> Fields {
    [
        ("appid", "wxd678efh567hg6787"),
        ("mch_id", "1230000109"),
        ("sub_mch_id", "1900000109"),
        ("out_trade_no", out_trade_no),
        ("nonce_str", "5K8264ILTKCH16CQ2502SI8ZNMTM67VS"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

fn signed(mut fields: Fields) -> Fields {
    let sign_type = fields.get("sign_type").cloned().unwrap_or_default();
    let sign = sign(&fields, KEY, &sign_type);
    fields.insert("sign".to_owned(), sign);
    fields
}

async fn close(sandbox: &Sandbox, out_trade_no: &str) -> std::io::Result<String> {
    let url = sandbox.gateway.endpoints()[0].url();
    exchange(&url, "POST /pay/closeorder", "", xml(&signed(order(out_trade_no))).as_bytes()).await
}

async fn fields_of(sandbox: &Sandbox, fields: &Fields) -> Fields {
    let url = sandbox.gateway.endpoints()[0].url();
    let reply = exchange(&url, "POST /pay/closeorder", "", xml(fields).as_bytes()).await.unwrap();
    read_xml(body_of(&reply)).unwrap()
}

#[tokio::test]
async fn every_state_of_an_order_has_its_reply_signed_and_in_plain_text() {
    let sandbox = Sandbox::start().await.unwrap();
    for (state, code, after) in [
        (Some(TradeState::NotPay), None, Some(TradeState::Closed)),
        (Some(TradeState::Closed), Some("ORDERCLOSED"), Some(TradeState::Closed)),
        (Some(TradeState::Success), Some("ORDERPAID"), Some(TradeState::Success)),
        (Some(TradeState::UserPaying), Some("USERPAYING"), Some(TradeState::UserPaying)),
        (None, None, None),
    ] {
        let no = format!("{state:?}").replace(['(', ')'], "_");
        if let Some(state) = state {
            sandbox.gateway.put_order(&no, state);
        }
        let reply = close(&sandbox, &no).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
        assert!(reply.contains("content-type: text/plain") && reply.contains("request-id: "), "{reply}");
        assert!(body_of(&reply).contains("<![CDATA["));
        let fields = read_xml(body_of(&reply)).unwrap();
        assert_eq!(fields.get("err_code").map(String::as_str), code, "{state:?}");
        assert_eq!(fields["result_code"], if code.is_none() { "SUCCESS" } else { "FAIL" });
        assert_eq!(fields["sign"], sign(&fields, KEY, "MD5"));
        assert_ne!(fields["nonce_str"], order(&no)["nonce_str"]);
        assert_eq!(sandbox.gateway.order(&no), after);
    }
}

#[tokio::test]
async fn a_reply_is_signed_in_the_algorithm_of_the_request_and_does_not_name_it() {
    let sandbox = Sandbox::start().await.unwrap();
    let mut request = order("A|*@_-1");
    request.insert("sign_type".into(), "HMAC-SHA256".into());
    request.insert("sub_appid".into(), "wx8888888888888888".into());
    let reply = fields_of(&sandbox, &signed(request)).await;
    assert_eq!(reply["sign"], sign(&reply, KEY, "HMAC-SHA256"));
    assert_eq!(reply["sub_appid"], "wx8888888888888888");
    assert!(!reply.contains_key("sign_type"));
}

#[tokio::test]
async fn a_request_that_is_wrong_in_itself_gets_an_unsigned_refusal() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.gateway.put_order("1", TradeState::NotPay);
    let mut wrong: Vec<(Fields, String)> = Vec::new();
    for name in ["appid", "mch_id", "sub_mch_id", "out_trade_no", "nonce_str"] {
        let mut fields = order("1");
        fields.remove(name);
        let message =
            if name == "sub_mch_id" { "受理机构必须传入sub_mch_id" } else { &format!("缺少参数{name}") };
        wrong.push((signed(fields), message.to_owned()));
        let mut fields = order("1");
        fields.insert(name.to_owned(), "1".repeat(33));
        wrong.push((signed(fields), name.to_owned()));
    }
    let mut fields = signed(order("1"));
    fields.insert("sign".to_owned(), "0".repeat(32));
    wrong.push((fields, "签名错误".to_owned()));
    for (fields, message) in wrong {
        let reply = fields_of(&sandbox, &fields).await;
        assert_eq!(reply["return_code"], "FAIL");
        assert!(reply["return_msg"].contains(&message), "{reply:?}: {message}");
        assert!(!reply.contains_key("sign") && !reply.contains_key("result_code"), "{reply:?}");
    }
    assert_eq!(sandbox.gateway.order("1"), Some(TradeState::NotPay));
}

#[tokio::test]
async fn another_method_and_what_is_no_xml_have_their_documented_codes() {
    let sandbox = Sandbox::start().await.unwrap();
    let url = sandbox.gateway.endpoints()[0].url();
    for (line, body, code) in [
        ("GET /pay/closeorder", &b""[..], "REQUIRE_POST_METHOD"),
        ("POST /pay/closeorder", b"<xml><a></xml>", "XML_FORMAT_ERROR"),
        ("POST /pay/closeorder", b"\xff\xfe", "XML_FORMAT_ERROR"),
    ] {
        let reply = read_xml(body_of(&exchange(&url, line, "", body).await.unwrap())).unwrap();
        assert_eq!((&*reply["return_code"], &*reply["err_code"]), ("FAIL", code));
    }
}

#[tokio::test]
async fn another_path_is_not_closeorder_and_closes_nothing() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.gateway.put_order("1", TradeState::NotPay);
    let url = sandbox.gateway.endpoints()[0].url();
    let body = xml(&signed(order("1")));
    for line in ["POST /pay/closeorder/", "POST /pay/refundquery", "POST /"] {
        let reply = exchange(&url, line, "", body.as_bytes()).await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 404"), "{line}: {reply}");
    }
    assert_eq!(sandbox.gateway.order("1"), Some(TradeState::NotPay));
    assert_eq!(sandbox.gateway.received().len(), 3);
}

#[tokio::test]
async fn each_error_code_comes_with_its_own_description() {
    let sandbox = Sandbox::start().await.unwrap();
    for (code, description) in [("SYSTEMERROR", "系统错误"), ("SIGNERROR", "签名错误")] {
        sandbox.gateway.fault_on_order("1", Times::Next(1), Fault::Error(code));
        let reply = fields_of(&sandbox, &signed(order("1"))).await;
        assert_eq!((&*reply["err_code"], &*reply["err_code_des"]), (code, description));
    }
}

#[tokio::test]
async fn a_reset_is_a_reset_and_says_nothing_of_the_order() {
    let sandbox = Sandbox::start().await.unwrap();
    for (fault, after) in [(Fault::Reset, TradeState::NotPay), (Fault::ResetAfter, TradeState::Closed)] {
        sandbox.gateway.put_order("1", TradeState::NotPay);
        sandbox.gateway.fault_on_next_calls(Times::Next(1), fault);
        assert_eq!(close(&sandbox, "1").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(sandbox.gateway.order("1"), Some(after));
    }
}

#[tokio::test]
async fn a_close_instead_of_a_reply_is_an_orderly_end() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.gateway.put_order("1", TradeState::NotPay);
    sandbox.gateway.fault_on_next_calls(Times::Next(1), Fault::CloseAfter);
    assert_eq!(close(&sandbox, "1").await.unwrap(), "");
    assert_eq!(sandbox.gateway.order("1"), Some(TradeState::Closed));
}

#[tokio::test]
async fn a_fault_lasts_as_often_as_it_was_told() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.gateway.fault_on_order("1", Times::Next(2), Fault::Status(502));
    for expected in ["HTTP/1.1 502", "HTTP/1.1 502", "HTTP/1.1 200"] {
        assert!(close(&sandbox, "1").await.unwrap().starts_with(expected));
    }
}

#[tokio::test]
async fn an_endpoint_that_is_down_refuses_and_comes_back_on_the_same_port() {
    let sandbox = Sandbox::start().await.unwrap();
    let endpoint = &sandbox.gateway.endpoints()[0];
    close(&sandbox, "1").await.unwrap();
    endpoint.go_down().await;
    assert_eq!(close(&sandbox, "1").await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    endpoint.come_up().await.unwrap();
    assert!(close(&sandbox, "1").await.unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(endpoint.connections(), 2);
}

#[tokio::test]
async fn an_idle_connection_can_be_closed_under_its_owner() {
    let sandbox = Sandbox::start().await.unwrap();
    let endpoint = &sandbox.gateway.endpoints()[0];
    let mut stream = TcpStream::connect(endpoint.url().trim_start_matches("http://")).await.unwrap();
    stream.write_all(b"GET /pay/closeorder HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut buffer = [0; 4096];
    assert!(stream.read(&mut buffer).await.unwrap() > 0);
    endpoint.close_connections(Break::Close);
    assert_eq!(timeout(Duration::from_secs(5), stream.read(&mut buffer)).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn a_reply_that_comes_after_the_record_was_cleared_is_not_put_to_another_request() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.gateway.fault_on_order("slow", Times::Always, Fault::Delay(Duration::from_millis(300)));
    sandbox.gateway.fault_on_order("dead", Times::Always, Fault::Hang);
    let slow = tokio::spawn({
        let sandbox = sandbox.clone();
        async move { close(&sandbox, "slow").await }
    });
    sleep(Duration::from_millis(100)).await;
    sandbox.gateway.clear_received();
    let _ = timeout(Duration::from_millis(50), close(&sandbox, "dead")).await;
    slow.await.unwrap().unwrap();
    let received = sandbox.gateway.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].fields["out_trade_no"], "dead");
    assert_eq!(received[0].reply, None);
}

async fn read_secret(sandbox: &Sandbox, id: &str, authorization: &str) -> std::io::Result<(String, Value)> {
    let headers = format!("x-amz-target: secretsmanager.GetSecretValue\r\n{authorization}");
    let body = json!({"SecretId": id}).to_string();
    let reply = exchange(&sandbox.secrets.url(), "POST /", &headers, body.as_bytes()).await?;
    let json = serde_json::from_str(body_of(&reply)).unwrap_or_default();
    Ok((reply, json))
}

const SIGNED: &str = "authorization: AWS4-HMAC-SHA256 Credential=x/20261123/eu-central-1/secretsmanager/aws4_request, \
                      SignedHeaders=host, Signature=0\r\n";

#[tokio::test]
async fn the_secret_is_read_by_its_name_and_can_be_replaced() {
    let sandbox = Sandbox::start().await.unwrap();
    let (reply, secret) = read_secret(&sandbox, SECRET_ID, SIGNED).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 200") && reply.contains("application/x-amz-json-1.1"), "{reply}");
    let value: Value = serde_json::from_str(secret["SecretString"].as_str().unwrap()).unwrap();
    assert_eq!(value["api_key"], KEY);
    let version = secret["VersionId"].clone();
    sandbox.secrets.set_text("no JSON");
    let (_, secret) = read_secret(&sandbox, secret["ARN"].as_str().unwrap(), SIGNED).await.unwrap();
    assert_eq!(secret["SecretString"], "no JSON");
    assert_ne!(secret["VersionId"], version);
    assert_eq!(sandbox.secrets.reads(), 2);
}

#[tokio::test]
async fn a_read_that_fails_fails_as_aws_does() {
    let sandbox = Sandbox::start().await.unwrap();
    let unsigned = read_secret(&sandbox, SECRET_ID, "").await.unwrap();
    let unknown = read_secret(&sandbox, "another", SIGNED).await.unwrap();
    let mut failures =
        vec![(unsigned, 400, "MissingAuthenticationTokenException"), (unknown, 400, "ResourceNotFoundException")];
    for (failure, status, name) in [
        (Failure::AccessDenied, 400, "AccessDeniedException"),
        (Failure::NotFound, 400, "ResourceNotFoundException"),
        (Failure::InvalidRequest, 400, "InvalidRequestException"),
        (Failure::DecryptionFailure, 400, "DecryptionFailure"),
        (Failure::InternalError, 500, "InternalServiceError"),
        (Failure::Throttled, 400, "ThrottlingException"),
    ] {
        sandbox.secrets.set_failure(Some(failure));
        failures.push((read_secret(&sandbox, SECRET_ID, SIGNED).await.unwrap(), status, name));
    }
    for ((reply, error), status, name) in failures {
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{reply}");
        assert!(reply.contains(&format!("x-amzn-errortype: {name}")), "{reply}");
        assert_eq!(error["__type"], name);
    }
    sandbox.secrets.set_failure(Some(Failure::Reset));
    assert_eq!(read_secret(&sandbox, SECRET_ID, SIGNED).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    sandbox.secrets.set_failure(Some(Failure::Unavailable));
    let (reply, _) = read_secret(&sandbox, SECRET_ID, SIGNED).await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 503") && body_of(&reply).is_empty(), "{reply}");
}

const NEXT: &str = "GET /2018-06-01/runtime/invocation/next";

async fn runtime() -> RuntimeApi {
    RuntimeApi::start(([127, 0, 0, 1], 0).into()).await.unwrap()
}

#[tokio::test]
async fn an_event_goes_out_with_lambdas_headers_and_its_answer_comes_back() {
    let api = runtime().await;
    let waiting = tokio::spawn({
        let api = api.clone();
        async move { api.invoke(r#"{"a":1}"#.to_owned(), Deadline::Header(600_000)).await }
    });
    let event = exchange(&api.authority(), NEXT, "", b"").await.unwrap();
    assert_eq!(body_of(&event), r#"{"a":1}"#);
    for name in ["lambda-runtime-invoked-function-arn: arn:aws:lambda:", "lambda-runtime-trace-id: Root="] {
        assert!(event.contains(name), "{event}");
    }
    assert!(event.contains("lambda-runtime-deadline-ms: 600000\r\n"), "{event}");
    let id = event.split("lambda-runtime-aws-request-id: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let line = format!("POST /2018-06-01/runtime/invocation/{id}/response");
    assert!(exchange(&api.authority(), &line, "", b"{}").await.unwrap().starts_with("HTTP/1.1 202"));
    assert_eq!(waiting.await.unwrap(), Some(Answer::Response("{}".to_owned())));
    assert!(exchange(&api.authority(), &line, "", b"{}").await.unwrap().starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn an_event_whose_caller_has_gone_is_not_handed_out() {
    let api = runtime().await;
    let _ = timeout(Duration::from_millis(50), api.invoke("1".to_owned(), Deadline::Header(1))).await;
    let waiting = tokio::spawn({
        let api = api.clone();
        async move { api.invoke("2".to_owned(), Deadline::Header(1)).await }
    });
    sleep(Duration::from_millis(50)).await;
    let event = exchange(&api.authority(), NEXT, "", b"").await.unwrap();
    assert_eq!(body_of(&event), "2");
    waiting.abort();
}

#[tokio::test]
async fn an_error_at_the_start_is_taken() {
    let api = runtime().await;
    let line = "POST /2018-06-01/runtime/init/error";
    assert!(exchange(&api.authority(), line, "", b"{}").await.unwrap().starts_with("HTTP/1.1 202"));
}

#[tokio::test]
async fn an_event_may_be_as_large_as_lambda_lets_it() {
    let api = runtime().await;
    let payload = format!("\"{}\"", "x".repeat(5 * 1024 * 1024));
    let invocation = tokio::spawn({
        let (authority, payload) = (api.authority(), payload.clone());
        async move {
            let line = "POST /2015-03-31/functions/close-order/invocations";
            exchange(&authority, line, "", payload.as_bytes()).await.unwrap()
        }
    });
    let event = timeout(Duration::from_secs(5), exchange(&api.authority(), NEXT, "", b"")).await.unwrap().unwrap();
    assert_eq!(body_of(&event).len(), payload.len());
    let id = event.split("lambda-runtime-aws-request-id: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let line = format!("POST /2018-06-01/runtime/invocation/{id}/response");
    let taken = exchange(&api.authority(), &line, "", payload.as_bytes()).await.unwrap();
    assert!(taken.starts_with("HTTP/1.1 202"), "{taken}");
    assert_eq!(body_of(&invocation.await.unwrap()).len(), payload.len());
}

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

/// A function in Python that does `body` with each event.
async fn python(body: &str) -> sandbox::mock::function::Function {
    let program = std::env::temp_dir().join(format!("sandbox-stand-in-{}-{}", std::process::id(), body.len()));
    let text = format!(
        "#!/usr/bin/env python3\nimport os, sys, time, urllib.request as u\n\
         api = 'http://' + os.environ['AWS_LAMBDA_RUNTIME_API'] + '/2018-06-01/runtime/invocation/'\n\
         while True:\n    event = u.urlopen(api + 'next')\n    \
         id = event.headers['Lambda-Runtime-Aws-Request-Id']\n    {body}\n"
    );
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    let function = FunctionBuilder::new(&program).env("PATH", &path).timeout(Duration::from_secs(5)).start().await;
    std::fs::remove_file(&program).unwrap();
    function.unwrap()
}

#[tokio::test]
#[ignore = "needs python3"]
async fn a_function_that_dies_over_an_event_has_exited_and_one_that_dawdles_timed_out() {
    let mut dies = python("sys.exit(3)").await;
    assert_eq!(dies.invoke(&json!({})).await.outcome, Outcome::Exited);
    let mut dawdles = python("time.sleep(60)").await;
    let invocation = dawdles.invoke_within(&json!({}), Duration::from_millis(300)).await;
    assert_eq!(invocation.outcome, Outcome::TimedOut);
    assert!(invocation.took < Duration::from_secs(2), "{:?}", invocation.took);
    let mut answers = python("u.urlopen(api + id + '/response', data=event.read())").await;
    assert_eq!(answers.invoke(&json!({"a": 1})).await.json(), json!({"a": 1}));
}
