//! What a disk holds at one moment of the replay: the image it began as, and layers of sectors that were written since.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::log::{Event, Log, SECTOR, SECTOR_LENGTH};

/// The image that the recorded machine began with.
#[derive(Debug)]
pub struct Base {
    file: File,
    pub path: PathBuf,
    pub sectors: u64,
}

impl Base {
    /// # Errors
    /// It can't be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let open = || -> std::io::Result<_> {
            let file = File::open(path)?;
            let sectors = file.metadata()?.len() / SECTOR;
            Ok((file, sectors))
        };
        let (file, sectors) = open().with_context(|| format!("open {}", path.display()))?;
        Ok(Self {
            file,
            path: path.to_owned(),
            sectors,
        })
    }

    fn read(&self, at: u64, bytes: &mut [u8]) -> Result<()> {
        let read = self.file.read_exact_at(bytes, at);
        read.with_context(|| {
            format!(
                "read {} bytes at {at} of {}",
                bytes.len(),
                self.path.display()
            )
        })
    }
}

/// A sum over the sectors that differ from the base: equal for equal content, however it came about.
pub type Key = u128;

fn hash(number: u64, bytes: &[u8]) -> Key {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(bytes);
    let hash = hasher.finalize();
    let start = hash.as_bytes().first_chunk::<16>().copied();
    Key::from_le_bytes(start.unwrap_or_default())
}

/// A sector that was written: where its bytes are in the log, and what it adds to the key.
#[derive(Clone, Copy, Debug)]
struct Sector {
    source: Option<usize>,
    weight: Key,
}

type Layer = HashMap<u64, Sector>;

fn sum<'a>(sectors: impl Iterator<Item = &'a Sector>) -> Key {
    sectors.fold(0, |sum: Key, sector| sum.wrapping_add(sector.weight))
}

/// A log on its way over a base.
#[derive(Debug)]
pub struct Replay<'a> {
    base: &'a Base,
    log: &'a Log,
    /// What each write adds to the key, by its index among the events: a number for each sector.
    weights: HashMap<usize, Vec<Key>>,
    durable: Layer,
    durable_key: Key,
}

/// Some of the sectors of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Index of the write among the events.
    pub event: usize,
    pub sectors: Range<u64>,
}

impl<'a> Replay<'a> {
    /// Before the first event.
    ///
    /// # Errors
    /// The base can't be read.
    pub fn new(base: &'a Base, log: &'a Log) -> Result<Self> {
        let mut before: HashMap<u64, Key> = HashMap::new();
        let mut weights = HashMap::new();
        let mut bytes = [0; SECTOR_LENGTH];
        for (index, (_, event)) in log.events.iter().enumerate() {
            let Event::Write(write) = event else { continue };
            let mut own = Vec::new();
            for number in write.range() {
                let was = match before.entry(number) {
                    Entry::Occupied(known) => *known.get(),
                    Entry::Vacant(place) => {
                        base.read(number * SECTOR, &mut bytes)?;
                        *place.insert(hash(number, &bytes))
                    }
                };
                let now = hash(number, log.sector(write.source(number)));
                own.push(now.wrapping_sub(was));
            }
            weights.insert(index, own);
        }
        Ok(Self {
            base,
            log,
            weights,
            durable: Layer::new(),
            durable_key: 0,
        })
    }

    #[must_use]
    pub const fn log(&self) -> &'a Log {
        self.log
    }

    /// Puts `sectors` of a write over `layer`.
    fn put(&self, event: usize, sectors: Option<&Range<u64>>, layer: &mut Layer) {
        let Some((_, Event::Write(write))) = self.log.events.get(event) else {
            return;
        };
        let weights = self.weights.get(&event).into_iter().flatten();
        let all = write.range().zip(weights);
        for (number, weight) in all.filter(|(n, _)| sectors.is_none_or(|s| s.contains(n))) {
            let sector = Sector {
                source: write.source(number),
                weight: *weight,
            };
            layer.insert(number, sector);
        }
    }

    /// Makes what `events` wrote durable.
    pub fn advance(&mut self, events: Range<usize>) {
        let mut durable = std::mem::take(&mut self.durable);
        for event in events {
            self.put(event, None, &mut durable);
        }
        self.durable_key = sum(durable.values());
        self.durable = durable;
    }

    /// The disk with these parts of later writes on it, in their order.
    #[must_use]
    pub fn medium(&self, parts: &[Part]) -> Medium<'_> {
        let mut survived = Layer::new();
        for part in parts {
            self.put(part.event, Some(&part.sectors), &mut survived);
        }
        Medium {
            replay: self,
            survived,
        }
    }
}

/// A disk after a cut.
#[derive(Debug)]
pub struct Medium<'a> {
    replay: &'a Replay<'a>,
    survived: Layer,
}

impl Medium<'_> {
    fn changed(&self) -> impl Iterator<Item = (u64, Sector)> + '_ {
        let below = self.replay.durable.iter();
        let below = below.filter(|(number, _)| !self.survived.contains_key(number));
        let all = self.survived.iter().chain(below);
        all.map(|(number, sector)| (*number, *sector))
    }

    /// Identifies the whole content.
    #[must_use]
    pub fn key(&self) -> Key {
        let hidden = self.survived.keys();
        let hidden = hidden.filter_map(|number| self.replay.durable.get(number));
        let below = self.replay.durable_key.wrapping_sub(sum(hidden));
        below.wrapping_add(sum(self.survived.values()))
    }

    /// Identifies the content of some sectors.
    #[must_use]
    pub fn key_of(&self, sectors: &Range<u64>) -> Key {
        let changed = self
            .changed()
            .filter(|(number, _)| sectors.contains(number));
        changed.fold(0, |sum: Key, (_, sector)| sum.wrapping_add(sector.weight))
    }

    /// Size in sectors.
    #[must_use]
    pub fn sectors(&self) -> u64 {
        self.replay.base.sectors
    }

    /// `count` sectors from sector `first` on.
    ///
    /// # Errors
    /// I/O, or they lie outside the disk.
    pub fn read(&self, first: u64, count: u64) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(count)? * SECTOR_LENGTH];
        self.replay.base.read(first * SECTOR, &mut bytes)?;
        for (number, place) in (first..).zip(bytes.chunks_mut(SECTOR_LENGTH)) {
            let layers = [&self.survived, &self.replay.durable];
            if let Some(sector) = layers.into_iter().find_map(|layer| layer.get(&number)) {
                place.copy_from_slice(self.replay.log.sector(sector.source));
            }
        }
        Ok(bytes)
    }

    /// A file holds exactly this.
    ///
    /// # Errors
    /// I/O.
    pub fn equals(&self, image: &Path) -> Result<bool> {
        const PIECE: u64 = 2048;
        let other = Base::open(image)?;
        if other.sectors != self.sectors() {
            return Ok(false);
        }
        let mut bytes = vec![0; usize::try_from(PIECE * SECTOR)?];
        for first in (0..self.sectors()).step_by(usize::try_from(PIECE)?) {
            let count = PIECE.min(self.sectors() - first);
            bytes.truncate(usize::try_from(count * SECTOR)?);
            other.read(first * SECTOR, &mut bytes)?;
            if self.read(first, count)? != bytes {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Puts what differs from the base into a copy of it.
    ///
    /// # Errors
    /// I/O.
    pub fn write_to(&self, image: &Path) -> Result<()> {
        let write = || -> std::io::Result<()> {
            let file = File::options().write(true).open(image)?;
            for (number, sector) in self.changed() {
                file.write_all_at(self.replay.log.sector(sector.source), number * SECTOR)?;
            }
            Ok(())
        };
        write().with_context(|| format!("write the medium to {}", image.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::log::encode;

    /// Sector 1, again with other bytes, sector 2.
    fn log() -> Log {
        let steps = [(1, 5), (1, 6), (2, 7)].map(|(sector, fill)| Some((sector, vec![fill; 512])));
        Log::parse(encode(&steps), 4).unwrap()
    }

    #[test]
    fn media_are_the_base_and_what_survived() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("base");
        std::fs::write(&path, [9; 4 * 512]).unwrap();
        let (base, log) = (Base::open(&path).unwrap(), log());
        let mut replay = Replay::new(&base, &log).unwrap();
        let part = |event, sector| Part {
            event,
            sectors: sector..sector + 1,
        };
        let untouched = replay.medium(&[]);
        assert_eq!(untouched.key(), 0);
        let last = replay.medium(&[part(0, 1), part(1, 1)]).key();
        assert_eq!(last, replay.medium(&[part(1, 1)]).key());
        assert_ne!(last, replay.medium(&[part(0, 1)]).key());
        replay.advance(0..2);
        let medium = replay.medium(&[part(2, 2)]);
        assert_eq!(replay.medium(&[]).key(), last);
        assert_eq!(medium.key_of(&(1..2)), last);
        assert_eq!(medium.key_of(&(1..3)), medium.key());
        assert_eq!(
            medium.read(0, 4).unwrap(),
            [[9; 512], [6; 512], [7; 512], [9; 512]].concat()
        );
        assert!(!medium.equals(&path).unwrap());
        medium.write_to(&path).unwrap();
        assert!(medium.equals(&path).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), medium.read(0, 4).unwrap());
        // Back over a durable sector: the same content is the same medium.
        assert_eq!(
            replay.medium(&[part(0, 1)]).key_of(&(0..4)),
            replay.medium(&[part(0, 1)]).key()
        );
    }
}
