//! The comparison with the peers as a chart: bars of four figures, each on a linear scale of its own.

use std::fmt::Write;

use super::{Figures, Results, rows::Unit};

/// Sizes, in the chart's own units.
const WIDTH: f64 = 840.0;
const BAR_AT: f64 = 190.0;
const LONGEST_BAR: f64 = 520.0;
const LINE: f64 = 24.0;
const TITLE: f64 = 34.0;
const MARGIN: f64 = 20.0;

/// close-order's colour, and everybody else's.
const OURS: &str = "#07833c";
const OTHERS: &str = "#9aa5b1";

/// One panel of the chart.
struct Panel {
    title: &'static str,
    figure: fn(&Figures) -> Option<f64>,
    unit: Unit,
}

const PANELS: [Panel; 4] = [
    Panel {
        title: "Cold start: process start to first answer, median",
        figure: |it| it.first_answer_ms.median(),
        unit: Unit::Milliseconds,
    },
    Panel {
        title: "Warm: time per order without WeChat Pay's own, median",
        figure: |it| it.overhead_ms.median(),
        unit: Unit::Milliseconds,
    },
    Panel { title: "Memory at the first answer, peak", figure: |it| it.peak_rss_mib.median(), unit: Unit::Mebibytes },
    Panel { title: "Deployment package (zip)", figure: |it| it.zip_mib, unit: Unit::Mebibytes },
];

impl Results {
    /// The comparison as an SVG document; panels without a figure are left out.
    #[must_use]
    pub fn svg(&self) -> String {
        let mut body = String::new();
        let mut y = MARGIN;
        for panel in PANELS {
            let bars: Vec<(&str, f64)> = self
                .programs
                .iter()
                .filter_map(|it| Some((it.program.name.as_str(), (panel.figure)(&it.figures)?)))
                .collect();
            let Some(longest) = bars.iter().map(|&(_, value)| value).max_by(f64::total_cmp) else { continue };
            let _ = writeln!(body, r#"<text class="title" x="{MARGIN}" y="{}">{}</text>"#, y + 16.0, panel.title);
            y += TITLE;
            for (name, value) in bars {
                let length = (value / longest * LONGEST_BAR).max(1.0);
                let colour = if name == "close-order" { OURS } else { OTHERS };
                let name = name.replace('&', "&amp;").replace('<', "&lt;");
                let (label, text, value) = (BAR_AT - 8.0, y + 13.0, panel.unit.show(value));
                let _ = writeln!(body, r#"<text class="name" x="{label}" y="{text}">{name}</text>"#);
                let _ = writeln!(
                    body,
                    r#"<rect x="{BAR_AT}" y="{y}" width="{length:.1}" height="{}" fill="{colour}"/>"#,
                    LINE - 6.0
                );
                let _ = writeln!(body, r#"<text x="{:.1}" y="{text}">{value}</text>"#, BAR_AT + length + 8.0);
                y += LINE;
            }
            y += MARGIN;
        }
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y}" role="img">
<title>close-order beside peers: cold start, warm overhead, memory and package size</title>
<style>text {{ font: 13px system-ui, sans-serif; fill: #1f2933 }} .title {{ font-weight: 600 }} .name {{ text-anchor: end }}</style>
<rect width="{WIDTH}" height="{y}" rx="6" fill="#ffffff"/>
{body}</svg>
"##
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Layout, Measured, Options, Program};

    #[test]
    fn bars_are_as_long_as_their_figures_and_the_document_is_xml() {
        let options = Options { starts: 1, distance: None, is_sqs_only: false, is_on_one_processor: false };
        let programs = [("close-order", 1.0), ("a <peer> & co", 4.0)].map(|(name, zip)| {
            let mut program = Program::close_order("program".into());
            program.name = name.to_owned();
            let mut measured = Measured::new(program);
            measured.figures.zip_mib = Some(zip);
            measured
        });
        let svg = Results { options, layout: Layout::Apart, programs: programs.into() }.svg();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let bars = document.descendants().filter(|node| node.attribute("fill").is_some_and(|fill| fill != "#ffffff"));
        let widths: Vec<_> = bars.map(|bar| bar.attribute("width").unwrap()).collect();
        assert_eq!(widths, ["130.0", "520.0"]);
        assert!(document.descendants().any(|node| node.text() == Some("a <peer> & co")));
    }
}
