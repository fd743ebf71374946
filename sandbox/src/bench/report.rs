//! The figures as a table, ratios first, and as JSON.

use serde_json::{Value, json};

use super::{Figures, Measured, Plan, Results, milliseconds, program::Kind, sqs};

/// One line of the table.
struct Row {
    name: String,
    figure: fn(&Figures) -> Option<f64>,
    unit: Unit,
    target: Option<Target>,
}

#[derive(Clone, Copy)]
enum Unit {
    Milliseconds,
    /// Of a figure in milliseconds.
    Microseconds,
    Mebibytes,
    /// Of one figure of a program to another.
    Times,
}

/// What close-order must not exceed.
#[derive(Clone, Copy)]
enum Target {
    TimesFloor(f64),
    /// In the figure's own unit.
    AtMost(f64),
}

impl Results {
    /// The figures as JSON, every sample among them.
    #[must_use]
    pub fn json(&self) -> Value {
        let distance = self.plan.distance.map(|distance| {
            let [gateway, secrets] = [distance.gateway, distance.secrets].map(milliseconds);
            json!({"gateway_ms": gateway, "secrets_ms": secrets})
        });
        json!({"layout": self.layout, "distance": distance, "programs": self.programs})
    }

    /// The figures as a table in Markdown: medians, where there is more than one sample.
    #[must_use]
    pub fn table(&self) -> String {
        let floor = self.programs.iter().find(|it| it.program.kind == Kind::Floor);
        let others: Vec<&Measured> = self.programs.iter().filter(|it| it.program.kind != Kind::Floor).collect();

        let mut head = vec![String::new()];
        head.extend(others.iter().map(|it| format!("{} ÷ floor", it.program.name)));
        head.extend(others.iter().map(|it| it.program.name.clone()));
        head.extend(["floor", "target", ""].map(str::to_owned));
        let mut lines = vec![head];
        for row in rows(self.plan) {
            let below = floor.and_then(|it| (row.figure)(&it.figures));
            let ratio = |figures: &Figures| Some((row.figure)(figures)? / below.filter(|&below| below > 0.0)?);
            let value = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| row.unit.show(value));
            if others.iter().all(|it| (row.figure)(&it.figures).is_none()) {
                continue;
            }
            let mut line = vec![row.name.clone()];
            line.extend(others.iter().map(|it| ratio(&it.figures).map_or_else(|| "–".to_owned(), times)));
            line.extend(others.iter().map(|it| value((row.figure)(&it.figures))));
            line.push(value(below));
            let close_order = others.iter().find(|it| it.program.kind == Kind::CloseOrder).map(|it| &it.figures);
            let (target, reached) = match row.target {
                None => (String::new(), None),
                Some(Target::TimesFloor(limit)) => {
                    (format!("≤ {}", times(limit)), close_order.and_then(ratio).zip(Some(limit)))
                }
                Some(Target::AtMost(limit)) => {
                    (format!("≤ {}", row.unit.show(limit)), close_order.and_then(row.figure).zip(Some(limit)))
                }
            };
            let verdict = reached.map_or("", |(reached, limit)| if reached <= limit { "met" } else { "NOT met" });
            line.extend([target, verdict.to_owned()]);
            lines.push(line);
        }
        markdown(lines)
    }
}

fn rows(plan: Plan) -> Vec<Row> {
    use Target::{AtMost, TimesFloor};
    use Unit::{Mebibytes, Microseconds, Milliseconds, Times};

    fn row(name: impl Into<String>, unit: Unit, target: Option<Target>, figure: fn(&Figures) -> Option<f64>) -> Row {
        Row { name: name.into(), figure, unit, target }
    }

    let mut rows = vec![
        row("cold: exec → first answer", Milliseconds, Some(TimesFloor(3.0)), |it| it.first_answer_ms.median()),
        row("cold: exec → first `next`", Milliseconds, None, |it| it.first_next_ms.median()),
        row("cold: first invocation", Milliseconds, None, |it| it.first_invocation_ms.median()),
        row("cold: CPU time", Milliseconds, None, |it| it.cpu_at_first_answer_ms.median()),
        row("cold: peak RSS", Mebibytes, Some(TimesFloor(3.0)), |it| it.peak_rss_mib.median()),
        row("warm: overhead p50", Microseconds, Some(TimesFloor(3.0)), |it| it.overhead_ms.median()),
        row("warm: overhead p99", Microseconds, None, |it| it.overhead_ms.percentile(99)),
        row("warm: CPU time", Microseconds, Some(TimesFloor(2.5)), |it| it.cpu_ms_per_invocation),
        row("RSS after 100 invocations", Mebibytes, None, |it| it.rss_mib_after_100),
        row("RSS after 10,000 invocations", Mebibytes, None, |it| it.rss_mib_after_10000),
        row("RSS growth in between", Mebibytes, Some(AtMost(1.0)), |it| {
            Some(it.rss_mib_after_10000? - it.rss_mib_after_100?)
        }),
        row("binary", Mebibytes, None, |it| it.binary_mib),
        row("zip", Mebibytes, Some(AtMost(2.6)), |it| it.zip_mib),
    ];
    if let Some(distance) = plan.distance {
        // TCP, TLS, the call itself; and what all else may take.
        let limit = milliseconds(distance.gateway * 3) + 15.0;
        let [gateway, secrets] = [distance.gateway, distance.secrets].map(milliseconds);
        let name = format!("cold: exec → first answer, {gateway} ms to WeChat Pay, {secrets} ms to AWS");
        rows.push(row(name, Milliseconds, Some(AtMost(limit)), |it| it.far_first_answer_ms.median()));
    }
    let thinking = sqs::THINKING.as_millis();
    rows.extend([
        row(format!("SQS: 1 order, WeChat Pay thinking {thinking} ms"), Milliseconds, None, |it| {
            it.sqs_one_ms.median()
        }),
        row("SQS: first batch of 10 ÷ 1 order", Times, Some(AtMost(1.3)), |it| {
            Some(it.sqs_first_batch_ms.median()? / it.sqs_one_ms.median()?)
        }),
        row("SQS: further batches of 10 ÷ 1 order", Times, Some(AtMost(1.3)), |it| {
            Some(it.sqs_batch_ms.median()? / it.sqs_one_ms.median()?)
        }),
    ]);
    rows
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Milliseconds => format!("{value:.2} ms"),
            Self::Microseconds => format!("{:.0} µs", value * 1e3),
            Self::Mebibytes => format!("{value:.2} MiB"),
            Self::Times => times(value),
        }
    }
}

fn times(ratio: f64) -> String {
    format!("{ratio:.2} ×")
}

/// A table whose columns are as wide as their widest cell: names to the left, figures to the right.
fn markdown(mut lines: Vec<Vec<String>>) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |lines: &[Vec<String>], column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(&lines, column).max(3)).collect();
    let is_figure = |column: usize| column > 0 && column + 1 < columns;
    let rule = widths.iter().enumerate().map(|(column, &width)| {
        if is_figure(column) { format!("{}:", "-".repeat(width - 1)) } else { "-".repeat(width) }
    });
    lines.insert(1, rule.collect());
    let line = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if is_figure(column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    lines.iter().map(line).collect()
}
