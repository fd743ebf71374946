//! What was measured of a program.

use std::time::Duration;

use serde::Serialize;

use super::{Program, milliseconds};

/// A program and its figures.
#[derive(Debug, Serialize)]
pub struct Measured {
    /// The program.
    #[serde(serialize_with = "name")]
    pub program: Program,
    /// Its figures.
    #[serde(flatten)]
    pub figures: Figures,
}

/// The figures of one program, as measured; what was not measured is empty.
#[derive(Debug, Default, Serialize)]
pub struct Figures {
    /// Cold: from just before the process begins until it first asks for an event, in milliseconds.
    pub first_next_ms: Samples,
    /// Cold: from just before the process begins until its first answer has come, in milliseconds.
    pub first_answer_ms: Samples,
    /// Cold: from the first `next` to the first answer, in milliseconds.
    pub first_invocation_ms: Samples,
    /// Processor time at the first answer, in milliseconds.
    pub cpu_at_first_answer_ms: Samples,
    /// Peak resident memory at the first answer, in MiB.
    pub peak_rss_mib: Samples,
    /// Warm: from event to answer, less the gateway's own time, in milliseconds.
    pub overhead_ms: Samples,
    /// Warm: processor time of an invocation, in milliseconds.
    pub cpu_ms_per_invocation: Option<f64>,
    /// Resident memory after 100 invocations, in MiB.
    pub rss_mib_after_100: Option<f64>,
    /// Resident memory after 10,000 invocations, in MiB.
    pub rss_mib_after_10000: Option<f64>,
    /// Warm: from event to answer with `confirm`, less the gateway's own time, in milliseconds.
    pub overhead_with_query_ms: Samples,
    /// What is uploaded, unzipped, in MiB.
    pub unzipped_mib: Option<f64>,
    /// What is uploaded, in MiB.
    pub zip_mib: Option<f64>,
    /// Cold, at a distance: from just before the process begins until its first answer has come, in milliseconds.
    pub far_first_answer_ms: Samples,
    /// SQS, with the gateway thinking: a batch of one order, in milliseconds.
    pub sqs_one_ms: Samples,
    /// SQS, with the gateway thinking: the first batch of ten, when there is one connection, in milliseconds.
    pub sqs_first_batch_ms: Samples,
    /// SQS, with the gateway thinking: further batches of ten, in milliseconds.
    pub sqs_batch_ms: Samples,
    /// SQS, with the gateway thinking: batches of ten with queries, in milliseconds.
    pub sqs_query_batch_ms: Samples,
    /// SQS, with the gateway thinking: batches of ten with queries and outcome events, in milliseconds.
    pub sqs_event_batch_ms: Samples,
}

/// Measurements of one figure, in the order in which they were taken.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Samples(Vec<f64>);

impl Measured {
    pub(super) fn new(program: Program) -> Self {
        Self { program, figures: Figures::default() }
    }
}

impl Samples {
    /// Adds one.
    pub fn push(&mut self, sample: f64) {
        self.0.push(sample);
    }

    /// Adds a time, in milliseconds.
    pub fn push_time(&mut self, time: Duration) {
        self.push(milliseconds(time));
    }

    /// The median.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        self.percentile(50)
    }

    /// How many a second could be done one after the other, if each sample does `each`.
    #[must_use]
    pub fn per_second(&self, each: u16) -> Option<f64> {
        let count = u32::try_from(self.0.len()).ok().filter(|&count| count > 0)?;
        Some(f64::from(each) * f64::from(count) / self.0.iter().sum::<f64>() * 1e3)
    }

    /// The sample that so many percent of all don't exceed: a sample that was taken, never one between two.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied()
    }
}

fn name<S: serde::Serializer>(program: &Program, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&program.name)
}

/// Kibibytes, as the kernel counts memory, in MiB.
pub(super) fn mebibytes(kibibytes: u64) -> f64 {
    f64::from(u32::try_from(kibibytes).unwrap_or(u32::MAX)) / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_the_sample_at_its_rank() {
        let samples = Samples((1..=200).rev().map(f64::from).collect());
        for (percent, expected) in [(50, 100.0), (99, 198.0), (100, 200.0), (0, 1.0)] {
            assert_eq!(samples.percentile(percent), Some(expected), "{percent}");
        }
        assert_eq!(Samples(vec![3.0, 1.0, 2.0]).median(), Some(2.0));
        assert_eq!(Samples::default().median(), None);
    }

    #[test]
    fn batches_of_ten_that_take_100_ms_are_100_orders_a_second() {
        assert_eq!(Samples(vec![80.0, 120.0]).per_second(10), Some(100.0));
        assert_eq!(Samples::default().per_second(10), None);
    }
}
