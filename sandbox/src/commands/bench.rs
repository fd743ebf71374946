//! `sandbox bench`: close-order beside a baseline, and beside peers.

use std::{fs, io::Write, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use sandbox::{
    bench::{self, Distance, Options, Program},
    binary,
};

use super::report::{self, Colour};

/// What `bench` takes.
#[derive(clap::Args)]
#[command(
    after_help = "The baseline is an echo on lambda_runtime, built in the same profile: the least that a function can \
    be.\nPrograms are started in turn, on a processor apart from the mocks if there are two, and every answer is \
    checked.\nFigures are medians unless they say otherwise.\n\n\
    Examples:\n  \
    cargo run --release -p sandbox -- bench\n  \
    cargo run --release -p sandbox -- bench --program /path/to/an/earlier/close-order\n  \
    cargo run --release -p sandbox -- bench --peers --markdown target/performance.md --svg docs/performance.svg"
)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
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
    /// close-order, finds the mocks by the same variables, and has a CA file in `SSL_CERT_FILE`,
    /// `NODE_EXTRA_CA_CERTS`, `AWS_CA_BUNDLE` and `REQUESTS_CA_BUNDLE`.
    #[arg(long, value_name = "CMD")]
    program: Vec<String>,
    /// Also measure the functions of `benches/peers`: the same close in Node.js and Python, with the usual libraries,
    /// which are installed into `target/peers`.
    #[arg(long)]
    peers: bool,
    /// Also write the table to this file, without the targets.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Also draw the comparison into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Only SQS batches.
    #[arg(long, conflicts_with = "svg")]
    sqs: bool,
    /// Let the programs share one processor with the mocks.
    #[arg(long)]
    one_processor: bool,
}

/// Runs the command. The targets are for people to judge: a figure that misses one is no failure of the command.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if cfg!(debug_assertions) {
        report::line("bench", "this is the debug profile, whose figures mean little: cargo run --release", Colour::Red);
    }
    let built = tokio::task::spawn_blocking(|| anyhow::Ok((binary::build_baseline()?, binary::build()?)));
    let (baseline, close_order) = built.await??;
    let mut programs = vec![Program::baseline(baseline), Program::close_order(close_order)];
    for command in &args.program {
        programs.push(Program::other(command)?);
    }
    if args.peers {
        report::line("bench", "installing the peers into target/peers", Colour::Cyan);
        programs.extend(tokio::task::spawn_blocking(bench::install_peers).await??);
    }
    let [gateway, secrets] = [args.rtt_gateway, args.rtt_secrets].map(|ms| Duration::from_millis(ms.into()));
    let options = Options {
        starts: args.starts.into(),
        distance: Some(Distance { gateway, secrets }),
        is_sqs_only: args.sqs,
        is_on_one_processor: args.one_processor,
    };
    let progress = |text: &str| report::line("bench", text, Colour::Cyan);
    let results = tokio::task::spawn_blocking(move || bench::run(programs, options, &progress)).await??;
    let write = |file: Option<PathBuf>, text: String| {
        file.map_or(Ok(()), |file| fs::write(&file, text).with_context(|| format!("can't write {}", file.display())))
    };
    write(args.markdown, results.table())?;
    write(args.svg, results.svg())?;
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{:#}", results.json())?;
    } else {
        write!(out, "{}", results.table_with_targets())?;
    }
    Ok(ExitCode::SUCCESS)
}
