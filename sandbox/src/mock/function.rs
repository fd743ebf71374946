//! The real binary, started as Lambda starts it: a clean environment, the Runtime API, deadlines.

mod invocation;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use futures_util::future::join_all;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

pub use invocation::{Invocation, Outcome};

use crate::mock::{
    lock,
    runtime::{Deadline, Moments, RuntimeApi},
};

/// The AWS credentials that every function gets: nothing of them may show anywhere.
pub const ACCESS_KEY_ID: &str = "ASIACANARYACCESSKEY0";
/// See [`ACCESS_KEY_ID`].
pub const SECRET_ACCESS_KEY: &str = "canarySecretAccessKey/0123456789abcdefghi";
/// See [`ACCESS_KEY_ID`].
pub const SESSION_TOKEN: &str = "canarySessionToken0123456789";

/// How long a start may take before it is given up.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// How long after its deadline an invocation is given up: Lambda itself is as exact.
const GRACE: Duration = Duration::from_millis(50);

/// A function to be started.
#[derive(Clone, Debug)]
pub struct FunctionBuilder {
    program: PathBuf,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    timeout: Duration,
    memory_limit: Option<u64>,
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

impl FunctionBuilder {
    /// A function of this program, with what Lambda itself puts into the environment.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let environment = [
            ("AWS_LAMBDA_FUNCTION_NAME", "close-order"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("AWS_LAMBDA_LOG_FORMAT", "JSON"),
            ("AWS_LAMBDA_LOG_LEVEL", "INFO"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/close-order"),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "2026/11/23/[$LATEST]00000000000000000000000000000000"),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_DEFAULT_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY_ID),
            ("AWS_SECRET_ACCESS_KEY", SECRET_ACCESS_KEY),
            ("AWS_SESSION_TOKEN", SESSION_TOKEN),
            ("_HANDLER", "bootstrap"),
            ("LAMBDA_TASK_ROOT", "/var/task"),
            ("PATH", "/usr/local/bin:/usr/bin/:/bin"),
            ("LANG", "en_US.UTF-8"),
            ("TZ", ":UTC"),
        ];
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            timeout: Duration::from_secs(20),
            memory_limit: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Leaves a variable out.
    #[must_use]
    pub fn env_remove(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    /// The function's timeout, from which its deadlines come.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Limits the program's data to so many bytes (`RLIMIT_DATA`, by the shell's `ulimit -d`).
    #[must_use]
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = Some(bytes);
        self
    }

    /// What runs, without its environment.
    fn command(&self) -> Command {
        let mut command = match self.memory_limit {
            None => Command::new(&self.program),
            Some(bytes) => {
                let mut command = Command::new("/bin/sh");
                let limit = (bytes / 1024).to_string();
                command.args(["-c", "ulimit -d \"$1\" && shift && exec \"$@\"", "sh", &limit]).arg(&self.program);
                command
            }
        };
        command.args(&self.arguments);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Starts the function and waits until it asks for its first event.
    ///
    /// # Errors
    /// When the program can't be run, or ends before that; the error has what it wrote.
    pub async fn start(self) -> anyhow::Result<Function> {
        let mut function = self.spawn().await?;
        tokio::select! {
            () = function.runtime.started() => {}
            status = function.child.wait() => {
                for reader in function.readers {
                    let _ = reader.await;
                }
                bail!("the function ended at its start with {}: {}", status?, lock(&function.logs).trim());
            }
            () = tokio::time::sleep(START_TIMEOUT) => {
                bail!("the function did not start in time: {}", function.logs());
            }
        }
        Ok(function)
    }

    /// Starts the function and waits for nothing: an event can be there before it is.
    ///
    /// # Errors
    /// When the program can't be run.
    pub async fn spawn(self) -> anyhow::Result<Function> {
        let runtime = RuntimeApi::start(([127, 0, 0, 1], 0).into()).await?;
        let mut command = self.command();
        command.env("AWS_LAMBDA_RUNTIME_API", runtime.authority()).envs(&self.environment);
        let spawned = Instant::now();
        let mut child = command.spawn().with_context(|| format!("can't run {}", self.program.display()))?;
        let logs = Arc::<Mutex<String>>::default();
        let readers = [
            child.stdout.take().map(|stdout| collect(stdout, Arc::clone(&logs))),
            child.stderr.take().map(|stderr| collect(stderr, Arc::clone(&logs))),
        ];
        let readers = readers.into_iter().flatten().collect();
        Ok(Function { child, spawned, runtime, readers, logs, timeout: self.timeout })
    }

    /// Runs a program that is expected to end by itself.
    ///
    /// # Errors
    /// When it can't be run or does not end in time.
    pub async fn run_to_end(self) -> anyhow::Result<(ExitStatus, String)> {
        let output = self.command().envs(&self.environment).output();
        let output = timeout(START_TIMEOUT, output).await.context("the program did not end in time")??;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status, String::from_utf8_lossy(&text).into_owned()))
    }
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

    /// The processor time that its threads have had so far, those aside that ended.
    #[must_use]
    pub fn cpu_time(&self) -> Option<Duration> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid()?)).ok()?;
        let times = threads.filter_map(Result::ok).map(|thread| {
            let statistics = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            statistics.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)
        });
        times.sum()
    }
}

fn collect(stream: impl AsyncRead + Unpin + Send + 'static, logs: Arc<Mutex<String>>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut logs = lock(&logs);
            logs.push_str(&line);
            logs.push('\n');
        }
    })
}
