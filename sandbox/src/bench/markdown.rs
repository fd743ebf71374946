//! The figures as a table in Markdown, and as JSON.

use serde_json::{Value, json};

use super::{Measured, Results, milliseconds, program::Kind, rows};

impl Results {
    /// The figures as JSON, with every sample.
    #[must_use]
    pub fn json(&self) -> Value {
        let distance = self.options.distance.map(|distance| {
            let [gateway, secrets] = [distance.gateway, distance.secrets].map(milliseconds);
            json!({"gateway_ms": gateway, "secrets_ms": secrets})
        });
        json!({"layout": self.layout, "distance": distance, "programs": self.programs})
    }

    /// The figures as a table: medians, where there is more than one sample.
    #[must_use]
    pub fn table(&self) -> String {
        markdown(self.lines(false))
    }

    /// The same with the targets, and whether close-order meets them.
    #[must_use]
    pub fn table_with_targets(&self) -> String {
        markdown(self.lines(true))
    }

    fn lines(&self, has_targets: bool) -> Vec<Vec<String>> {
        let baseline = self.programs.iter().find(|it| it.program.kind == Kind::Baseline);
        let others: Vec<&Measured> = self.programs.iter().filter(|it| it.program.kind != Kind::Baseline).collect();
        let close_order = others.iter().find(|it| it.program.kind == Kind::CloseOrder).map(|it| &it.figures);

        let mut head = vec![String::new()];
        for it in &others {
            head.extend([it.program.name.clone(), "÷ baseline".to_owned()]);
        }
        head.push("baseline".to_owned());
        if has_targets {
            head.extend(["target", ""].map(str::to_owned));
        }
        let mut lines = vec![head];
        for row in rows::all(self.options) {
            let of_baseline = baseline.and_then(|it| (row.figure)(&it.figures));
            let show = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| row.unit.show(value));
            if others.iter().all(|it| (row.figure)(&it.figures).is_none()) {
                continue;
            }
            let mut line = vec![row.name.clone()];
            for it in &others {
                let figure = (row.figure)(&it.figures);
                let ratio = rows::ratio(figure, of_baseline).map_or_else(|| "–".to_owned(), rows::times);
                line.extend([show(figure), ratio]);
            }
            line.push(show(of_baseline));
            if has_targets {
                line.extend(row.verdict(close_order, of_baseline));
            }
            lines.push(line);
        }
        lines
    }
}

/// A table whose columns are as wide as their widest cell: names to the left, figures to the right.
fn markdown(mut lines: Vec<Vec<String>>) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |lines: &[Vec<String>], column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(&lines, column).max(3)).collect();
    let is_name = |column: usize| column == 0;
    let rule = widths.iter().enumerate().map(|(column, &width)| {
        if is_name(column) { "-".repeat(width) } else { format!("{}:", "-".repeat(width - 1)) }
    });
    lines.insert(1, rule.collect());
    let line = |line: &Vec<String>| {
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if is_name(column) { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
    };
    lines.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let lines = [["", "close-order"], ["zip", "2.70 MiB"]].map(|line| line.map(str::to_owned).to_vec()).to_vec();
        assert_eq!(markdown(lines), "|     | close-order |\n| --- | ----------: |\n| zip |    2.70 MiB |\n");
    }
}
