//! Lambda's Runtime API, from which a function takes its events, and Lambda's Invoke API, by which others call it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
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
use serde_json::json;
use tokio::{
    sync::{Mutex as AsyncMutex, mpsc, oneshot, watch},
    time::timeout,
};

use crate::mock::{
    listener::{BreakableListener, Connections, Server},
    lock,
};

/// How long an Invoke waits for a function that may be between two events.
const RECONNECT_TIME: Duration = Duration::from_secs(1);

/// How long an Invoke by curl or an SDK may take: the longest time that API Gateway would give.
const INVOKE_TIME: Duration = Duration::from_secs(29);

/// Largest event and answer, in bytes: Lambda's 6 MB, and room for its own wrapping.
const MAX_PAYLOAD: usize = 6 * 1024 * 1024 + 100 * 1024;

/// The Runtime API of one function; clones share the same events.
#[derive(Clone, Debug)]
pub struct RuntimeApi {
    shared: Arc<Shared>,
    _server: Arc<Server>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    events: mpsc::UnboundedSender<Event>,
    /// What of them no function has yet.
    waiting: AsyncMutex<mpsc::UnboundedReceiver<Event>>,
    /// How many requests of the function wait for an event.
    nexts: watch::Sender<usize>,
    state: Mutex<RunState>,
}

#[derive(Debug, Default)]
struct RunState {
    /// Where the answer goes, by request id.
    running: HashMap<String, oneshot::Sender<Answer>>,
    invocations: u64,
    client_context: Option<String>,
    moments: Moments,
}

/// When things happened, as the API itself saw them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moments {
    /// The last event was handed to the function.
    pub handed_over: Option<Instant>,
    /// Its last answer came.
    pub answered: Option<Instant>,
}

#[derive(Debug)]
struct Event {
    payload: String,
    headers: Vec<(&'static str, String)>,
    request_id: String,
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

/// An invocation that is under way.
#[derive(Debug)]
pub struct Invoked {
    /// Its ids.
    pub ids: Ids,
    /// Where the function's answer comes; an error if it never does.
    pub answer: oneshot::Receiver<Answer>,
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

impl RuntimeApi {
    /// Starts the API; port 0 lets the system choose.
    pub async fn start(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = BreakableListener::bind(address, Connections::default(), None).await?;
        let address = axum::serve::Listener::local_addr(&listener)?;
        let (events, waiting) = mpsc::unbounded_channel();
        let (nexts, state) = (watch::Sender::default(), Mutex::default());
        let shared = Arc::new(Shared { address, events, waiting: AsyncMutex::new(waiting), nexts, state });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/{kind}", post(answer))
            .route("/2015-03-31/functions/{name}/invocations", post(invoke))
            // A function that can't start ends by itself, and whoever started it has its output.
            .route("/2018-06-01/runtime/init/error", post(StatusCode::ACCEPTED))
            .layer(DefaultBodyLimit::max(MAX_PAYLOAD))
            .with_state(Arc::clone(&shared));
        Ok(Self { shared, _server: Arc::new(Server::start(listener, router)) })
    }

    /// The value of `AWS_LAMBDA_RUNTIME_API`.
    pub fn authority(&self) -> String {
        self.shared.address.to_string()
    }

    /// When things happened last.
    pub fn moments(&self) -> Moments {
        lock(&self.shared.state).moments
    }

    /// Sets the client context of the invocations from now on, which Lambda passes on from whoever calls Invoke.
    pub fn set_client_context(&self, client_context: Option<&str>) {
        lock(&self.shared.state).client_context = client_context.map(str::to_owned);
    }

    /// Hands an event to the function. Several can be under way at once; how many of them run at once is up to how many
    /// the function asks for.
    pub fn begin(&self, payload: String, deadline: Deadline) -> Invoked {
        self.shared.begin(payload, deadline)
    }

    /// Waits until a function waits for an event.
    pub async fn connected(&self) {
        self.shared.connected().await;
    }
}

impl Shared {
    fn begin(&self, payload: String, deadline: Deadline) -> Invoked {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let deadline_ms = match deadline {
            Deadline::After(time) => (now + time).as_millis(),
            Deadline::Header(value) => value.into(),
        };
        let mut state = lock(&self.state);
        state.invocations += 1;
        let (seconds, port, number) = (now.as_secs(), self.address.port(), state.invocations);
        let ids = Ids {
            request_id: format!("{port:08}-0000-4000-8000-{number:012}"),
            trace_id: format!("Root=1-{seconds:08x}-{port:012x}{number:012x};Parent={number:016x};Sampled=0"),
        };
        let arn = "arn:aws:lambda:eu-central-1:123456789012:function:close-order";
        let mut headers = vec![
            ("lambda-runtime-aws-request-id", ids.request_id.clone()),
            ("lambda-runtime-deadline-ms", deadline_ms.to_string()),
            ("lambda-runtime-invoked-function-arn", arn.to_owned()),
            ("lambda-runtime-trace-id", ids.trace_id.clone()),
            ("content-type", "application/json".to_owned()),
        ];
        headers.extend(state.client_context.clone().map(|context| ("lambda-runtime-client-context", context)));
        let (sender, answer) = oneshot::channel();
        // The receiver lives beside the sender, so this can't fail.
        let _ = self.events.send(Event { payload, headers, request_id: ids.request_id.clone(), answer: sender });
        Invoked { ids, answer }
    }

    async fn connected(&self) {
        // The sender lives in `self`, so the wait can't fail.
        let _ = self.nexts.subscribe().wait_for(|&waiting| waiting > 0).await;
    }

    /// Whether a function is there: it works on an event, or asks for one soon.
    async fn is_connected(&self) -> bool {
        // A function that died over an event is not there, once whoever sent the event has given up.
        let is_running = lock(&self.state).running.values().any(|answer| !answer.is_closed());
        is_running || timeout(RECONNECT_TIME, self.connected()).await.is_ok()
    }
}

/// A request for an event that waits; also until its connection is gone.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

async fn next(State(shared): State<Arc<Shared>>) -> Response {
    shared.nexts.send_modify(|waiting| *waiting += 1);
    let _waiting = Waiting(&shared.nexts);
    let mut events = shared.waiting.lock().await;
    // Whoever sent one that is closed has given up: a function that comes later must not close that order.
    while let Some(Event { payload, headers, request_id, answer }) = events.recv().await {
        if answer.is_closed() {
            continue;
        }
        let mut state = lock(&shared.state);
        state.running.insert(request_id, answer);
        state.moments.handed_over = Some(Instant::now());
        let mut response = Response::new(Body::from(payload));
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
        return response;
    }
    Response::new(Body::empty())
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    Path((id, kind)): Path<(String, String)>,
    body: String,
) -> StatusCode {
    let now = Instant::now();
    let answer = match &*kind {
        "response" => Answer::Response(body),
        "error" => Answer::Error(body),
        _ => return StatusCode::NOT_FOUND,
    };
    let mut state = lock(&shared.state);
    state.moments.answered = Some(now);
    let Some(sender) = state.running.remove(&id) else { return StatusCode::BAD_REQUEST };
    let _ = sender.send(answer);
    StatusCode::ACCEPTED
}

/// Lambda's own Invoke, for curl and the AWS SDKs.
async fn invoke(State(shared): State<Arc<Shared>>, body: String) -> Response {
    let error =
        |name: &str, message: &str| Answer::Error(json!({"errorType": name, "errorMessage": message}).to_string());
    let answer = if shared.is_connected().await {
        let payload = if body.is_empty() { "{}".to_owned() } else { body };
        let answer = shared.begin(payload, Deadline::After(INVOKE_TIME)).answer;
        timeout(INVOKE_TIME, answer).await.ok().and_then(Result::ok).unwrap_or_else(|| {
            let message = format!("the function did not answer within {} seconds", INVOKE_TIME.as_secs());
            error("Sandbox.Timedout", &message)
        })
    } else {
        let api = format!("127.0.0.1:{}", shared.address.port());
        let message = format!("no function is connected: start close-order with AWS_LAMBDA_RUNTIME_API={api}");
        error("Sandbox.NoFunction", &message)
    };
    let is_error = matches!(answer, Answer::Error(_));
    let (Answer::Response(body) | Answer::Error(body)) = answer;
    let mut response = Response::new(Body::from(body));
    if is_error {
        response.headers_mut().insert("x-amz-function-error", HeaderValue::from_static("Unhandled"));
    }
    response
}
