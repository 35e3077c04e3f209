//! The journal's file: bounded reading, atomic replacement, and the lock that orders writers.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::files;

use super::data::{Data, FORMAT};

const NAME: &str = "journal.json";
const NEW_NAME: &str = "journal.json.new";
const LOCK_NAME: &str = "journal.lock";
const CORRUPT_NAME: &str = "journal.json.corrupt";
/// Largest journal that is read, in bytes; 64 failed releases with full details stay below it.
const SIZE_MAX: u64 = 1 << 20;
/// More than most journals have, in bytes.
const PROBE: usize = 16 << 10;
/// Longest wait for another writer, each of which holds the lock for one small write.
const LOCK_WAIT: Duration = Duration::from_secs(10);
const LOCK_POLL: Duration = Duration::from_millis(20);

/// The journal could not be changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    #[error("{action} {path}: {source}")]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("lock {path}: another process has held it for {seconds} s")]
    Busy { path: PathBuf, seconds: u64 },
    #[error("write {path}: {source}")]
    Encode {
        path: PathBuf,
        source: serde_json::Error,
    },
}

impl JournalError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// Reads the journal; an absent one is empty, one that can't be understood is moved aside.
pub(super) fn load(dir: &Path) -> Data {
    let path = dir.join(NAME);
    let text = match read(&path) {
        Ok(Some(text)) => text,
        Ok(None) => return Data::default(),
        Err(error) => {
            log::error!("read {}: {error}; going on without it", path.display());
            return Data::default();
        }
    };
    match parse(&text) {
        Ok(data) => data,
        Err(cause) => {
            move_aside(&path, &dir.join(CORRUPT_NAME), &cause);
            Data::default()
        }
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match files::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = Vec::new();
    file.take(SIZE_MAX.saturating_add(1))
        .read_to_end(&mut text)?;
    Ok(Some(text))
}

fn parse(text: &[u8]) -> Result<Data, String> {
    if text.len() as u64 > SIZE_MAX {
        return Err(format!("it has more than {SIZE_MAX} bytes"));
    }
    let data: Data = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    if data.format != FORMAT {
        return Err(format!("format {} is unknown", data.format));
    }
    Ok(data)
}

fn move_aside(path: &Path, aside: &Path, cause: &str) {
    match fs::rename(path, aside) {
        Ok(()) => log::error!(
            "read {}: {cause}; moved it to {} and started a new one",
            path.display(),
            aside.display()
        ),
        Err(error) => log::error!(
            "read {}: {cause}; could not move it aside ({error}), going on without it",
            path.display()
        ),
    }
}

/// Replaces the journal; on return the new one is on the medium.
pub(super) fn save(dir: &Path, data: &Data) -> Result<(), JournalError> {
    let path = dir.join(NAME);
    let mut text = serde_json::to_vec(data).map_err(|source| JournalError::Encode {
        path: path.clone(),
        source,
    })?;
    text.push(b'\n');
    replace(dir, &path, &dir.join(NEW_NAME), &text)
}

/// Writes `text` to `new`, then renames that to `path`, with the flushes that make each step durable.
pub(crate) fn replace(
    dir: &Path,
    path: &Path,
    new: &Path,
    text: &[u8],
) -> Result<(), JournalError> {
    let write = || -> io::Result<()> {
        let mut file = File::create(new)?;
        file.write_all(text)?;
        file.sync_all()
    };
    write().map_err(JournalError::io("write", new))?;
    fs::rename(new, path).map_err(JournalError::io("replace", path))?;
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(JournalError::io("flush", dir))
}

/// Writes what a journal's next version may need, where that would be written, and removes it.
pub(super) fn probe(dir: &Path) -> Result<(), JournalError> {
    let _lock = lock(dir)?;
    let new = dir.join(NEW_NAME);
    let write = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(&[b' '; PROBE])?;
        file.sync_all()?;
        fs::remove_file(&new)
    };
    write()
        .inspect_err(|_| {
            // Half of it is of no use to anybody.
            let _ = fs::remove_file(&new);
        })
        .map_err(JournalError::io("write", &new))
}

/// Takes the lock in the directory, which is created when it is missing.
pub(super) fn lock(dir: &Path) -> Result<Flock<File>, JournalError> {
    fs::create_dir_all(dir).map_err(JournalError::io("create", dir))?;
    let path = dir.join(LOCK_NAME);
    let mut file = files::open_lock(&path).map_err(JournalError::io("open", &path))?;
    let start = Instant::now();
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) if start.elapsed() < LOCK_WAIT => {
                file = back;
                sleep(LOCK_POLL);
            }
            Err((_, Errno::EWOULDBLOCK | Errno::EINTR)) => {
                return Err(JournalError::Busy {
                    path,
                    seconds: LOCK_WAIT.as_secs(),
                });
            }
            Err((_, errno)) => return Err(JournalError::io("lock", &path)(errno.into())),
        }
    }
}
