//! One processor for everything that is measured: a function of up to 1,769 MB has no more
//! (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>), and how fast one processor wakes another
//! is the machine's affair.

/// Keeps this process, and those that it starts from now on, to one processor; where that can't be had, to none.
///
/// # Errors
/// When the system refuses.
#[cfg(target_os = "linux")]
pub(super) fn keep_to_one() -> anyhow::Result<()> {
    use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

    let allowed = sched_getaffinity(None)?;
    let mut one = CpuSet::new();
    // The last: the first is the one that devices interrupt.
    if let Some(processor) = (0..CpuSet::MAX_CPU).rev().find(|&processor| allowed.is_set(processor)) {
        one.set(processor);
        for thread in std::fs::read_dir("/proc/self/task")? {
            let id = thread?.file_name().to_string_lossy().parse()?;
            sched_setaffinity(Pid::from_raw(id), &one)?;
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn keep_to_one() -> anyhow::Result<()> {
    Ok(())
}
