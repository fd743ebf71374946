//! Lambda's Runtime API and Invoke API.

use std::{pin::pin, time::Duration};

use futures_util::FutureExt;
use sandbox::mock::runtime::{Answer, Deadline, RuntimeApi};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use crate::support::{body_of, exchange, soon};

const NEXT: &str = "GET /2018-06-01/runtime/invocation/next";

const INVOKE: &str = "POST /2015-03-31/functions/close-order/invocations";

fn header<'a>(event: &'a str, name: &str) -> &'a str {
    event.split(&format!("{name}: ")).nth(1).unwrap().split("\r\n").next().unwrap()
}

async fn runtime() -> RuntimeApi {
    RuntimeApi::start(([127, 0, 0, 1], 0).into()).await.unwrap()
}

#[tokio::test]
async fn an_event_goes_out_with_lambdas_headers_and_its_answer_comes_back() {
    let api = runtime().await;
    let waiting = tokio::spawn({
        let api = api.clone();
        async move { api.begin(r#"{"a":1}"#.to_owned(), Deadline::Header(600_000)).answer.await.ok() }
    });
    let event = exchange(&api.authority(), NEXT, "", b"").await.unwrap();
    assert_eq!(body_of(&event), r#"{"a":1}"#);
    for name in ["lambda-runtime-invoked-function-arn: arn:aws:lambda:", "lambda-runtime-trace-id: Root="] {
        assert!(event.contains(name), "{event}");
    }
    assert!(event.contains("lambda-runtime-deadline-ms: 600000\r\n"), "{event}");
    let id = header(&event, "lambda-runtime-aws-request-id");
    let line = format!("POST /2018-06-01/runtime/invocation/{id}/response");
    assert!(exchange(&api.authority(), &line, "", b"{}").await.unwrap().starts_with("HTTP/1.1 202"));
    assert_eq!(waiting.await.unwrap(), Some(Answer::Response("{}".to_owned())));
    assert!(exchange(&api.authority(), &line, "", b"{}").await.unwrap().starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn an_event_whose_caller_has_gone_is_not_handed_out() {
    let api = runtime().await;
    drop(api.begin("1".to_owned(), Deadline::Header(1)));
    let _waits = api.begin("2".to_owned(), Deadline::Header(1));
    let event = exchange(&api.authority(), NEXT, "", b"").await.unwrap();
    assert_eq!(body_of(&event), "2");
}

#[tokio::test]
async fn as_many_events_run_at_once_as_the_function_asks_for_each_with_ids_of_its_own() {
    let api = runtime().await;
    let begun = ["1", "2", "3"].map(|payload| api.begin(payload.to_owned(), Deadline::Header(1)));
    let authority = api.authority();
    let next = || exchange(&authority, NEXT, "", b"").map(Result::unwrap);
    let events: [String; 3] = soon(async { tokio::join!(next(), next(), next()) }).await.into();
    let mut payloads = events.each_ref().map(|event| body_of(event));
    payloads.sort_unstable();
    assert_eq!(payloads, ["1", "2", "3"]);
    for event in &events {
        let number: usize = body_of(event).parse().unwrap();
        assert_eq!(header(event, "lambda-runtime-aws-request-id"), begun[number - 1].ids.request_id);
        assert_eq!(header(event, "lambda-runtime-trace-id"), begun[number - 1].ids.trace_id);
    }
    assert_ne!(begun[0].ids.request_id, begun[1].ids.request_id);
    assert_ne!(begun[0].ids.trace_id, begun[1].ids.trace_id);
}

#[tokio::test]
async fn an_event_has_the_client_context_that_is_set() {
    let api = runtime().await;
    for context in [Some(r#"{"custom":{}}"#), None] {
        api.set_client_context(context);
        let _waits = api.begin("1".to_owned(), Deadline::Header(1));
        let event = exchange(&api.authority(), NEXT, "", b"").await.unwrap();
        assert_eq!(event.contains("lambda-runtime-client-context: {\"custom\":{}}\r\n"), context.is_some(), "{event}");
    }
}

#[tokio::test]
async fn an_invoke_without_a_function_is_answered_soon_and_says_so() {
    let api = runtime().await;
    let answer = soon(exchange(&api.authority(), INVOKE, "", b"{}")).await.unwrap();
    assert!(
        answer.contains("x-amz-function-error: Unhandled") && answer.contains("no function is connected"),
        "{answer}"
    );
    // One that was there and is gone is no function either.
    let mut function = TcpStream::connect(api.authority()).await.unwrap();
    function.write_all(format!("{NEXT} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
    soon(api.connected()).await;
    drop(function);
    let answer = soon(async {
        loop {
            // Until the API has noticed.
            let answer = timeout(Duration::from_secs(2), exchange(&api.authority(), INVOKE, "", b"{}")).await;
            if let Ok(answer) = answer {
                break answer.unwrap();
            }
        }
    })
    .await;
    assert!(answer.contains("no function is connected"), "{answer}");
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
    let authority = api.authority();
    let mut next = pin!(exchange(&authority, NEXT, "", b""));
    tokio::select! {
        biased;
        _ = &mut next => panic!("there is no event yet"),
        () = soon(api.connected()) => {}
    }
    let invocation = tokio::spawn({
        let (authority, payload) = (api.authority(), payload.clone());
        async move { exchange(&authority, INVOKE, "", payload.as_bytes()).await.unwrap() }
    });
    let event = soon(next).await.unwrap();
    assert_eq!(body_of(&event).len(), payload.len());
    let id = header(&event, "lambda-runtime-aws-request-id");
    let line = format!("POST /2018-06-01/runtime/invocation/{id}/response");
    let taken = exchange(&api.authority(), &line, "", payload.as_bytes()).await.unwrap();
    assert!(taken.starts_with("HTTP/1.1 202"), "{taken}");
    assert_eq!(body_of(&invocation.await.unwrap()).len(), payload.len());
}
