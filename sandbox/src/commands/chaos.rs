//! `sandbox chaos`: everything goes wrong, and the books must balance.

use std::{
    io::{IsTerminal, Write, stderr},
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
};

use sandbox::{
    binary,
    chaos::{self, Plan},
};

const EXAMPLES: &str = "\
Endpoints drop, hang, garble, forge and go down, the key is rotated and Secrets Manager blinks, while orders in mixed
states come by direct calls and SQS. What the function said is then held against what the gateway knows.

Examples:
  cargo run --release -p sandbox -- chaos --orders 10000 --seed 1
  cargo run -p sandbox -- chaos --orders 300 --seed 7";

/// What `chaos` takes.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// How many orders.
    #[arg(long, default_value_t = 1000)]
    orders: usize,
    /// The seed: the same one makes the same plan.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many functions run side by side.
    #[arg(long, default_value_t = 8)]
    functions: usize,
    /// Another program than the one of this workspace, which is built if need be.
    #[arg(long)]
    program: Option<PathBuf>,
}

/// Runs the command. Exit code 0: the books balance; 1: they don't.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let program = match args.program {
        Some(program) => program,
        None => tokio::task::spawn_blocking(binary::build).await??,
    };
    let books = chaos::run(Plan::new(args.orders, args.seed), &program, args.functions, progress()).await?;
    writeln!(std::io::stdout(), "seed {}\n{books}", args.seed)?;
    Ok(if books.balance() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Shows how far the run is, on standard error: in place on a terminal, a line every tenth in a pipe.
fn progress() -> impl Fn(usize, usize) + Send + Sync {
    let shown = AtomicUsize::new(0);
    move |done, all| {
        let is_terminal = stderr().is_terminal();
        let step = if is_terminal { done * 1000 / all.max(1) } else { done * 10 / all.max(1) };
        if shown.fetch_max(step, Ordering::Relaxed) < step {
            let (start, end) = if is_terminal { ("\r", "") } else { ("", "\n") };
            let _ = write!(stderr(), "{start}chaos: {done} of {all} orders settled{end}");
        }
    }
}
