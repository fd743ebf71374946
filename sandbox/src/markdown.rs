//! Tables in Markdown, as the pages have them.

/// A table, its head first, whose columns are as wide as their widest cell: names to the left, figures to the right.
#[must_use]
pub(crate) fn table(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default().max(3)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let rule: Vec<String> = widths.iter().map(|&width| format!("{}:", "-".repeat(width - 1))).collect();
    let mut text = String::new();
    for (index, line) in lines.iter().enumerate() {
        text += &row(line, &widths);
        if index == 0 {
            let names = widths.first().map(|&width| "-".repeat(width));
            text += &row(&names.into_iter().chain(rule.iter().skip(1).cloned()).collect::<Vec<_>>(), &widths);
        }
    }
    text
}

fn row(cells: &[String], widths: &[usize]) -> String {
    let cells = cells.iter().zip(widths).enumerate().map(|(column, (cell, &width))| {
        if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
    });
    format!("| {} |\n", cells.collect::<Vec<_>>().join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let lines = [["", "close-order"], ["zip", "2.70 MiB"]].map(|line| line.map(str::to_owned).to_vec());
        assert_eq!(table(&lines), "|     | close-order |\n| --- | ----------: |\n| zip |    2.70 MiB |\n");
    }
}
