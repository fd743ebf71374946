//! `sandbox chaos`: everything goes wrong, and the ledger must be consistent.

use std::{
    io::{Write, stdout},
    num::NonZeroUsize,
    process::ExitCode,
};

use sandbox::{binary, chaos};

/// How many functions run side by side.
const FUNCTIONS: usize = 8;

const EXAMPLES: &str = "\
Orders in mixed states, of six merchants over API v2 and v3, come by direct calls and SQS, while WeChat Pay, Secrets Manager,
EventBridge and SQS fail in every way. What the function reported and published is then compared with what the gateway knows.

Examples:
  cargo run --release -p sandbox -- chaos --orders 10000 --seed 1
  cargo run -p sandbox -- chaos --orders 300 --seed 7";

/// What `chaos` takes.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// How many orders.
    #[arg(long, default_value = "1000")]
    orders: NonZeroUsize,
    /// The seed: the same one makes the same plan.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the command. Exit code 0: the ledger is consistent; 1: it is not.
pub async fn run(Args { orders, seed }: Args) -> anyhow::Result<ExitCode> {
    let program = tokio::task::spawn_blocking(binary::build).await??;
    let ledger = chaos::run(orders.get(), seed, &program, FUNCTIONS).await?;
    writeln!(stdout(), "seed {seed}\n{ledger}")?;
    Ok(if ledger.is_consistent() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
