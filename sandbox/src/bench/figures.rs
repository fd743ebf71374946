//! What was measured of the programs, and the table of it in Markdown.

use std::{collections::BTreeMap, time::Duration};

use super::{Kind, Program};

/// What is measured: a row each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Figure {
    /// From just before the process begins until its first answer has come, less the gateway's own time, in seconds.
    Cold,
    /// The same, with WeChat Pay and Secrets Manager at a distance.
    Far,
    /// From event to answer, less the gateway's own time, in seconds.
    Warm,
    /// Peak resident memory at the first answer, in MiB.
    Memory,
    /// What is uploaded, in MiB.
    Zip,
    /// Orders a second, in batches with queries and outcome events, the gateway taking its time.
    Batch,
}

impl Figure {
    const ALL: [Self; 6] = [Self::Cold, Self::Far, Self::Warm, Self::Memory, Self::Zip, Self::Batch];

    /// The row's name, and what makes of a figure its text: a factor, decimals and a unit.
    fn row(self) -> (&'static str, f64, usize, &'static str) {
        match self {
            Self::Cold => ("cold start: process start to first answer", 1e3, 2, " ms"),
            Self::Far => ("cold start at a distance (40 ms to WeChat Pay, 1 ms to AWS)", 1e3, 2, " ms"),
            Self::Warm => ("warm: time per order beside WeChat Pay's own", 1e6, 0, " µs"),
            Self::Memory => ("memory at the first answer (peak)", 1.0, 2, " MiB"),
            Self::Zip => ("deployment package (zip)", 1.0, 2, " MiB"),
            Self::Batch => ("orders a second of one environment (SQS, WeChat Pay taking 50 ms)", 1.0, 0, ""),
        }
    }
}

/// A program, and every figure that was measured of it.
pub(super) struct Measured {
    pub(super) program: Program,
    samples: BTreeMap<Figure, Vec<f64>>,
}

impl Measured {
    pub(super) fn new(program: Program) -> anyhow::Result<Self> {
        let zip = mebibytes(program.zip_size()? / 1024);
        Ok(Self { program, samples: BTreeMap::from([(Figure::Zip, vec![zip])]) })
    }

    pub(super) fn push(&mut self, figure: Figure, sample: f64) {
        self.samples.entry(figure).or_default().push(sample);
    }

    pub(super) fn push_time(&mut self, figure: Figure, time: Duration) {
        self.push(figure, time.as_secs_f64());
    }

    /// The median: a sample that was taken, never one between two.
    fn median(&self, figure: Figure) -> Option<f64> {
        let mut sorted = self.samples.get(&figure)?.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get((sorted.len() - 1) / 2).copied()
    }
}

/// Kibibytes, as the kernel counts memory, in MiB.
pub(super) fn mebibytes(kibibytes: u64) -> f64 {
    f64::from(u32::try_from(kibibytes).unwrap_or(u32::MAX)) / 1024.0
}

/// The medians, each beside its multiple of the baseline's.
pub(super) fn table(measured: &[Measured]) -> String {
    let (baselines, others): (Vec<_>, Vec<_>) = measured.iter().partition(|it| it.program.kind == Kind::Baseline);
    let mut head = vec![String::new()];
    head.extend(others.iter().flat_map(|it| [it.program.name.clone(), "÷ baseline".to_owned()]));
    head.push("baseline".to_owned());
    let mut lines = vec![head];
    for figure in Figure::ALL {
        let (name, factor, decimals, unit) = figure.row();
        let none = || "–".to_owned();
        let cell = |value: Option<f64>| value.map_or_else(none, |it| format!("{:.decimals$}{unit}", it * factor));
        let of_baseline = baselines.first().and_then(|it| it.median(figure));
        let mut line = vec![name.to_owned()];
        for it in &others {
            let value = it.median(figure);
            let ratio = value.zip(of_baseline).map(|(value, baseline)| format!("{:.2} ×", value / baseline));
            line.extend([cell(value), ratio.unwrap_or_else(none)]);
        }
        line.push(cell(of_baseline));
        lines.push(line);
    }
    crate::markdown::table(&lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mock::identity::Api;

    #[test]
    fn the_table_has_medians_and_multiples_of_the_baselines() {
        let measured = |kind, warm: &[f64]| Measured {
            program: Program::new("a program", kind, "bootstrap".into()),
            samples: BTreeMap::from([(Figure::Warm, warm.to_vec())]),
        };
        let programs =
            [measured(Kind::Baseline, &[1e-4]), measured(Kind::CloseOrder(Api::V2), &[4e-4, 1.0, 2e-4, 0.0])];
        let table = table(&programs);
        assert_eq!(table.lines().count(), 8, "{table}");
        let warm = table.lines().find(|line| line.contains("warm")).unwrap();
        let cells: Vec<_> = warm.split('|').map(str::trim).collect();
        assert_eq!(cells[2..5], ["200 µs", "2.00 ×", "100 µs"]);
    }
}
