//! The rows of the benchmark, with what close-order must reach in them.

use super::{Figures, Options, milliseconds, queue};

/// One figure of every program.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) figure: fn(&Figures) -> Option<f64>,
    pub(super) unit: Unit,
    target: Option<Target>,
}

#[derive(Clone, Copy)]
pub(super) enum Unit {
    Milliseconds,
    /// Of a figure in milliseconds.
    Microseconds,
    Mebibytes,
    /// Of one figure of a program to another.
    Times,
    PerSecond,
}

/// What close-order must reach.
#[derive(Clone, Copy)]
enum Target {
    TimesBaseline(f64),
    /// In the figure's own unit.
    BeyondBaseline(f64),
    /// In the figure's own unit.
    AtMost(f64),
    /// In the figure's own unit.
    AtLeast(f64),
}

impl Row {
    fn new(name: impl Into<String>, unit: Unit, target: Option<Target>, figure: fn(&Figures) -> Option<f64>) -> Self {
        Self { name: name.into(), figure, unit, target }
    }

    /// The row's target as text, and whether these figures reach it; empty where there is no target or no figure.
    pub(super) fn verdict(&self, figures: Option<&Figures>, baseline: Option<f64>) -> [String; 2] {
        let Some(target) = self.target else { return [String::new(), String::new()] };
        let figure = figures.and_then(self.figure);
        let (text, is_met) = match target {
            Target::TimesBaseline(limit) => {
                (format!("≤ {}", times(limit)), ratio(figure, baseline).map(|ratio| ratio <= limit))
            }
            Target::BeyondBaseline(limit) => {
                let beyond = figure.zip(baseline).map(|(figure, baseline)| figure - baseline);
                (format!("≤ baseline + {}", self.unit.show(limit)), beyond.map(|beyond| beyond <= limit))
            }
            Target::AtMost(limit) => (format!("≤ {}", self.unit.show(limit)), figure.map(|figure| figure <= limit)),
            Target::AtLeast(limit) => (format!("≥ {}", self.unit.show(limit)), figure.map(|figure| figure >= limit)),
        };
        let verdict = is_met.map_or("", |is_met| if is_met { "met" } else { "NOT met" });
        [text, verdict.to_owned()]
    }
}

pub(super) fn all(options: Options) -> Vec<Row> {
    use Target::{AtLeast, AtMost, BeyondBaseline, TimesBaseline};
    use Unit::{Mebibytes, Microseconds, Milliseconds, PerSecond, Times};

    let mut rows = vec![
        Row::new("cold: exec → first answer", Milliseconds, Some(TimesBaseline(3.0)), |it| {
            it.first_answer_ms.median()
        }),
        Row::new("cold: exec → first `next`", Milliseconds, None, |it| it.first_next_ms.median()),
        Row::new("cold: first invocation", Milliseconds, None, |it| it.first_invocation_ms.median()),
        Row::new("cold: CPU time", Milliseconds, None, |it| it.cpu_at_first_answer_ms.median()),
        Row::new("cold: peak RSS", Mebibytes, Some(TimesBaseline(3.0)), |it| it.peak_rss_mib.median()),
        Row::new("warm: overhead p50", Microseconds, Some(TimesBaseline(3.0)), |it| it.overhead_ms.median()),
        Row::new("warm: overhead p99", Microseconds, None, |it| it.overhead_ms.percentile(99)),
        Row::new("warm: CPU time", Microseconds, Some(TimesBaseline(2.5)), |it| it.cpu_ms_per_invocation),
        Row::new("warm: overhead with `confirm` p50", Microseconds, None, |it| it.overhead_with_query_ms.median()),
        Row::new("warm: overhead with `confirm` ÷ without", Times, Some(AtMost(2.0)), |it| {
            ratio(it.overhead_with_query_ms.median(), it.overhead_ms.median())
        }),
        Row::new("RSS after 100 invocations", Mebibytes, None, |it| it.rss_mib_after_100),
        Row::new("RSS after 10,000 invocations", Mebibytes, None, |it| it.rss_mib_after_10000),
        // lambda_runtime sets a variable to each invocation's trace id, and glibc keeps every value that one ever had.
        Row::new("RSS growth in between", Mebibytes, Some(BeyondBaseline(1.0)), |it| {
            Some(it.rss_mib_after_10000? - it.rss_mib_after_100?)
        }),
        Row::new("unzipped", Mebibytes, None, |it| it.unzipped_mib),
        Row::new("zip", Mebibytes, Some(AtMost(2.8)), |it| it.zip_mib),
    ];
    if let Some(distance) = options.distance {
        // TCP, TLS, the call itself; and what all else may take.
        let limit = milliseconds(distance.gateway * 3) + 15.0;
        let [gateway, secrets] = [distance.gateway, distance.secrets].map(milliseconds);
        let name = format!("cold: exec → first answer, {gateway} ms to WeChat Pay, {secrets} ms to AWS");
        rows.push(Row::new(name, Milliseconds, Some(AtMost(limit)), |it| it.far_first_answer_ms.median()));
    }
    let thinking = queue::THINKING.as_millis();
    rows.extend([
        Row::new(format!("SQS: 1 order, WeChat Pay thinking {thinking} ms"), Milliseconds, None, |it| {
            it.sqs_one_ms.median()
        }),
        Row::new("SQS: first batch of 10 ÷ 1 order", Times, Some(AtMost(1.3)), |it| {
            ratio(it.sqs_first_batch_ms.median(), it.sqs_one_ms.median())
        }),
        Row::new("SQS: further batches of 10 ÷ 1 order", Times, Some(AtMost(1.3)), |it| {
            ratio(it.sqs_batch_ms.median(), it.sqs_one_ms.median())
        }),
        Row::new("SQS: batch of 10 with queries", Milliseconds, None, |it| it.sqs_query_batch_ms.median()),
        Row::new("SQS: batch of 10 with queries and events", Milliseconds, None, |it| it.sqs_event_batch_ms.median()),
        // A close and a query think twice: what is beyond that may be a third of it.
        Row::new("capacity: orders of one environment, with queries", PerSecond, Some(AtLeast(75.0)), |it| {
            it.sqs_query_batch_ms.per_second(queue::BATCH)
        }),
        Row::new("capacity: the same, with events", PerSecond, Some(AtLeast(75.0)), |it| {
            it.sqs_event_batch_ms.per_second(queue::BATCH)
        }),
    ]);
    rows
}

impl Unit {
    pub(super) fn show(self, value: f64) -> String {
        match self {
            Self::Milliseconds => format!("{value:.2} ms"),
            Self::Microseconds => format!("{:.0} µs", value * 1e3),
            Self::Mebibytes => format!("{value:.2} MiB"),
            Self::Times => times(value),
            Self::PerSecond => format!("{value:.0}/s"),
        }
    }
}

pub(super) fn times(ratio: f64) -> String {
    format!("{ratio:.2} ×")
}

/// One figure as a multiple of another.
pub(super) fn ratio(figure: Option<f64>, of: Option<f64>) -> Option<f64> {
    Some(figure? / of.filter(|&of| of > 0.0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_compares_with_the_limit_in_the_direction_of_its_target() {
        let of = |target, figure: f64| {
            let row = Row::new("", Unit::Milliseconds, Some(target), |it| it.zip_mib);
            let figures = Figures { zip_mib: Some(figure), ..Figures::default() };
            row.verdict(Some(&figures), Some(2.0))
        };
        assert_eq!(of(Target::TimesBaseline(3.0), 6.0), ["≤ 3.00 ×", "met"]);
        assert_eq!(of(Target::TimesBaseline(3.0), 6.1), ["≤ 3.00 ×", "NOT met"]);
        assert_eq!(of(Target::BeyondBaseline(1.0), 3.0), ["≤ baseline + 1.00 ms", "met"]);
        assert_eq!(of(Target::BeyondBaseline(1.0), 3.1), ["≤ baseline + 1.00 ms", "NOT met"]);
        assert_eq!(of(Target::AtMost(1.0), 1.1), ["≤ 1.00 ms", "NOT met"]);
        assert_eq!(of(Target::AtLeast(1.0), 1.1), ["≥ 1.00 ms", "met"]);
        assert_eq!(of(Target::AtLeast(1.0), 0.9), ["≥ 1.00 ms", "NOT met"]);
    }
}
