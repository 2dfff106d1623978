//! Finished rows on disk, so that a run that was cut short goes on where it stopped.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::row::Row;

/// One JSON object a line, each a row, in the order in which they were finished.
pub struct Journal {
    path: PathBuf,
    file: Option<File>,
    rows: HashMap<String, Row>,
}

impl Journal {
    /// A journal that nothing is written to.
    pub fn none() -> Self {
        Journal {
            path: PathBuf::new(),
            file: None,
            rows: HashMap::new(),
        }
    }

    /// Opens a journal, or begins one; `fresh` forgets what it holds.
    ///
    /// # Errors
    /// A file that cannot be read or written, or that is no journal. Its last line may be torn.
    pub fn open(path: &Path, fresh: bool) -> Result<Self> {
        let shown = || path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) if !fresh => text,
            Ok(_) => String::new(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(e).with_context(shown),
        };
        let mut rows = HashMap::new();
        let mut whole = String::new();
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            match serde_json::from_str::<Row>(line) {
                Ok(row) => {
                    whole += line;
                    whole.push('\n');
                    rows.insert(row.key.clone(), row);
                }
                // Cut off in the middle of a write.
                Err(_) if i + 1 == lines.len() && !text.ends_with('\n') => {}
                Err(e) => {
                    return Err(e).with_context(|| {
                        format!(
                            "{}, line {}: not a finished row of `qmend bench`; move the file away, or say --fresh",
                            shown(),
                            i + 1
                        )
                    });
                }
            }
        }
        if whole != text || fresh {
            crate::report::write_atomic(path, whole.as_bytes(), true)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(shown)?;
        Ok(Journal {
            path: path.into(),
            file: Some(file),
            rows,
        })
    }

    /// The row of a key, if it is finished.
    pub fn get(&self, key: &str) -> Option<&Row> {
        self.rows.get(key)
    }

    /// Writes a finished row.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn add(&mut self, row: &Row) -> Result<()> {
        if let Some(file) = &mut self.file {
            let mut line = serde_json::to_string(row)?;
            line.push('\n');
            file.write_all(line.as_bytes())
                .and_then(|()| file.flush())
                .with_context(|| self.path.display().to_string())?;
        }
        self.rows.insert(row.key.clone(), row.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::row;
    use super::*;

    #[test]
    fn finished_rows_come_back_and_a_torn_last_line_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.jsonl");
        let (a, b) = (row("a", 0, 85), row("b", 3, 86));
        let mut j = Journal::open(&path, false).unwrap();
        j.add(&a).unwrap();
        j.add(&b).unwrap();
        drop(j);
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 10]).unwrap();
        let mut j = Journal::open(&path, false).unwrap();
        assert_eq!((j.get(&a.key), j.get(&b.key)), (Some(&a), None));
        j.add(&b).unwrap();
        drop(j);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), whole);
        let j = Journal::open(&path, true).unwrap();
        assert!(j.get(&a.key).is_none());
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }

    #[test]
    fn what_is_no_journal_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("j.jsonl");
        std::fs::write(&path, "dear diary\nit rains\n").unwrap();
        let e = Journal::open(&path, false).err().expect("no journal");
        assert!(format!("{e:#}").contains("line 1"), "{e:#}");
        assert!(std::fs::read_to_string(&path).unwrap().contains("rains"));
    }
}
