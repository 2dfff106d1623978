//! Plain tables.

use std::fmt;

/// Rows under headings, printed in aligned columns: numbers to the right, words to the left.
#[derive(Clone, Debug, Default)]
pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these headings.
    pub fn new<S: Into<String>>(head: impl IntoIterator<Item = S>) -> Self {
        Table {
            head: head.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row. Missing cells are blank; a row longer than the headings widens the table.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) -> &mut Self {
        self.rows.push(cells.into_iter().map(Into::into).collect());
        self
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// Whether a cell reads as a number, a percentage, or the dash of a missing number.
fn numeric(cell: &str) -> bool {
    let bare: String = cell
        .chars()
        .filter(|c| !matches!(c, ',' | '%' | ' '))
        .collect();
    matches!(cell, "" | "-") || bare.parse::<f64>().is_ok()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let columns = self
            .rows
            .iter()
            .map(Vec::len)
            .max()
            .unwrap_or(0)
            .max(self.head.len());
        fn cell(row: &[String], i: usize) -> &str {
            row.get(i).map_or("", String::as_str)
        }
        let width = |i: usize| {
            let all = self.rows.iter().chain([&self.head]);
            all.map(|r| cell(r, i).chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let right: Vec<bool> = (0..columns)
            .map(|i| !self.rows.is_empty() && self.rows.iter().all(|r| numeric(cell(r, i))))
            .collect();
        let mut line = |row: &[String]| {
            let mut text = String::new();
            for i in 0..columns {
                let (c, w) = (cell(row, i), widths[i]);
                let gap = if i == 0 { "" } else { "  " };
                text += &if right[i] {
                    format!("{gap}{c:>w$}")
                } else {
                    format!("{gap}{c:<w$}")
                };
            }
            writeln!(f, "{}", text.trim_end())
        };
        line(&self.head)?;
        line(&widths.iter().map(|&w| "-".repeat(w)).collect::<Vec<_>>())?;
        self.rows.iter().try_for_each(|r| line(r))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_right_and_words_left() {
        let mut t = Table::new(["layer", "weights", "accuracy"]);
        t.row(["conv1", "1,024", "9.5 %"])
            .row(["fc", "-", "86.0 %"])
            .row(["größe"]);
        let want = "layer  weights  accuracy\n-----  -------  --------\nconv1    1,024     9.5 %\nfc           -    86.0 %\ngröße\n";
        assert_eq!(t.to_string(), want);
    }

    #[test]
    fn a_table_without_rows_is_its_headings() {
        assert_eq!(Table::new(["a", "bc"]).to_string(), "a  bc\n-  --\n");
    }
}
