//! A flashed disk in memory, seen as a whole and through its USR-B partition, whose requests can be made to fail.

use std::io::Cursor;
use std::sync::{Arc, Mutex};

use bootctl::confirmed::{CONFIRMED_BYTES, CONFIRMED_FROM_END, ConfirmedRecord};
use bootctl::descriptor::{DESCRIPTOR_FROM_END, Descriptor, Store};
use bootctl::gpt::{Guid, TYPE_LINUX, TYPE_OEM_CONFIG, TYPE_USR};
use bootctl::{Attributes, BlockIo, BootState, Priority, SectorSize, Slot, grub_env};
use gptman::{GPT, GPTPartitionEntry};

use crate::engine::{SlotIo, WholeDisk};

pub const MIB: u64 = 1024 * 1024;
/// Size of each USR partition in bytes.
pub const SLOT_BYTES: u64 = 6 * MIB;
const SECTOR: u64 = 512;
const OEM_CONFIG_BYTES: u64 = 2 * MIB;
const ENV_OFFSET: u64 = 65536;

/// A request that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The slot's write of this number, and all later ones.
    Write(usize),
    /// The same, but half of its bytes arrive.
    ShortWrite(usize),
    /// The slot's flush of this number.
    Flush(usize),
    /// Reads of the slot from the second flush on: the wipe's comes first, then that of the blocks.
    ReadBack,
    /// The slot gives back other bytes from the second flush on.
    Rot,
    /// The same, but only in its first sector.
    FirstSectorRot,
    /// The whole disk's write of this number, and all later ones.
    Commit(usize),
}

#[derive(Default)]
pub struct Inner {
    pub bytes: Vec<u8>,
    pub fault: Option<Fault>,
    pub slot_writes: usize,
    pub slot_flushes: usize,
    pub commits: usize,
    /// Every request to the slot and every write to the whole disk, in order.
    pub events: Vec<Event>,
    /// What a cut of the power is made from.
    pub history: Vec<Durable>,
    /// A byte that can't be read until it is written.
    pub unreadable: Option<usize>,
}

/// A change of the disk, as far as it says what is on the medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Durable {
    Write {
        at: usize,
        data: Vec<u8>,
    },
    /// Everything before is there for good.
    Flush,
    /// So many blocks were said to be there for good.
    Mark(u64),
}

impl Inner {
    fn put(&mut self, at: usize, data: &[u8]) {
        self.bytes[at..at + data.len()].copy_from_slice(data);
        let written = at..at + data.len();
        self.unreadable = self.unreadable.filter(|byte| !written.contains(byte));
        self.history.push(Durable::Write {
            at,
            data: data.to_vec(),
        });
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    SlotWrite { lba: u64, len: usize },
    SlotFlush,
    SlotRead { lba: u64, len: usize },
    Commit,
}

/// One view of the disk.
#[derive(Clone)]
pub struct View {
    pub disk: Arc<Mutex<Inner>>,
    base: u64,
    sectors: u64,
    slot: bool,
}

#[derive(Debug)]
pub struct Refused(&'static str);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// A disk whose slot A is confirmed; where USR-A and USR-B start, in bytes, comes with it.
pub fn flashed() -> (View, [usize; 2]) {
    let mut bytes = vec![0x11; usize::try_from(24 * MIB).unwrap()];
    let mut table = GPT::new_from(&mut Cursor::new(&mut bytes), SECTOR, [7; 16]).unwrap();
    let mut first = MIB;
    for (number, kind, size, bits) in [
        (3, TYPE_USR, SLOT_BYTES, 0x0101_0000_0000_0000),
        (4, TYPE_USR, SLOT_BYTES, 0),
        (7, TYPE_OEM_CONFIG, OEM_CONFIG_BYTES, 0),
        (9, TYPE_LINUX, MIB, 0),
    ] {
        table[number] = GPTPartitionEntry {
            partition_type_guid: kind.0,
            unique_partition_guid: [u8::try_from(number).unwrap(); 16],
            starting_lba: first / SECTOR,
            ending_lba: (first + size) / SECTOR - 1,
            attribute_bits: bits,
            partition_name: "something".into(),
        };
        first += size;
    }
    table.write_into(&mut Cursor::new(&mut bytes)).unwrap();
    let start = |number: u32| usize::try_from(table[number].starting_lba * SECTOR).unwrap();
    let oem_config = start(7);
    let mut put = |from_start: u64, record: &[u8]| {
        let at = oem_config + usize::try_from(from_start).unwrap();
        bytes[at..at + record.len()].copy_from_slice(record);
    };
    let store = Store::GrubBlock {
        offset: ENV_OFFSET,
        size: 512,
    };
    let descriptor = Descriptor {
        board: "test".parse().unwrap(),
        product: "demo".parse().unwrap(),
        store,
    };
    let record = descriptor.encode(OEM_CONFIG_BYTES).unwrap();
    put(OEM_CONFIG_BYTES - DESCRIPTOR_FROM_END, &record);
    let confirmed = ConfirmedRecord {
        slot: Slot::A,
        usr_a: Guid([3; 16]),
        usr_b: Guid([4; 16]),
        root: Guid([9; 16]),
        fresh: false,
    };
    let mut block = [0; CONFIRMED_BYTES];
    confirmed.encode(&mut block).unwrap();
    put(OEM_CONFIG_BYTES - CONFIRMED_FROM_END, &block);
    let good = Attributes {
        priority: Priority::LOW,
        successful: true,
        ..Attributes::UNBOOTABLE
    };
    let mut block = [0; 512];
    grub_env::create(&mut block).unwrap();
    let state = BootState::default().with(Slot::A, good);
    grub_env::encode(&mut block, &state).unwrap();
    put(ENV_OFFSET, &block);
    let sectors = bytes.len() as u64 / SECTOR;
    let view = View {
        disk: Arc::new(Mutex::new(Inner {
            bytes,
            ..Inner::default()
        })),
        base: 0,
        sectors,
        slot: false,
    };
    (view, [start(3), start(4)])
}

impl View {
    /// The same disk through the partition that starts at byte `start`.
    pub fn partition(&self, start: usize) -> Self {
        Self {
            disk: Arc::clone(&self.disk),
            base: start as u64,
            sectors: SLOT_BYTES / SECTOR,
            slot: true,
        }
    }

    fn range(&self, lba: u64, len: usize) -> Result<std::ops::Range<usize>, Refused> {
        let end = lba * SECTOR + len as u64;
        if !(len as u64).is_multiple_of(SECTOR) || end > self.sectors * SECTOR {
            return Err(Refused("out of range"));
        }
        let start = usize::try_from(self.base + lba * SECTOR).unwrap();
        Ok(start..start + len)
    }
}

impl BlockIo for View {
    type Error = Refused;

    fn sector_size(&self) -> SectorSize {
        SectorSize::B512
    }

    fn sector_count(&self) -> u64 {
        self.sectors
    }

    fn read_sectors(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), Refused> {
        let range = self.range(lba, buf.len())?;
        let mut disk = self.disk.lock().unwrap();
        if self.slot {
            let len = buf.len();
            disk.events.push(Event::SlotRead { lba, len });
        }
        let late = self.slot && disk.slot_flushes >= 2;
        if late && disk.fault == Some(Fault::ReadBack) {
            return Err(Refused("EIO"));
        }
        if disk.unreadable.is_some_and(|byte| range.contains(&byte)) {
            return Err(Refused("EIO"));
        }
        buf.copy_from_slice(&disk.bytes[range]);
        let rotten = match disk.fault {
            Some(Fault::Rot) => true,
            Some(Fault::FirstSectorRot) => lba == 0,
            _ => false,
        };
        if late && rotten {
            buf[0] ^= 0x80;
        }
        Ok(())
    }

    fn write_sectors(&mut self, lba: u64, data: &[u8]) -> Result<(), Refused> {
        let range = self.range(lba, data.len())?;
        let mut disk = self.disk.lock().unwrap();
        if !self.slot {
            disk.commits += 1;
            disk.events.push(Event::Commit);
            if matches!(disk.fault, Some(Fault::Commit(n)) if disk.commits >= n) {
                return Err(Refused("EROFS"));
            }
            disk.put(range.start, data);
            return Ok(());
        }
        disk.slot_writes += 1;
        disk.events.push(Event::SlotWrite {
            lba,
            len: data.len(),
        });
        match disk.fault {
            Some(Fault::Write(n)) if disk.slot_writes >= n => Err(Refused("ENOSPC")),
            Some(Fault::ShortWrite(n)) if disk.slot_writes >= n => {
                let half = data.len() / 2;
                disk.put(range.start, &data[..half]);
                Err(Refused("short write"))
            }
            _ => {
                disk.put(range.start, data);
                Ok(())
            }
        }
    }

    fn flush(&mut self) -> Result<(), Refused> {
        let mut disk = self.disk.lock().unwrap();
        if self.slot {
            disk.slot_flushes += 1;
            disk.events.push(Event::SlotFlush);
            if disk.fault == Some(Fault::Flush(disk.slot_flushes)) {
                return Err(Refused("EIO"));
            }
        }
        disk.history.push(Durable::Flush);
        Ok(())
    }
}

impl WholeDisk for View {
    type Guard = ();

    fn lock_for_commit(&self) -> Result<(), Refused> {
        Ok(())
    }
}

impl SlotIo for View {
    type Reader = Self;

    /// Each of the image's two chunks.
    const SEGMENT: u64 = MIB;

    fn reader(&self) -> Result<Self, Refused> {
        Ok(self.clone())
    }
}
