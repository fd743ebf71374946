//! Processors of their own: one for the program that is measured, one for everything around it.
//!
//! A Lambda function of up to 1,769 MB has no more than one
//! (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>), and neither shares it with WeChat Pay nor
//! finds its caches full of WeChat Pay's work. Left to the system, a program is now beside its stand-ins and now apart from
//! them, and its figures are now these and now those.

#[cfg(target_os = "linux")]
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// Who runs where.
#[cfg(target_os = "linux")]
pub(super) struct Processors {
    programs: CpuSet,
    surroundings: CpuSet,
}

/// Where processors can't be had, the system says who runs where.
#[cfg(not(target_os = "linux"))]
pub(super) struct Processors;

/// As long as it lives, this thread runs where the programs run, and what it starts stays there.
pub(super) struct Visit<'a>(&'a Processors);

#[cfg(target_os = "linux")]
impl Processors {
    /// Gives the programs the last processor, since the first is the one that devices interrupt, and this process, with
    /// all its threads, the one before it; or the same, if there is no other or `is_one` asks for it.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn assign(is_one: bool) -> anyhow::Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let mut last = (0..CpuSet::MAX_CPU).rev().filter(|&processor| allowed.is_set(processor)).map(only);
        let programs = last.next().unwrap_or(allowed);
        let surroundings = last.next().filter(|_| !is_one).unwrap_or(programs);
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

#[cfg(target_os = "linux")]
fn only(processor: usize) -> CpuSet {
    let mut one = CpuSet::new();
    one.set(processor);
    one
}

#[cfg(not(target_os = "linux"))]
impl Processors {
    pub(super) fn assign(_: bool) -> anyhow::Result<Self> {
        Ok(Self)
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
