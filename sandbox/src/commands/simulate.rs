//! `sandbox simulate`: what a flash sale and an outage come to.

use std::{io::Write, process::ExitCode};

use sandbox::simulate;

/// What `simulate` takes.
#[derive(clap::Args)]
#[command(
    after_help = "Virtual time, AWS's own rules, and the function as it deals with the queue: prints the tables of \
    docs/performance.md, in seconds.\n\n\
    Examples:\n  \
    cargo run --release -p sandbox -- simulate\n  \
    cargo run --release -p sandbox -- simulate --limit 50 --seed 7"
)]
pub struct Args {
    /// The seed: the same one gives the same results.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Requests a second that WeChat Pay takes in a flash sale; can be given more than once.
    #[arg(long, value_name = "REQUESTS", default_values_t = [600, 300, 100],
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: Vec<u32>,
}

/// Runs the command.
pub async fn run(Args { seed, limit: limits }: Args) -> anyhow::Result<ExitCode> {
    let report = tokio::task::spawn_blocking(move || simulate::report(seed, &limits)).await?;
    write!(std::io::stdout(), "{report}")?;
    Ok(ExitCode::SUCCESS)
}
