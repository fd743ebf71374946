//! SQS batches, while the gateway takes its time: what ten orders at once cost beside one, and what one environment gets
//! through.

use std::time::Duration;

use super::{
    Measured, Progress, cold,
    figures::Samples,
    program::Program,
    test_bed::{Event, TestBed},
    warm,
};
use crate::{
    mock::function::Function,
    mock::gateway::{Fault, Times},
};

/// How long the gateway thinks about each request.
pub(super) const THINKING: Duration = Duration::from_millis(50);

/// Orders in a batch: what SQS hands over at once, unless it is asked to wait.
pub(super) const BATCH: u16 = 10;

/// How often a function is started, and then given batches.
const FUNCTIONS: usize = 5;

/// How many batches of each size every function gets.
const ROUNDS: usize = 4;

/// How many batches one function gets for its capacity.
const BATCHES: usize = 30;

pub(super) async fn measure(bed: &TestBed, measured: &mut [Measured], progress: Progress<'_>) -> anyhow::Result<()> {
    for Measured { program, figures } in &mut *measured {
        for _ in 0..FUNCTIONS {
            let (mut function, _) = cold::start(bed, program, bed.function(program)).await?;
            if !bed.takes(program, &mut function, bed.batch(1, false)).await? {
                function.stop().await;
                break;
            }
            bed.gateway().fault_on_next_calls(Times::Always, Fault::Delay(THINKING));
            for round in 0..ROUNDS {
                figures.sqs_one_ms.push_time(invoke(bed, program, &mut function, bed.batch(1, false)).await?);
                let took = invoke(bed, program, &mut function, bed.batch(BATCH.into(), false)).await?;
                let batches = if round == 0 { &mut figures.sqs_first_batch_ms } else { &mut figures.sqs_batch_ms };
                batches.push_time(took);
            }
            bed.gateway().clear_faults();
            function.stop().await;
        }
    }
    progress(&format!("{BATCHES} batches with queries, and as many with events"));
    for Measured { program, figures } in measured {
        capacity(bed, program, false, &mut figures.sqs_query_batch_ms).await?;
        capacity(bed, program, true, &mut figures.sqs_event_batch_ms).await?;
    }
    Ok(())
}

/// Batches with queries, one after the other, after one that doesn't count: it opens the connections.
async fn capacity(bed: &TestBed, program: &Program, has_events: bool, samples: &mut Samples) -> anyhow::Result<()> {
    let function = if has_events { bed.function_with_events(program) } else { bed.function(program) };
    let (mut function, _) = cold::start(bed, program, function).await?;
    let batch = || if has_events { bed.published_batch(BATCH.into()) } else { bed.batch(BATCH.into(), true) };
    if bed.takes(program, &mut function, batch()).await? {
        bed.gateway().fault_on_next_calls(Times::Always, Fault::Delay(THINKING));
        for _ in 0..BATCHES {
            samples.push_time(invoke(bed, program, &mut function, batch()).await?);
        }
        bed.gateway().clear_faults();
    }
    function.stop().await;
    Ok(())
}

async fn invoke(bed: &TestBed, program: &Program, function: &mut Function, event: Event) -> anyhow::Result<Duration> {
    bed.invoke(program, function, event, warm::took).await
}
