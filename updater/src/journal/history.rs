//! `history.jsonl`: one line of JSON per event, oldest first, bounded.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use bootctl::Slot;
use serde::{Deserialize, Serialize};

use crate::files;

use super::data::Release;
use super::reason::{DETAIL_MAX, Reason, truncate};
use super::store::{self, JournalError};

const NAME: &str = "history.jsonl";
const NEW_NAME: &str = "history.jsonl.new";
/// Size at which the older half is dropped, in bytes.
const SIZE_MAX: u64 = 256 << 10;

/// One line of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Seconds since 1970 by the device's clock.
    pub time: u64,
    /// `attempt`, `attempt-failed`, `staged`, `trial-boot`, `check-failed`, `confirmed`, `fell-back`, `cancelled`,
    /// `rolled-back` or `result`.
    pub event: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Payload id in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Event {
    pub(super) fn new(event: &str, time: u64) -> Self {
        Self {
            time,
            event: event.to_owned(),
            version: None,
            id: None,
            slot: None,
            detail: None,
        }
    }

    pub(super) fn release(mut self, release: &Release) -> Self {
        self.version = Some(release.version.clone());
        self.id = Some(blake3::Hash::from_bytes(release.id).to_hex().to_string());
        self
    }

    pub(super) fn slot(mut self, slot: Slot) -> Self {
        self.slot = Some(slot.as_str().to_owned());
        self
    }

    pub(super) fn reason(self, reason: &Reason) -> Self {
        self.detail(&reason.to_string())
    }

    pub(super) fn detail(mut self, text: &str) -> Self {
        let mut text = text.to_owned();
        truncate(&mut text, DETAIL_MAX);
        self.detail = Some(text);
        self
    }
}

/// The events in `dir`, oldest first. Lines that can't be read, such as one cut off by a power failure, are left out.
///
/// # Errors
/// The file is there but can't be read.
pub fn read(dir: &Path) -> Result<Vec<Event>, JournalError> {
    let path = dir.join(NAME);
    let text = read_text(&path).map_err(JournalError::io("read", &path))?;
    Ok(text
        .split(|b| *b == b'\n')
        .filter_map(|line| serde_json::from_slice(line).ok())
        .collect())
}

/// Appends one line; the caller holds the lock on `dir`.
pub(super) fn append(dir: &Path, event: &Event) -> Result<(), JournalError> {
    let path = dir.join(NAME);
    let mut line = serde_json::to_vec(event).map_err(|source| JournalError::Encode {
        path: path.clone(),
        source,
    })?;
    line.push(b'\n');
    let size = fs::metadata(&path).map_or(0, |m| m.len());
    if size.saturating_add(line.len() as u64) > SIZE_MAX {
        drop_older_half(dir, &path)?;
    }
    append_line(&path, &line).map_err(JournalError::io("append to", &path))
}

fn append_line(path: &Path, line: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .open(path)?;
    let mut last = [b'\n'];
    if let Some(at) = file.metadata()?.len().checked_sub(1) {
        file.read_exact_at(&mut last, at)?;
    }
    // The line before was cut off: end it, so that it costs only itself.
    if last != [b'\n'] {
        file.write_all(b"\n")?;
    }
    file.write_all(line)?;
    file.sync_all()
}

fn drop_older_half(dir: &Path, path: &Path) -> Result<(), JournalError> {
    let text = read_text(path).map_err(JournalError::io("read", path))?;
    let (_, newer) = text.split_at(text.len() / 2);
    let newer = match newer.iter().position(|b| *b == b'\n') {
        Some(end) => newer.get(end.saturating_add(1)..).unwrap_or_default(),
        None => &[],
    };
    store::replace(dir, path, &dir.join(NEW_NAME), newer)
}

/// The end of the file, which is all of it unless somebody else has written to it.
fn read_text(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut file = match files::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(text),
        Err(error) => return Err(error),
    };
    let excess = file.metadata()?.len().saturating_sub(SIZE_MAX);
    if excess > 0 {
        file.seek(SeekFrom::Start(excess))?;
    }
    file.take(SIZE_MAX).read_to_end(&mut text)?;
    Ok(text)
}
