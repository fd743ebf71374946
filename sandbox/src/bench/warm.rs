//! Warm invocations: one process each, one event after the other.

use std::time::Duration;

use anyhow::ensure;

use super::{
    Measured, Progress, cold,
    figures::mebibytes,
    milliseconds,
    program::{Kind, Program},
    test_bed::TestBed,
};
use crate::mock::function::Function;

/// The invocations before those that are measured; resident memory after them is what later growth is compared with.
const WARM_UP: u32 = 100;

/// The invocations that are measured.
pub(super) const MEASURED: u32 = 2_000;

/// The invocations of one program before it is the next one's turn.
pub(super) const BLOCK: u32 = 50;

/// The invocations with a query that are measured.
const MEASURED_WITH_QUERY: u32 = 500;

/// All invocations, after which resident memory is read again.
const ALL: u32 = 10_000;

/// What a program's overhead may be for it to have [`ALL`] invocations, in milliseconds: a slower one would take minutes.
const FAST_MS: f64 = 1.0;

pub(super) async fn measure(bed: &TestBed, measured: &mut [Measured], progress: Progress<'_>) -> anyhow::Result<()> {
    let mut functions = Vec::new();
    for Measured { program, figures } in &mut *measured {
        let (mut function, _) = cold::start(bed, program, bed.function(program)).await?;
        for _ in 1..WARM_UP {
            invoke(bed, program, &mut function).await?;
        }
        figures.rss_mib_after_100 = function.memory_kib("VmRSS").map(mebibytes);
        functions.push((function, Duration::ZERO));
    }
    for _ in 0..MEASURED / BLOCK {
        for (Measured { program, figures }, (function, cpu)) in measured.iter_mut().zip(&mut functions) {
            let before = function.cpu_time().unwrap_or_default();
            for _ in 0..BLOCK {
                figures.overhead_ms.push_time(invoke(bed, program, function).await?);
            }
            *cpu += function.cpu_time().unwrap_or_default().saturating_sub(before);
        }
    }
    progress(&format!("{ALL} invocations of each that is fast, for the memory"));
    for (Measured { program, figures }, (mut function, cpu)) in measured.iter_mut().zip(functions) {
        figures.cpu_ms_per_invocation = Some(milliseconds(cpu / MEASURED));
        if figures.overhead_ms.median().is_some_and(|overhead| overhead < FAST_MS) {
            for _ in WARM_UP + MEASURED..ALL {
                invoke(bed, program, &mut function).await?;
            }
            figures.rss_mib_after_10000 = function.memory_kib("VmRSS").map(mebibytes);
        }
        function.stop().await;
    }
    progress(&format!("{MEASURED_WITH_QUERY} invocations with confirm of each that takes it"));
    with_query(bed, measured).await
}

/// A close with `confirm` costs one more exchange, on the connection that is there.
async fn with_query(bed: &TestBed, measured: &mut [Measured]) -> anyhow::Result<()> {
    for Measured { program, figures } in measured {
        let (mut function, _) = cold::start(bed, program, bed.function(program)).await?;
        if bed.takes(program, &mut function, bed.one_order(true)).await? {
            let connections = bed.gateway_connections();
            for _ in 0..MEASURED_WITH_QUERY {
                let took = bed.invoke(program, &mut function, bed.one_order(true), took).await?;
                // The mock's own time is known of the last exchange only, and both are alike to it.
                figures.overhead_with_query_ms.push_time(took.saturating_sub(2 * bed.gateway_time()));
            }
            let more = bed.gateway_connections() - connections;
            ensure!(more == 0, "{} made {more} more connections for queries", program.name);
        }
        function.stop().await;
    }
    Ok(())
}

/// One invocation; the time from event to answer, less the gateway's own.
async fn invoke(bed: &TestBed, program: &Program, function: &mut Function) -> anyhow::Result<Duration> {
    let took = bed.invoke(program, function, bed.one_order(false), took).await?;
    let gateway = if program.kind == Kind::Baseline { Duration::ZERO } else { bed.gateway_time() };
    Ok(took.saturating_sub(gateway))
}

/// The time from the last event to its answer.
pub(super) fn took(function: &Function) -> Option<Duration> {
    let moments = function.moments();
    Some(moments.answered? - moments.handed_over?)
}
