//! Opening files: gzip undone, sizes bounded, system errors told from damage.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

use super::DataError;

/// What is read into memory at most, counted in the bytes that a [`super::Dataset`] takes. It
/// bounds what a hostile header or a compression bomb can cost.
pub(super) const MAX_BYTES: u64 = 2 << 30;

/// A file's content, ungzipped, and its first bytes (at most 8; they are still to be read).
pub(super) struct Opened {
    pub head: Vec<u8>,
    pub reader: Box<dyn BufRead>,
}

/// Opens a file and peeks at what is in it.
pub(super) fn open(path: &Path) -> Result<Opened, DataError> {
    let file = File::open(path).map_err(|source| DataError::Io {
        path: path.into(),
        source,
    })?;
    let plain = peek(path, BufReader::new(file))?;
    if plain.head.starts_with(&[0x1f, 0x8b]) {
        peek(
            path,
            BufReader::new(flate2::bufread::MultiGzDecoder::new(plain.reader)),
        )
    } else {
        Ok(plain)
    }
}

fn peek(path: &Path, mut reader: impl BufRead + 'static) -> Result<Opened, DataError> {
    let mut head = Vec::with_capacity(8);
    reader
        .by_ref()
        .take(8)
        .read_to_end(&mut head)
        .map_err(|e| read_error(path, e))?;
    Ok(Opened {
        head: head.clone(),
        reader: Box::new(Cursor::new(head).chain(reader)),
    })
}

/// Tells damage (of a gzip or zip stream, or an early end) from a failing system.
pub(super) fn read_error(path: &Path, e: io::Error) -> DataError {
    use io::ErrorKind::*;
    match e.kind() {
        UnexpectedEof => damaged(path, "ends too early".into()),
        InvalidData | InvalidInput | Other => damaged(path, format!("is damaged ({e})")),
        _ => DataError::Io {
            path: path.into(),
            source: e,
        },
    }
}

/// A file that breaks its own format.
pub(super) fn damaged(path: &Path, what: String) -> DataError {
    DataError::Malformed {
        path: path.into(),
        what,
        help: "the file is damaged or cut short: copy or write it again".into(),
    }
}
