//! SQS, and the local queue in front of a function.

use std::time::Duration;

use sandbox::mock::{
    queue::{Poller, Queue, Report, Step, failed},
    runtime::RuntimeApi,
};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use crate::support::{authorization, body_of, exchange, soon};

const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

async fn queue(visibility: Duration) -> Queue {
    Queue::start(LOCAL.into(), visibility, 3).await.unwrap()
}

/// Makes a call; its HTTP status and body.
async fn call(queue: &Queue, action: &str, request: &Value) -> (u16, Value) {
    let headers = format!("x-amz-target: AmazonSQS.{action}\r\n{}", authorization("sqs"));
    let reply = exchange(&queue.url(), "POST /", &headers, request.to_string().as_bytes()).await.unwrap();
    (reply.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body_of(&reply)).unwrap())
}

#[tokio::test]
async fn what_was_received_is_under_way_then_deleted_or_visible_again_and_in_the_end_a_dead_letter() {
    let queue = queue(Duration::ZERO).await;
    let ids = ["one", "two"].map(|body| queue.send(body, Duration::ZERO));
    let received = queue.receive(10);
    assert_eq!(received.iter().map(|it| &it.message_id).collect::<Vec<_>>(), ids.iter().collect::<Vec<_>>());
    assert_eq!((queue.receive(10), queue.next_visible()), (vec![], None));
    queue.finish(&received, failed(&json!({"batchItemFailures": [{"itemIdentifier": ids[1]}]})).as_ref());
    for receives in [2, 3] {
        let received = queue.receive(10);
        let attributes = &received[0].record["attributes"];
        assert_eq!(attributes["ApproximateReceiveCount"], receives.to_string());
        assert!(attributes["ApproximateFirstReceiveTimestamp"].as_str().unwrap().len() == 13, "{attributes}");
        // No valid answer is a failure of every message, too.
        queue.finish(&received, failed(&json!({"batchItemFailures": [{}]})).as_ref());
    }
    assert_eq!((queue.receive(10), queue.left()), (vec![], (0, 1)));
}

#[tokio::test]
async fn the_visibility_of_what_was_received_can_be_changed_each_time_by_its_last_receipt() {
    let queue = queue(Duration::ZERO).await;
    let _ = queue.send("one", Duration::ZERO);
    let received = queue.receive(10);
    let receipt = received[0].record["receiptHandle"].clone();
    let entry =
        |id, receipt: &Value, seconds: u32| json!({"Id": id, "ReceiptHandle": receipt, "VisibilityTimeout": seconds});
    let request = json!({"QueueUrl": queue.orders_url(), "Entries": [
        entry("a", &receipt, 100), entry("b", &json!("another"), 100), entry("c", &receipt, 43_201),
    ]});
    let (status, answer) = call(&queue, "ChangeMessageVisibilityBatch", &request).await;
    assert_eq!((status, &answer["Successful"]), (200, &json!([{"Id": "a"}])));
    let codes: Vec<_> = answer["Failed"].as_array().unwrap().iter().map(|it| [&it["Id"], &it["Code"]]).collect();
    assert_eq!(codes, [["b", "ReceiptHandleIsInvalid"], ["c", "InvalidParameterValue"]]);
    queue.finish(&received, None);
    let left = queue.next_visible().unwrap() - tokio::time::Instant::now();
    assert!((99..=100).contains(&left.as_secs()), "{left:?}");
}

#[tokio::test]
async fn what_is_no_call_of_sqs_or_of_these_queues_is_rejected() {
    let queue = queue(Duration::ZERO).await;
    let to = |url: &str, entries: usize| {
        let entries: Vec<_> = (0..entries).map(|id| json!({"Id": id.to_string(), "MessageBody": "x"})).collect();
        json!({"QueueUrl": url, "Entries": entries})
    };
    let ours = queue.orders_url();
    for (action, request, name) in [
        ("PurgeQueue", to(&ours, 1), "UnknownOperationException"),
        ("SendMessageBatch", to("http://127.0.0.1/123456789012/another", 1), "com.amazonaws.sqs#QueueDoesNotExist"),
        ("SendMessageBatch", to(&ours, 0), "com.amazonaws.sqs#TooManyEntriesInBatchRequest"),
        ("SendMessageBatch", to(&ours, 11), "com.amazonaws.sqs#TooManyEntriesInBatchRequest"),
        ("SendMessage", json!({"QueueUrl": ours, "MessageBody": "x", "DelaySeconds": 901}), "InvalidParameterValue"),
    ] {
        let (status, answer) = call(&queue, action, &request).await;
        assert_eq!((status, &answer["__type"]), (400, &json!(name)), "{action}");
    }
    assert_eq!(queue.left(), (0, 0));
}

/// A queue with a poller in front of a Runtime API.
struct Bench {
    runtime: RuntimeApi,
    poller: Poller,
    reports: UnboundedReceiver<Report>,
    _queue: Queue,
}

async fn bench() -> Bench {
    let queue = queue(Duration::from_millis(10)).await;
    let reports = queue.watch();
    let runtime = RuntimeApi::start(LOCAL.into()).await.unwrap();
    let poller = Poller::start(LOCAL.into(), queue.clone(), runtime.clone()).await.unwrap();
    Bench { runtime, poller, reports, _queue: queue }
}

impl Bench {
    async fn post(&self, path: &str, body: &str) -> String {
        let url = self.poller.url();
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
async fn what_is_posted_is_delivered_as_a_batch_and_what_is_done_is_deleted() {
    let mut bench = bench().await;
    for body in ["one", "two"] {
        assert!(bench.post("/", body).await.starts_with("HTTP/1.1 200"));
        assert_eq!(bench.step().await, Step::Sent(Duration::ZERO));
    }
    // Nothing is received while no function is there, and then all that is visible.
    let second = |records: &[Value]| json!({"batchItemFailures": [{"itemIdentifier": records[1]["messageId"]}]});
    let records = bench.serve(second).await;
    let bodies = |records: &[Value]| records.iter().map(|record| record["body"].clone()).collect::<Vec<_>>();
    assert_eq!(bodies(&records), ["one", "two"]);
    let again = bench.serve(|_| json!({"batchItemFailures": []})).await;
    assert_eq!(bodies(&again), ["two"]);
    let mut steps = Vec::new();
    while steps.len() < 6 {
        steps.push(bench.step().await);
    }
    assert!(matches!(steps[3], Step::Failed(_)), "{steps:?}");
    steps.remove(3);
    assert_eq!(steps, [Step::Received(1), Step::Received(1), Step::Deleted, Step::Received(2), Step::Deleted]);
}

#[tokio::test]
async fn a_message_can_have_a_delay_of_its_own() {
    let mut bench = bench().await;
    assert!(bench.post("/?delay=900", "late").await.contains("\"DelaySeconds\":900"));
    assert_eq!(bench.step().await, Step::Sent(Duration::from_mins(15)));
    bench.post("/", "now").await;
    let records = bench.serve(|_| json!({"batchItemFailures": []})).await;
    assert_eq!((records.len(), &records[0]["body"]), (1, &json!("now")));
    for path in ["/?delay=901", "/?delay=-1", "/?delay=soon", "/?other=1"] {
        assert!(bench.post(path, "late").await.starts_with("HTTP/1.1 400"), "{path}");
    }
    assert!(bench.post("/", "").await.starts_with("HTTP/1.1 400"));
}
