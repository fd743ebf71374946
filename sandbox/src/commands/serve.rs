//! `sandbox serve`: the mocks, for as long as they are wanted.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use sandbox::{
    Sandbox,
    mock::{
        identity::{Api, Flaw, Identity, MchType, Merchant},
        queue::{Poller, Queue, Report, Step},
        runtime::RuntimeApi,
    },
};

use super::{
    merchant::MerchantArgs,
    report::{self, Colour},
    scenario,
};

/// The visibility timeout of the local queue: shorter than the template's 180 s, for who watches.
const VISIBILITY: Duration = Duration::from_secs(3);

/// How often a message is received before it is a dead letter, as in template.yaml.
const MAX_RECEIVES: u32 = 480;

/// What `serve` takes.
#[derive(clap::Args)]
#[command(after_help = scenario::help())]
pub struct Args {
    /// The address to listen on. Docker on Linux reaches host.docker.internal only if this is the bridge's address or
    /// 0.0.0.0, which lets others in too.
    #[arg(long, default_value = "127.0.0.1")]
    host: IpAddr,
    /// The port of WeChat Pay; its second endpoint has the next one.
    #[arg(long, default_value_t = 9701)]
    gateway_port: u16,
    /// The port of Secrets Manager.
    #[arg(long, default_value_t = 9711)]
    secrets_port: u16,
    /// The port of Lambda's Runtime API and Invoke API.
    #[arg(long, default_value_t = 9721)]
    runtime_port: u16,
    /// The port of EventBridge.
    #[arg(long, default_value_t = 9731)]
    events_port: u16,
    /// Also a queue: what is posted to it, or sent by SQS's own calls, is delivered to the function as a batch; what has
    /// failed is visible again 3 seconds after its receipt, and what is not due waits until its `close_at`.
    #[arg(long)]
    queue: bool,
    /// The port for posting to the queue; SQS itself has the next one.
    #[arg(long, requires = "queue", default_value_t = 9741)]
    queue_port: u16,
    #[command(flatten)]
    merchant: MerchantArgs,
}

/// Runs the command until it is interrupted.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let at = |port| SocketAddr::from((args.host, port));
    let next = |port: u16| port.checked_add(1).map(at).context("the port after that one is needed, too");
    let wechat_pay = [at(args.gateway_port), next(args.gateway_port)?];
    let aws = [args.secrets_port, args.events_port].map(at);
    let sandbox = Sandbox::start_at(wechat_pay, aws, None, Identity::default()).await?;
    sandbox.gateway.unknown_orders(scenario::start_of);
    let runtime = RuntimeApi::start(at(args.runtime_port)).await?;
    let mut queue = None;
    if args.queue {
        let sqs = Queue::start(next(args.queue_port)?, VISIBILITY, MAX_RECEIVES).await?;
        let poller = Poller::start(at(args.queue_port), sqs.clone(), runtime.clone()).await?;
        queue = Some((sqs, poller));
    }
    let mut reports = queue.as_ref().map(|(queue, _)| queue.watch());

    let merchants = args.merchant.apply(&sandbox);
    let (mut exchanges, mut published) = (sandbox.gateway.watch(), sandbox.events.watch());
    start_command(&sandbox, &runtime, queue.as_ref().map(|(queue, _)| queue))?;
    guide(&runtime, queue.as_ref().map(|(_, poller)| poller), &merchants);
    loop {
        tokio::select! {
            // In this order: what the function did for a message comes before what became of the message.
            biased;
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                return Ok(ExitCode::SUCCESS);
            }
            Some(exchange) = exchanges.recv() => {
                report::exchange(&exchange, false);
                // What was shown is of no more use here.
                sandbox.gateway.clear_received();
            }
            Some(event) = published.recv() => {
                report::event(&event);
                sandbox.events.clear();
            }
            Some(message) = async { reports.as_mut()?.recv().await } => message_line(&message),
        }
    }
}

/// Prints what starts the function, to be pasted into a shell.
fn start_command(sandbox: &Sandbox, runtime: &RuntimeApi, queue: Option<&Queue>) -> anyhow::Result<()> {
    let lambda = [
        ("AWS_LAMBDA_RUNTIME_API", runtime.authority()),
        ("AWS_LAMBDA_FUNCTION_NAME", "close-order".to_owned()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128".to_owned()),
        ("AWS_LAMBDA_LOG_FORMAT", "JSON".to_owned()),
        ("AWS_REGION", "eu-central-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "sandbox".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "sandbox".to_owned()),
    ];
    let mut out = std::io::stdout().lock();
    writeln!(out, "# These lines in another terminal start the function.")?;
    let queues = queue.map(Queue::environment).into_iter().flatten();
    let mocks = sandbox.environment().into_iter().chain(sandbox.events_environment());
    for (name, value) in mocks.chain(queues).chain(lambda) {
        writeln!(out, "export {name}='{value}'")?;
    }
    writeln!(out, "cargo run --package close-order")?;
    Ok(out.flush()?)
}

/// Says what can be done now.
fn guide(runtime: &RuntimeApi, poller: Option<&Poller>, merchants: &[Merchant]) {
    for Merchant { identity, flaw } in merchants {
        let kind = if identity.mch_type == MchType::Partner { "partner" } else { "merchant" };
        let api = if identity.api == Api::V2 { "v2" } else { "v3" };
        let flaw = match flaw {
            None => "",
            Some(Flaw::WrongKey) => "; its secret has a wrong key",
            Some(Flaw::NoSecret) => "; it has no secret",
        };
        let text = format!("mch_id {}, {kind}, API {api}{flaw}", identity.mch_id);
        report::line("merchant", &text, if flaw.is_empty() { Colour::Green } else { Colour::Yellow });
    }
    let say = |text: &str| report::line("serve", text, Colour::Green);
    say("The mocks run; Ctrl-C ends them. Start the function with the lines above (or in a debugger, with the same");
    say("variables), then");
    let invoke = format!("http://{}/2015-03-31/functions/close-order/invocations", runtime.authority());
    say(&format!("  call it:         curl -d @events/close-order.json {invoke}"));
    if let Some(poller) = poller {
        say(&format!("  queue an order:  curl -d @events/close-order.json '{}?delay=5'", poller.url()));
        say("                   and it waits for its close_at, an RFC 3339 time at most 24 hours ahead");
    }
    say("cargo-lambda needs only WECHAT_PAY_…, OUTCOME_EVENT_BUS and AWS_…; it has a Runtime API of its own.");
    say("sam local needs host.docker.internal in place of 127.0.0.1.");
}

/// Says what became of a message of the queue.
fn message_line(report: &Report) {
    let (text, colour) = match &report.step {
        Step::Sent(delay) => (format!("is visible in {} s", delay.as_secs()), Colour::Cyan),
        Step::Received(receives) => (format!("is received: time {receives} of {MAX_RECEIVES}"), Colour::Cyan),
        Step::Waits(wait) => (format!("is not due, and waits {} s", wait.as_secs()), Colour::Cyan),
        Step::Deleted => ("is acknowledged, and deleted".to_owned(), Colour::Green),
        Step::Failed(left) => {
            (format!("stays in the queue, visible again in {} s", left.as_secs_f64().ceil()), Colour::Yellow)
        }
        Step::DeadLetter => ("is in the dead-letter queue: it may be closed and not published".to_owned(), Colour::Red),
        Step::SetAside(reason) => (format!("is in the queue of invalid orders: {reason}"), Colour::Red),
    };
    report::line("message", &format!("{} {text}", report.message_id), colour);
}
