//! Tables of numbers with a column of labels: comma, semicolon, tab or space between the columns,
//! with or without a header.

use std::collections::BTreeSet;
use std::io::{BufRead, Cursor, Read};
use std::path::Path;

use super::array::{Array, label};
use super::bytes::{MAX_BYTES, read_error};
use super::load::Raw;
use super::{DataError, Labels, LoadOptions, Values};

/// Whether a file without a known magic may be a table.
pub(super) fn could_be_text(path: &Path, head: &[u8]) -> bool {
    let name = path.to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    [".csv", ".tsv", ".txt"].iter().any(|e| name.ends_with(e))
        || head
            .iter()
            .all(|&b| b.is_ascii_graphic() || b.is_ascii_whitespace())
}

/// Reads samples `[n, features]` and labels.
pub(super) fn read(
    path: &Path,
    reader: Box<dyn BufRead>,
    o: &LoadOptions,
) -> Result<Raw, DataError> {
    let mut table = Table::new(path, reader)?;
    let columns = table.columns();
    let wanted = match &o.labels {
        // Labels from elsewhere or none: every column is a feature unless one is named.
        Labels::None | Labels::File(_) if o.label_column.is_none() => Some("none"),
        // As many columns as the model has inputs leave none for labels.
        Labels::Auto
            if o.label_column.is_none()
                && o.expected
                    .is_some_and(|e| e.iter().product::<usize>() == columns) =>
        {
            Some("none")
        }
        _ => o.label_column.as_deref(),
    };
    let label_at = table.label_column(wanted)?;
    if columns == label_at.map_or(0, |_| 1) {
        return Err(table.wrong(
            "has no column of features".into(),
            "give a table with at least one number a row",
        ));
    }
    let features = columns - label_at.map_or(0, |_| 1);
    let mut values = Vec::new();
    let mut labels = Vec::new();
    while let Some(row) = table.next_row()? {
        for (i, cell) in row.cells.iter().enumerate() {
            if Some(i) == label_at {
                labels.push(cell.trim().to_string());
                continue;
            }
            let Ok(v) = cell.trim().parse::<f32>() else {
                return Err(table.wrong(
                    format!("line {}, column {i}{}: {cell:?} is not a number", row.line, table.name_of(i)),
                    "features are numbers; encode categories as numbers, or name the label's column with --label-column",
                ));
            };
            values.push(v);
        }
        if values.len() as u64 * 4 > MAX_BYTES {
            return Err(DataError::TooLarge {
                path: path.into(),
                bytes: values.len() as u128 * 4,
                limit: MAX_BYTES,
            });
        }
    }
    let n = values.len() / features;
    let names = table.class_names.clone();
    let (labels, class_names) = match label_at {
        Some(_) => {
            let (l, n) = classes_of(path, &labels, o)?;
            (Some(l), if n.is_empty() { names } else { n })
        }
        None => (None, Vec::new()),
    };
    let samples = Array {
        shape: vec![n, features],
        values: Values::F32(values),
    };
    Ok(Raw {
        samples,
        labels,
        class_names,
        nhwc: false,
    })
}

/// Reads a file of labels alone: one a line, with or without a heading.
pub(super) fn read_labels(
    path: &Path,
    reader: Box<dyn BufRead>,
    o: &LoadOptions,
) -> Result<(Vec<u32>, Vec<String>), DataError> {
    let mut table = Table::new(path, reader)?;
    let at = match (table.columns(), &o.label_column) {
        (1, None) => 0,
        (_, Some(_)) => table.label_column(o.label_column.as_deref())?.unwrap_or(0),
        (n, None) => {
            return Err(table.wrong(
                format!("has {n} columns"),
                "name the labels' column with --label-column",
            ));
        }
    };
    let mut labels = Vec::new();
    while let Some(row) = table.next_row()? {
        labels.push(row.cells[at].trim().to_string());
    }
    classes_of(path, &labels, o)
}

/// Numbers as they are; names by the model's classes or else in alphabetical order.
fn classes_of(
    path: &Path,
    labels: &[String],
    o: &LoadOptions,
) -> Result<(Vec<u32>, Vec<String>), DataError> {
    let numbers: Option<Vec<f64>> = labels.iter().map(|l| l.parse().ok()).collect();
    if let Some(numbers) = numbers {
        let ids = numbers
            .iter()
            .enumerate()
            .map(|(i, &v)| label(path, i, v))
            .collect::<Result<_, _>>()?;
        return Ok((ids, Vec::new()));
    }
    if let Some(index) = labels.iter().position(String::is_empty) {
        return Err(DataError::NotALabel {
            path: path.into(),
            index,
            value: "empty".into(),
        });
    }
    let names = if o.classes.is_empty() {
        labels
            .iter()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .cloned()
            .collect()
    } else {
        o.classes.clone()
    };
    let ids = labels
        .iter()
        .map(|l| match names.iter().position(|n| n == l) {
            Some(i) => Ok(i as u32),
            None => Err(DataError::UnknownClass {
                path: path.into(),
                name: l.clone(),
                known: names.clone(),
            }),
        })
        .collect::<Result<_, _>>()?;
    Ok((ids, names))
}

struct Row {
    line: u64,
    cells: Vec<String>,
}

/// Rows with one number of columns, the header set apart.
struct Table<'a> {
    path: &'a Path,
    rows: csv::Reader<Box<dyn Read>>,
    /// Column names, where the first row held them.
    header: Option<Vec<String>>,
    /// Class names of scikit-learn's first line.
    class_names: Vec<String>,
    /// Rows that were read to understand the table, next to be handed out.
    ahead: Vec<Row>,
    columns: usize,
}

impl<'a> Table<'a> {
    fn new(path: &'a Path, mut reader: Box<dyn BufRead>) -> Result<Self, DataError> {
        // The first line decides on the delimiter.
        let mut start = Vec::new();
        let mut byte = [0u8];
        while start.len() < 1 << 20 && !start.ends_with(b"\n") {
            if reader.read(&mut byte).map_err(|e| read_error(path, e))? == 0 {
                break;
            }
            start.push(byte[0]);
        }
        let line = start
            .strip_prefix(b"\xef\xbb\xbf")
            .unwrap_or(&start)
            .to_vec();
        let delimiter = [b',', b';', b'\t', b' ']
            .into_iter()
            .find(|d| line.trim_ascii().contains(d))
            .unwrap_or(b',');
        let reader = Cursor::new(line).chain(reader).take(8 * MAX_BYTES);
        let rows = csv::ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .comment(Some(b'#'))
            .from_reader(Box::new(reader) as Box<dyn Read>);
        let mut table = Self {
            path,
            rows,
            header: None,
            class_names: Vec::new(),
            ahead: Vec::new(),
            columns: 0,
        };
        table.understand()?;
        Ok(table)
    }

    fn columns(&self) -> usize {
        self.columns
    }

    /// Tells a header, and scikit-learn's first line (samples, features, class names), from data.
    fn understand(&mut self) -> Result<(), DataError> {
        let Some(first) = self.record()? else {
            return Err(DataError::Empty {
                path: self.path.into(),
            });
        };
        let second = self.record()?;
        let width = second.as_ref().map_or(first.cells.len(), |r| r.cells.len());
        let numeric = |c: &String| c.trim().parse::<f64>().is_ok();
        let class = second
            .as_ref()
            .and_then(|r| r.cells.last())
            .and_then(|c| c.trim().parse::<usize>().ok());
        let summary = first.cells.len() > 3
            && first.cells[0].trim().parse::<usize>().is_ok()
            && first.cells[1].trim().parse() == Ok(width.saturating_sub(1))
            && !first.cells[2..].iter().any(numeric)
            && class.is_some_and(|c| c < first.cells.len() - 2);
        self.columns = width;
        if summary {
            self.class_names = first.cells[2..]
                .iter()
                .map(|c| c.trim().to_string())
                .collect();
        } else if is_header(&first.cells, second.as_ref().map(|r| r.cells.as_slice())) {
            if first.cells.len() != width {
                return Err(self.wrong(
                    format!(
                        "its header names {} columns, but line 2 has {width}",
                        first.cells.len()
                    ),
                    "every row needs as many columns as the header",
                ));
            }
            self.header = Some(first.cells.iter().map(|c| c.trim().to_string()).collect());
        } else {
            self.columns = first.cells.len();
            self.ahead.push(first);
        }
        self.ahead.extend(second);
        self.ahead.reverse();
        Ok(())
    }

    fn record(&mut self) -> Result<Option<Row>, DataError> {
        let mut record = csv::StringRecord::new();
        let line = self.rows.position().line();
        let more = self
            .rows
            .read_record(&mut record)
            .map_err(|e| match e.into_kind() {
                csv::ErrorKind::Io(e) => read_error(self.path, e),
                _ => self.wrong(
                    format!("line {line} is not UTF-8 text"),
                    "save the table as UTF-8",
                ),
            })?;
        let line = record.position().map_or(line, |p| p.line());
        Ok(more.then(|| Row {
            line,
            cells: record.iter().map(String::from).collect(),
        }))
    }

    fn next_row(&mut self) -> Result<Option<Row>, DataError> {
        let row = match self.ahead.pop() {
            Some(row) => Some(row),
            None => self.record()?,
        };
        match row {
            Some(r) if r.cells.len() != self.columns => Err(self.wrong(
                format!(
                    "line {} has {} columns instead of {}",
                    r.line,
                    r.cells.len(),
                    self.columns
                ),
                "every row needs the same number of columns",
            )),
            row => Ok(row),
        }
    }

    /// Index of the labels' column.
    fn label_column(&self, wanted: Option<&str>) -> Result<Option<usize>, DataError> {
        match wanted {
            None => Ok(Some(self.columns - 1)),
            Some("none") => Ok(None),
            Some(name) => {
                let by_name = self
                    .header
                    .as_ref()
                    .and_then(|h| h.iter().position(|c| c == name));
                let by_index = name.parse().ok().filter(|&i: &usize| i < self.columns);
                by_name.or(by_index).map(Some).ok_or_else(|| {
                    let known = self
                        .header
                        .as_ref()
                        .map_or("it has no header".into(), |h| h.join(", "));
                    self.wrong(
                        format!("no column {name:?} among {} ({known})", self.columns),
                        "give --label-column a name from the header, an index from 0, or none",
                    )
                })
            }
        }
    }

    fn name_of(&self, column: usize) -> String {
        self.header
            .as_ref()
            .map_or(String::new(), |h| format!(" ({})", h[column]))
    }

    fn wrong(&self, what: String, help: &str) -> DataError {
        DataError::Malformed {
            path: self.path.into(),
            what,
            help: help.into(),
        }
    }
}

/// Whether the first row names the columns: it has text where the second has a number, or, in a
/// table of one row, nothing but text.
fn is_header(first: &[String], second: Option<&[String]>) -> bool {
    let text = |c: &String| !c.trim().is_empty() && c.trim().parse::<f64>().is_err();
    match second {
        Some(second) => {
            let differs = first.iter().zip(second).any(|(a, b)| text(a) && !text(b));
            differs
                || (first.len() > 1 && first.iter().all(text) && second.iter().any(|c| !text(c)))
        }
        None => first.len() > 1 && first.iter().all(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, load};

    fn table(text: &str, o: &LoadOptions) -> Result<Dataset, DataError> {
        let file = tempfile::Builder::new().suffix(".csv").tempfile().unwrap();
        std::fs::write(file.path(), text).unwrap();
        load(file.path(), o)
    }

    fn by(column: &str) -> LoadOptions {
        LoadOptions {
            label_column: Some(column.into()),
            ..Default::default()
        }
    }

    #[test]
    fn header_delimiter_and_label_column_are_found() {
        let want = (Values::F32(vec![1.0, 2.5, -3.0, 4e2]), Some(vec![0, 1]));
        for text in [
            "1,2.5,0\n-3,400,1\n",
            "a,b,class\n1,2.5,0\n-3,4e2,1\n",
            "1;2.5;0\r\n-3;4e2;1\r\n",
            "\u{feff}1\t2.5\t0\n-3\t400\t1",
            "# comment\n1 2.5 0.0\n-3 400 1.0\n",
            "2,2,no,yes\n1,2.5,0\n-3,400,1\n",
        ] {
            let d = table(text, &LoadOptions::default()).unwrap();
            assert_eq!((d.values, d.labels), want, "{text}");
            assert_eq!(d.shape, [1, 1, 2]);
        }
        let d = table("class,a,b\n0,1,2.5\n1,-3,400\n", &by("class")).unwrap();
        assert_eq!((d.values, d.labels), want);
        let d = table("0,1,2.5\n1,-3,400\n", &by("0")).unwrap();
        assert_eq!((d.values, d.labels), want);
        let d = table("1,2\n3,4\n", &by("none")).unwrap();
        assert_eq!((d.shape, d.labels), ([1, 1, 2], None));
    }

    #[test]
    fn a_table_with_a_column_for_each_input_has_no_labels() {
        let takes = |features: usize| LoadOptions {
            expected: Some([1, 1, features]),
            ..Default::default()
        };
        let d = table("1,2,3\n4,5,6\n", &takes(3)).unwrap();
        assert_eq!((d.shape, d.labels), ([1, 1, 3], None));
        let d = table("1,2,3\n4,5,6\n", &takes(2)).unwrap();
        assert_eq!((d.shape, d.labels), ([1, 1, 2], Some(vec![3, 6])));
    }

    #[test]
    fn class_names_become_indices() {
        let text = "w,l,kind\n1,2,setosa\n3,4,virginica\n5,6,setosa\n";
        let d = table(text, &LoadOptions::default()).unwrap();
        assert_eq!(d.labels, Some(vec![0, 1, 0]));
        assert_eq!(d.class_names, ["setosa", "virginica"]);
        let d = table("1,2,b\n3,4,a\n", &LoadOptions::default()).unwrap();
        assert_eq!(d.labels, Some(vec![1, 0]));
        let known = LoadOptions {
            classes: vec!["virginica".into(), "setosa".into()],
            ..Default::default()
        };
        assert_eq!(table(text, &known).unwrap().labels, Some(vec![1, 0, 1]));
        let e = table("1,2,rose\n", &known).unwrap_err();
        assert!(matches!(e, DataError::UnknownClass { .. }), "{e}");
    }

    #[test]
    fn bad_tables_are_refused_with_line_and_column() {
        for (text, o, want) in [
            (
                "a,b,y\n1,,0\n",
                LoadOptions::default(),
                "line 2, column 1 (b): \"\" is not a number",
            ),
            (
                "1,2,0\n1,x,0\n",
                LoadOptions::default(),
                "line 2, column 1: \"x\"",
            ),
            (
                "1,2,0\n1,2\n",
                LoadOptions::default(),
                "line 2 has 2 columns instead of 3",
            ),
            (
                "a,b\n1,2,3\n",
                LoadOptions::default(),
                "header names 2 columns",
            ),
            ("1,2,0\n", by("kind"), "no column \"kind\""),
            ("1,2,0\n", by("3"), "no column \"3\""),
            ("1\n2\n", LoadOptions::default(), "no column of features"),
            ("1,2,0.5\n", LoadOptions::default(), "label 0 is 0.5"),
            ("1,2,-1\n", LoadOptions::default(), "label 0 is -1"),
            (
                "1,NaN,0\n",
                LoadOptions::default(),
                "sample 0, element 1 is NaN",
            ),
            ("a,b,y\n", LoadOptions::default(), "holds no samples"),
        ] {
            let e = table(text, &o).unwrap_err();
            assert!(
                e.to_string().contains(want) && e.to_string().contains(".csv"),
                "{text:?}: {e}"
            );
        }
        assert!(table("\n\n", &LoadOptions::default()).is_err());
    }
}
