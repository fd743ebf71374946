//! SQS with a queue of orders and one of invalid orders: the calls that the function and a shop make, over the AWS JSON
//! protocol (`ChangeMessageVisibilityBatch`, `SendMessage`, `SendMessageBatch`), delays, visibility timeouts, receive
//! counts and dead letters. Messages are received through `Queue::receive`, as Lambda's pollers do for a function;
//! [`Poller`] is one. Time is the machine's own.

mod calls;
mod poller;

use std::{
    collections::HashSet,
    net::SocketAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};

pub use super::aws_json::Failure;
use super::aws_json::{AwsMock, MAX_ENTRIES};
pub use poller::Poller;

/// The longest delay that SQS knows, in seconds.
const MAX_DELAY: u16 = 900;

/// The account and the names of the queues.
const ACCOUNT: &str = "123456789012";
const ORDERS: &str = "close-order";
const INVALID_ORDERS: &str = "close-order-invalid";

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It was sent, and is visible after this delay.
    Sent(Duration),
    /// It was received for the nth time.
    Received(u32),
    /// The function has it wait so long.
    Waits(Duration),
    /// The function is done with it, and it is deleted.
    Deleted,
    /// It failed, and is visible again after so long.
    Failed(Duration),
    /// It was received as often as it may be, and is in the dead-letter queue.
    DeadLetter,
    /// A message with this reason was sent to the queue of invalid orders.
    SetAside(String),
}

/// A message, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `messageId`
    pub message_id: String,
    /// What became of it.
    pub step: Step,
}

/// A message as it was received.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// `messageId`
    pub message_id: String,
    /// The record as Lambda hands it over.
    pub record: Value,
}

/// A message in the queue of invalid orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// The body, as the sender wrote it.
    pub body: String,
    /// Its message attribute `reason`.
    pub reason: String,
}

/// SQS; clones share the same messages.
pub type Queue = AwsMock<Sqs>;

/// The messages, and where each of them is.
#[derive(Debug, Default)]
pub struct Sqs {
    visibility: Duration,
    max_receives: u32,
    messages: Vec<Message>,
    invalid_orders: Vec<SetAside>,
    watcher: Option<mpsc::UnboundedSender<Report>>,
    sent: u64,
    receipts: u64,
    dead_letters: usize,
}

#[derive(Debug)]
struct Message {
    id: String,
    body: String,
    sent: u128,
    /// When it is visible, or is so again.
    visible: Instant,
    receives: u32,
    first_received: u128,
    /// Of its last receipt; a function whose batch is over may use it, too.
    receipt: String,
    is_under_way: bool,
}

impl Queue {
    /// Starts SQS. A message that was received is visible again after `visibility`, unless the function says otherwise,
    /// and is a dead letter after `max_receives`; port 0 lets the system choose.
    pub async fn start(address: SocketAddr, visibility: Duration, max_receives: u32) -> anyhow::Result<Self> {
        Self::serve(None, address, Sqs { visibility, max_receives, ..Sqs::default() }).await
    }

    /// The URL of the queue of orders.
    pub fn orders_url(&self) -> String {
        format!("{}/{ACCOUNT}/{ORDERS}", self.url())
    }

    /// The variables by which a function finds the queues.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("ORDERS_QUEUE_URL", self.orders_url()),
            ("INVALID_ORDERS_QUEUE_URL", format!("{}/{ACCOUNT}/{INVALID_ORDERS}", self.url())),
            ("AWS_ENDPOINT_URL_SQS", self.url()),
        ]
    }

    /// Sends a message to the queue of orders; its `messageId`.
    pub fn send(&self, body: &str, delay: Duration) -> String {
        self.lock().service.send(body, delay)
    }

    /// Receives so many messages that are visible, ten at most, the longest visible first. They are under way until
    /// [`Queue::finish`].
    pub fn receive(&self, most: usize) -> Vec<Received> {
        let sqs = &mut self.lock().service;
        let now = Instant::now();
        let is_visible = |message: &Message| !message.is_under_way && message.visible <= now;
        let max_receives = sqs.max_receives;
        let dead = sqs.messages.extract_if(.., |it| is_visible(it) && it.receives >= max_receives);
        for dead in dead.collect::<Vec<_>>() {
            sqs.dead_letters += 1;
            sqs.report(&dead.id, Step::DeadLetter);
        }
        sqs.messages.sort_by_key(|message| message.visible);
        let mut received = Vec::new();
        for message in sqs.messages.iter_mut().filter(|it| is_visible(it)).take(most.min(MAX_ENTRIES)) {
            sqs.receipts += 1;
            message.receives += 1;
            if message.receives == 1 {
                message.first_received = milliseconds();
            }
            message.receipt = format!("receipt-{}", sqs.receipts);
            message.visible = now + sqs.visibility;
            message.is_under_way = true;
            received.push((message.record(), message.receives));
        }
        for (it, receives) in &received {
            sqs.report(&it.message_id, Step::Received(*receives));
        }
        received.into_iter().map(|(it, _)| it).collect()
    }

    /// Deletes what was received and has not failed; without `failed` all has.
    pub fn finish(&self, received: &[Received], failed: Option<&HashSet<String>>) {
        let sqs = &mut self.lock().service;
        for Received { message_id, .. } in received {
            if failed.is_none_or(|failed| failed.contains(message_id)) {
                let message = sqs.messages.iter_mut().find(|it| it.id == *message_id);
                let left = message.map(|message| {
                    message.is_under_way = false;
                    message.visible.saturating_duration_since(Instant::now())
                });
                sqs.report(message_id, Step::Failed(left.unwrap_or_default()));
            } else {
                sqs.messages.retain(|it| it.id != *message_id);
                sqs.report(message_id, Step::Deleted);
            }
        }
    }

    /// When a message is visible, if there is one that is not under way.
    pub fn next_visible(&self) -> Option<Instant> {
        self.lock().service.messages.iter().filter(|it| !it.is_under_way).map(|it| it.visible).min()
    }

    /// How many messages there are that are not deleted, and how many are dead letters.
    pub fn left(&self) -> (usize, usize) {
        let sqs = &self.lock().service;
        (sqs.messages.len(), sqs.dead_letters)
    }

    /// What was sent to the queue of invalid orders.
    pub fn invalid_orders(&self) -> Vec<SetAside> {
        self.lock().service.invalid_orders.clone()
    }

    /// What becomes of each message from now on.
    pub fn watch(&self) -> mpsc::UnboundedReceiver<Report> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().service.watcher = Some(sender);
        receiver
    }
}

impl Sqs {
    fn report(&mut self, message_id: &str, step: Step) {
        if let Some(watcher) = &self.watcher {
            let _ = watcher.send(Report { message_id: message_id.to_owned(), step });
        }
    }

    fn next_id(&mut self) -> String {
        self.sent += 1;
        format!("00000000-0000-4000-9000-{:012}", self.sent)
    }

    fn send(&mut self, body: &str, delay: Duration) -> String {
        let id = self.next_id();
        self.messages.push(Message {
            id: id.clone(),
            body: body.to_owned(),
            sent: milliseconds(),
            visible: Instant::now() + delay,
            receives: 0,
            first_received: 0,
            receipt: String::new(),
            is_under_way: false,
        });
        self.report(&id, Step::Sent(delay));
        id
    }
}

impl Message {
    fn record(&self) -> Received {
        let record = json!({
            "messageId": self.id,
            "receiptHandle": self.receipt,
            "body": self.body,
            "attributes": {
                "ApproximateReceiveCount": self.receives.to_string(),
                "ApproximateFirstReceiveTimestamp": self.first_received.to_string(),
                "SentTimestamp": self.sent.to_string(),
            },
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": format!("arn:aws:sqs:eu-central-1:{ACCOUNT}:{ORDERS}"),
            "awsRegion": "eu-central-1",
        });
        Received { message_id: self.id.clone(), record }
    }
}

/// Milliseconds since 1970.
fn milliseconds() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

/// The event of a batch, as Lambda hands it over.
pub fn event(received: &[Received]) -> Value {
    json!({"Records": received.iter().map(|it| &it.record).collect::<Vec<_>>()})
}

/// The ids of the messages that an answer to a batch says have failed; `None`, for all, if it is no valid answer, as
/// Lambda has it.
pub fn failed(answer: &Value) -> Option<HashSet<String>> {
    let failures = answer.get("batchItemFailures")?.as_array()?;
    failures.iter().map(|failure| failure.get("itemIdentifier")?.as_str().map(str::to_owned)).collect()
}
