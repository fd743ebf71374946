//! The real binary, started as Lambda starts it: a clean environment, the Runtime API, deadlines.

mod builder;
mod invocation;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::Value;
use tokio::{process::Child, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

pub use builder::{ACCESS_KEY_ID, FunctionBuilder, SECRET_ACCESS_KEY, SESSION_TOKEN};
pub use invocation::{Invocation, Outcome};

use crate::mock::{
    lock,
    runtime::{Deadline, Moments, RuntimeApi},
};

/// How long after its deadline an invocation is given up: Lambda itself is as exact.
const GRACE: Duration = Duration::from_millis(50);

/// A function that runs; it ends when this is dropped.
#[derive(Debug)]
pub struct Function {
    child: Child,
    spawned: Instant,
    runtime: RuntimeApi,
    readers: Vec<JoinHandle<()>>,
    logs: Arc<Mutex<String>>,
    timeout: Duration,
}

impl Function {
    /// Hands over an event and waits for the answer, at most until the function's timeout.
    pub async fn invoke(&mut self, event: &Value) -> Invocation {
        self.invoke_text(event.to_string(), Deadline::After(self.timeout)).await
    }

    /// Hands over an event with a time of its own.
    pub async fn invoke_within(&mut self, event: &Value, time: Duration) -> Invocation {
        self.invoke_text(event.to_string(), Deadline::After(time)).await
    }

    /// Hands over any text with any deadline.
    pub async fn invoke_text(&mut self, event: String, deadline: Deadline) -> Invocation {
        let mut invocations = self.invoke_texts(vec![event], deadline).await;
        invocations.swap_remove(0)
    }

    /// Hands over several events at once, as Lambda Managed Instances do, and waits for all the answers. A function that
    /// was started without `AWS_LAMBDA_MAX_CONCURRENCY` takes one after the other.
    pub async fn invoke_together(&mut self, events: &[Value]) -> Vec<Invocation> {
        self.invoke_texts(events.iter().map(Value::to_string).collect(), Deadline::After(self.timeout)).await
    }

    async fn invoke_texts(&mut self, events: Vec<String>, deadline: Deadline) -> Vec<Invocation> {
        let start = Instant::now();
        let time = match deadline {
            Deadline::After(time) => time,
            Deadline::Header(_) => self.timeout,
        };
        let exited = CancellationToken::new();
        let invocations = events.into_iter().map(|event| {
            let invoked = self.runtime.begin(event, deadline);
            let (ids, exited) = (invoked.ids.clone(), exited.clone());
            async move {
                let outcome = tokio::select! {
                    biased;
                    answer = timeout(time.saturating_add(GRACE), invoked.answer()) => match answer {
                        Ok(Some(answer)) => Outcome::Answered(answer),
                        Ok(None) => Outcome::Exited,
                        Err(_) => Outcome::TimedOut,
                    },
                    () = exited.cancelled() => Outcome::Exited,
                };
                Invocation { outcome, took: start.elapsed(), ids }
            }
        });
        let mut all = std::pin::pin!(join_all(invocations));
        let invocations = tokio::select! {
            biased;
            invocations = &mut all => invocations,
            _ = self.child.wait() => {
                exited.cancel();
                all.await
            }
        };
        if invocations.iter().any(|invocation| invocation.outcome == Outcome::TimedOut) {
            let _ = self.child.kill().await;
        }
        invocations
    }

    /// Sets the client context (`Lambda-Runtime-Client-Context`) of the invocations from now on.
    pub fn set_client_context(&self, client_context: Option<&str>) {
        self.runtime.set_client_context(client_context);
    }

    /// All that it wrote so far.
    #[must_use]
    pub fn logs(&self) -> String {
        lock(&self.logs).clone()
    }

    /// The lines with this message that it logged so far.
    #[must_use]
    pub fn lines(&self, message: &str) -> Vec<Value> {
        let logs = self.logs();
        let lines = logs.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line.get("message").is_some_and(|found| found == message)).collect()
    }

    /// Waits until so many lines with this message were logged, for a while: a line can come later than the answer.
    pub async fn wait_for_lines(&self, message: &str, count: usize) -> Vec<Value> {
        let start = Instant::now();
        while self.lines(message).len() < count && start.elapsed() < Duration::from_secs(5) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.lines(message)
    }

    /// Waits until so many lines about orders were logged, for a while.
    pub async fn wait_for_order_lines(&self, count: usize) -> Vec<Value> {
        self.wait_for_lines("order", count).await
    }

    /// The moment just before its process began.
    #[must_use]
    pub fn spawned(&self) -> Instant {
        self.spawned
    }

    /// When things happened, as the Runtime API saw them.
    #[must_use]
    pub fn moments(&self) -> Moments {
        self.runtime.moments()
    }

    /// Ends it, and returns when it is gone.
    pub async fn stop(mut self) {
        let _ = self.child.kill().await;
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// A figure of its process in kibibytes, such as `VmRSS` or `VmHWM`.
    #[must_use]
    pub fn memory_kib(&self, figure: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'))?;
        line.trim().trim_end_matches("kB").trim().parse().ok()
    }

    /// How many sockets and files it has open.
    #[must_use]
    pub fn descriptors(&self) -> Option<usize> {
        Some(std::fs::read_dir(format!("/proc/{}/fd", self.pid()?)).ok()?.count())
    }
}
