//! `sandbox bench`: close-order beside a baseline, and beside peers.

use std::{io::Write, path::PathBuf, process::ExitCode};

use sandbox::{
    bench::{self, Kind, Program},
    binary,
    mock::identity::Api,
};

use super::report::{self, Colour};

/// What `bench` takes.
#[derive(clap::Args)]
#[command(
    after_help = "The baseline is an echo on lambda_runtime, built in the same profile: the least that a function can \
    be.\nPrograms are started in turn, on a processor apart from the mocks if there are two, and every answer is \
    checked.\nFigures are medians."
)]
pub struct Args {
    /// How often each program is started; of warm invocations there are 80 times as many.
    #[arg(long, default_value_t = 25, value_parser = clap::value_parser!(u16).range(1..))]
    starts: u16,
    /// Another build of close-order to measure beside it; can be given more than once.
    #[arg(long, value_name = "FILE")]
    program: Vec<PathBuf>,
    /// Also measure the functions of `benches/peers`: the same close in Node.js and Python, with the usual libraries,
    /// which are installed into `target/peers`.
    #[arg(long)]
    peers: bool,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if cfg!(debug_assertions) {
        report::line("bench", "this is the debug profile, whose figures mean little: cargo run --release", Colour::Red);
    }
    let built = tokio::task::spawn_blocking(|| anyhow::Ok((binary::build_baseline()?, binary::build()?)));
    let (baseline, close_order) = built.await??;
    let mut programs = vec![
        Program::new("baseline", Kind::Baseline, baseline),
        Program::new("close-order", Kind::CloseOrder(Api::V2), close_order.clone()),
        Program::new("close-order, API v3", Kind::CloseOrder(Api::V3), close_order),
    ];
    let other_build = |path: PathBuf| Program::new(&path.to_string_lossy(), Kind::CloseOrder(Api::V2), path.clone());
    programs.extend(args.program.into_iter().map(other_build));
    if args.peers {
        report::line("bench", "installing the peers into target/peers", Colour::Cyan);
        programs.extend(tokio::task::spawn_blocking(bench::peers).await??);
    }
    let progress = |text: &str| report::line("bench", text, Colour::Cyan);
    let table = tokio::task::spawn_blocking(move || bench::run(programs, args.starts.into(), progress)).await??;
    write!(std::io::stdout(), "{table}")?;
    Ok(ExitCode::SUCCESS)
}
