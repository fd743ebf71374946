//! SQS: a batch of ten orders beside a batch of one, while the gateway takes its time.

use std::time::Duration;

use super::{
    Measured, cold,
    program::{Kind, Program},
    warm,
    world::{Event, World},
};
use crate::{
    mock::function::Function,
    mock::gateway::{Fault, Times},
};

/// How long the gateway thinks about each order.
pub(super) const THINKING: Duration = Duration::from_millis(50);

/// Orders in a batch.
const BATCH: usize = 10;

/// How often a function is started, and then given batches.
const FUNCTIONS: usize = 5;

/// How many batches of each size every function gets.
const ROUNDS: usize = 4;

/// Only close-order is known to take batches.
pub(super) async fn measure(world: &World, measured: &mut [Measured]) -> anyhow::Result<()> {
    for Measured { program, figures } in measured.iter_mut().filter(|it| it.program.kind == Kind::CloseOrder) {
        for _ in 0..FUNCTIONS {
            let (mut function, _) = cold::start(world, program, world.function(program)).await?;
            world.gateway().fault_on_next_calls(Times::Always, Fault::Delay(THINKING));
            for round in 0..ROUNDS {
                figures.sqs_one_ms.push_time(invoke(world, program, &mut function, world.batch(1)).await?);
                let took = invoke(world, program, &mut function, world.batch(BATCH)).await?;
                let batches = if round == 0 { &mut figures.sqs_first_batch_ms } else { &mut figures.sqs_batch_ms };
                batches.push_time(took);
            }
            world.gateway().clear_faults();
            function.stop().await;
        }
    }
    Ok(())
}

async fn invoke(world: &World, program: &Program, function: &mut Function, event: Event) -> anyhow::Result<Duration> {
    world.invoke(program, function, event, warm::took).await
}
