//! Warm invocations: one process each, one event after the other.

use std::time::Duration;

use super::{
    Measured, Progress, cold,
    figures::mebibytes,
    milliseconds,
    program::{Kind, Program},
    world::World,
};
use crate::mock::function::Function;

/// The invocations before those that are measured; resident memory after them is what later growth is held against.
const WARM_UP: u32 = 100;

/// The invocations that are measured.
pub(super) const MEASURED: u32 = 2_000;

/// The invocations of one program before it is the next one's turn.
pub(super) const BLOCK: u32 = 50;

/// All invocations, after which resident memory is looked at again.
const ALL: u32 = 10_000;

pub(super) async fn measure(world: &World, measured: &mut [Measured], progress: Progress<'_>) -> anyhow::Result<()> {
    let mut functions = Vec::new();
    for Measured { program, figures } in &mut *measured {
        let (mut function, _) = cold::start(world, program, world.function(program)).await?;
        for _ in 1..WARM_UP {
            invoke(world, program, &mut function).await?;
        }
        figures.rss_mib_after_100 = function.memory_kib("VmRSS").map(mebibytes);
        functions.push((function, Duration::ZERO));
    }
    for _ in 0..MEASURED / BLOCK {
        for (Measured { program, figures }, (function, cpu)) in measured.iter_mut().zip(&mut functions) {
            let before = function.cpu_time().unwrap_or_default();
            for _ in 0..BLOCK {
                figures.overhead_ms.push_time(invoke(world, program, function).await?);
            }
            *cpu += function.cpu_time().unwrap_or_default().saturating_sub(before);
        }
    }
    progress(&format!("{ALL} invocations of each, for the memory"));
    for (Measured { program, figures }, (mut function, cpu)) in measured.iter_mut().zip(functions) {
        figures.cpu_ms_per_invocation = Some(milliseconds(cpu / MEASURED));
        // A slow program would take minutes, and its memory is not what anybody waits for.
        if program.kind != Kind::Other {
            for _ in WARM_UP + MEASURED..ALL {
                invoke(world, program, &mut function).await?;
            }
            figures.rss_mib_after_10000 = function.memory_kib("VmRSS").map(mebibytes);
        }
        function.stop().await;
    }
    Ok(())
}

/// One invocation; the time from event to answer, less the gateway's own.
async fn invoke(world: &World, program: &Program, function: &mut Function) -> anyhow::Result<Duration> {
    let took = world.invoke(program, function, world.one_order(), took).await?;
    Ok(took.saturating_sub(world.gateways_own(program.kind)))
}

/// The time from the last event to its answer.
pub(super) fn took(function: &Function) -> Option<Duration> {
    let moments = function.moments();
    Some(moments.answered? - moments.handed_over?)
}
