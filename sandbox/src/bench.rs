//! The benchmark: what close-order costs cold and warm, over HTTPS, beside a baseline, which is the least that a function
//! can be, and beside peers: the same close with the usual libraries of other languages.
//!
//! Programs are measured in turn, A B A B, so that whatever else the machine does affects all of them alike, and where the
//! machine has two processors, on one apart from the mocks. Every answer is checked.

mod cold;
mod far;
mod figures;
mod peers;
mod processor;
mod program;
mod size;
mod test_bed;
mod warm;

pub use figures::{Figures, Measured, Samples, table};
pub use peers::install as install_peers;
use processor::Processors;
pub use program::{Kind, Program};
use test_bed::TestBed;
use tokio::runtime::Runtime;

/// Where progress is reported, line by line.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);

/// Measures the programs: the baseline first, then close-order, then any others; each is started `starts` times. This
/// process is kept to one processor from then on, so the benchmark has a runtime of its own, made for one.
///
/// # Errors
/// When a program can't be started, or an answer is not the right one.
pub fn run(programs: Vec<Program>, starts: usize, progress: Progress<'_>) -> anyhow::Result<Vec<Measured>> {
    let processors = Processors::assign()?;
    Runtime::new()?.block_on(measure(programs, starts, processors, progress))
}

async fn measure(
    programs: Vec<Program>,
    starts: usize,
    processors: Processors,
    progress: Progress<'_>,
) -> anyhow::Result<Vec<Measured>> {
    let bed = TestBed::start(processors).await?;
    let mut measured: Vec<Measured> = programs.into_iter().map(Measured::new).collect();
    for measured in &mut measured {
        size::measure(measured)?;
    }
    progress(&format!("{starts} starts of each, in turn"));
    cold::measure(&bed, &mut measured, starts).await?;
    progress(&format!("{} invocations of each, in turn by the {}", warm::MEASURED, warm::BLOCK));
    warm::measure(&bed, &mut measured).await?;
    progress(&format!("{starts} starts of each at a distance"));
    far::measure(&bed, &mut measured, starts).await?;
    progress(&format!("{} batches, WeChat Pay taking {} ms", warm::BATCHES, warm::THINKING.as_millis()));
    warm::measure_batches(&bed, &mut measured).await?;
    Ok(measured)
}
