//! `sandbox chaos`: everything goes wrong, and the ledger must be consistent.

use std::{
    io::{IsTerminal, Write, stderr},
    num::NonZeroUsize,
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
};

use sandbox::{
    binary,
    chaos::{self, Plan},
};

const EXAMPLES: &str = "\
Endpoints drop, hang, garble, forge, replay and go down, closes do not stick, queries lag, payers pay meanwhile, keys are
rotated, the rate limit is met, Secrets Manager, EventBridge and SQS fail, while orders in mixed states come by direct calls
and SQS, some not due, some twice, some invalid: of a partner, of an ordinary merchant, and of six merchants in one
deployment, over API v2 and v3, one with a wrong key and one without a secret. What the function reported and published is
then compared with what the gateway knows.

Examples:
  cargo run --release -p sandbox -- chaos --orders 10000 --seed 1
  cargo run -p sandbox -- chaos --orders 300 --seed 7";

/// What `chaos` takes.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// How many orders: a quarter of them a partner's, a quarter an ordinary merchant's, half those of several merchants.
    #[arg(long, default_value = "1000")]
    orders: NonZeroUsize,
    /// The seed: the same one makes the same plan.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many functions run side by side.
    #[arg(long, default_value = "8")]
    functions: NonZeroUsize,
    /// Another program than the one of this workspace, which is built if need be.
    #[arg(long)]
    program: Option<PathBuf>,
}

/// Runs the command. Exit code 0: the ledger is consistent; 1: it is not.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let program = match args.program {
        Some(program) => program,
        None => tokio::task::spawn_blocking(binary::build).await??,
    };
    let plan = Plan::new(args.orders.get(), args.seed);
    let ledger = chaos::run(plan, &program, args.functions.get(), progress()).await?;
    writeln!(std::io::stdout(), "seed {}\n{ledger}", args.seed)?;
    Ok(if ledger.is_consistent() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows how far the run is, on standard error: in place on a terminal, a line every tenth in a pipe.
fn progress() -> impl Fn(usize, usize) + Send + Sync {
    let shown = AtomicUsize::new(0);
    move |done, all| {
        let is_terminal = stderr().is_terminal();
        let step = if is_terminal { done * 1000 / all.max(1) } else { done * 10 / all.max(1) };
        if shown.fetch_max(step, Ordering::Relaxed) < step {
            let (start, end) = if is_terminal { ("\r", "") } else { ("", "\n") };
            let _ = write!(stderr(), "{start}chaos: {done} of {all} orders had their turn{end}");
        }
    }
}
