//! The simulated disk: a volatile cache over a [`Medium`], stricter than hardware, that records what is asked of it and
//! fails where it is told to.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bootctl::gpt::LbaRange;
use bootctl::{BlockIo, SectorSize};
use updater::engine::{SlotIo, WholeDisk};

use super::cuts::Random;
use super::medium::Medium;

/// One write as it reached the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// Byte of the disk.
    pub at: u64,
    pub data: Arc<[u8]>,
}

/// What reached the device, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Write(Write),
    /// Everything before is durable.
    Flush,
}

/// What goes wrong besides a cut. Writes and flushes count from 0, over all views of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// This write fails and nothing of it arrives.
    Write(usize),
    /// This write and every later one.
    WritesFrom(usize),
    /// Half of this write arrives, then it fails.
    Short(usize),
    /// This flush fails; what was written before is still in the cache.
    Flush(usize),
    /// This flush fails, and what was written before is lost.
    FlushLoses(usize),
    /// This flush claims success, and the last write before it is lost.
    FlushLies(usize),
}

/// The disk can't do what it was asked, or was asked for what no disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SimError {
    /// As planned.
    Failed(Fault),
    /// Not whole sectors.
    Unaligned {
        length: usize,
    },
    OutOfRange {
        lba: u64,
        length: usize,
    },
    /// A sector whose writing was interrupted, until it is written again.
    Unreadable {
        lba: u64,
    },
}

impl fmt::Display for SimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(fault) => write!(f, "EIO ({fault:?})"),
            Self::Unaligned { length } => write!(f, "{length} bytes are no whole sectors"),
            Self::Unreadable { lba } => write!(f, "sector {lba} can't be read"),
            Self::OutOfRange { lba, length } => {
                write!(f, "sector {lba}: {length} bytes lie outside the device")
            }
        }
    }
}

#[derive(Debug)]
struct State {
    /// What reads return.
    now: Medium,
    /// What a cut leaves for sure.
    durable: Medium,
    log: Vec<Event>,
    fault: Option<Fault>,
    writes: usize,
    flushes: usize,
    abuse: Option<SimError>,
    /// Sectors of the disk that can't be read until they are written.
    unreadable: BTreeSet<u64>,
}

/// A view of the disk: all of it or one partition.
#[derive(Clone, Debug)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
    sector_size: SectorSize,
    first_lba: u64,
    sectors: u64,
}

impl SimDisk {
    #[must_use]
    pub fn new(medium: Medium, fault: Option<Fault>) -> Self {
        let sector_size = medium.sector_size();
        let sectors = medium.len() / sector_size.bytes();
        let state = State {
            durable: medium.clone(),
            now: medium,
            log: Vec::new(),
            fault,
            writes: 0,
            flushes: 0,
            abuse: None,
            unreadable: BTreeSet::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            sector_size,
            first_lba: 0,
            sectors,
        }
    }

    /// The same disk through one partition.
    #[must_use]
    pub fn partition(&self, range: LbaRange) -> Self {
        Self {
            first_lba: range.first,
            sectors: range.sectors(),
            ..self.clone()
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere is reported there.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What reads return now.
    #[must_use]
    pub fn now(&self) -> Medium {
        self.state().now.clone()
    }

    /// Takes what was recorded so far.
    #[must_use]
    pub fn take_log(&self) -> Vec<Event> {
        std::mem::take(&mut self.state().log)
    }

    /// Number of events so far.
    #[must_use]
    pub fn log_len(&self) -> usize {
        self.state().log.len()
    }

    /// A write that has not been flushed reaches into these bytes of the disk.
    #[must_use]
    pub fn is_volatile(&self, range: &Range<u64>) -> bool {
        let state = self.state();
        let unflushed = state.log.iter().rev().map_while(|event| match event {
            Event::Write(write) => Some(write),
            Event::Flush => None,
        });
        let end = |write: &Write| write.at + write.data.len() as u64;
        unflushed
            .into_iter()
            .any(|write| write.at < range.end && range.start < end(write))
    }

    /// Nobody can read this sector of the disk until it is written. What a loader's model finds there is noise.
    pub fn make_unreadable(&self, lba: u64) {
        let mut state = self.state();
        let at = lba * self.sector_size.bytes();
        let mut random = Random::new(at);
        let noise: Vec<u8> = (0..self.sector_size.len())
            .map(|_| random.next().to_le_bytes()[3])
            .collect();
        state.now.write(at, &noise);
        state.durable.write(at, &noise);
        state.unreadable.insert(lba);
    }

    /// The sectors of the disk that still can't be read.
    #[must_use]
    pub fn unreadable(&self) -> Vec<u64> {
        self.state().unreadable.iter().copied().collect()
    }

    /// From now on nothing fails.
    pub fn heal(&self) {
        self.state().fault = None;
    }

    /// Something that no disk does was asked for.
    #[must_use]
    pub fn abuse(&self) -> Option<SimError> {
        self.state().abuse
    }

    /// First byte of a request on the disk.
    fn place(&self, lba: u64, length: usize) -> Result<u64, SimError> {
        let sector = self.sector_size.bytes();
        let count = length as u64 / sector;
        let error = if length == 0 || !(length as u64).is_multiple_of(sector) {
            SimError::Unaligned { length }
        } else if lba.checked_add(count).is_none_or(|end| end > self.sectors) {
            SimError::OutOfRange { lba, length }
        } else {
            return Ok((self.first_lba + lba) * sector);
        };
        self.state().abuse.get_or_insert(error);
        Err(error)
    }
}

impl BlockIo for SimDisk {
    type Error = SimError;

    fn sector_size(&self) -> SectorSize {
        self.sector_size
    }

    fn sector_count(&self) -> u64 {
        self.sectors
    }

    fn read_sectors(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), SimError> {
        let at = self.place(lba, buf.len())?;
        let sector = self.sector_size.bytes();
        let sectors = at / sector..(at + buf.len() as u64) / sector;
        if let Some(lba) = self.state().unreadable.range(sectors).next() {
            return Err(SimError::Unreadable { lba: *lba });
        }
        if self.state().now.read(at, buf) {
            Ok(())
        } else {
            let length = buf.len();
            Err(SimError::OutOfRange { lba, length })
        }
    }

    fn write_sectors(&mut self, lba: u64, data: &[u8]) -> Result<(), SimError> {
        let at = self.place(lba, data.len())?;
        let mut state = self.state();
        let number = state.writes;
        state.writes += 1;
        let (arrives, result) = match state.fault {
            Some(fault @ Fault::Write(n)) if n == number => (0, Err(SimError::Failed(fault))),
            Some(fault @ Fault::WritesFrom(n)) if n <= number => (0, Err(SimError::Failed(fault))),
            Some(fault @ Fault::Short(n)) if n == number => {
                (data.len() / 2, Err(SimError::Failed(fault)))
            }
            _ => (data.len(), Ok(())),
        };
        if let Some(data) = data.get(..arrives).filter(|data| !data.is_empty()) {
            state.now.write(at, data);
            let sector = self.sector_size.bytes();
            let written = at / sector..(at + data.len() as u64) / sector;
            state.unreadable.retain(|lba| !written.contains(lba));
            let data = data.into();
            state.log.push(Event::Write(Write { at, data }));
        }
        result
    }

    fn flush(&mut self) -> Result<(), SimError> {
        let mut state = self.state();
        let number = state.flushes;
        state.flushes += 1;
        match state.fault {
            Some(fault @ Fault::Flush(n)) if n == number => return Err(SimError::Failed(fault)),
            Some(fault @ Fault::FlushLoses(n)) if n == number => {
                state.forget(usize::MAX);
                return Err(SimError::Failed(fault));
            }
            Some(Fault::FlushLies(n)) if n == number => state.forget(1),
            _ => {}
        }
        state.durable = state.now.clone();
        state.log.push(Event::Flush);
        Ok(())
    }
}

impl State {
    /// The last `count` writes since the last flush never reached the medium.
    fn forget(&mut self, count: usize) {
        for _ in 0..count {
            if !matches!(self.log.last(), Some(Event::Write(_))) {
                break;
            }
            self.log.pop();
        }
        let mut now = self.durable.clone();
        let epoch = self
            .log
            .iter()
            .rposition(|event| *event == Event::Flush)
            .map_or(0, |at| at + 1);
        for event in self.log.iter().skip(epoch) {
            if let Event::Write(write) = event {
                now.write(write.at, &write.data);
            }
        }
        self.now = now;
    }
}

impl WholeDisk for SimDisk {
    type Guard = ();

    fn lock_for_commit(&self) -> Result<(), SimError> {
        Ok(())
    }
}

impl SlotIo for SimDisk {
    type Reader = Self;

    /// So small that an installation of some dozen KiB has several.
    const SEGMENT: u64 = 32 * 1024;
    const CHUNK_BYTES: usize = 16 * 1024;

    fn reader(&self) -> Result<Self, SimError> {
        Ok(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::powercut::medium::Zones;

    fn disk(fault: Option<Fault>) -> SimDisk {
        let medium = Medium::new(&[0; 16384], SectorSize::B512, Zones::default());
        SimDisk::new(medium, fault)
    }

    #[test]
    fn what_no_disk_does_is_an_error_and_remembered() {
        let mut d = disk(None);
        assert!(d.write_sectors(0, &[0; 100]).is_err());
        assert_eq!(d.abuse(), Some(SimError::Unaligned { length: 100 }));
        let mut d = disk(None);
        assert!(d.write_sectors(31, &[0; 1024]).is_err());
        assert!(d.abuse().is_some());
        let mut part = disk(None).partition(LbaRange { first: 4, last: 7 });
        assert!(part.write_sectors(4, &[1; 512]).is_err());
        assert!(part.write_sectors(3, &[1; 512]).is_ok());
        assert_eq!(part.now().bytes(7 * 512, 1), [1]);
    }

    #[test]
    fn an_unreadable_sector_is_cured_by_writing_it() {
        let mut d = disk(None);
        let mut buf = [0; 1024];
        d.make_unreadable(5);
        let lba = 5;
        assert_eq!(
            d.read_sectors(4, &mut buf),
            Err(SimError::Unreadable { lba })
        );
        d.read_sectors(6, &mut buf).unwrap();
        d.write_sectors(4, &[1; 1024]).unwrap();
        d.read_sectors(4, &mut buf).unwrap();
        assert!(d.unreadable().is_empty() && d.abuse().is_none());
    }

    #[test]
    fn faults_do_what_they_say() {
        let ones = [1; 1024];
        let mut d = disk(Some(Fault::Short(0)));
        assert!(d.write_sectors(0, &ones).is_err());
        assert_eq!(d.now().bytes(511, 2), [1, 0]);
        let mut d = disk(Some(Fault::FlushLoses(1)));
        d.write_sectors(0, &ones).unwrap();
        d.flush().unwrap();
        d.write_sectors(4, &ones).unwrap();
        assert!(d.flush().is_err());
        assert_eq!(
            (d.now().bytes(0, 1), d.now().bytes(2048, 1)),
            (vec![1], vec![0])
        );
        let mut d = disk(Some(Fault::FlushLies(0)));
        d.write_sectors(0, &ones).unwrap();
        d.write_sectors(4, &ones).unwrap();
        d.flush().unwrap();
        assert_eq!(
            (d.now().bytes(0, 1), d.now().bytes(2048, 1)),
            (vec![1], vec![0])
        );
    }
}
