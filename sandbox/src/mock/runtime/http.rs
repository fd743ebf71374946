//! The paths of both APIs.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Body,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderName, HeaderValue, StatusCode},
    response::Response,
    routing::{get, post},
};
use tokio::time::timeout;

use super::{Answer, Deadline, HandedOver, Shared, Waiting};

/// How long an Invoke by curl or an SDK may take.
const INVOKE_TIME: Duration = Duration::from_secs(29);

/// Largest event and answer, in bytes: Lambda's 6 MB, and room for its own wrapping.
const MAX_PAYLOAD: usize = 6 * 1024 * 1024 + 100 * 1024;

pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
        .route("/2018-06-01/runtime/invocation/{id}/error", post(function_error))
        .route("/2015-03-31/functions/{name}/invocations", post(invoke))
        .route("/2018-06-01/runtime/init/error", post(init_error))
        .layer(DefaultBodyLimit::max(MAX_PAYLOAD))
        .with_state(shared)
}

async fn next(State(shared): State<Arc<Shared>>) -> Response {
    let now = Instant::now();
    shared.queue().moments.first_next.get_or_insert(now);
    let _waiting = Waiting::begin(&shared.nexts);
    loop {
        let event = shared.queue().next();
        if let Some(event) = event {
            // Of several notifications that nobody waited for, only one is kept.
            shared.event.notify_one();
            return hand_over(event);
        }
        shared.event.notified().await;
    }
}

fn hand_over(event: HandedOver) -> Response {
    let mut response = Response::new(Body::from(event.payload));
    for (name, value) in event.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
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
    if !shared.wait_for_function().await {
        let api = format!("127.0.0.1:{}", shared.port);
        let message = format!("no function is connected: start close-order with AWS_LAMBDA_RUNTIME_API={api}");
        return invoked(Answer::error("Sandbox.NoFunction", &message));
    }
    let payload = if body.is_empty() { "{}".to_owned() } else { body };
    let answer = shared.begin(payload, Deadline::After(INVOKE_TIME)).answer();
    let answer = timeout(INVOKE_TIME, answer).await.ok().flatten();
    invoked(answer.unwrap_or_else(|| {
        let message = format!("the function did not answer within {} seconds", INVOKE_TIME.as_secs());
        Answer::error("Sandbox.Timedout", &message)
    }))
}

fn invoked(answer: Answer) -> Response {
    let is_error = matches!(answer, Answer::Error(_));
    let (Answer::Response(body) | Answer::Error(body)) = answer;
    let mut response = Response::new(Body::from(body));
    if is_error {
        response.headers_mut().insert("x-amz-function-error", HeaderValue::from_static("Unhandled"));
    }
    response
}
