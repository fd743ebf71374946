//! How a function is started: its program, its environment, its limits.

use std::{
    ffi::OsStr,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::Command,
    task::JoinHandle,
    time::timeout,
};

use super::Function;
use crate::mock::{lock, runtime::RuntimeApi};

/// The AWS credentials that every function gets: nothing of them may show anywhere.
pub const ACCESS_KEY_ID: &str = "ASIACANARYACCESSKEY0";
/// See [`ACCESS_KEY_ID`].
pub const SECRET_ACCESS_KEY: &str = "canarySecretAccessKey/0123456789abcdefghi";
/// See [`ACCESS_KEY_ID`].
pub const SESSION_TOKEN: &str = "canarySessionToken0123456789";

/// How long a start may take before it is given up.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A function to be started.
#[must_use]
#[derive(Debug)]
pub struct FunctionBuilder {
    command: Command,
    timeout: Duration,
}

impl FunctionBuilder {
    /// A function of this program, with what Lambda itself puts into the environment.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.envs([
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
        ]);
        Self { command, timeout: Duration::from_secs(20) }
    }

    /// Adds an argument.
    pub fn arg(mut self, argument: &str) -> Self {
        self.command.arg(argument);
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets variables.
    pub fn envs(mut self, variables: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        self.command.envs(variables);
        self
    }

    /// Leaves a variable out.
    pub fn env_remove(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// The function's timeout, from which its deadlines come.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Starts the function and waits until it asks for its first event. The error of one that ends before that has what it
    /// wrote.
    pub async fn start(self) -> anyhow::Result<Function> {
        let mut function = self.spawn().await?;
        tokio::select! {
            () = function.runtime.connected() => {}
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
    pub async fn spawn(mut self) -> anyhow::Result<Function> {
        let runtime = RuntimeApi::start(([127, 0, 0, 1], 0).into()).await?;
        self.command.env("AWS_LAMBDA_RUNTIME_API", runtime.authority());
        let spawned = Instant::now();
        let mut child = self
            .command
            .spawn()
            .with_context(|| format!("can't run {}", self.command.as_std().get_program().display()))?;
        let logs = Arc::<Mutex<String>>::default();
        let stdout = child.stdout.take().map(|stdout| collect(stdout, Arc::clone(&logs)));
        let stderr = child.stderr.take().map(|stderr| collect(stderr, Arc::clone(&logs)));
        let readers = stdout.into_iter().chain(stderr).collect();
        Ok(Function { child, spawned, runtime, readers, logs, timeout: self.timeout })
    }

    /// Runs a program that is expected to end by itself.
    pub async fn run_to_end(mut self) -> anyhow::Result<(ExitStatus, String)> {
        let output =
            timeout(START_TIMEOUT, self.command.output()).await.context("the program did not end in time")??;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status, String::from_utf8_lossy(&text).into_owned()))
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
