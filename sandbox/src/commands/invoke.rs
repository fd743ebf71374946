//! `sandbox invoke`: one event, the real binary, one answer.

use std::{io::Write, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use sandbox::{
    Sandbox, binary,
    mock::{
        function::{Function, Invocation, Outcome},
        runtime::{Answer, Deadline},
    },
};
use serde_json::{Value, json};

use super::{
    merchant::MerchantArgs,
    report::{self, Colour},
    scenario,
};

/// Lambda's own limit, in seconds.
const MAX_TIMEOUT: u64 = 900;

/// What `invoke` takes.
#[derive(clap::Args)]
#[command(
    after_help = scenario::help(),
    after_long_help = format!("{}\n\n{EXIT_CODES}", scenario::help()),
)]
pub struct Args {
    /// The event: a file with JSON, or - for standard input.
    event: PathBuf,
    #[command(flatten)]
    merchant: MerchantArgs,
    /// Also show what went out and what came back, with API v3's headers; signatures are cut short.
    #[arg(long)]
    wire: bool,
    /// The function's timeout in seconds.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=MAX_TIMEOUT))]
    timeout: u64,
    /// Another program than the one of this workspace, which is built if need be.
    #[arg(long)]
    program: Option<PathBuf>,
}

const EXIT_CODES: &str = "\
Exit codes
  0  the function answered, whatever became of the order
  1  the function raised an error or answered with an HTTP error status, or the outcome is not_sent or rejected
  2  the sandbox itself failed";

/// Runs the command; its exit codes are in [`EXIT_CODES`].
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let event = if args.event.as_os_str() == "-" {
        std::io::read_to_string(std::io::stdin())?
    } else {
        std::fs::read_to_string(&args.event).with_context(|| format!("can't read {}", args.event.display()))?
    };
    // Editors on Windows write a byte order mark.
    let event = event.strip_prefix('\u{feff}').unwrap_or(&event);
    let json: Value = serde_json::from_str(event).with_context(|| format!("{} is not JSON", args.event.display()))?;
    let program = match args.program {
        Some(program) => program,
        None => tokio::task::spawn_blocking(binary::build).await??,
    };
    let sandbox = Sandbox::start().await?;
    args.merchant.apply(&sandbox);
    sandbox.gateway.unknown_orders(scenario::start_of);
    let timeout = Duration::from_secs(args.timeout);
    let mut function = sandbox.function_with_events(program).timeout(timeout).start().await?;
    let invocation = function.invoke_text(event.to_owned(), Deadline::After(timeout)).await;

    let answer = answer(&invocation);
    let is_right = match answer.get("batchItemFailures").and_then(Value::as_array) {
        Some(failures) => {
            batch(&json, failures, &function).await;
            true
        }
        None => one_order(&answer, &function).await,
    };
    for received in sandbox.gateway.received() {
        report::exchange(&received, args.wire);
    }
    sandbox.events.events().iter().for_each(report::event);
    writeln!(std::io::stdout(), "{answer:#}")?;
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The function's answer or error as JSON, or what Lambda says where there is neither.
fn answer(invocation: &Invocation) -> Value {
    let message = match &invocation.outcome {
        Outcome::Answered(Answer::Response(text) | Answer::Error(text)) => {
            return serde_json::from_str(text).unwrap_or_else(|_| json!(text));
        }
        Outcome::TimedOut => {
            format!("the function did not answer within its timeout of {} s", invocation.took.as_secs())
        }
        Outcome::Exited => "the function ended without an answer".to_owned(),
    };
    json!({"errorType": invocation.error_type(), "errorMessage": message})
}

/// Says what became of the one order of a direct call or an HTTP request; whether that is no error.
async fn one_order(answer: &Value, function: &Function) -> bool {
    let body = answer.get("body").and_then(Value::as_str).and_then(|body| serde_json::from_str::<Value>(body).ok());
    let order = body.as_ref().unwrap_or(answer);
    let text = |name: &str| order.get(name).and_then(Value::as_str);
    // A function error has no such field; but its log line has.
    let lines = if text("outcome").is_none() { function.wait_for_order_lines(1).await } else { Vec::new() };
    let logged = lines.first().and_then(|line| line.get("outcome")?.as_str());
    let outcome = text("outcome").or(logged).unwrap_or("unknown");
    report::outcome(outcome, order.get("confirmed") == Some(&Value::Bool(true)));
    let code = text("err_code").filter(|_| !matches!(outcome, "closed" | "paid"));
    let code = code.map(|code| format!("{code}: {}", text("err_code_des").unwrap_or_default()));
    let texts = ["errorMessage", "errMsg", "returnMsg"].into_iter().filter_map(text);
    let texts = texts.filter(|text| !matches!(*text, "OK" | "cloudPay.closeOrder:ok")).map(str::to_owned);
    for why in code.into_iter().chain(texts) {
        report::line("why", &why, Colour::Yellow);
    }
    let is_http_error = answer.get("statusCode").and_then(Value::as_u64).is_some_and(|status| status >= 400);
    !is_http_error && answer.get("errorType").is_none() && !matches!(outcome, "not_sent" | "rejected")
}

/// Says what became of the messages of a batch, and which of them are redelivered.
async fn batch(event: &Value, failures: &[Value], function: &Function) {
    let records = event.get("Records").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let failed: Vec<_> = failures.iter().filter_map(|failure| failure.get("itemIdentifier")).collect();
    let (failures, records_in_all) = (failed.len(), records.len());
    let text = format!(
        "a batch: {failures} of {records_in_all} messages are redelivered / {records_in_all} 条消息中 {failures} 条会重新投递"
    );
    report::line("outcome", &text, if failed.is_empty() { Colour::Green } else { Colour::Yellow });
    let lines = function.wait_for_order_lines(records.len()).await;
    for id in records.iter().filter_map(|record| record.get("messageId")) {
        let line = lines.iter().find(|line| line.get("message_id") == Some(id));
        let logged = |name: &str| line.and_then(|line| line.get(name)?.as_str()).unwrap_or("-");
        let (becomes, colour) =
            if failed.contains(&id) { ("is redelivered", Colour::Yellow) } else { ("is acknowledged", Colour::Green) };
        let (outcome, number) = (logged("outcome"), logged("out_trade_no"));
        let id = id.as_str().unwrap_or_default();
        report::line("message", &format!("{id} {becomes}: {outcome}, out_trade_no {number}"), colour);
    }
}
