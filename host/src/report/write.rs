//! Files that are whole or not there.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Why a file was not written. Nothing of it is left behind, and what was there before still is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The path is taken.
    #[error("{}: exists already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// No such directory.
    #[error("{}: its folder {} is not there", path.display(), folder.display())]
    NoFolder {
        /// The file.
        path: PathBuf,
        /// Where it should have gone.
        folder: PathBuf,
    },
    /// The disk or the quota is full.
    #[error("{}: no space left for {bytes} bytes", path.display())]
    Full {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: usize,
    },
    /// Anything else that the system says.
    #[error("{}: cannot be written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl WriteError {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            WriteError::Exists { .. } => "give another name, or --force to replace it".into(),
            WriteError::NoFolder { folder, .. } => {
                format!("create it: mkdir -p {}", folder.display())
            }
            WriteError::Full { .. } => "free some space or write to another disk".into(),
            WriteError::Io { .. } => "check the path and its permissions".into(),
        }
    }

    fn from_io(path: &Path, bytes: usize, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => WriteError::Full { path, bytes },
            io::ErrorKind::AlreadyExists => WriteError::Exists { path },
            _ => WriteError::Io { path, source },
        }
    }
}

/// Whether [`write_atomic`] could write to this path, asked before long work whose result goes
/// there. The disk may still be full by then.
///
/// # Errors
/// [`WriteError::Exists`] without `overwrite`, [`WriteError::NoFolder`], and [`WriteError::Io`]
/// where a folder is in the way or the folder takes no file.
pub fn check_target(path: &Path, overwrite: bool) -> Result<(), WriteError> {
    match std::fs::metadata(path) {
        Ok(m) if m.is_dir() => {
            let source = io::Error::new(io::ErrorKind::IsADirectory, "it is a folder");
            return Err(WriteError::Io {
                path: path.into(),
                source,
            });
        }
        Ok(m) if m.is_file() && !overwrite => return Err(WriteError::Exists { path: path.into() }),
        _ => {}
    }
    let folder = folder_of(path);
    if !folder.is_dir() {
        return Err(WriteError::NoFolder {
            path: path.into(),
            folder: folder.into(),
        });
    }
    if std::fs::metadata(path).is_ok_and(|m| !m.is_file()) {
        return Ok(());
    }
    // Permissions, read-only disks and the like: only trying tells.
    temporary(folder, Access::Usual).map_err(|e| WriteError::from_io(path, 0, e))?;
    Ok(())
}

/// A file that vanishes unless it is renamed.
fn temporary(folder: &Path, access: Access) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".qmend-").suffix(".tmp");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(match access {
            // As any new file: the umask takes its share.
            Access::Usual => 0o666,
            Access::Owner => 0o600,
        }));
    }
    #[cfg(not(unix))]
    let _ = access;
    builder.tempfile_in(folder)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}

/// Writes a file so that a crash, a full disk or a power cut leaves either the old file or the new
/// one: a temporary file in the same folder, flushed to the disk, then renamed over the path.
///
/// Devices and pipes (`/dev/stdout`) are written to directly.
///
/// # Errors
/// [`WriteError`]; without `overwrite` an existing file is [`WriteError::Exists`].
pub fn write_atomic(path: &Path, bytes: &[u8], overwrite: bool) -> Result<(), WriteError> {
    write_with(path, bytes, overwrite, Access::Usual)
}

/// [`write_atomic`] of a secret: the file can be read and written by its owner alone, from its first
/// byte on (on systems that have such permissions).
///
/// # Errors
/// As [`write_atomic`].
pub fn write_private(path: &Path, bytes: &[u8], overwrite: bool) -> Result<(), WriteError> {
    write_with(path, bytes, overwrite, Access::Owner)
}

/// Who may read a new file.
#[derive(Clone, Copy)]
enum Access {
    Usual,
    Owner,
}

fn write_with(
    path: &Path,
    bytes: &[u8],
    overwrite: bool,
    access: Access,
) -> Result<(), WriteError> {
    let failed = |e| WriteError::from_io(path, bytes.len(), e);
    check_target(path, overwrite)?;
    // A device or a pipe is written to, not replaced.
    if std::fs::metadata(path).is_ok_and(|m| !m.is_file()) {
        let mut file = OpenOptions::new().write(true).open(path).map_err(failed)?;
        return file
            .write_all(bytes)
            .and_then(|()| file.flush())
            .map_err(failed);
    }
    let folder = folder_of(path);
    let mut file = temporary(folder, access).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    let renamed = if overwrite {
        file.persist(path)
    } else {
        file.persist_noclobber(path)
    };
    renamed.map_err(|e| failed(e.error))?;
    // Makes the rename itself durable where the system can; the file's bytes already are.
    #[cfg(unix)]
    let _ = File::open(folder).and_then(|d| d.sync_all());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        std::fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn an_existing_file_is_replaced_only_on_request() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.qmend");
        write_atomic(&path, b"old", false).unwrap();
        let e = write_atomic(&path, b"new", false).unwrap_err();
        assert!(
            matches!(e, WriteError::Exists { .. }) && e.help().contains("--force"),
            "{e}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        write_atomic(&path, b"new", true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(names(dir.path()), ["m.qmend"]);
    }

    #[test]
    fn a_missing_folder_and_a_folder_in_the_way_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let e = write_atomic(&dir.path().join("no/m"), b"x", false).unwrap_err();
        assert!(
            matches!(&e, WriteError::NoFolder { folder, .. } if folder.ends_with("no")),
            "{e}"
        );
        assert!(matches!(
            write_atomic(dir.path(), b"x", true),
            Err(WriteError::Io { .. })
        ));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_named_as_such() {
        let e = write_atomic(Path::new("/dev/full"), &[0; 5000], false).unwrap_err();
        assert_eq!(e.to_string(), "/dev/full: no space left for 5000 bytes");
    }
}
