//! The benchmark: what close-order costs cold and warm, over HTTPS, beside a baseline, which is the least that a function
//! can be, and beside peers: the same close with the usual libraries of other languages.
//!
//! Programs are measured in turn, A B A B, so that whatever else the machine does affects all of them alike, and where the
//! machine has two processors, on one apart from the mocks. Every answer is checked.

mod chart;
mod cold;
mod far;
mod figures;
mod markdown;
mod peers;
mod processor;
mod program;
mod queue;
mod rows;
mod size;
mod test_bed;
mod warm;

use std::time::Duration;

pub use far::Distance;
pub use figures::{Figures, Measured, Samples};
pub use peers::install as install_peers;
pub use processor::Layout;
use processor::Processors;
pub use program::{Kind, Program};
use test_bed::TestBed;
use tokio::runtime::Runtime;

/// What to measure.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How often each program is started.
    pub starts: usize,
    /// How far away WeChat Pay and Secrets Manager are in one part of the benchmark, if there is such a part.
    pub distance: Option<Distance>,
    /// Whether to measure SQS batches alone.
    pub is_sqs_only: bool,
    /// Whether the programs share one processor with the mocks.
    pub is_on_one_processor: bool,
}

/// What was measured.
#[derive(Debug)]
pub struct Results {
    /// What was asked for.
    pub options: Options,
    /// Where the programs ran.
    pub layout: Layout,
    /// The programs and their figures.
    pub programs: Vec<Measured>,
}

/// Where progress is reported, line by line.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);

/// Measures the programs: the baseline first, then close-order, then any others. This process is kept to one processor
/// from then on, so the benchmark has a runtime of its own, made for one.
///
/// # Errors
/// When a program can't be started, or an answer is not the right one.
pub fn run(programs: Vec<Program>, options: Options, progress: Progress<'_>) -> anyhow::Result<Results> {
    let (processors, layout) = Processors::assign(options.is_on_one_processor)?;
    progress(&layout.to_string());
    let programs = Runtime::new()?.block_on(measure(programs, options, processors, progress))?;
    Ok(Results { options, layout, programs })
}

async fn measure(
    programs: Vec<Program>,
    options: Options,
    processors: Processors,
    progress: Progress<'_>,
) -> anyhow::Result<Vec<Measured>> {
    let bed = TestBed::start(processors).await?;
    let mut measured: Vec<Measured> = programs.into_iter().map(Measured::new).collect();
    if !options.is_sqs_only {
        for measured in &mut measured {
            size::measure(measured)?;
        }
        progress(&format!("{} starts of each, in turn", options.starts));
        cold::measure(&bed, &mut measured, options.starts).await?;
        progress(&format!("{} invocations of each, in turn by the {}", warm::MEASURED, warm::BLOCK));
        warm::measure(&bed, &mut measured, progress).await?;
        if let Some(distance) = options.distance {
            progress(&format!("{} starts {distance}", options.starts));
            far::measure(&bed, &mut measured, options.starts, distance).await?;
        }
    }
    progress(&format!("SQS batches, with WeChat Pay thinking for {} ms", queue::THINKING.as_millis()));
    queue::measure(&bed, &mut measured, progress).await?;
    Ok(measured)
}

/// A time in milliseconds.
fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
