//! How far an installation got that did not end: `resume.json` and `resume.prefix` in `/var/lib/tandem`.
//!
//! Both are hints where to look, no more: each block is taken from the medium only if it has the hash that the signed
//! table says, and the prefix is verified like any that was just received. What can't be read or understood is therefore
//! simply not used, and what can't be written costs nothing but time later.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bootctl::Slot;
use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::files;
use crate::payload::{MAX_RECORD_BODY, Prefix};
use crate::source::Origin;

/// The `format` that this version writes and reads.
const FORMAT: u32 = 1;
const RECORD: &str = "resume.json";
const PREFIX: &str = "resume.prefix";
/// Largest record that is read, in bytes; an origin that makes it longer is left out.
const RECORD_MAX: u64 = 16 << 10;

/// How much of one payload is in one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Payload id.
    pub id: Digest,
    pub slot: Slot,
    /// The first blocks, so many, were written and flushed.
    pub blocks: u64,
    /// Where the payload came from.
    pub origin: Option<Origin>,
}

/// A mark, and the payload's header, signatures, manifest and tables as they were received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    pub mark: Mark,
    pub prefix: Vec<u8>,
}

/// The record as it stands in the file.
#[derive(Serialize, Deserialize)]
struct Record {
    format: u32,
    id: String,
    slot: String,
    blocks: u64,
    source: Option<String>,
    validator: Option<String>,
}

/// Reads the mark in `dir` and the prefix that belongs to it. Never fails: what is not in order is no mark.
#[must_use]
pub fn load(dir: &Path) -> Option<Saved> {
    let mark = load_mark(dir)?;
    let prefix = read(&dir.join(PREFIX), MAX_RECORD_BODY as u64)?;
    let id = Prefix::parse(&prefix).ok()?.id();
    if id != mark.id {
        log::info!("{} belongs to another payload", dir.join(PREFIX).display());
        return None;
    }
    Some(Saved { mark, prefix })
}

/// Reads the mark alone.
#[must_use]
pub fn load_mark(dir: &Path) -> Option<Mark> {
    let path = dir.join(RECORD);
    let text = read(&path, RECORD_MAX)?;
    let mark = parse(&text);
    if mark.is_none() {
        log::info!("{} is no mark of an installation", path.display());
    }
    mark
}

fn parse(text: &[u8]) -> Option<Mark> {
    let record: Record = serde_json::from_slice(text).ok()?;
    let origin = record.source.map(|url| Origin {
        url,
        validator: record.validator,
    });
    (record.format == FORMAT).then_some(Mark {
        id: record.id.parse().ok()?,
        slot: record.slot.parse().ok()?,
        blocks: record.blocks,
        origin,
    })
}

/// Forgets the mark. There may be none.
///
/// # Errors
/// It is still there, perhaps after a cut of the power only.
pub fn remove(dir: &Path) -> io::Result<()> {
    let mut gone = false;
    for name in [RECORD, PREFIX, "resume.json.new", "resume.prefix.new"] {
        match fs::remove_file(dir.join(name)) {
            Ok(()) => gone = true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    match gone {
        true => File::open(dir)?.sync_all(),
        false => Ok(()),
    }
}

fn read(path: &Path, limit: u64) -> Option<Vec<u8>> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = files::open(path)?;
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) if bytes.len() as u64 <= limit => Some(bytes),
        Ok(_) => None,
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            log::info!("read {}: {error}", path.display());
            None
        }
    }
}

/// Keeps the mark of the installation that is under way.
#[derive(Debug)]
pub struct Keeper {
    dir: PathBuf,
    mark: Mark,
}

impl Keeper {
    /// Begins a mark, in place of any other. The prefix is durable before the record that speaks of it.
    ///
    /// # Errors
    /// The folder can't be written.
    pub fn begin(dir: &Path, mark: Mark, prefix: &[u8]) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        remove(dir)?;
        files::replace(&dir.join(PREFIX), prefix)?;
        let keeper = Self {
            dir: dir.to_owned(),
            mark,
        };
        keeper.save()?;
        Ok(keeper)
    }

    /// Goes on with the mark that is there; `None` if it is not this one, or its prefix is missing.
    #[must_use]
    pub fn continued(dir: &Path, mark: &Mark) -> Option<Self> {
        let saved = load(dir)?.mark;
        let same = Mark {
            blocks: mark.blocks,
            ..saved.clone()
        };
        (same == *mark).then(|| Self {
            dir: dir.to_owned(),
            mark: saved,
        })
    }

    /// Moves the mark to what is durable now. Durable on return.
    ///
    /// # Errors
    /// The folder can't be written; the mark is where it was then, or gone.
    pub fn moved(&mut self, blocks: u64) -> io::Result<()> {
        if blocks == self.mark.blocks {
            return Ok(());
        }
        self.mark.blocks = blocks;
        self.save()
    }

    /// The installation is over.
    ///
    /// # Errors
    /// As [`remove`].
    pub fn end(self) -> io::Result<()> {
        remove(&self.dir)
    }

    fn save(&self) -> io::Result<()> {
        let Mark {
            id,
            slot,
            blocks,
            origin,
        } = &self.mark;
        let mut record = Record {
            format: FORMAT,
            id: id.to_string(),
            slot: slot.to_string(),
            blocks: *blocks,
            source: origin.as_ref().map(|origin| origin.url.clone()),
            validator: origin.as_ref().and_then(|origin| origin.validator.clone()),
        };
        let mut text = serde_json::to_vec(&record)?;
        if text.len() as u64 >= RECORD_MAX {
            (record.source, record.validator) = (None, None);
            text = serde_json::to_vec(&record)?;
        }
        text.push(b'\n');
        files::replace(&self.dir.join(RECORD), &text)
    }
}

#[cfg(test)]
mod tests;
