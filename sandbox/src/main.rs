//! `sandbox`: tries `close-order` on a machine without WeChat or AWS.

mod commands;

use std::{io::Write, process::ExitCode};

use clap::{Parser, Subcommand};

/// Tries close-order on a machine without WeChat or AWS: mocks of WeChat Pay, Secrets Manager, EventBridge and Lambda on
/// loopback, around the real binary.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cargo run -p sandbox -- invoke events/close-order.json
  cargo run -p sandbox -- invoke events/order-paid.json --wire
  cargo run -p sandbox -- invoke events/merchant.json --mch-type merchant
  cargo run -p sandbox -- invoke events/confirm.json --api v3
  cargo run -p sandbox -- invoke events/sqs-merchants.json --mch-id 1230000109 --mch-id 1230000110:merchant:v3 \\
    --mch-id 1230000111:wrong-key --mch-id 1230000112:no-secret
  cargo run -p sandbox -- serve
  cargo run -p sandbox -- serve --queue
  cargo run --release -p sandbox -- bench
  cargo run --release -p sandbox -- simulate
  cargo run --release -p sandbox -- chaos --orders 10000 --seed 1";

#[derive(Subcommand)]
enum Command {
    /// Sends one event through the real binary and says what became of the order.
    Invoke(commands::invoke::Args),
    /// Keeps the mocks running on fixed ports, for a debugger or emulators.
    Serve(commands::serve::Args),
    /// Measures close-order beside a baseline, over HTTPS.
    Bench(commands::bench::Args),
    /// Simulates a flash sale and an outage of WeChat Pay with AWS's rules, in virtual time.
    Simulate(commands::simulate::Args),
    /// Lets everything go wrong and shows that the ledger is consistent.
    Chaos(commands::chaos::Args),
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Invoke(args) => commands::invoke::run(args).await,
        Command::Serve(args) => commands::serve::run(args).await,
        Command::Bench(args) => commands::bench::run(args).await,
        Command::Simulate(args) => commands::simulate::run(args).await,
        Command::Chaos(args) => commands::chaos::run(args).await,
    };
    done.unwrap_or_else(|error| {
        let _ = writeln!(std::io::stderr(), "sandbox: {error:#}");
        ExitCode::from(2)
    })
}
