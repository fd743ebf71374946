//! Cold starts: a new process for each, with the event there before it asks.

use std::time::Duration;

use super::{Measured, Program, figures::mebibytes, test_bed::TestBed};
use crate::mock::function::{Function, FunctionBuilder};

/// Starts that don't count, of each program: they bring its file into memory.
const WARM_UP: usize = 3;

/// What was seen of one start.
pub(super) struct Start {
    /// From just before the process begins until its first answer has come.
    pub(super) first_answer: Duration,
    peak_rss_kib: u64,
}

pub(super) async fn measure(bed: &TestBed, measured: &mut [Measured], starts: usize) -> anyhow::Result<()> {
    for turn in 0..WARM_UP + starts {
        for Measured { program, figures } in &mut *measured {
            let (function, start) = start(bed, program, bed.function(program)).await?;
            function.stop().await;
            if turn >= WARM_UP {
                figures.first_answer_ms.push_time(start.first_answer.saturating_sub(bed.gateway_time(program)));
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
        let peak_rss_kib = function.memory_kib("VmHWM")?;
        Some(Start { first_answer: function.moments().answered? - function.spawned(), peak_rss_kib })
    };
    let start = bed.invoke(program, &mut function, bed.one_order(), look).await?;
    Ok((function, start))
}
