//! Lambda's poller between a queue and a function, and a door for people: what is posted to it is sent to the queue.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, Uri},
    routing::post,
};
use serde_json::json;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{MAX_DELAY, MAX_ENTRIES, Queue, event, failed};
use crate::mock::{
    listener::{BreakableListener, Connections, Server},
    runtime::{Answer, Deadline, RuntimeApi},
};

/// How long the function has for a batch, as in template.yaml.
const FUNCTION_TIME: Duration = Duration::from_secs(28);

/// How often the queue is looked at while nothing is due.
const POLL: Duration = Duration::from_millis(10);

/// The poller and the door; they end when this is dropped.
#[derive(Debug)]
pub struct Poller {
    address: SocketAddr,
    _tasks: (Server, AbortOnDropHandle<()>),
}

impl Poller {
    /// Starts a poller that hands the queue's messages to the function at this Runtime API, one batch at a time, and the
    /// door at the address.
    pub async fn start(address: SocketAddr, queue: Queue, runtime: RuntimeApi) -> anyhow::Result<Self> {
        let listener = BreakableListener::bind(address, Connections::default(), None).await?;
        let address = axum::serve::Listener::local_addr(&listener)?;
        let router = Router::new().route("/", post(take)).with_state(queue.clone());
        let poller = AbortOnDropHandle::new(tokio::spawn(async move { poll(&queue, &runtime).await }));
        Ok(Self { address, _tasks: (Server::start(listener, router), poller) })
    }

    /// Where messages are posted.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

async fn take(State(queue): State<Queue>, uri: Uri, body: String) -> (StatusCode, String) {
    let delay = uri.query().map_or(Some(0), |query| query.strip_prefix("delay=")?.parse().ok());
    let Some(delay) = delay.filter(|&delay| delay <= MAX_DELAY && !body.is_empty()) else {
        let message = format!("post a message, to ?delay=SECONDS if it has a delay of its own: at most {MAX_DELAY}");
        return (StatusCode::BAD_REQUEST, json!({"message": message}).to_string());
    };
    let id = queue.send(&body, Duration::from_secs(delay.into()));
    (StatusCode::OK, json!({"MessageId": id, "DelaySeconds": delay}).to_string())
}

/// Delivers what is visible, for ever. Without a function nothing is received, and nothing fails.
async fn poll(queue: &Queue, runtime: &RuntimeApi) {
    loop {
        runtime.connected().await;
        let batch = queue.receive(MAX_ENTRIES);
        if batch.is_empty() {
            sleep(POLL).await;
            continue;
        }
        let invoked = runtime.begin(event(&batch).to_string(), Deadline::After(FUNCTION_TIME));
        let failed = match timeout(FUNCTION_TIME, invoked.answer).await {
            Ok(Ok(Answer::Response(text))) => failed(&serde_json::from_str(&text).unwrap_or_default()),
            _ => None,
        };
        queue.finish(&batch, failed.as_ref());
    }
}
