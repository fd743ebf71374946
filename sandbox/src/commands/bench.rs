//! `sandbox bench`: close-order beside the least that a function can be.

use std::{io::Write, process::ExitCode, time::Duration};

use sandbox::{
    bench::{self, Distance, Plan, Program},
    binary,
};

use super::report::{self, Colour};

/// What `bench` takes.
#[derive(clap::Args)]
#[command(
    after_help = "The floor is an echo on lambda_runtime, built in the same profile: the least that a function can \
    be. Programs\nare started in turn, on a processor apart from what is around them if there are two, and every answer is checked.\n\
    Figures are medians unless they say otherwise."
)]
pub struct Args {
    /// How often each program is started.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u16).range(1..))]
    starts: u16,
    /// Print every sample as JSON instead of the table.
    #[arg(long)]
    json: bool,
    /// Milliseconds of a round trip to WeChat Pay, in the part at a distance.
    #[arg(long, value_name = "MS", default_value_t = 40)]
    rtt_gateway: u16,
    /// Milliseconds of a round trip to Secrets Manager, in the part at a distance.
    #[arg(long, value_name = "MS", default_value_t = 1)]
    rtt_secrets: u16,
    /// Another function to measure beside it, with its arguments; can be given more than once. It takes the events of
    /// close-order, finds the stand-ins by the same variables, and has a CA file in `SSL_CERT_FILE`,
    /// `NODE_EXTRA_CA_CERTS`, `AWS_CA_BUNDLE` and `REQUESTS_CA_BUNDLE`.
    #[arg(long, value_name = "CMD")]
    program: Vec<String>,
    /// Only a batch of 10 beside one order.
    #[arg(long)]
    sqs: bool,
    /// Let the programs share one processor with what is around them.
    #[arg(long)]
    one_processor: bool,
}

/// Runs the command. The targets are for people to judge: a figure that misses one is no failure of the command.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if cfg!(debug_assertions) {
        report::line("bench", "this is the debug profile, whose figures mean little: cargo run --release", Colour::Red);
    }
    let built = tokio::task::spawn_blocking(|| anyhow::Ok((binary::build_floor()?, binary::build()?)));
    let (floor, close_order) = built.await??;
    let mut programs = vec![Program::floor(floor), Program::close_order(close_order)];
    for command in &args.program {
        programs.push(Program::other(command)?);
    }
    let [gateway, secrets] = [args.rtt_gateway, args.rtt_secrets].map(|ms| Duration::from_millis(ms.into()));
    let plan = Plan {
        starts: args.starts.into(),
        distance: Some(Distance { gateway, secrets }),
        is_sqs_only: args.sqs,
        is_on_one_processor: args.one_processor,
    };
    let progress = |text: &str| report::line("bench", text, Colour::Cyan);
    let results = tokio::task::spawn_blocking(move || bench::run(programs, plan, &progress)).await??;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{:#}", results.json())?;
    } else {
        write!(out, "{}", results.table())?;
    }
    Ok(ExitCode::SUCCESS)
}
