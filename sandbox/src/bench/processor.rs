//! Processors of their own: one for the program that is measured, one for everything around it.
//!
//! A Lambda function of up to 1,769 MB has no more than one
//! (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>), and it shares neither that one
//! nor its caches with WeChat Pay. Left to the system, a program runs now beside the mocks and now apart from them, and its
//! figures vary with it.

use std::fmt;

#[cfg(target_os = "linux")]
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

/// Who runs where: what the figures of two runs are to be compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// The programs have a processor of their own.
    Apart,
    /// The programs have one thread of a core, what is around them has another.
    OneCore,
    /// The programs and what is around them share a processor.
    OneProcessor,
    /// The system decides, since it lets nobody else.
    Unassigned,
}

/// Who runs where, as the system knows it.
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
    /// all its threads, the one before it, of another core if there is one; or the same, if there is no other or
    /// `is_one` asks for it.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn assign(is_one: bool) -> anyhow::Result<(Self, Layout)> {
        let allowed = sched_getaffinity(None)?;
        let mut last = (0..CpuSet::MAX_CPU).rev().filter(|&processor| allowed.is_set(processor));
        let programs = last.next().unwrap_or_default();
        let others: Vec<usize> = if is_one { Vec::new() } else { last.collect() };
        let apart = others.iter().find(|&&other| core(other) != core(programs));
        let (surroundings, layout) = match (apart, others.first()) {
            (Some(&other), _) => (other, Layout::Apart),
            (None, Some(&other)) => (other, Layout::OneCore),
            (None, None) => (programs, Layout::OneProcessor),
        };
        let [programs, surroundings] = [programs, surroundings].map(only);
        for thread in std::fs::read_dir("/proc/self/task")? {
            let id = thread?.file_name().to_string_lossy().parse()?;
            sched_setaffinity(Pid::from_raw(id), &surroundings)?;
        }
        Ok((Self { programs, surroundings }, layout))
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

/// The threads of a processor's core, as the system lists them: the same list for each of them.
#[cfg(target_os = "linux")]
fn core(processor: usize) -> Option<String> {
    std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu{processor}/topology/thread_siblings_list")).ok()
}

#[cfg(not(target_os = "linux"))]
impl Processors {
    pub(super) fn assign(_: bool) -> anyhow::Result<(Self, Layout)> {
        Ok((Self, Layout::Unassigned))
    }

    pub(super) fn visit(&self) -> anyhow::Result<Visit<'_>> {
        Ok(Visit(self))
    }

    fn leave(&self) {}
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Apart => "the programs have a processor of their own",
            Self::OneCore => "the programs share a core with what is around them, a thread each",
            Self::OneProcessor => "the programs share a processor with what is around them",
            Self::Unassigned => "the system says who runs where",
        })
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}
