//! The benchmark: what close-order costs cold and warm, over HTTPS, beside the floor, which is the least that a function
//! can be.
//!
//! Programs are measured in turn, A B A B, so that what else the machine does meets all of them alike, and where the
//! machine has two, on a processor apart from what is around them; every answer is checked to be the right one.

mod cold;
mod far;
mod figures;
mod processor;
mod program;
mod report;
mod size;
mod sqs;
mod warm;
mod world;

use std::time::Duration;

pub use far::Distance;
pub use figures::{Figures, Measured, Samples};
pub use processor::Layout;
use processor::Processors;
pub use program::{Kind, Program};
use tokio::runtime::Runtime;
use world::World;

/// What is to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How often each program is started.
    pub starts: usize,
    /// How far away WeChat Pay and Secrets Manager are in one part of the benchmark, if there is such a part.
    pub distance: Option<Distance>,
    /// Whether all but the batches is left out.
    pub is_sqs_only: bool,
    /// Whether the programs share one processor with what is around them.
    pub is_on_one_processor: bool,
}

/// What was measured.
#[derive(Debug)]
pub struct Results {
    /// What was to be.
    pub plan: Plan,
    /// Where the programs ran.
    pub layout: Layout,
    /// The programs and their figures.
    pub programs: Vec<Measured>,
}

/// Where progress is told, line by line.
pub type Progress<'a> = &'a (dyn Fn(&str) + Sync);

/// Measures the programs: the floor first, then close-order, then any others. This process is kept to one processor
/// from then on, so the benchmark has a runtime of its own, made for one.
///
/// # Errors
/// When a program can't be started, or an answer is not the right one.
pub fn run(programs: Vec<Program>, plan: Plan, progress: Progress<'_>) -> anyhow::Result<Results> {
    let (processors, layout) = Processors::assign(plan.is_on_one_processor)?;
    progress(&layout.to_string());
    let programs = Runtime::new()?.block_on(measure(programs, plan, processors, progress))?;
    Ok(Results { plan, layout, programs })
}

async fn measure(
    programs: Vec<Program>,
    plan: Plan,
    processors: Processors,
    progress: Progress<'_>,
) -> anyhow::Result<Vec<Measured>> {
    let world = World::start(processors).await?;
    let mut measured: Vec<Measured> = programs.into_iter().map(Measured::new).collect();
    if !plan.is_sqs_only {
        for measured in &mut measured {
            size::measure(measured)?;
        }
        progress(&format!("{} starts of each, in turn", plan.starts));
        cold::measure(&world, &mut measured, plan.starts).await?;
        progress(&format!("{} invocations of each, in turn by the {}", warm::MEASURED, warm::BLOCK));
        warm::measure(&world, &mut measured, progress).await?;
        if let Some(distance) = plan.distance {
            progress(&format!("{} starts {distance}", plan.starts));
            far::measure(&world, &mut measured, plan.starts, distance).await?;
        }
    }
    progress(&format!("SQS batches, with WeChat Pay thinking for {} ms", sqs::THINKING.as_millis()));
    sqs::measure(&world, &mut measured).await?;
    Ok(measured)
}

/// A time in milliseconds.
fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
