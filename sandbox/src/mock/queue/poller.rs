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
    /// door at the address. What is posted is delivered after `delay`, unless its own is posted with it.
    pub async fn start(
        address: SocketAddr,
        queue: Queue,
        runtime: RuntimeApi,
        delay: Duration,
    ) -> anyhow::Result<Self> {
        let listener = BreakableListener::bind(address, Connections::default(), None).await?;
        let address = axum::serve::Listener::local_addr(&listener)?;
        let router = Router::new().route("/", post(take)).with_state((queue.clone(), delay));
        let poller = AbortOnDropHandle::new(tokio::spawn(async move { poll(&queue, &runtime).await }));
        Ok(Self { address, _tasks: (Server::start(listener, router), poller) })
    }

    /// Where messages are posted.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }
}

async fn take(State((queue, delay)): State<(Queue, Duration)>, uri: Uri, body: String) -> (StatusCode, String) {
    let Some(delay) = own_delay(uri.query(), delay).filter(|_| !body.is_empty()) else {
        let message = format!("post a message, to ?delay=SECONDS if it has a delay of its own: at most {MAX_DELAY}");
        return (StatusCode::BAD_REQUEST, json!({"message": message}).to_string());
    };
    let id = queue.send(&body, delay);
    (StatusCode::OK, json!({"MessageId": id, "DelaySeconds": delay.as_secs()}).to_string())
}

/// A message's delay; `None` if the query asks for one that there is not.
fn own_delay(query: Option<&str>, default: Duration) -> Option<Duration> {
    let Some(query) = query else { return Some(default) };
    let seconds: u16 = query.strip_prefix("delay=")?.parse().ok()?;
    (seconds <= MAX_DELAY).then(|| Duration::from_secs(seconds.into()))
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
