//! Lambda's Runtime API and Invoke API.

use std::time::Duration;

use futures_util::FutureExt;
use sandbox::mock::runtime::{Deadline, RuntimeApi};
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
