//! What was measured of a program, and the table of it in Markdown.

use std::time::Duration;

use super::{Kind, Program, far, warm};

/// A program and its figures.
#[derive(Debug)]
pub struct Measured {
    /// The program.
    pub program: Program,
    /// Its figures.
    pub figures: Figures,
}

/// The figures of one program; what was not measured is empty.
#[derive(Debug, Default)]
pub struct Figures {
    /// Cold: from just before the process begins until its first answer has come, in milliseconds.
    pub first_answer_ms: Samples,
    /// The same, with WeChat Pay and Secrets Manager at a distance.
    pub far_first_answer_ms: Samples,
    /// Peak resident memory at the first answer, in MiB.
    pub peak_rss_mib: Samples,
    /// Warm: from event to answer, less the gateway's own time, in milliseconds.
    pub overhead_ms: Samples,
    /// SQS, with the gateway taking its time: batches of ten with queries and outcome events, in milliseconds.
    pub batch_ms: Samples,
    /// What is uploaded, in MiB.
    pub zip_mib: Option<f64>,
}

/// Measurements of one figure, in the order in which they were taken.
#[derive(Clone, Debug, Default)]
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
        self.push(time.as_secs_f64() * 1e3);
    }

    /// The median: a sample that was taken, never one between two.
    #[must_use]
    pub fn median(&self) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len().saturating_sub(1) / 2).copied()
    }

    /// How many a second could be done one after the other, if each sample does `each`.
    #[must_use]
    pub fn per_second(&self, each: u16) -> Option<f64> {
        let count = u32::try_from(self.0.len()).ok().filter(|&count| count > 0)?;
        Some(f64::from(each) * f64::from(count) / self.0.iter().sum::<f64>() * 1e3)
    }
}

/// Kibibytes, as the kernel counts memory, in MiB.
pub(super) fn mebibytes(kibibytes: u64) -> f64 {
    f64::from(u32::try_from(kibibytes).unwrap_or(u32::MAX)) / 1024.0
}

/// One figure of every program: its name, how it is read and how it is written.
struct Row {
    name: String,
    figure: fn(&Figures) -> Option<f64>,
    show: fn(f64) -> String,
}

fn rows() -> [Row; 6] {
    let row = |name: &str, show, figure| Row { name: name.to_owned(), figure, show };
    let milliseconds = |value| format!("{value:.2} ms");
    let microseconds = |value| format!("{:.0} µs", value * 1e3);
    let mebibytes = |value| format!("{value:.2} MiB");
    let [gateway, aws] = [far::TO_WECHAT_PAY, far::TO_AWS].map(|round_trip| round_trip.as_millis());
    let far = format!("cold start at a distance ({gateway} ms to WeChat Pay, {aws} ms to AWS)");
    let batches =
        format!("orders a second of one environment (SQS, WeChat Pay taking {} ms)", warm::THINKING.as_millis());
    [
        row("cold start: process start to first answer", milliseconds, |it| it.first_answer_ms.median()),
        row(&far, milliseconds, |it| it.far_first_answer_ms.median()),
        row("warm: time per order beside WeChat Pay's own", microseconds, |it| it.overhead_ms.median()),
        row("memory at the first answer (peak)", mebibytes, |it| it.peak_rss_mib.median()),
        row("deployment package (zip)", mebibytes, |it| it.zip_mib),
        row(&batches, |value| format!("{value:.0}"), |it| it.batch_ms.per_second(warm::BATCH)),
    ]
}

/// The figures as a table: medians, where there is more than one sample, and each as a multiple of the baseline's.
#[must_use]
pub fn table(programs: &[Measured]) -> String {
    let is_baseline = |it: &&Measured| it.program.kind == Kind::Baseline;
    let baseline = programs.iter().find(is_baseline);
    let others: Vec<&Measured> = programs.iter().filter(|it| !is_baseline(it)).collect();
    let mut head = vec![String::new()];
    for it in &others {
        head.extend([it.program.name.clone(), "÷ baseline".to_owned()]);
    }
    head.push("baseline".to_owned());
    let mut lines = vec![head];
    for Row { name, figure, show } in rows() {
        let cell = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), show);
        let of_baseline = baseline.and_then(|it| figure(&it.figures));
        let mut line = vec![name];
        for it in &others {
            let value = figure(&it.figures);
            let ratio = value.zip(of_baseline).map(|(value, baseline)| format!("{:.2} ×", value / baseline));
            line.extend([cell(value), ratio.unwrap_or_else(|| "–".to_owned())]);
        }
        line.push(cell(of_baseline));
        lines.push(line);
    }
    crate::markdown::table(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_a_sample_that_was_taken() {
        assert_eq!(Samples(vec![3.0, 1.0, 2.0]).median(), Some(2.0));
        assert_eq!(Samples(vec![4.0, 1.0, 2.0, 3.0]).median(), Some(2.0));
        assert_eq!(Samples::default().median(), None);
    }

    #[test]
    fn batches_of_ten_that_take_100_ms_are_100_orders_a_second() {
        assert_eq!(Samples(vec![80.0, 120.0]).per_second(10), Some(100.0));
        assert_eq!(Samples::default().per_second(10), None);
    }

    #[test]
    fn the_table_has_six_rows_with_figures_as_multiples_of_the_baselines() {
        let programs = [(Program::baseline("a".into()), 0.5), (Program::close_order("b".into()), 2.5)];
        let programs = programs.map(|(program, zip)| {
            let mut measured = Measured::new(program);
            measured.figures.zip_mib = Some(zip);
            measured
        });
        let table = table(&programs);
        assert_eq!(table.lines().count(), 8, "{table}");
        let zip = table.lines().find(|line| line.contains("(zip)")).unwrap();
        let cells: Vec<_> = zip.split('|').map(str::trim).collect();
        assert_eq!(cells[2..5], ["2.50 MiB", "5.00 ×", "0.50 MiB"]);
    }
}
