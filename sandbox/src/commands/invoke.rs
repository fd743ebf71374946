//! `sandbox invoke`: one event, the real binary, one reply.

use std::{io::Write, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use sandbox::{
    Sandbox, binary,
    mock::function::Outcome,
    mock::identity::Identity,
    mock::runtime::{Answer, Deadline},
};
use serde_json::{Value, json};

use super::{
    report::{self, Colour},
    scenario,
};

/// What `invoke` takes.
#[derive(clap::Args)]
#[command(after_help = scenario::HELP)]
pub struct Args {
    /// The event: a file with JSON, or - for standard input.
    event: PathBuf,
    /// Also show the signed XML that went out and the XML that came back; the sign is cut short.
    #[arg(long)]
    wire: bool,
    /// The algorithm of the signs.
    #[arg(long, default_value = "MD5", value_parser = ["MD5", "HMAC-SHA256"])]
    sign_type: String,
    /// The function's timeout in seconds.
    #[arg(long, default_value_t = 20)]
    timeout: u64,
    /// Another program than the one of this workspace, which is built if need be.
    #[arg(long)]
    program: Option<PathBuf>,
}

/// Runs the command. Exit code 0: the function answered; 1: it raised a fault.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let event = if args.event.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())?
    } else {
        std::fs::read_to_string(&args.event).with_context(|| format!("can't read {}", args.event.display()))?
    };
    serde_json::from_str::<Value>(&event).with_context(|| format!("{} is not JSON", args.event.display()))?;
    let program = match args.program {
        Some(program) => program,
        None => tokio::task::spawn_blocking(binary::build).await??,
    };
    let sandbox = Sandbox::start_as(Identity { sign_type: Some(args.sign_type), ..Identity::default() }).await?;
    sandbox.gateway.unknown_orders(scenario::start_of);
    let timeout = Duration::from_secs(args.timeout);
    let mut function = sandbox.function(program).timeout(timeout).start().await?;
    let invocation = function.invoke_text(event, Deadline::After(timeout)).await;

    for received in sandbox.gateway.received() {
        report::sent(&received);
        if args.wire {
            report::wire("→", &received.body);
        }
        report::came_back(&received);
        if let (true, Some(reply)) = (args.wire, &received.reply) {
            report::wire("←", reply);
        }
    }
    let answer: Value = match &invocation.outcome {
        Outcome::Answered(Answer::Response(text) | Answer::Error(text)) => serde_json::from_str(text)?,
        Outcome::TimedOut | Outcome::Exited => json!({"errorType": invocation.error_type()}),
    };
    let body = answer.get("body").and_then(Value::as_str).and_then(|body| serde_json::from_str(body).ok());
    let meaning = report::meaning(body.as_ref().unwrap_or(&answer));
    let colour = if meaning.is_settled { Colour::Green } else { Colour::Red };
    report::line("means", meaning.means, colour);
    report::line("to do", meaning.to_do, colour);
    writeln!(std::io::stdout(), "{answer:#}")?;
    let is_answered = matches!(invocation.outcome, Outcome::Answered(Answer::Response(_)));
    Ok(if is_answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
