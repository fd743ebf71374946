//! EventBridge: `PutEvents` over the AWS JSON protocol. It takes events for any bus, as the real one does, and has no
//! rules: what it took is on record.

use std::{
    net::SocketAddr,
    sync::{Arc, MutexGuard},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_rustls::rustls::ServerConfig;

use crate::mock::aws_json::{AwsServer, Reaction, Service};

/// The bus that [`crate::Sandbox`] names in `OUTCOME_EVENT_BUS`.
pub const BUS: &str = "outcomes";

/// How many entries one call may have.
const MAX_ENTRIES: usize = 10;

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// AWS has a fault.
    InternalError,
    /// The function's role may not put events.
    AccessDenied,
    /// Too many calls.
    Throttled,
    /// HTTP status 503 without a body.
    Unavailable,
    /// No answer ever comes, and nothing is taken.
    Hang,
    /// The connection is reset, and nothing is taken.
    Reset,
    /// The connection is reset, and nothing is taken, if it was used before, as one that died while the process was frozen.
    ResetOnReuse,
    /// The entries are taken, and the connection is reset instead of the answer.
    ResetAfter,
    /// Every nth entry, counted over all calls, is not taken; 1 is every entry.
    EveryNth(usize),
}

/// An event that was taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// `EventBusName`; `default` if none was named.
    pub bus: String,
    /// `Source`.
    pub source: String,
    /// `DetailType`.
    pub detail_type: String,
    /// `Detail`, which comes as text.
    pub detail: Value,
    /// When it came.
    pub at: Instant,
}

/// The mock; clones share the same record.
#[derive(Clone, Debug)]
pub struct EventBus(AwsServer<Bus>);

#[derive(Debug, Default)]
struct Bus {
    events: Vec<Event>,
    /// How many entries each call had.
    calls: Vec<usize>,
    /// How many entries there were so far.
    entries: usize,
    failure: Option<Failure>,
    delay: Duration,
    watchers: Vec<mpsc::UnboundedSender<Event>>,
}

impl EventBus {
    /// Starts EventBridge; port 0 lets the system choose.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start(address: SocketAddr) -> anyhow::Result<Self> {
        Self::start_over(None, address).await
    }

    /// Starts EventBridge, over TLS if told how.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start_over(tls: Option<Arc<ServerConfig>>, address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self(AwsServer::start(tls, address, Bus::default()).await?))
    }

    /// The value of `AWS_ENDPOINT_URL_EVENTBRIDGE`.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Every event that was taken so far.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.lock().events.clone()
    }

    /// How many entries each call so far had, in order, those of failed calls included.
    #[must_use]
    pub fn calls(&self) -> Vec<usize> {
        self.lock().calls.clone()
    }

    /// Forgets the events and calls so far.
    pub fn clear(&self) {
        let mut bus = self.lock();
        bus.events.clear();
        bus.calls.clear();
    }

    /// Every event that is taken from now on.
    #[must_use]
    pub fn watch(&self) -> mpsc::UnboundedReceiver<Event> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().watchers.push(sender);
        receiver
    }

    /// Makes every call go wrong, or none.
    pub fn set_failure(&self, failure: Option<Failure>) {
        self.lock().failure = failure;
    }

    /// Delays every answer; the events are taken before.
    pub fn set_delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    fn lock(&self) -> MutexGuard<'_, Bus> {
        self.0.lock()
    }
}

impl Service for Bus {
    const SIGNING_NAME: &'static str = "events";
    const TARGET: &'static str = "AWSEvents.";

    fn receive(&mut self, operation: &str, request: &Value, is_reused: bool) -> Option<Reaction> {
        if operation != "PutEvents" {
            return None;
        }
        let entries = request.get("Entries").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        self.calls.push(entries.len());
        if !(1..=MAX_ENTRIES).contains(&entries.len()) {
            let message = format!("1 validation error detected: 'entries' has {} entries, not 1 to 10", entries.len());
            return Some(Reaction::Error(400, "ValidationException", message));
        }
        Some(match self.failure {
            None => Reaction::Answer(self.put(entries, usize::MAX)),
            Some(Failure::EveryNth(n)) => Reaction::Answer(self.put(entries, n)),
            Some(Failure::ResetOnReuse) if !is_reused => Reaction::Answer(self.put(entries, usize::MAX)),
            Some(Failure::ResetAfter) => {
                self.put(entries, usize::MAX);
                Reaction::Reset
            }
            Some(Failure::Reset | Failure::ResetOnReuse) => Reaction::Reset,
            Some(Failure::Hang) => Reaction::Hang,
            Some(Failure::Unavailable) => Reaction::Unavailable,
            Some(Failure::InternalError) => Reaction::error(500, "InternalException", "internal error"),
            Some(Failure::AccessDenied) => {
                Reaction::error(400, "AccessDeniedException", "not authorized to perform events:PutEvents")
            }
            Some(Failure::Throttled) => Reaction::error(400, "ThrottlingException", "Rate exceeded"),
        })
    }

    fn delay(&self) -> Duration {
        self.delay
    }
}

impl Bus {
    /// Takes all entries but every nth, and those that are wrong in themselves.
    fn put(&mut self, entries: &[Value], n: usize) -> Value {
        let mut failed = 0;
        let mut answers = Vec::new();
        for entry in entries {
            self.entries += 1;
            let event =
                if self.entries.is_multiple_of(n) { Err(("InternalFailure", "internal error")) } else { event(entry) };
            answers.push(match event {
                Ok(event) => {
                    self.watchers.retain(|watcher| watcher.send(event.clone()).is_ok());
                    self.events.push(event);
                    json!({"EventId": format!("00000000-0000-4000-8000-{:012}", self.entries)})
                }
                Err((code, message)) => {
                    failed += 1;
                    json!({"ErrorCode": code, "ErrorMessage": message})
                }
            });
        }
        json!({"FailedEntryCount": failed, "Entries": answers})
    }
}

/// Reads an entry; `ErrorCode` and `ErrorMessage` if it is wrong.
fn event(entry: &Value) -> Result<Event, (&'static str, &'static str)> {
    let text = |name| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let required = |name, message| text(name).ok_or(("InvalidArgument", message));
    let source = required("Source", "Parameter Source is not valid. Reason: Source is a required argument.")?;
    let detail_type =
        required("DetailType", "Parameter DetailType is not valid. Reason: DetailType is a required argument.")?;
    let detail = required("Detail", "Parameter Detail is not valid. Reason: Detail is a required argument.")?;
    let detail = serde_json::from_str::<Value>(detail).ok().filter(Value::is_object);
    Ok(Event {
        bus: text("EventBusName").unwrap_or("default").to_owned(),
        source: source.to_owned(),
        detail_type: detail_type.to_owned(),
        detail: detail.ok_or(("MalformedDetail", "Detail is malformed."))?,
        at: Instant::now(),
    })
}
