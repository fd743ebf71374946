//! Processors of their own: one for the program that is measured, one for everything around it.
//!
//! A Lambda function of up to 1,769 MB has no more than one
//! (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>), and it shares neither that one
//! nor its caches with WeChat Pay. Left to the system, a program runs now beside the mocks and now apart from them, and its
//! figures vary with it. Where processors can't be assigned, the system decides.

#[cfg(target_os = "linux")]
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// Which processors run what.
pub(super) struct Processors {
    #[cfg(target_os = "linux")]
    programs: CpuSet,
    #[cfg(target_os = "linux")]
    surroundings: CpuSet,
}

/// As long as it lives, this thread runs where the programs run, and what it starts stays there.
pub(super) struct Visit<'a>(&'a Processors);

#[cfg(target_os = "linux")]
impl Processors {
    /// Gives the programs the last processor, since the first is the one that devices interrupt, and this process, with
    /// all its threads, the one before it; or the same, if there is no other.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn assign() -> anyhow::Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut last = (0..CpuSet::MAX_CPU).rev().filter(|&processor| allowed.is_set(processor));
        let programs = last.next().unwrap_or_default();
        let [programs, surroundings] = [programs, last.next().unwrap_or(programs)].map(|processor| {
            let mut one = CpuSet::new();
            one.set(processor);
            one
        });
        for thread in std::fs::read_dir("/proc/self/task")? {
            let id = thread?.file_name().to_string_lossy().parse()?;
            sched_setaffinity(Pid::from_raw(id), &surroundings)?;
        }
        Ok(Self { programs, surroundings })
    }

    /// Takes this thread to where the programs run.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn visit(&self) -> anyhow::Result<Visit<'_>> {
        sched_setaffinity(None, &self.programs)?;
        Ok(Visit(self))
    }

    fn leave(&self) {
        // What was allowed before is allowed again.
        let _ = sched_setaffinity(None, &self.surroundings);
    }
}

#[cfg(not(target_os = "linux"))]
impl Processors {
    pub(super) fn assign() -> anyhow::Result<Self> {
        Ok(Self {})
    }

    pub(super) fn visit(&self) -> anyhow::Result<Visit<'_>> {
        Ok(Visit(self))
    }

    fn leave(&self) {}
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}
