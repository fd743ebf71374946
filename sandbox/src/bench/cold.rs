//! Cold starts: a new process for each, with the event there before it asks.

use std::time::Duration;

use super::{Measured, Program, figures::mebibytes, test_bed::TestBed};
use crate::mock::function::{Function, FunctionBuilder};

/// Starts that don't count, of each program: they bring its file into memory.
const WARM_UP: usize = 3;

/// What was seen of one start.
pub(super) struct Start {
    /// From just before the process begins until it first asks for an event.
    pub(super) first_next: Duration,
    /// From there until its first answer has come.
    pub(super) first_invocation: Duration,
    cpu: Duration,
    peak_rss_kib: u64,
}

impl Start {
    /// From just before the process begins until its first answer has come.
    pub(super) fn first_answer(&self) -> Duration {
        self.first_next + self.first_invocation
    }
}

pub(super) async fn measure(bed: &TestBed, measured: &mut [Measured], starts: usize) -> anyhow::Result<()> {
    for turn in 0..WARM_UP + starts {
        for Measured { program, figures } in &mut *measured {
            let (function, start) = start(bed, program, bed.function(program)).await?;
            function.stop().await;
            if turn >= WARM_UP {
                figures.first_next_ms.push_time(start.first_next);
                figures.first_invocation_ms.push_time(start.first_invocation);
                figures.first_answer_ms.push_time(start.first_answer());
                figures.cpu_at_first_answer_ms.push_time(start.cpu);
                figures.peak_rss_mib.push(mebibytes(start.peak_rss_kib));
            }
        }
    }
    Ok(())
}

/// Starts a program and has it answer its first event.
pub(super) async fn start(
    bed: &TestBed,
    program: &Program,
    function: FunctionBuilder,
) -> anyhow::Result<(Function, Start)> {
    let mut function = bed.spawn(function).await?;
    let look = |function: &Function| {
        let (cpu, peak_rss_kib) = (function.cpu_time()?, function.memory_kib("VmHWM")?);
        let moments = function.moments();
        let first_next = moments.first_next?;
        Some(Start {
            first_next: first_next - function.spawned(),
            first_invocation: moments.answered? - first_next,
            cpu,
            peak_rss_kib,
        })
    };
    let start = bed.invoke(program, &mut function, bed.one_order(false), look).await?;
    Ok((function, start))
}
