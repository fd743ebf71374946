//! A queue in front of the function, as SQS with Lambda's event source mapping is one: messages are posted over HTTP,
//! delivered in batches after their delay, and come back when they fail.
//!
//! It has no dead-letter queue: a message that failed as often as it may be received is reported as given up. One batch
//! is under way at a time.

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, Uri},
    routing::post,
};
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep_until, timeout},
};

use crate::mock::{
    listener::{BreakableListener, Connections, Server},
    lock,
    runtime::{Answer, Deadline, RuntimeApi},
};

/// How many messages one batch may have.
const MAX_BATCH: usize = 10;

/// How often a message is received before it is given up.
pub const MAX_RECEIVES: u32 = 5;

/// How long the function has for a batch.
const FUNCTION_TIME: Duration = Duration::from_secs(30);

/// The longest delay that SQS knows, in seconds.
pub const MAX_DELAY: u16 = 900;

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It was posted, and is delivered after this delay.
    Posted(Duration),
    /// It was delivered for the nth time.
    Delivered(u32),
    /// The function is done with it.
    Done,
    /// It failed, and is delivered again.
    ComesBack,
    /// It failed for the last time.
    GivenUp,
}

/// A message, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `messageId`
    pub message_id: String,
    /// What became of it.
    pub step: Step,
}

/// The queue; it ends when this is dropped.
#[derive(Debug)]
pub struct Queue {
    address: SocketAddr,
    _server: Server,
    _poller: Server,
}

#[derive(Debug)]
struct Shared {
    delay: Duration,
    /// How long a message that failed is invisible.
    visibility: Duration,
    messages: Mutex<Messages>,
    posted: Notify,
    reports: mpsc::UnboundedSender<Report>,
}

#[derive(Debug, Default)]
struct Messages {
    waiting: Vec<Message>,
    posted: u64,
}

#[derive(Clone, Debug)]
struct Message {
    id: String,
    body: String,
    receives: u32,
    due: Instant,
}

impl Queue {
    /// Starts a queue in front of the function at this Runtime API. Messages are delivered after `delay`, unless their
    /// own is posted with them; those that fail, after `visibility`. What becomes of each is reported to the receiver.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start(
        address: SocketAddr,
        runtime: RuntimeApi,
        delay: Duration,
        visibility: Duration,
    ) -> anyhow::Result<(Self, mpsc::UnboundedReceiver<Report>)> {
        let listener = BreakableListener::bind(address, Connections::default(), None).await?;
        let address = axum::serve::Listener::local_addr(&listener)?;
        let (reports, receiver) = mpsc::unbounded_channel();
        let (messages, posted) = (Mutex::default(), Notify::new());
        let shared = Arc::new(Shared { delay, visibility, messages, posted, reports });
        let router = Router::new().route("/", post(take)).with_state(Arc::clone(&shared));
        let poller = Server::spawn(async move { shared.poll(&runtime).await });
        Ok((Self { address, _server: Server::start(listener, router), _poller: poller }, receiver))
    }

    /// Where messages are posted.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

async fn take(State(shared): State<Arc<Shared>>, uri: Uri, body: String) -> (StatusCode, String) {
    let Some(delay) = delay(uri.query(), shared.delay).filter(|_| !body.is_empty()) else {
        let message = format!("post a message, to ?delay=SECONDS if it has a delay of its own: at most {MAX_DELAY}");
        return (StatusCode::BAD_REQUEST, json!({"message": message}).to_string());
    };
    let id = {
        let mut messages = shared.messages();
        messages.posted += 1;
        let id = format!("00000000-0000-4000-9000-{:012}", messages.posted);
        messages.waiting.push(Message { id: id.clone(), body, receives: 0, due: Instant::now() + delay });
        id
    };
    shared.report(&id, Step::Posted(delay));
    shared.posted.notify_one();
    (StatusCode::OK, json!({"MessageId": id, "DelaySeconds": delay.as_secs()}).to_string())
}

/// A message's delay; `None` if the query asks for one that there is not.
fn delay(query: Option<&str>, default: Duration) -> Option<Duration> {
    let Some(query) = query else { return Some(default) };
    let seconds: u16 = query.strip_prefix("delay=")?.parse().ok()?;
    (seconds <= MAX_DELAY).then(|| Duration::from_secs(seconds.into()))
}

impl Shared {
    fn messages(&self) -> MutexGuard<'_, Messages> {
        lock(&self.messages)
    }

    fn report(&self, message_id: &str, step: Step) {
        // Nobody may be listening.
        let _ = self.reports.send(Report { message_id: message_id.to_owned(), step });
    }

    /// Delivers what is due, for ever. Without a function nothing is delivered, and nothing fails.
    async fn poll(&self, runtime: &RuntimeApi) {
        loop {
            let due = self.messages().waiting.iter().map(|message| message.due).min();
            match due {
                None => self.posted.notified().await,
                Some(due) if due > Instant::now() => tokio::select! {
                    () = sleep_until(due) => {}
                    () = self.posted.notified() => {}
                },
                Some(_) => {
                    runtime.connected().await;
                    self.deliver(runtime).await;
                }
            }
        }
    }

    async fn deliver(&self, runtime: &RuntimeApi) {
        let batch = self.take_due();
        for message in &batch {
            self.report(&message.id, Step::Delivered(message.receives));
        }
        let event = json!({"Records": batch.iter().map(Message::record).collect::<Vec<_>>()}).to_string();
        let answer = timeout(FUNCTION_TIME, runtime.invoke(event, Deadline::After(FUNCTION_TIME))).await;
        let failed = failed(answer.ok().flatten().as_ref());
        for mut message in batch {
            let has_failed = failed.as_ref().is_none_or(|failed| failed.contains(&message.id));
            let step = match message.receives {
                _ if !has_failed => Step::Done,
                MAX_RECEIVES => Step::GivenUp,
                _ => Step::ComesBack,
            };
            self.report(&message.id, step.clone());
            if step == Step::ComesBack {
                message.due = Instant::now() + self.visibility;
                self.messages().waiting.push(message);
            }
        }
    }

    /// The messages of the next batch, the longest due first.
    fn take_due(&self) -> Vec<Message> {
        let mut messages = self.messages();
        messages.waiting.sort_by_key(|message| message.due);
        let now = Instant::now();
        let due = messages.waiting.iter().take_while(|message| message.due <= now).count();
        let mut batch: Vec<Message> = messages.waiting.drain(..due.min(MAX_BATCH)).collect();
        for message in &mut batch {
            message.receives += 1;
        }
        batch
    }
}

impl Message {
    /// The record as Lambda hands it over.
    fn record(&self) -> Value {
        json!({
            "messageId": self.id,
            "receiptHandle": "MessageReceiptHandle",
            "body": self.body,
            "attributes": {"ApproximateReceiveCount": self.receives.to_string(), "SentTimestamp": "1795421760000"},
            "messageAttributes": {},
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:close-order",
            "awsRegion": "eu-central-1",
        })
    }
}

/// The ids of the messages that failed; `None` for all of them, as Lambda has it when there is no valid answer.
fn failed(answer: Option<&Answer>) -> Option<HashSet<String>> {
    let Some(answer @ Answer::Response(_)) = answer else { return None };
    let answer = answer.json();
    let failures = answer.get("batchItemFailures")?.as_array()?;
    failures.iter().map(|failure| failure.get("itemIdentifier")?.as_str().map(str::to_owned)).collect()
}
