//! Payloads in a folder, such as a USB stick's (`PAYLOAD_DIR`): the newest one that this device would install.
//!
//! Whatever lies there is anybody's. Of each file that is named `*.payload` only the first part is read, the signature
//! before anything else, and nothing but a plain file is opened.

use std::cmp::Ordering;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::num::NonZeroU8;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::files;
use crate::gates::Refusal;
use crate::incoming::{Incoming, IncomingError};
use crate::manifest::Manifest;
use crate::signature::{KeySet, Verified};
use crate::source::Source;
use crate::version;

/// How the names of payloads end.
pub const SUFFIX: &str = ".payload";
/// Most entries that a folder may have.
const ENTRIES_MAX: usize = 4096;
/// Most payloads in it.
const PAYLOADS_MAX: usize = 64;

/// A folder of payloads can't be looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StickError {
    #[error("read {path}: {source} (PAYLOAD_DIR)")]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "read {path}: it has more than {ENTRIES_MAX} entries or {PAYLOADS_MAX} payloads (PAYLOAD_DIR)"
    )]
    TooMany { path: PathBuf },
}

/// Why a file is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotTaken {
    #[error("open payload: {0}")]
    Open(#[from] io::Error),
    #[error("open payload: it is not a plain file")]
    NotAFile,
    #[error(transparent)]
    Incoming(#[from] IncomingError),
    #[error("accept payload: {0}")]
    Refused(#[from] Refusal),
    #[error("accept payload: {0} beside it is newer")]
    Older(String),
}

/// The payload to install.
#[derive(Debug)]
pub struct Found {
    pub path: PathBuf,
    /// The file that was looked at, at its start. What is installed from it is verified once more.
    pub file: File,
    pub manifest: Verified<Manifest>,
}

/// What there is.
#[derive(Debug, Default)]
pub struct Look {
    pub best: Option<Found>,
    /// The others, and why they are not taken.
    pub others: Vec<(PathBuf, NotTaken)>,
}

/// Looks at the payloads in `folder`; an absent one has none. `judge` holds a verified release to the rules of the
/// device. Reads at most 17 KiB of each file.
///
/// # Errors
/// The folder can't be read, or holds too much.
pub fn newest(
    folder: &Path,
    keys: &KeySet,
    required: NonZeroU8,
    judge: &mut dyn FnMut(&Verified<Manifest>) -> Result<(), Refusal>,
) -> Result<Look, StickError> {
    let mut look = Look::default();
    for path in payloads(folder)? {
        match open(&path, keys, required, judge) {
            Ok(found) => look.compare(found),
            Err(why) => look.others.push((path, why)),
        }
    }
    Ok(look)
}

impl Look {
    /// Keeps the newer one; the first by name of two that are equally new.
    fn compare(&mut self, found: Found) {
        let newer = self.best.as_ref().is_none_or(|best| {
            let by_version = version::compare(&found.manifest.version, &best.manifest.version);
            let (new, old) = (found.manifest.rollback_index, best.manifest.rollback_index);
            by_version.then(new.cmp(&old)) == Ordering::Greater
        });
        let loser = if newer {
            self.best.replace(found)
        } else {
            Some(found)
        };
        if let (Some(loser), Some(best)) = (loser, &self.best) {
            let name = Name(&best.path).to_string();
            self.others.push((loser.path, NotTaken::Older(name)));
        }
    }
}

fn open(
    path: &Path,
    keys: &KeySet,
    required: NonZeroU8,
    judge: &mut dyn FnMut(&Verified<Manifest>) -> Result<(), Refusal>,
) -> Result<Found, NotTaken> {
    let mut file = files::open_plain(path)?.ok_or(NotTaken::NotAFile)?;
    let (_, manifest) = Incoming::read(Source::stream(file.try_clone()?), keys, required)?;
    judge(&manifest)?;
    // Both share one position.
    file.seek(SeekFrom::Start(0))?;
    Ok(Found {
        path: path.to_owned(),
        file,
        manifest,
    })
}

/// The files named as payloads, sorted, so that the same folder always gives the same answer.
fn payloads(folder: &Path) -> Result<Vec<PathBuf>, StickError> {
    let path = || folder.to_path_buf();
    let failed = |source| StickError::Read {
        path: path(),
        source,
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut found = Vec::new();
    for (count, entry) in entries.enumerate() {
        let entry = entry.map_err(failed)?;
        let is_payload = entry
            .file_name()
            .as_encoded_bytes()
            .ends_with(SUFFIX.as_bytes());
        if count >= ENTRIES_MAX || (is_payload && found.len() >= PAYLOADS_MAX) {
            return Err(StickError::TooMany { path: path() });
        }
        if is_payload {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Notices a stick that was put in, without reading any file: whoever asks once a minute need not verify each time.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// What was told of.
    seen: Vec<Entry>,
    /// What was there the last time.
    last: Vec<Entry>,
}

/// What a [`Watch`] has seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing that was not told of.
    Nothing,
    /// Something that may still be copied: look again in a moment.
    Growing,
    /// Payloads that do not change any more.
    Here,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: Option<OsString>,
    /// Device, inode, size and times of the last change, as the file system has them.
    facts: [u64; 3],
    times: [i64; 2],
}

impl Watch {
    /// Whether there are payloads in the folder that were not there the last time. A folder that can't be read has none.
    pub fn look(&mut self, folder: &Path) -> News {
        let entries = payloads(folder).unwrap_or_default();
        let entry = |path: PathBuf| {
            let facts = |m: Metadata| ([m.dev(), m.ino(), m.size()], [m.mtime(), m.mtime_nsec()]);
            let (facts, times) = fs::metadata(&path).map(facts).unwrap_or_default();
            let name = path.file_name().map(Into::into);
            Entry { name, facts, times }
        };
        let now: Vec<Entry> = entries.into_iter().map(entry).collect();
        let rests = now == self.last;
        self.last.clone_from(&now);
        if now == self.seen || now.is_empty() {
            self.seen = now;
            return News::Nothing;
        }
        if !rests {
            return News::Growing;
        }
        self.seen = now;
        News::Here
    }
}

/// The name of a file from outside, which goes to a terminal.
struct Name<'a>(&'a Path);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.file_name().unwrap_or_default();
        write!(f, "{}", name.to_string_lossy().escape_debug())
    }
}

#[cfg(test)]
#[path = "stick_tests.rs"]
mod tests;
