//! The real binary, started as Lambda starts it: a clean environment, the Runtime API, deadlines.

mod builder;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::join_all};
use serde_json::Value;
use tokio::{process::Child, task::JoinHandle, time::timeout};

pub use builder::{ACCESS_KEY_ID, FunctionBuilder, SECRET_ACCESS_KEY, SESSION_TOKEN};

use crate::mock::{
    lock,
    runtime::{Answer, Deadline, Ids, Moments, RuntimeApi},
};

/// How long after its deadline an invocation is given up: Lambda itself is as exact.
const GRACE: Duration = Duration::from_millis(50);

/// What became of an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The function answered.
    Answered(Answer),
    /// The function did not answer before its deadline; Lambda would have stopped it, and so it was.
    TimedOut,
    /// The function ended.
    Exited,
}

/// One event's way through the function.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// What became of it.
    pub outcome: Outcome,
    /// How long that took.
    pub took: Duration,
    /// Its request id and trace id.
    pub ids: Ids,
}

impl Invocation {
    /// The result, as JSON; `Null` when there is none.
    pub fn json(&self) -> Value {
        match &self.outcome {
            Outcome::Answered(Answer::Response(text)) => serde_json::from_str(text).unwrap_or_default(),
            _ => Value::Null,
        }
    }

    /// The `errorType` of a function error, in Lambda's own words where the function had none.
    pub fn error_type(&self) -> Option<String> {
        match &self.outcome {
            Outcome::Answered(Answer::Response(_)) => None,
            Outcome::Answered(Answer::Error(text)) => {
                Some(serde_json::from_str::<Value>(text).ok()?.get("errorType")?.as_str()?.to_owned())
            }
            Outcome::TimedOut => Some("Sandbox.Timedout".to_owned()),
            Outcome::Exited => Some("Runtime.ExitError".to_owned()),
        }
    }

    /// The text that the function sent; empty when it sent none.
    pub fn text(&self) -> &str {
        match &self.outcome {
            Outcome::Answered(Answer::Response(text) | Answer::Error(text)) => text,
            Outcome::TimedOut | Outcome::Exited => "",
        }
    }
}

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
        let exited = self.child.wait().map(drop).shared();
        let invocations = events.into_iter().map(|event| {
            let invoked = self.runtime.begin(event, deadline);
            let (ids, exited) = (invoked.ids.clone(), exited.clone());
            async move {
                let outcome = tokio::select! {
                    biased;
                    answer = timeout(time.saturating_add(GRACE), invoked.answer) => match answer {
                        Ok(Ok(answer)) => Outcome::Answered(answer),
                        Ok(Err(_)) => Outcome::Exited,
                        Err(_) => Outcome::TimedOut,
                    },
                    () = exited => Outcome::Exited,
                };
                Invocation { outcome, took: start.elapsed(), ids }
            }
        });
        let invocations = join_all(invocations).await;
        drop(exited);
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
    pub fn logs(&self) -> String {
        lock(&self.logs).clone()
    }

    /// The lines with this message that it logged so far.
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

    /// When its process began, or just before, and when things happened last, as the Runtime API saw them.
    pub fn moments(&self) -> (Instant, Moments) {
        (self.spawned, self.runtime.moments())
    }

    /// Ends it, and returns when it is gone.
    pub async fn stop(mut self) {
        let _ = self.child.kill().await;
    }

    /// Its process id, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// A figure of its process in kibibytes, such as `VmRSS` or `VmHWM`.
    pub fn memory_kib(&self, figure: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'))?;
        line.trim().trim_end_matches("kB").trim().parse().ok()
    }

    /// How many sockets and files it has open.
    pub fn descriptors(&self) -> Option<usize> {
        Some(std::fs::read_dir(format!("/proc/{}/fd", self.pid()?)).ok()?.count())
    }
}
