//! The benchmark: what close-order costs cold and warm, over HTTPS, beside a baseline, which is the least that a function
//! can be, and beside peers: the same close with the usual libraries of other languages.
//!
//! Programs are measured in turn, A B A B, so that whatever else the machine does affects all of them alike, and where the
//! machine has two processors, on one apart from the mocks. Every answer is checked.

mod far;
mod figures;
mod program;
mod test_bed;

use std::time::Duration;

use figures::{Figure, Measured};
pub use program::{Kind, Program, peers};
use test_bed::TestBed;
use tokio::runtime::Runtime;

use crate::mock::gateway::{Fault, Times};

/// Starts that don't count, of each program: they bring its file into memory.
const UNCOUNTED_STARTS: usize = 3;

/// The invocations before those that are measured, and those of one program before it is the next one's turn: it has two
/// turns for each of its starts.
const UNCOUNTED: usize = 100;
const BLOCK: usize = 40;

/// The orders in a batch: what SQS hands over at once, unless it is asked to wait.
const BATCH: u16 = 10;

/// How long the gateway takes for each request about an order of a batch.
const THINKING: Duration = Duration::from_millis(50);

/// Measures the programs, each of which is started `starts` times and has as many batches; the table of what was measured,
/// in Markdown. Progress is reported line by line. This thread is kept to one processor from then on, so the benchmark has
/// a runtime of its own, made for one.
pub fn run(programs: Vec<Program>, starts: usize, progress: impl Fn(&str)) -> anyhow::Result<String> {
    let processors = test_bed::assign_processors();
    let measured = programs.into_iter().map(Measured::new).collect::<anyhow::Result<Vec<_>>>()?;
    Runtime::new()?.block_on(async {
        let bed = TestBed::set_up(processors).await?;
        measure(&bed, measured, starts, progress).await
    })
}

async fn measure(
    bed: &TestBed,
    mut measured: Vec<Measured>,
    starts: usize,
    progress: impl Fn(&str),
) -> anyhow::Result<String> {
    progress(&format!("{starts} starts of each, in turn"));
    for turn in 0..UNCOUNTED_STARTS + starts {
        for it in &mut measured {
            let (function, took) = bed.start(&it.program, bed.function(&it.program)).await?;
            if turn >= UNCOUNTED_STARTS {
                it.push_time(Figure::Cold, took.saturating_sub(bed.gateway_time(&it.program)));
                if let Some(peak) = function.memory_kib("VmHWM") {
                    it.push(Figure::Memory, figures::mebibytes(peak));
                }
            }
            function.stop().await;
        }
    }

    progress(&format!("{} invocations of each, in turn by the {BLOCK}", 2 * starts * BLOCK));
    let mut functions = Vec::new();
    for it in &measured {
        let (mut function, _) = bed.start(&it.program, bed.function(&it.program)).await?;
        for _ in 1..UNCOUNTED {
            bed.invoke(&it.program, &mut function, bed.one_order()).await?;
        }
        functions.push(function);
    }
    for _ in 0..2 * starts {
        for (it, function) in measured.iter_mut().zip(&mut functions) {
            for _ in 0..BLOCK {
                let took = bed.invoke(&it.program, function, bed.one_order()).await?;
                it.push_time(Figure::Warm, took.saturating_sub(bed.gateway_time(&it.program)));
            }
        }
    }
    drop(functions);

    progress(&format!("{starts} starts of each at a distance"));
    let far = far::environment(bed)?;
    for _ in 0..starts {
        // The baseline calls nobody.
        for it in measured.iter_mut().filter(|it| it.program.kind != Kind::Baseline) {
            let (function, took) = bed.start(&it.program, bed.function(&it.program).envs(far.clone())).await?;
            function.stop().await;
            it.push_time(Figure::Far, took);
        }
    }

    // Queries and events, one batch after the other; the first one opens the connections.
    progress(&format!("{starts} batches, WeChat Pay taking {} ms", THINKING.as_millis()));
    for it in measured.iter_mut().filter(|it| matches!(it.program.kind, Kind::CloseOrder(_))) {
        let function = bed.function(&it.program).envs(bed.sandbox.events_environment());
        let (mut function, _) = bed.start(&it.program, function).await?;
        bed.invoke(&it.program, &mut function, bed.batch(BATCH)).await?;
        bed.sandbox.gateway.fault_on_next_calls(Times::Always, Fault::Delay(THINKING));
        for _ in 0..starts {
            let took = bed.invoke(&it.program, &mut function, bed.batch(BATCH)).await?;
            it.push(Figure::Batch, f64::from(BATCH) / took.as_secs_f64());
        }
        bed.sandbox.gateway.clear_faults();
        function.stop().await;
    }
    Ok(figures::table(&measured))
}
