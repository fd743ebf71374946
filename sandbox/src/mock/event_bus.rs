//! EventBridge: `PutEvents` over the AWS JSON protocol. It takes events for any bus, as the real one does, and has no
//! rules: what it took is on record.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_rustls::rustls::ServerConfig;

pub use super::aws_json::Failure;
use super::aws_json::{AwsMock, MAX_ENTRIES, Rejection, Service, UNKNOWN, entries};

/// The bus that [`crate::Sandbox`] names in `OUTCOME_EVENT_BUS`.
pub const BUS: &str = "outcomes";

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
pub type EventBus = AwsMock<Bus>;

/// What was taken, and who watches.
#[derive(Debug, Default)]
pub struct Bus {
    events: Vec<Event>,
    watcher: Option<mpsc::UnboundedSender<Event>>,
}

impl EventBus {
    /// Starts EventBridge, over TLS if told how; port 0 lets the system choose.
    pub async fn start(tls: Option<Arc<ServerConfig>>, address: SocketAddr) -> anyhow::Result<Self> {
        Self::serve(tls, address, Bus::default()).await
    }

    /// Every event that was taken so far.
    pub fn events(&self) -> Vec<Event> {
        self.lock().service.events.clone()
    }

    /// How many entries each call so far had, in order, those of failed calls included.
    pub fn calls(&self) -> Vec<usize> {
        self.lock().requests.iter().map(|request| entries(request).len()).collect()
    }

    /// Forgets the events and calls so far.
    pub fn clear(&self) {
        let mut bus = self.lock();
        bus.service.events.clear();
        bus.requests.clear();
    }

    /// Every event that is taken from now on.
    pub fn watch(&self) -> mpsc::UnboundedReceiver<Event> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().service.watcher = Some(sender);
        receiver
    }
}

impl Service for Bus {
    const SIGNING_NAME: &'static str = "events";
    const TARGET: &'static str = "AWSEvents.";
    const INTERNAL_ERROR: &'static str = "InternalException";

    /// Takes all entries but those that fail, and those that are wrong in themselves.
    fn receive(
        &mut self,
        operation: &str,
        request: &Value,
        fails: &mut dyn FnMut() -> bool,
    ) -> Result<Value, Rejection> {
        if operation != "PutEvents" {
            return Err(UNKNOWN);
        }
        let entries = entries(request);
        if !(1..=MAX_ENTRIES).contains(&entries.len()) {
            return Err(("ValidationException", "1 validation error detected: 'entries' must be 1 to 10"));
        }
        let mut failed = 0;
        let mut answers = Vec::new();
        for entry in entries {
            answers.push(match if fails() { Err("InternalFailure") } else { event(entry) } {
                Ok(event) => {
                    if let Some(watcher) = &self.watcher {
                        let _ = watcher.send(event.clone());
                    }
                    self.events.push(event);
                    json!({"EventId": format!("00000000-0000-4000-8000-{:012}", self.events.len())})
                }
                Err(code) => {
                    failed += 1;
                    json!({"ErrorCode": code, "ErrorMessage": "the entry is not taken"})
                }
            });
        }
        Ok(json!({"FailedEntryCount": failed, "Entries": answers}))
    }
}

/// Reads an entry; its `ErrorCode` if it is wrong.
fn event(entry: &Value) -> Result<Event, &'static str> {
    let text = |name| entry.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let required = |name| text(name).ok_or("InvalidArgument");
    let (source, detail_type) = (required("Source")?.to_owned(), required("DetailType")?.to_owned());
    let detail = serde_json::from_str(required("Detail")?).ok().filter(Value::is_object).ok_or("MalformedDetail")?;
    let bus = text("EventBusName").unwrap_or("default").to_owned();
    Ok(Event { bus, source, detail_type, detail, at: Instant::now() })
}
