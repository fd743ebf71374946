//! `sandbox simulate`: what a flash sale and an outage come to.

use std::{io::Write, process::ExitCode};

use sandbox::simulate::{self, Options};

/// What `simulate` takes.
#[derive(clap::Args)]
#[command(
    after_help = "Virtual time, AWS's own rules, and the function as it deals with the queue: prints the tables of \
    docs/performance.md, in seconds.\n\n\
    Examples:\n  \
    cargo run --release -p sandbox -- simulate\n  \
    cargo run --release -p sandbox -- simulate --orders 200000 --limit 50 --concurrency 2"
)]
pub struct Args {
    /// The seed: the same one gives the same results.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many orders of a flash sale are due within five minutes.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    orders: u32,
    /// Requests a second that WeChat Pay takes in a flash sale; can be given more than once.
    #[arg(long, value_name = "REQUESTS", default_values_t = [600, 300, 100],
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: Vec<u32>,
    /// `QueueConcurrency` in a flash sale; can be given more than once.
    #[arg(long, value_name = "BATCHES", default_values_t = [2, 3, 5, 10, 20],
          value_parser = clap::value_parser!(u16).range(2..=1000))]
    concurrency: Vec<u16>,
    /// `QueueAttempts`: how often a message is received before it goes to the dead-letter queue.
    #[arg(long, default_value_t = 480, value_parser = clap::value_parser!(u16).range(1..=1000))]
    attempts: u16,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { seed, orders, limit: limits, concurrency, attempts } = args;
    let options = Options { seed, orders, limits, concurrency, attempts };
    let report = tokio::task::spawn_blocking(move || simulate::report(&options)).await?;
    write!(std::io::stdout(), "{report}")?;
    Ok(ExitCode::SUCCESS)
}
