//! Lambda's Runtime API, from which a function takes its events, and Lambda's Invoke API, by which others call it.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderName, HeaderValue, StatusCode},
    response::Response,
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Notify, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

/// How long an Invoke by curl or an SDK may take.
const INVOKE_TIME: Duration = Duration::from_secs(29);

/// Largest event and answer, in bytes: Lambda's 6 MB, and room for its own wrapping.
const MAX_PAYLOAD: usize = 6 * 1024 * 1024 + 100 * 1024;

/// The Runtime API of one function; clones share the same queue of events.
#[derive(Clone, Debug)]
pub struct RuntimeApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: Arc<Server>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// An event has come.
    event: Notify,
    /// How often the function has asked for an event.
    nexts: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(String, Event)>,
    running: HashMap<String, oneshot::Sender<Answer>>,
    invocations: u64,
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
    payload: String,
    deadline_ms: u64,
    answer: oneshot::Sender<Answer>,
}

#[derive(Debug)]
struct Server(JoinHandle<()>);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
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
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { queue: Mutex::default(), event: Notify::new(), nexts: watch::Sender::new(0) });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(function_error))
            .route("/2015-03-31/functions/{name}/invocations", post(invoke))
            .route("/2018-06-01/runtime/init/error", post(init_error))
            .layer(DefaultBodyLimit::max(MAX_PAYLOAD))
            .with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move {
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { address, shared, _server: Arc::new(Server(server)) })
    }

    /// The value of `AWS_LAMBDA_RUNTIME_API`.
    #[must_use]
    pub fn authority(&self) -> String {
        self.address.to_string()
    }

    /// Waits until the function has asked for its first event: its start is over.
    pub async fn started(&self) {
        // The sender lives in `self`, so the wait can't fail.
        let _ = self.shared.nexts.subscribe().wait_for(|&nexts| nexts > 0).await;
    }

    /// When things happened last.
    #[must_use]
    pub fn moments(&self) -> Moments {
        self.shared.queue().moments
    }

    /// Hands an event to the function and waits for its answer, however long that takes; `None` if it never comes.
    pub async fn invoke(&self, payload: String, deadline: Deadline) -> Option<Answer> {
        self.shared.invoke(payload, deadline).await
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn invoke(&self, payload: String, deadline: Deadline) -> Option<Answer> {
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.queue();
            queue.invocations += 1;
            let id = format!("00000000-0000-4000-8000-{:012}", queue.invocations);
            queue.waiting.push_back((id, Event { payload, deadline_ms: deadline.header(), answer }));
        }
        self.event.notify_one();
        answered.await.ok()
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

async fn next(State(shared): State<Arc<Shared>>) -> Response {
    let now = Instant::now();
    shared.queue().moments.first_next.get_or_insert(now);
    shared.nexts.send_modify(|nexts| *nexts += 1);
    loop {
        let waiting = shared.queue().waiting.pop_front();
        if let Some((id, event)) = waiting {
            // Whoever sent it has given up: a function that comes later must not close that order.
            if event.answer.is_closed() {
                continue;
            }
            let mut queue = shared.queue();
            queue.running.insert(id.clone(), event.answer);
            queue.moments.handed_over = Some(Instant::now());
            drop(queue);
            let mut response = Response::new(Body::from(event.payload));
            let trace = format!("Root=1-00000000-{:024};Parent=0000000000000001;Sampled=0", 1);
            for (name, value) in [
                ("lambda-runtime-aws-request-id", id),
                ("lambda-runtime-deadline-ms", event.deadline_ms.to_string()),
                (
                    "lambda-runtime-invoked-function-arn",
                    "arn:aws:lambda:eu-central-1:123456789012:function:close-order".to_owned(),
                ),
                ("lambda-runtime-trace-id", trace),
                ("content-type", "application/json".to_owned()),
            ] {
                if let Ok(value) = HeaderValue::from_str(&value) {
                    response.headers_mut().insert(HeaderName::from_static(name), value);
                }
            }
            return response;
        }
        shared.event.notified().await;
    }
}

async fn response(State(shared): State<Arc<Shared>>, Path(id): Path<String>, body: String) -> StatusCode {
    shared.answered(&id, Answer::Response(body))
}

async fn function_error(State(shared): State<Arc<Shared>>, Path(id): Path<String>, body: String) -> StatusCode {
    shared.answered(&id, Answer::Error(body))
}

/// Takes what a function says that can't start; it ends by itself then, and whoever started it has its output.
async fn init_error() -> StatusCode {
    StatusCode::ACCEPTED
}

/// Lambda's own Invoke, for curl and the AWS SDKs, with the longest time that API Gateway would give.
async fn invoke(State(shared): State<Arc<Shared>>, body: String) -> Response {
    let payload = if body.is_empty() { "{}".to_owned() } else { body };
    let (body, is_error) = match timeout(INVOKE_TIME, shared.invoke(payload, Deadline::After(INVOKE_TIME))).await {
        Ok(Some(Answer::Response(body))) => (body, false),
        Ok(Some(Answer::Error(body))) => (body, true),
        Ok(None) | Err(_) => {
            let message = format!("no answer after {} seconds; is a function attached?", INVOKE_TIME.as_secs());
            (json!({"errorType": "Sandbox.Timedout", "errorMessage": message}).to_string(), true)
        }
    };
    let mut response = Response::new(Body::from(body));
    if is_error {
        response.headers_mut().insert("x-amz-function-error", HeaderValue::from_static("Unhandled"));
    }
    response
}

impl Answer {
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
