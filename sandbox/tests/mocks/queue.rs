//! The local queue.

use std::time::Duration;

use sandbox::mock::{
    queue::{Queue, Report, Step},
    runtime::RuntimeApi,
};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::support::{body_of, exchange, soon};

struct Bench {
    runtime: RuntimeApi,
    queue: Queue,
    reports: UnboundedReceiver<Report>,
}

async fn bench() -> Bench {
    let local = ([127, 0, 0, 1], 0).into();
    let runtime = RuntimeApi::start(local).await.unwrap();
    let (queue, reports) =
        Queue::start(local, runtime.clone(), Duration::ZERO, Duration::from_millis(10)).await.unwrap();
    Bench { runtime, queue, reports }
}

impl Bench {
    async fn post(&self, path: &str, body: &str) -> String {
        let url = self.queue.url();
        exchange(url.trim_end_matches('/'), &format!("POST {path}"), "", body.as_bytes()).await.unwrap()
    }

    /// Takes the next batch and answers it; the batch's records.
    async fn serve(&self, answer: impl FnOnce(&[Value]) -> Value) -> Vec<Value> {
        let api = self.runtime.authority();
        let event = soon(exchange(&api, "GET /2018-06-01/runtime/invocation/next", "", b"")).await.unwrap();
        let id = event.split("lambda-runtime-aws-request-id: ").nth(1).unwrap().split("\r\n").next().unwrap();
        let batch: Value = serde_json::from_str(body_of(&event)).unwrap();
        let records = batch["Records"].as_array().unwrap().clone();
        let line = format!("POST /2018-06-01/runtime/invocation/{id}/response");
        exchange(&api, &line, "", answer(&records).to_string().as_bytes()).await.unwrap();
        records
    }

    async fn step(&mut self) -> Step {
        soon(self.reports.recv()).await.unwrap().step
    }
}

#[tokio::test]
async fn what_is_posted_is_delivered_as_a_batch_and_what_is_done_does_not_come_back() {
    let mut bench = bench().await;
    for body in ["one", "two"] {
        assert!(bench.post("/", body).await.starts_with("HTTP/1.1 200"));
        assert_eq!(bench.step().await, Step::Posted(Duration::ZERO));
    }
    // Nothing is delivered while no function is there, and then all that is due.
    let second = |records: &[Value]| json!({"batchItemFailures": [{"itemIdentifier": records[1]["messageId"]}]});
    let records = bench.serve(second).await;
    let bodies = |records: &[Value]| records.iter().map(|record| record["body"].clone()).collect::<Vec<_>>();
    assert_eq!(bodies(&records), ["one", "two"]);
    assert!(records.iter().all(|record| record["eventSource"] == "aws:sqs"), "{records:?}");
    let again = bench.serve(|_| json!({"batchItemFailures": []})).await;
    assert_eq!(bodies(&again), ["two"]);
    assert_eq!(again[0]["attributes"]["ApproximateReceiveCount"], "2");
    for expected in
        [Step::Delivered(1), Step::Delivered(1), Step::Done, Step::ComesBack, Step::Delivered(2), Step::Done]
    {
        assert_eq!(bench.step().await, expected);
    }
}

#[tokio::test]
async fn a_message_that_fails_for_the_fifth_time_is_given_up() {
    let mut bench = bench().await;
    bench.post("/", "one").await;
    // No valid answer is a failure of every message, too.
    for answer in [json!(null), json!({"batchItemFailures": [{}]}), json!({}), json!("no answer"), json!(null)] {
        bench.serve(|_| answer).await;
    }
    let mut steps = vec![Step::Posted(Duration::ZERO)];
    steps.extend((1..=4).flat_map(|receives| [Step::Delivered(receives), Step::ComesBack]));
    steps.extend([Step::Delivered(5), Step::GivenUp]);
    for expected in steps {
        assert_eq!(bench.step().await, expected);
    }
}

#[tokio::test]
async fn a_message_can_have_a_delay_of_its_own() {
    let mut bench = bench().await;
    assert!(bench.post("/?delay=900", "late").await.contains("\"DelaySeconds\":900"));
    assert_eq!(bench.step().await, Step::Posted(Duration::from_mins(15)));
    bench.post("/", "now").await;
    let records = bench.serve(|_| json!({"batchItemFailures": []})).await;
    assert_eq!((records.len(), &records[0]["body"]), (1, &json!("now")));
    for path in ["/?delay=901", "/?delay=-1", "/?delay=soon", "/?other=1"] {
        assert!(bench.post(path, "late").await.starts_with("HTTP/1.1 400"), "{path}");
    }
    assert!(bench.post("/", "").await.starts_with("HTTP/1.1 400"));
}
