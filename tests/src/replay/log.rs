//! The log that QEMU's `blklogwrites` writes, in the format of Linux's dm-log-writes: a superblock, then for each write
//! an entry of one sector and the data behind it. Everything is little-endian. A write is logged when it is issued, a flush
//! likewise, so that what stands before a flush in the log is taken for durable after it.

use std::ops::Range;

use anyhow::{Context, Result, ensure};

/// Sectors of the disk and of the log, in bytes.
pub const SECTOR: u64 = SECTOR_LENGTH as u64;
pub const SECTOR_LENGTH: usize = 512;

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;

const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;
const MARK: u64 = 8;
const METADATA: u64 = 16;

/// What reached the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Everything before is durable.
    Flush,
    Write(Write),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// First sector on the disk.
    pub sector: u64,
    pub sectors: u64,
    /// Where its bytes begin in the log; `None` for a discard, which leaves zeros.
    pub data: Option<usize>,
    /// It was durable as soon as it was done (FUA).
    pub forced: bool,
}

impl Write {
    /// The sectors of the disk that it covers.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.sector..self.sector + self.sectors
    }

    /// Where in the log the bytes of sector `number` of the disk are.
    #[must_use]
    pub fn source(&self, number: u64) -> Option<usize> {
        let sectors = usize::try_from(number.checked_sub(self.sector)?).ok()?;
        Some(self.data? + sectors * SECTOR_LENGTH)
    }
}

/// A whole log.
#[derive(Debug)]
pub struct Log {
    bytes: Vec<u8>,
    /// Each with the offset of its entry in the log.
    pub events: Vec<(u64, Event)>,
}

impl Log {
    /// Reads the log of a disk of `disk_sectors` sectors.
    ///
    /// # Errors
    /// It isn't a log, it ends early, or it writes outside the disk.
    pub fn parse(bytes: Vec<u8>, disk_sectors: u64) -> Result<Self> {
        let number = |at: usize| -> Result<u64> {
            let field = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
            let field = field.with_context(|| format!("read the log: it ends at {at}"))?;
            Ok(u64::from_le_bytes(*field))
        };
        ensure!(number(0)? == MAGIC, "read the log: no dm-log-writes magic");
        ensure!(number(8)? == VERSION, "read the log: not version {VERSION}");
        let (entries, sector_size) = (number(16)?, number(24)? & 0xffff_ffff);
        ensure!(
            sector_size == SECTOR,
            "read the log: sectors of {sector_size} bytes, not {SECTOR}"
        );
        let length = bytes.len() as u64;
        let mut events = Vec::new();
        let mut at = SECTOR;
        for index in 0..entries {
            let context = || format!("read entry {index} of the log");
            let here = usize::try_from(at).with_context(context)?;
            let [sector, sectors, flags] = [number(here)?, number(here + 8)?, number(here + 16)?];
            ensure!(
                flags & !(FLUSH | FUA | DISCARD | MARK | METADATA) == 0,
                "{}: unknown flags {flags:#x}",
                context()
            );
            let data = at + SECTOR;
            let stored = if flags & DISCARD == 0 { sectors } else { 0 };
            at = stored
                .checked_mul(SECTOR)
                .and_then(|stored| stored.checked_add(data))
                .filter(|&end| end <= length)
                .with_context(|| format!("{}: {sectors} sectors end behind the log", context()))?;
            let place = data - SECTOR;
            if flags & FLUSH != 0 {
                events.push((place, Event::Flush));
            }
            if flags & MARK != 0 || sectors == 0 {
                continue;
            }
            ensure!(
                sector
                    .checked_add(sectors)
                    .is_some_and(|end| end <= disk_sectors),
                "{}: {sectors} sectors at {sector} of a disk that has {disk_sectors}",
                context()
            );
            let data = usize::try_from(data).with_context(context)?;
            events.push((
                place,
                Event::Write(Write {
                    sector,
                    sectors,
                    data: (flags & DISCARD == 0).then_some(data),
                    forced: flags & FUA != 0,
                }),
            ));
        }
        Ok(Self { bytes, events })
    }

    /// The bytes of a sector, from where [`Write::source`] says.
    #[must_use]
    pub fn sector(&self, source: Option<usize>) -> &[u8] {
        const ZEROS: &[u8] = &[0; SECTOR_LENGTH];
        let Some(start) = source else { return ZEROS };
        self.bytes
            .get(start..start + SECTOR_LENGTH)
            .unwrap_or(ZEROS)
    }
}

/// The log of these writes, each `None` of which is a flush.
#[cfg(test)]
pub(super) fn encode(steps: &[Option<(u64, Vec<u8>)>]) -> Vec<u8> {
    let mut bytes = [MAGIC, VERSION, steps.len() as u64, SECTOR]
        .map(u64::to_le_bytes)
        .concat();
    for step in steps {
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        let (sector, data) = step
            .as_ref()
            .map_or((0, [].as_slice()), |(at, data)| (*at, data));
        let flags = if step.is_some() { 0 } else { FLUSH };
        let sectors = data.len() as u64 / SECTOR;
        bytes.extend([sector, sectors, flags, 0].map(u64::to_le_bytes).concat());
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes.extend(data);
    }
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISK: u64 = 100;

    fn log(entries: &[(u64, u64, u64)]) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        for (at, value) in [(0, MAGIC), (8, 1), (16, entries.len() as u64), (24, 512)] {
            bytes[at..at + 8].copy_from_slice(&u64::to_le_bytes(value));
        }
        for (number, &(sector, sectors, flags)) in entries.iter().enumerate() {
            let mut entry = [sector, sectors, flags, 0].map(u64::to_le_bytes).concat();
            entry.resize(512, 0);
            bytes.extend(entry);
            if flags & DISCARD == 0 {
                let fill = u8::try_from(number).unwrap() + 1;
                bytes.extend(vec![
                    fill;
                    usize::try_from(sectors.min(DISK) * 512).unwrap()
                ]);
            }
        }
        bytes
    }

    #[test]
    fn writes_flushes_and_discards_come_in_their_order() {
        let bytes = log(&[
            (5, 2, 0),
            (0, 0, FLUSH),
            (7, 1, FUA),
            (9, 3, DISCARD),
            (1, 1, FLUSH),
        ]);
        let log = Log::parse(bytes, DISK).unwrap();
        let events: Vec<Event> = log.events.iter().map(|(_, event)| event.clone()).collect();
        let write = |sector, sectors, data, forced| {
            Event::Write(Write {
                sector,
                sectors,
                data,
                forced,
            })
        };
        assert_eq!(
            events,
            [
                write(5, 2, Some(1024), false),
                Event::Flush,
                write(7, 1, Some(3072), true),
                write(9, 3, None, false),
                Event::Flush,
                write(1, 1, Some(4608), false),
            ]
        );
        let Event::Write(first) = &events[0] else {
            panic!()
        };
        assert_eq!(log.sector(first.source(6)), [1; 512]);
        assert_eq!(first.source(6), Some(1536));
        let Event::Write(discard) = &events[3] else {
            panic!()
        };
        assert_eq!(log.sector(discard.source(9)), [0; 512]);
    }

    #[test]
    fn a_mark_is_no_write() {
        let bytes = log(&[(0, 1, MARK), (3, 1, 0)]);
        let log = Log::parse(bytes, DISK).unwrap();
        assert_eq!(log.events.len(), 1);
    }

    #[test]
    fn what_is_no_log_is_refused() {
        let refused = |bytes: Vec<u8>| assert!(Log::parse(bytes, DISK).is_err());
        refused(Vec::new());
        refused(vec![0; 1024]);
        // Outside the disk, past every number, with an unknown flag, without its data, without its entry.
        refused(log(&[(99, 2, 0)]));
        refused(log(&[(u64::MAX, 1, 0)]));
        refused(log(&[(0, u64::MAX, DISCARD)]));
        refused(log(&[(0, u64::MAX, 0)]));
        refused(log(&[(0, 1, 32)]));
        let mut short = log(&[(0, 2, 0)]);
        short.truncate(short.len() - 1);
        refused(short);
        let mut missing = log(&[(0, 1, 0)]);
        missing[16] = 2;
        refused(missing);
        for (at, value) in [(8, 2), (24, 8)] {
            let mut bytes = log(&[]);
            bytes[at] = value;
            refused(bytes);
        }
    }

    proptest::proptest! {
        #[test]
        fn damage_never_leads_outside_the_disk(
            at in 0_usize..3 * 512,
            value: u64,
            length in 0_usize..4 * 512,
        ) {
            let mut bytes = log(&[(5, 1, 0), (0, 0, FLUSH), (7, 1, FUA)]);
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            bytes.truncate(length + 512);
            let log = Log::parse(bytes, DISK);
            for (_, event) in log.into_iter().flat_map(|log| log.events) {
                if let Event::Write(write) = event {
                    proptest::prop_assert!(write.range().end <= DISK);
                }
            }
        }
    }
}
