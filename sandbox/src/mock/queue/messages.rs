//! The messages of a queue, and where each of them is.

use std::{
    collections::HashSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};

use super::{ACCOUNT, ORDERS, Report, Step};

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

#[derive(Debug)]
pub(super) struct Messages {
    visibility: Duration,
    max_receives: u32,
    all: Vec<Message>,
    pub(super) invalid_orders: Vec<SetAside>,
    pub(super) watchers: Vec<mpsc::UnboundedSender<Report>>,
    sent: u64,
    receipts: u64,
    dead_letters: usize,
}

#[derive(Debug)]
struct Message {
    id: String,
    body: String,
    sent: u64,
    /// When it is visible, or is so again.
    visible: Instant,
    receives: u32,
    first_received: u64,
    /// Of its last receipt; a function whose batch is over may use it, too.
    receipt: String,
    is_under_way: bool,
}

impl Messages {
    pub(super) fn new(visibility: Duration, max_receives: u32) -> Self {
        Self {
            visibility,
            max_receives,
            all: Vec::new(),
            invalid_orders: Vec::new(),
            watchers: Vec::new(),
            sent: 0,
            receipts: 0,
            dead_letters: 0,
        }
    }

    fn report(&mut self, message_id: &str, step: &Step) {
        let report = Report { message_id: message_id.to_owned(), step: step.clone() };
        self.watchers.retain(|watcher| watcher.send(report.clone()).is_ok());
    }

    fn next_id(&mut self) -> String {
        self.sent += 1;
        format!("00000000-0000-4000-9000-{:012}", self.sent)
    }

    pub(super) fn send(&mut self, body: &str, delay: Duration) -> String {
        let id = self.next_id();
        self.all.push(Message {
            id: id.clone(),
            body: body.to_owned(),
            sent: milliseconds(),
            visible: Instant::now() + delay,
            receives: 0,
            first_received: 0,
            receipt: String::new(),
            is_under_way: false,
        });
        self.report(&id, &Step::Sent(delay));
        id
    }

    pub(super) fn set_aside(&mut self, body: &str, reason: &str) -> String {
        let id = self.next_id();
        self.invalid_orders.push(SetAside { body: body.to_owned(), reason: reason.to_owned() });
        self.report(&id, &Step::SetAside(reason.to_owned()));
        id
    }

    pub(super) fn receive(&mut self, most: usize) -> Vec<Received> {
        let now = Instant::now();
        let is_visible = |message: &Message| !message.is_under_way && message.visible <= now;
        let max_receives = self.max_receives;
        let dead = self.all.extract_if(.., |it| is_visible(it) && it.receives >= max_receives);
        for dead in dead.collect::<Vec<_>>() {
            self.dead_letters += 1;
            self.report(&dead.id, &Step::DeadLetter);
        }
        self.all.sort_by_key(|message| message.visible);
        let mut received = Vec::new();
        for message in self.all.iter_mut().filter(|it| is_visible(it)).take(most) {
            self.receipts += 1;
            message.receives += 1;
            if message.receives == 1 {
                message.first_received = milliseconds();
            }
            message.receipt = format!("receipt-{}", self.receipts);
            message.visible = now + self.visibility;
            message.is_under_way = true;
            received.push((message.record(), message.receives));
        }
        for (it, receives) in &received {
            self.report(&it.message_id, &Step::Received(*receives));
        }
        received.into_iter().map(|(it, _)| it).collect()
    }

    /// Whether the receipt is one of a message that is not deleted.
    pub(super) fn change_visibility(&mut self, receipt: &str, wait: Duration) -> bool {
        let Some(message) = self.all.iter_mut().find(|it| it.receipt == receipt && it.receives > 0) else {
            return false;
        };
        message.visible = Instant::now() + wait;
        let id = message.id.clone();
        self.report(&id, &Step::Waits(wait));
        true
    }

    pub(super) fn finish(&mut self, received: &[Received], failed: Option<&HashSet<String>>) {
        for Received { message_id, .. } in received {
            if failed.is_none_or(|failed| failed.contains(message_id)) {
                let message = self.all.iter_mut().find(|it| it.id == *message_id);
                let left = message.map(|message| {
                    message.is_under_way = false;
                    message.visible.saturating_duration_since(Instant::now())
                });
                self.report(message_id, &Step::Failed(left.unwrap_or_default()));
            } else {
                self.all.retain(|it| it.id != *message_id);
                self.report(message_id, &Step::Deleted);
            }
        }
    }

    pub(super) fn next_visible(&self) -> Option<Instant> {
        self.all.iter().filter(|it| !it.is_under_way).map(|it| it.visible).min()
    }

    pub(super) fn left(&self) -> (usize, usize) {
        (self.all.len(), self.dead_letters)
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
fn milliseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
