//! What a disk holds, cheap to copy and to compare: pages that copies share, and a sum of hashes that follows each write.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::sync::Arc;

use bootctl::SectorSize;

/// Bytes that copies share until one of them changes some.
pub const PAGE: usize = 4096;
/// Bytes that have a hash of their own.
pub const UNIT: usize = 512;

type Page = [u8; PAGE];

/// A part of the disk with a sum of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// The place of slot a's image, without its record.
    ImageA,
    ImageB,
    Rest,
}

/// Which bytes are whose. Both ranges are whole pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zones {
    pub image_a: std::ops::Range<u64>,
    pub image_b: std::ops::Range<u64>,
}

impl Zones {
    fn of(&self, byte: u64) -> Zone {
        if self.image_a.contains(&byte) {
            Zone::ImageA
        } else if self.image_b.contains(&byte) {
            Zone::ImageB
        } else {
            Zone::Rest
        }
    }
}

/// Identifies the content of a whole disk, of a given size and fixture.
pub type Key = [u64; 3];

#[derive(Debug)]
struct Base {
    pages: Vec<Arc<Page>>,
    zones: Zones,
}

/// The bytes of a disk.
#[derive(Clone, Debug)]
pub struct Medium {
    sector_size: SectorSize,
    base: Arc<Base>,
    /// Pages that differ from the base, by number.
    changed: Vec<(u32, Arc<Page>)>,
    key: Key,
}

impl Medium {
    /// A disk of these bytes, a multiple of [`PAGE`]; the rest of a last page that is not full is zero.
    #[must_use]
    pub fn new(bytes: &[u8], sector_size: SectorSize, zones: Zones) -> Self {
        let zero = Arc::new([0; PAGE]);
        let mut key = Key::default();
        let mut pages = Vec::with_capacity(bytes.len() / PAGE);
        for (number, content) in bytes.chunks(PAGE).enumerate() {
            let page = if content.iter().all(|byte| *byte == 0) {
                Arc::clone(&zero)
            } else {
                let mut page = [0; PAGE];
                copy(&mut page, content);
                Arc::new(page)
            };
            let start = (number * PAGE) as u64;
            for (at, unit) in (start..).step_by(UNIT).zip(page.chunks(UNIT)) {
                add(&mut key, &zones, at, unit);
            }
            pages.push(page);
        }
        Self {
            sector_size,
            base: Arc::new(Base { pages, zones }),
            changed: Vec::new(),
            key,
        }
    }

    /// A disk of `length` bytes of zeros, a multiple of [`PAGE`].
    #[must_use]
    pub fn zeros(length: u64, sector_size: SectorSize, zones: Zones) -> Self {
        let zero = Arc::new([0; PAGE]);
        let pages = usize::try_from(length).unwrap_or(0) / PAGE;
        Self {
            sector_size,
            base: Arc::new(Base {
                pages: (0..pages).map(|_| Arc::clone(&zero)).collect(),
                zones,
            }),
            changed: Vec::new(),
            key: Key::default(),
        }
    }

    /// Identifies the content.
    #[must_use]
    pub const fn key(&self) -> Key {
        self.key
    }

    /// Identifies the content of one zone.
    #[must_use]
    pub const fn zone_key(&self, zone: Zone) -> u64 {
        self.key[zone as usize]
    }

    #[must_use]
    pub const fn sector_size(&self) -> SectorSize {
        self.sector_size
    }

    /// Size in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        (self.base.pages.len() * PAGE) as u64
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.base.pages.is_empty()
    }

    fn page(&self, number: u64) -> Option<&Page> {
        let number = u32::try_from(number).ok()?;
        match self.changed.binary_search_by_key(&number, |(n, _)| *n) {
            Ok(at) => self.changed.get(at).map(|(_, page)| &**page),
            Err(_) => self.base.pages.get(number as usize).map(|page| &**page),
        }
    }

    /// Fills `buf` from byte `at` on; `false` past the end.
    #[must_use]
    pub fn read(&self, at: u64, buf: &mut [u8]) -> bool {
        let mut done = 0;
        while done < buf.len() {
            let byte = at.saturating_add(done as u64);
            let Some(page) = self.page(byte / PAGE as u64) else {
                return false;
            };
            let from = within(byte, PAGE);
            let length = (PAGE - from).min(buf.len() - done);
            copy(
                buf.get_mut(done..).unwrap_or_default(),
                page.get(from..from + length).unwrap_or_default(),
            );
            done += length;
        }
        true
    }

    /// The bytes from `at` on; zeros past the end.
    #[must_use]
    pub fn bytes(&self, at: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let _ = self.read(at, &mut bytes);
        bytes
    }

    /// Puts `data` at byte `at`; what lies past the end is dropped.
    pub fn write(&mut self, at: u64, data: &[u8]) {
        let mut done = 0;
        while done < data.len() {
            let byte = at.saturating_add(done as u64);
            let from = within(byte, PAGE);
            let length = (PAGE - from).min(data.len() - done);
            let piece = data.get(done..done + length).unwrap_or_default();
            self.write_page(byte, from, piece);
            done += length;
        }
    }

    fn write_page(&mut self, byte: u64, from: usize, piece: &[u8]) {
        let number = byte / PAGE as u64;
        let Some(old) = self.page(number) else { return };
        if old.get(from..from + piece.len()) == Some(piece) {
            return;
        }
        let mut new = *old;
        copy(new.get_mut(from..).unwrap_or_default(), piece);
        let start = number * PAGE as u64;
        let mut key = self.key;
        for (index, (was, is)) in old.chunks(UNIT).zip(new.chunks(UNIT)).enumerate() {
            if was != is {
                let at = start + (index * UNIT) as u64;
                subtract(&mut key, &self.base.zones, at, was);
                add(&mut key, &self.base.zones, at, is);
            }
        }
        self.key = key;
        let Ok(number) = u32::try_from(number) else {
            return;
        };
        match self.changed.binary_search_by_key(&number, |(n, _)| *n) {
            Ok(at) => {
                if let Some(place) = self.changed.get_mut(at) {
                    place.1 = Arc::new(new);
                }
            }
            Err(at) => self.changed.insert(at, (number, Arc::new(new))),
        }
    }

    /// The same bytes as the base of copies to come.
    #[must_use]
    pub fn settled(&self) -> Self {
        let mut pages = self.base.pages.clone();
        for (number, page) in &self.changed {
            if let Some(place) = pages.get_mut(*number as usize) {
                *place = Arc::clone(page);
            }
        }
        Self {
            base: Arc::new(Base {
                pages,
                zones: self.base.zones.clone(),
            }),
            changed: Vec::new(),
            ..self.clone()
        }
    }

    /// The same bytes on a disk that is larger by `more` bytes of zeros.
    #[must_use]
    pub fn grown(&self, more: u64) -> Self {
        let mut bytes = self.bytes(0, usize::try_from(self.len()).unwrap_or(0));
        bytes.resize(
            bytes
                .len()
                .saturating_add(usize::try_from(more).unwrap_or(0)),
            0,
        );
        Self::new(&bytes, self.sector_size, self.base.zones.clone())
    }

    /// Where units differ from those of `other`, which shares this one's base: their first bytes.
    #[must_use]
    pub fn differing_units(&self, other: &Self) -> Vec<u64> {
        let mut numbers: Vec<u32> = self.changed.iter().map(|(n, _)| *n).collect();
        numbers.extend(other.changed.iter().map(|(n, _)| *n));
        numbers.sort_unstable();
        numbers.dedup();
        let mut units = Vec::new();
        for number in numbers {
            let number = u64::from(number);
            let (Some(mine), Some(others)) = (self.page(number), other.page(number)) else {
                continue;
            };
            let pairs = mine.chunks(UNIT).zip(others.chunks(UNIT));
            for (index, _) in pairs.enumerate().filter(|(_, (a, b))| a != b) {
                units.push(number * PAGE as u64 + (index * UNIT) as u64);
            }
        }
        units
    }
}

fn within(byte: u64, size: usize) -> usize {
    usize::try_from(byte % size as u64).unwrap_or(0)
}

fn copy(to: &mut [u8], from: &[u8]) {
    for (place, byte) in to.iter_mut().zip(from) {
        *place = *byte;
    }
}

/// Zeros count nothing, so that empty disks cost nothing.
fn hash(at: u64, unit: &[u8]) -> u64 {
    if unit.iter().all(|byte| *byte == 0) {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(at);
    hasher.write(unit);
    hasher.finish()
}

fn add(key: &mut Key, zones: &Zones, at: u64, unit: &[u8]) {
    let sum = &mut key[zones.of(at) as usize];
    *sum = sum.wrapping_add(hash(at, unit));
}

fn subtract(key: &mut Key, zones: &Zones, at: u64, unit: &[u8]) {
    let sum = &mut key[zones.of(at) as usize];
    *sum = sum.wrapping_sub(hash(at, unit));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn medium() -> Medium {
        let zones = Zones {
            image_a: 4096..8192,
            image_b: 8192..12288,
        };
        Medium::new(&[7; 5 * PAGE], SectorSize::B512, zones)
    }

    #[test]
    fn the_key_depends_on_the_bytes_and_not_on_the_way_to_them() {
        let start = medium();
        let mut a = start.clone();
        a.write(100, &[1; 9000]);
        a.write(4096, &[2; 10]);
        assert_ne!(a.key(), start.key());
        let mut b = start.clone();
        b.write(4096, &[2; 10]);
        b.write(100, &[1; 3996]);
        b.write(4106, &[1; 9100 - 4106]);
        assert_eq!(a.key(), b.key());
        assert_eq!(
            a.settled().bytes(0, 5 * PAGE),
            b.settled().bytes(0, 5 * PAGE)
        );
        a.write(100, &[7; 9000]);
        assert_eq!(a.key(), start.key());
        assert_eq!(start.bytes(0, 5 * PAGE), [7; 5 * PAGE]);
    }

    #[test]
    fn zones_have_sums_of_their_own() {
        let start = medium();
        let mut other = start.clone();
        other.write(8191, &[0, 0]);
        assert_ne!(other.zone_key(Zone::ImageA), start.zone_key(Zone::ImageA));
        assert_ne!(other.zone_key(Zone::ImageB), start.zone_key(Zone::ImageB));
        assert_eq!(other.zone_key(Zone::Rest), start.zone_key(Zone::Rest));
        assert_eq!(other.differing_units(&start), [7680, 8192]);
    }

    #[test]
    fn the_way_to_an_empty_disk_does_not_matter() {
        let zones = medium().base.zones.clone();
        let made = Medium::new(&[0; 5 * PAGE], SectorSize::B512, zones.clone());
        let mut zeros = Medium::zeros(5 * PAGE as u64, SectorSize::B512, zones);
        assert_eq!(made.key(), zeros.key());
        zeros.write(0, &[7; 5 * PAGE]);
        assert_eq!(zeros.key(), medium().key());
    }

    #[test]
    fn nothing_lies_past_the_end() {
        let mut medium = medium();
        let mut buf = [0; 2];
        assert!(!medium.read(5 * PAGE as u64 - 1, &mut buf));
        medium.write(5 * PAGE as u64 - 1, &[1, 2, 3]);
        assert_eq!(medium.len(), 5 * PAGE as u64);
        assert_eq!(medium.grown(4096).len(), 6 * PAGE as u64);
    }
}
