//! `sandbox serve`: the stand-ins, for as long as they are wanted.

use std::{
    io::Write,
    net::{IpAddr, SocketAddr},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context;
use sandbox::{
    Sandbox, mock::event_bus::EventBus, mock::gateway::Gateway, mock::identity::Identity, mock::runtime::RuntimeApi,
    mock::secrets::Secrets,
};

use super::{
    report::{self, Colour},
    scenario,
};

/// What `serve` takes.
#[derive(clap::Args)]
#[command(after_help = scenario::HELP)]
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
    /// The algorithm of the signatures.
    #[arg(long, default_value = "MD5", value_parser = ["MD5", "HMAC-SHA256"])]
    sign_type: String,
}

/// Runs the command until it is interrupted.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let at = |port| SocketAddr::from((args.host, port));
    let taken = |port| move || format!("port {port} can't be listened on");
    let identity = Identity { sign_type: Some(args.sign_type), ..Identity::default() };
    let second = args.gateway_port.checked_add(1).context("the second endpoint needs the next port")?;
    let gateway = Gateway::start(identity.clone(), &[at(args.gateway_port), at(second)])
        .await
        .with_context(taken(args.gateway_port))?;
    gateway.unknown_orders(scenario::start_of);
    let secrets =
        Secrets::start(at(args.secrets_port), &identity.secret()).await.with_context(taken(args.secrets_port))?;
    let events = EventBus::start(at(args.events_port)).await.with_context(taken(args.events_port))?;
    let runtime = RuntimeApi::start(at(args.runtime_port)).await.with_context(taken(args.runtime_port))?;

    let sandbox = Sandbox { gateway, secrets, events, identity };
    let mut out = std::io::stdout().lock();
    for (name, value) in sandbox.environment() {
        writeln!(out, "export {name}='{value}'")?;
    }
    for (name, value) in [
        ("AWS_LAMBDA_RUNTIME_API", runtime.authority().as_str()),
        ("AWS_LAMBDA_FUNCTION_NAME", "close-order"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "sandbox"),
        ("AWS_SECRET_ACCESS_KEY", "sandbox"),
    ] {
        writeln!(out, "export {name}='{value}'")?;
    }
    out.flush()?;
    drop(out);
    for text in [
        "The stand-ins run; Ctrl-C ends them. With the variables above set:".to_owned(),
        "  a debugger:      start close-order in it, then".to_owned(),
        format!(
            "                   curl -d @events/close-order.json http://{}/2015-03-31/functions/close-order/invocations",
            runtime.authority()
        ),
        "  cargo-lambda:    needs only WECHAT_PAY_… and AWS_…; it has a Runtime API of its own".to_owned(),
        "  sam local:       put host.docker.internal in place of 127.0.0.1".to_owned(),
    ] {
        report::line("serve", &text, Colour::Green);
    }
    let mut seen = 0;
    loop {
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                return Ok(ExitCode::SUCCESS);
            }
            () = tokio::time::sleep(Duration::from_millis(100)) => {
                let received = sandbox.gateway.received();
                received.iter().skip(seen).for_each(report::call);
                seen = received.len();
            }
        }
    }
}
