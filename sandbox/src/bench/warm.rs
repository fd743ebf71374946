//! Warm invocations: one process each, one event after the other; and batches of SQS.

use std::time::Duration;

use super::{
    Measured, cold,
    program::{Kind, Program},
    test_bed::{Event, TestBed},
};
use crate::mock::{
    function::Function,
    gateway::{Fault, Times},
};

/// The invocations before those that are measured.
const WARM_UP: u32 = 100;

/// The invocations that are measured.
pub(super) const MEASURED: u32 = 2_000;

/// The invocations of one program before it is the next one's turn.
pub(super) const BLOCK: u32 = 50;

/// The batches that are measured.
pub(super) const BATCHES: usize = 30;

/// Orders in a batch: what SQS hands over at once, unless it is asked to wait.
pub(super) const BATCH: u16 = 10;

/// How long the gateway takes for each request about an order of a batch.
pub(super) const THINKING: Duration = Duration::from_millis(50);

pub(super) async fn measure(bed: &TestBed, measured: &mut [Measured]) -> anyhow::Result<()> {
    let mut functions = Vec::new();
    for Measured { program, .. } in &*measured {
        let (mut function, _) = cold::start(bed, program, bed.function(program)).await?;
        for _ in 1..WARM_UP {
            bed.invoke(program, &mut function, bed.one_order(), took).await?;
        }
        functions.push(function);
    }
    for _ in 0..MEASURED / BLOCK {
        for (Measured { program, figures }, function) in measured.iter_mut().zip(&mut functions) {
            for _ in 0..BLOCK {
                let took = bed.invoke(program, function, bed.one_order(), took).await?;
                figures.overhead_ms.push_time(took.saturating_sub(bed.gateway_time(program)));
            }
        }
    }
    Ok(())
}

/// Batches with queries and events, one after the other, while the gateway takes its time; after one that doesn't count,
/// since it opens the connections. Only close-order knows them.
pub(super) async fn measure_batches(bed: &TestBed, measured: &mut [Measured]) -> anyhow::Result<()> {
    for Measured { program, figures } in measured.iter_mut().filter(|it| it.program.kind == Kind::CloseOrder) {
        let (mut function, _) = cold::start(bed, program, bed.function_with_events(program)).await?;
        invoke(bed, program, &mut function, bed.batch(BATCH)).await?;
        bed.gateway().fault_on_next_calls(Times::Always, Fault::Delay(THINKING));
        for _ in 0..BATCHES {
            figures.batch_ms.push_time(invoke(bed, program, &mut function, bed.batch(BATCH)).await?);
        }
        bed.gateway().clear_faults();
        function.stop().await;
    }
    Ok(())
}

async fn invoke(bed: &TestBed, program: &Program, function: &mut Function, event: Event) -> anyhow::Result<Duration> {
    bed.invoke(program, function, event, took).await
}

/// The time from the last event to its answer.
fn took(function: &Function) -> Option<Duration> {
    let moments = function.moments();
    Some(moments.answered? - moments.handed_over?)
}
