//! SQS with a queue of orders and one of invalid orders: the calls that the function and a shop make, over the AWS JSON
//! protocol (`ChangeMessageVisibilityBatch`, `SendMessage`, `SendMessageBatch`), delays, visibility timeouts, receive
//! counts and dead letters. Messages are received through [`Queue::receive`], as Lambda's pollers do for a function;
//! [`Poller`] is one. Time is the machine's own.

mod messages;
mod poller;

use std::{collections::HashSet, net::SocketAddr, sync::MutexGuard, time::Duration};

use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};

use crate::mock::aws_json::{AwsServer, Reaction, Service};
use messages::Messages;
pub use messages::{Received, SetAside};
pub use poller::Poller;

/// The longest delay that SQS knows, in seconds.
pub const MAX_DELAY: u16 = 900;

/// The longest visibility timeout that SQS knows, in seconds.
const MAX_VISIBILITY: u64 = 43_200;

/// How many entries one call may have, and how many messages a batch.
const MAX_ENTRIES: usize = 10;

/// The account and the names of the queues.
const ACCOUNT: &str = "123456789012";
const ORDERS: &str = "close-order";
const INVALID_ORDERS: &str = "close-order-invalid";

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// AWS has a fault.
    InternalError,
    /// The function's role may not make the call.
    AccessDenied,
    /// No answer ever comes, and nothing is done.
    Hang,
    /// The connection is reset, and nothing is done.
    Reset,
    /// All is done, and the connection is reset instead of the answer.
    ResetAfter,
    /// Every nth entry, counted over all calls, fails; 1 is every entry.
    EveryNth(usize),
}

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

/// SQS; clones share the same messages.
#[derive(Clone, Debug)]
pub struct Queue(AwsServer<Sqs>);

#[derive(Debug)]
struct Sqs {
    messages: Messages,
    failure: Option<Failure>,
    /// How many entries there were so far.
    entries: usize,
}

impl Queue {
    /// Starts SQS. A message that was received is visible again after `visibility`, unless the function says otherwise,
    /// and is a dead letter after `max_receives`; port 0 lets the system choose.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start(address: SocketAddr, visibility: Duration, max_receives: u32) -> anyhow::Result<Self> {
        let sqs = Sqs { messages: Messages::new(visibility, max_receives), failure: None, entries: 0 };
        Ok(Self(AwsServer::start(None, address, sqs).await?))
    }

    /// The value of `AWS_ENDPOINT_URL_SQS`.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// The URL of the queue of orders.
    #[must_use]
    pub fn orders_url(&self) -> String {
        format!("{}/{ACCOUNT}/{ORDERS}", self.url())
    }

    /// The variables by which a function finds the queues.
    #[must_use]
    pub fn environment(&self) -> [(&'static str, String); 3] {
        [
            ("ORDERS_QUEUE_URL", self.orders_url()),
            ("INVALID_ORDERS_QUEUE_URL", format!("{}/{ACCOUNT}/{INVALID_ORDERS}", self.url())),
            ("AWS_ENDPOINT_URL_SQS", self.url()),
        ]
    }

    /// Sends a message to the queue of orders; its `messageId`.
    #[must_use]
    pub fn send(&self, body: &str, delay: Duration) -> String {
        self.lock().messages.send(body, delay)
    }

    /// Receives so many messages that are visible, ten at most, the longest visible first. They are under way until
    /// [`Queue::finish`].
    #[must_use]
    pub fn receive(&self, most: usize) -> Vec<Received> {
        self.lock().messages.receive(most.min(MAX_ENTRIES))
    }

    /// Deletes what was received and has not failed; without `failed` all has.
    pub fn finish(&self, received: &[Received], failed: Option<&HashSet<String>>) {
        self.lock().messages.finish(received, failed);
    }

    /// When a message is visible, if there is one that is not under way.
    #[must_use]
    pub fn next_visible(&self) -> Option<Instant> {
        self.lock().messages.next_visible()
    }

    /// How many messages there are that are not deleted, and how many are dead letters.
    #[must_use]
    pub fn left(&self) -> (usize, usize) {
        self.lock().messages.left()
    }

    /// What was sent to the queue of invalid orders.
    #[must_use]
    pub fn invalid_orders(&self) -> Vec<SetAside> {
        self.lock().messages.invalid_orders.clone()
    }

    /// What becomes of each message from now on.
    #[must_use]
    pub fn watch(&self) -> mpsc::UnboundedReceiver<Report> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().messages.watchers.push(sender);
        receiver
    }

    /// Makes every call go wrong, or none.
    pub fn set_failure(&self, failure: Option<Failure>) {
        self.lock().failure = failure;
    }

    fn lock(&self) -> MutexGuard<'_, Sqs> {
        self.0.lock()
    }
}

/// The event of a batch, as Lambda hands it over.
#[must_use]
pub fn event(received: &[Received]) -> Value {
    json!({"Records": received.iter().map(|it| &it.record).collect::<Vec<_>>()})
}

/// The ids of the messages that an answer to a batch says have failed; `None`, for all, if it is no valid answer, as
/// Lambda has it.
#[must_use]
pub fn failed(answer: &Value) -> Option<HashSet<String>> {
    let failures = answer.get("batchItemFailures")?.as_array()?;
    failures.iter().map(|failure| failure.get("itemIdentifier")?.as_str().map(str::to_owned)).collect()
}

impl Service for Sqs {
    const SIGNING_NAME: &'static str = "sqs";
    const TARGET: &'static str = "AmazonSQS.";

    fn receive(&mut self, operation: &str, request: &Value, _: bool) -> Option<Reaction> {
        let single = [request.clone()];
        let entries = match operation {
            "SendMessage" => &single[..],
            "SendMessageBatch" | "ChangeMessageVisibilityBatch" => {
                request.get("Entries").and_then(Value::as_array).map_or(&[][..], Vec::as_slice)
            }
            _ => return None,
        };
        let queue = request.get("QueueUrl").and_then(Value::as_str).unwrap_or_default();
        let queue = queue.rsplit('/').next().filter(|&name| [ORDERS, INVALID_ORDERS].contains(&name));
        let Some(queue) = queue.map(str::to_owned) else {
            let name = "com.amazonaws.sqs#QueueDoesNotExist";
            return Some(Reaction::error(400, name, "The specified queue does not exist."));
        };
        if !(1..=MAX_ENTRIES).contains(&entries.len()) {
            let name = "com.amazonaws.sqs#TooManyEntriesInBatchRequest";
            return Some(Reaction::error(400, name, "A batch request has 1 to 10 entries."));
        }
        let n = match self.failure {
            None | Some(Failure::ResetAfter) => usize::MAX,
            Some(Failure::EveryNth(n)) => n,
            Some(Failure::InternalError) => return Some(Reaction::error(500, "InternalFailure", "internal error")),
            Some(Failure::AccessDenied) => {
                return Some(Reaction::error(403, "AccessDeniedException", "not authorized to perform this action"));
            }
            Some(Failure::Hang) => return Some(Reaction::Hang),
            Some(Failure::Reset) => return Some(Reaction::Reset),
        };
        let mut results = entries.iter().map(|entry| self.entry(operation, &queue, entry, n)).collect::<Vec<_>>();
        Some(match self.failure {
            Some(Failure::ResetAfter) => Reaction::Reset,
            _ if operation == "SendMessage" => match results.pop() {
                Some(Ok(answer)) => Reaction::Answer(answer),
                Some(Err((name, _))) => Reaction::error(400, name, "the message could not be sent"),
                None => Reaction::Unavailable,
            },
            _ => {
                let (successful, failed): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
                let successful: Vec<Value> = successful.into_iter().filter_map(Result::ok).collect();
                let failed: Vec<Value> = failed.into_iter().filter_map(Result::err).map(|(_, entry)| entry).collect();
                Reaction::Answer(json!({"Successful": successful, "Failed": failed}))
            }
        })
    }

    fn delay(&self) -> Duration {
        Duration::ZERO
    }
}

impl Sqs {
    /// Does what one entry asks for: its result, or the name of its error and that as a failed entry.
    fn entry(&mut self, operation: &str, queue: &str, entry: &Value, n: usize) -> Result<Value, (&'static str, Value)> {
        self.entries += 1;
        let id = entry.get("Id").cloned().unwrap_or_default();
        let done = if self.entries.is_multiple_of(n) {
            Err("InternalError")
        } else if operation == "ChangeMessageVisibilityBatch" {
            self.change_visibility(entry)
        } else {
            self.send(queue, entry)
        };
        match done {
            Ok(mut answer) => {
                if let Value::Object(fields) = &mut answer {
                    fields.insert("Id".to_owned(), id);
                }
                Ok(answer)
            }
            Err(name) => {
                let is_ours = name == "InternalError";
                Err((name, json!({"Id": id, "Code": name, "SenderFault": !is_ours, "Message": "the entry failed"})))
            }
        }
    }

    fn change_visibility(&mut self, entry: &Value) -> Result<Value, &'static str> {
        let receipt = entry.get("ReceiptHandle").and_then(Value::as_str).unwrap_or_default();
        let seconds = entry.get("VisibilityTimeout").and_then(Value::as_u64).ok_or("MissingParameter")?;
        if seconds > MAX_VISIBILITY {
            return Err("InvalidParameterValue");
        }
        let wait = Duration::from_secs(seconds);
        if self.messages.change_visibility(receipt, wait) { Ok(json!({})) } else { Err("ReceiptHandleIsInvalid") }
    }

    fn send(&mut self, queue: &str, entry: &Value) -> Result<Value, &'static str> {
        let body = entry.get("MessageBody").and_then(Value::as_str).filter(|body| !body.is_empty());
        let body = body.ok_or("InvalidParameterValue")?;
        let delay = entry.get("DelaySeconds").and_then(Value::as_u64).unwrap_or_default();
        if delay > MAX_DELAY.into() {
            return Err("InvalidParameterValue");
        }
        let id = if queue == ORDERS {
            self.messages.send(body, Duration::from_secs(delay))
        } else {
            let reason = entry.pointer("/MessageAttributes/reason/StringValue").and_then(Value::as_str);
            self.messages.set_aside(body, reason.unwrap_or_default())
        };
        Ok(json!({"MessageId": id}))
    }
}
