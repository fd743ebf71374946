//! Lambda's Runtime API, from which a function takes its events, and Lambda's Invoke API, by which others call it.

mod http;

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, oneshot, watch},
    time::timeout,
};

use crate::mock::{
    listener::{BreakableListener, Connections, Server},
    lock,
};

/// How long an Invoke waits for a function that was connected before, and may be between two events.
const RECONNECT_TIME: Duration = Duration::from_secs(1);

/// The Runtime API of one function; clones share the same queue of events.
#[derive(Clone, Debug)]
pub struct RuntimeApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: Arc<Server>,
}

#[derive(Debug)]
struct Shared {
    port: u16,
    queue: Mutex<Queue>,
    /// An event has come.
    event: Notify,
    /// How often the function has asked for an event, and how many of these requests wait for one.
    nexts: watch::Sender<Nexts>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Nexts {
    made: u64,
    waiting: usize,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Event>,
    running: HashMap<String, oneshot::Sender<Answer>>,
    invocations: u64,
    client_context: Option<String>,
    moments: Moments,
}

/// When things happened, as the API itself saw them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moments {
    /// The function first asked for an event: its start was over.
    pub first_next: Option<Instant>,
    /// The last event was handed to it.
    pub handed_over: Option<Instant>,
    /// Its last answer came.
    pub answered: Option<Instant>,
}

#[derive(Debug)]
struct Event {
    ids: Ids,
    payload: String,
    deadline_ms: u64,
    client_context: Option<String>,
    answer: oneshot::Sender<Answer>,
}

/// What tells an invocation from all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    /// `Lambda-Runtime-Aws-Request-Id`
    pub request_id: String,
    /// `Lambda-Runtime-Trace-Id`
    pub trace_id: String,
}

impl Ids {
    /// The ids of the nth invocation of the API at this port.
    fn new(port: u16, number: u64) -> Self {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Self {
            request_id: format!("{port:08}-0000-4000-8000-{number:012}"),
            trace_id: format!("Root=1-{seconds:08x}-{port:012x}{number:012x};Parent={number:016x};Sampled=0"),
        }
    }
}

/// An invocation that is under way.
#[derive(Debug)]
pub struct Invoked {
    /// Its ids.
    pub ids: Ids,
    answer: oneshot::Receiver<Answer>,
}

impl Invoked {
    /// Waits for the function's answer, however long that takes; `None` if it never comes.
    pub async fn answer(self) -> Option<Answer> {
        self.answer.await.ok()
    }
}

/// What a function answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A result, as the text that it sent.
    Response(String),
    /// A function error, as the text that it sent.
    Error(String),
}

/// When an invocation is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deadline {
    /// So long from now, as Lambda has it.
    After(Duration),
    /// This very value in the header, as emulators have it.
    Header(u64),
}

impl Deadline {
    fn header(self) -> u64 {
        match self {
            Self::After(time) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from((now + time).as_millis()).unwrap_or(u64::MAX)
            }
            Self::Header(value) => value,
        }
    }
}

impl RuntimeApi {
    /// Starts the API; port 0 lets the system choose.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = BreakableListener::bind(address, Connections::default(), None).await?;
        let address = axum::serve::Listener::local_addr(&listener)?;
        let shared = Arc::new(Shared {
            port: address.port(),
            queue: Mutex::default(),
            event: Notify::new(),
            nexts: watch::Sender::default(),
        });
        let server = Server::start(listener, http::router(Arc::clone(&shared)));
        Ok(Self { address, shared, _server: Arc::new(server) })
    }

    /// The value of `AWS_LAMBDA_RUNTIME_API`.
    #[must_use]
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// Waits until the function has asked for its first event: its start is over.
    pub async fn started(&self) {
        // The sender lives in `self`, so the wait can't fail.
        let _ = self.shared.nexts.subscribe().wait_for(|nexts| nexts.made > 0).await;
    }

    /// When things happened last.
    #[must_use]
    pub fn moments(&self) -> Moments {
        self.shared.queue().moments
    }

    /// Sets the client context of the invocations from now on, which Lambda passes on from whoever calls Invoke.
    pub fn set_client_context(&self, client_context: Option<&str>) {
        self.shared.queue().client_context = client_context.map(str::to_owned);
    }

    /// Hands an event to the function. Several can be under way at once; how many of them run at once is up to how many
    /// the function asks for.
    #[must_use]
    pub fn begin(&self, payload: String, deadline: Deadline) -> Invoked {
        self.shared.begin(payload, deadline)
    }

    /// Hands an event to the function and waits for its answer, however long that takes; `None` if it never comes.
    pub async fn invoke(&self, payload: String, deadline: Deadline) -> Option<Answer> {
        self.begin(payload, deadline).answer().await
    }

    /// Waits until a function waits for an event.
    pub async fn connected(&self) {
        // The sender lives in `self`, so the wait can't fail.
        let _ = self.shared.nexts.subscribe().wait_for(|nexts| nexts.waiting > 0).await;
    }

    /// Whether a function is there: it waits for an event, or works on one.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.is_connected()
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    fn begin(&self, payload: String, deadline: Deadline) -> Invoked {
        let (sender, answer) = oneshot::channel();
        let mut queue = self.queue();
        queue.invocations += 1;
        let ids = Ids::new(self.port, queue.invocations);
        let client_context = queue.client_context.clone();
        let event = Event { ids: ids.clone(), payload, deadline_ms: deadline.header(), client_context, answer: sender };
        queue.waiting.push_back(event);
        drop(queue);
        self.event.notify_one();
        Invoked { ids, answer }
    }

    fn is_connected(&self) -> bool {
        // A function that died over an event is not there, once whoever sent the event has given up.
        let is_running = || self.queue().running.values().any(|answer| !answer.is_closed());
        self.nexts.borrow().waiting > 0 || is_running()
    }

    /// Waits for a function that was there before, and may be between two events; whether it is there.
    async fn wait_for_function(&self) -> bool {
        if self.is_connected() {
            return true;
        }
        if self.nexts.borrow().made == 0 {
            return false;
        }
        timeout(RECONNECT_TIME, self.nexts.subscribe().wait_for(|nexts| nexts.waiting > 0)).await.is_ok()
    }

    fn answered(&self, id: &str, answer: Answer) -> StatusCode {
        let now = Instant::now();
        let mut queue = self.queue();
        queue.moments.answered = Some(now);
        match queue.running.remove(id) {
            Some(sender) => {
                let _ = sender.send(answer);
                StatusCode::ACCEPTED
            }
            None => StatusCode::BAD_REQUEST,
        }
    }
}

/// A request for an event that waits; also until its connection is gone.
struct Waiting<'a>(&'a watch::Sender<Nexts>);

impl<'a> Waiting<'a> {
    fn begin(nexts: &'a watch::Sender<Nexts>) -> Self {
        nexts.send_modify(|nexts| {
            nexts.made += 1;
            nexts.waiting += 1;
        });
        Self(nexts)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|nexts| nexts.waiting -= 1);
    }
}

impl Queue {
    /// The next event, which runs from now on.
    fn next(&mut self) -> Option<HandedOver> {
        // Whoever sent one that is closed has given up: a function that comes later must not close that order.
        while let Some(event) = self.waiting.pop_front() {
            if event.answer.is_closed() {
                continue;
            }
            self.running.insert(event.ids.request_id.clone(), event.answer);
            self.moments.handed_over = Some(Instant::now());
            let Ids { request_id, trace_id } = event.ids;
            let mut headers = vec![
                ("lambda-runtime-aws-request-id", request_id),
                ("lambda-runtime-deadline-ms", event.deadline_ms.to_string()),
                (
                    "lambda-runtime-invoked-function-arn",
                    "arn:aws:lambda:eu-central-1:123456789012:function:close-order".to_owned(),
                ),
                ("lambda-runtime-trace-id", trace_id),
                ("content-type", "application/json".to_owned()),
            ];
            headers.extend(event.client_context.map(|context| ("lambda-runtime-client-context", context)));
            return Some(HandedOver { headers, payload: event.payload });
        }
        None
    }
}

/// An event as the function gets it.
struct HandedOver {
    headers: Vec<(&'static str, String)>,
    payload: String,
}

impl Answer {
    fn error(error_type: &str, message: &str) -> Self {
        Self::Error(json!({"errorType": error_type, "errorMessage": message}).to_string())
    }

    /// The result, as JSON; `Null` for a function error.
    #[must_use]
    pub fn json(&self) -> Value {
        match self {
            Self::Response(text) => serde_json::from_str(text).unwrap_or_default(),
            Self::Error(_) => Value::Null,
        }
    }

    /// The `errorType` of a function error.
    #[must_use]
    pub fn error_type(&self) -> Option<String> {
        match self {
            Self::Response(_) => None,
            Self::Error(text) => {
                let error: Value = serde_json::from_str(text).unwrap_or_default();
                error.get("errorType").and_then(Value::as_str).map(str::to_owned)
            }
        }
    }

    /// The text that the function sent.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Response(text) | Self::Error(text) => text,
        }
    }
}
