//! A disk in memory that counts writes, and a table on it as another program makes it.

use std::io::Cursor;

use gptman::{GPT, GPTPartitionEntry};

use crate::gpt::{TYPE_LINUX, TYPE_RESIZE, TYPE_USR};
use crate::{BlockIo, SectorSize};

#[derive(Clone)]
pub struct MemDisk {
    pub sector: SectorSize,
    pub bytes: Vec<u8>,
    /// Every write since the disk was made: first sector and bytes; `None` is a flush.
    pub log: Vec<Option<(u64, Vec<u8>)>>,
    /// Writes and flushes that still succeed.
    pub budget: usize,
    /// A sector that can't be read until it is written.
    pub bad_sector: Option<u64>,
}

/// What a request asked for that the disk refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused(pub String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl MemDisk {
    pub fn new(sector: SectorSize, sectors: u64) -> Self {
        let bytes = vec![0; usize::try_from(sectors * sector.bytes()).unwrap()];
        Self {
            sector,
            bytes,
            log: Vec::new(),
            budget: usize::MAX,
            bad_sector: None,
        }
    }

    /// USR-A, USR-B and ROOT, 64 sectors each; sector 0 and all gaps filled with a pattern.
    pub fn with_table(sector: SectorSize, sectors: u64) -> Self {
        let mut disk = Self::new(sector, sectors);
        for (at, byte) in disk.bytes.iter_mut().enumerate() {
            *byte = u8::try_from(at % 251).unwrap();
        }
        let mut table = GPT::new_from(&mut Cursor::new(&mut disk.bytes), sector.bytes(), [7; 16])
            .expect("gptman makes a table");
        let mut add = |number, kind: crate::gpt::Guid, first: u64, bits| {
            table[number] = GPTPartitionEntry {
                partition_type_guid: kind.0,
                unique_partition_guid: [u8::try_from(number).unwrap(); 16],
                starting_lba: first,
                ending_lba: first + 63,
                attribute_bits: bits,
                partition_name: "something".into(),
            };
        };
        add(1, TYPE_LINUX, 64, 0);
        add(3, TYPE_USR, 128, 0x0101_0000_0000_0000);
        add(4, TYPE_USR, 192, 0x8000_0000_0000_0001);
        add(9, TYPE_RESIZE, 256, 0);
        table
            .write_into(&mut Cursor::new(&mut disk.bytes))
            .expect("gptman writes the table");
        disk
    }

    pub fn sectors(&self) -> u64 {
        self.bytes.len() as u64 / self.sector.bytes()
    }

    pub fn grow(&mut self, sectors: u64) {
        let len = self.bytes.len() + usize::try_from(sectors * self.sector.bytes()).unwrap();
        self.bytes.resize(len, 0xee);
    }

    pub fn sector_mut(&mut self, lba: u64) -> &mut [u8] {
        let at = usize::try_from(lba * self.sector.bytes()).unwrap();
        &mut self.bytes[at..at + self.sector.len()]
    }

    /// Changes the header at `lba` and seals it again.
    pub fn edit_header(&mut self, lba: u64, edit: impl FnOnce(&mut [u8])) {
        let header = self.sector_mut(lba);
        edit(header);
        self.seal(lba);
    }

    /// Changes the entries of the copy whose header is at `lba` and seals both again.
    pub fn edit_table(&mut self, lba: u64, edit: impl FnOnce(&mut [u8])) {
        let at = self.table_at(lba);
        edit(&mut self.bytes[at..at + 16384]);
        self.seal(lba);
    }

    /// The 16 KiB of entries of the copy whose header is at `lba`.
    pub fn table(&mut self, lba: u64) -> &[u8] {
        let at = self.table_at(lba);
        &self.bytes[at..at + 16384]
    }

    fn table_at(&mut self, lba: u64) -> usize {
        let entries = u64::from_le_bytes(self.sector_mut(lba)[72..80].try_into().unwrap());
        usize::try_from(entries * self.sector.bytes()).unwrap()
    }

    /// Computes both checksums of a copy, the entries' only where they lie on the disk.
    fn seal(&mut self, lba: u64) {
        let number = |header: &[u8], at: usize| {
            usize::try_from(u32::from_le_bytes(header[at..at + 4].try_into().unwrap())).unwrap()
        };
        let header = self.sector_mut(lba).to_vec();
        let entries = u64::from_le_bytes(header[72..80].try_into().unwrap());
        let start = u128::from(entries) * u128::from(self.sector.bytes());
        let len = number(&header, 80).saturating_mul(number(&header, 84)) as u128;
        if start + len <= self.bytes.len() as u128 {
            let (start, len) = (
                usize::try_from(start).unwrap(),
                usize::try_from(len).unwrap(),
            );
            let crc = crc32fast::hash(&self.bytes[start..start + len]);
            self.sector_mut(lba)[88..92].copy_from_slice(&crc.to_le_bytes());
        }
        let size = number(&header, 12).min(self.sector.len());
        let header = self.sector_mut(lba);
        header[16..20].fill(0);
        let crc = crc32fast::hash(&header[..size]);
        header[16..20].copy_from_slice(&crc.to_le_bytes());
    }

    pub fn writes(&self) -> Vec<(u64, usize)> {
        self.log
            .iter()
            .flatten()
            .map(|(lba, data)| (*lba, data.len() / self.sector.len()))
            .collect()
    }

    fn range(&self, lba: u64, len: usize) -> Result<std::ops::Range<usize>, Refused> {
        let at = usize::try_from(u128::from(lba) * u128::from(self.sector.bytes())).unwrap();
        if !len.is_multiple_of(self.sector.len()) || at + len > self.bytes.len() {
            return Err(Refused(format!("{len} bytes at sector {lba}")));
        }
        Ok(at..at + len)
    }

    fn spend(&mut self) -> Result<(), Refused> {
        self.budget = self
            .budget
            .checked_sub(1)
            .ok_or(Refused("the budget is spent".into()))?;
        Ok(())
    }
}

impl BlockIo for MemDisk {
    type Error = Refused;

    fn sector_size(&self) -> SectorSize {
        self.sector
    }

    fn sector_count(&self) -> u64 {
        self.sectors()
    }

    fn read_sectors(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), Refused> {
        let range = self.range(lba, buf.len())?;
        let sectors = (range.len() / self.sector.len()) as u64;
        if self
            .bad_sector
            .is_some_and(|bad| (lba..lba + sectors).contains(&bad))
        {
            return Err(Refused("bad sector".into()));
        }
        buf.copy_from_slice(&self.bytes[range]);
        Ok(())
    }

    fn write_sectors(&mut self, lba: u64, data: &[u8]) -> Result<(), Refused> {
        assert_ne!(lba, 0, "sector 0 is not ours");
        self.spend()?;
        let range = self.range(lba, data.len())?;
        let sectors = lba..lba + (range.len() / self.sector.len()) as u64;
        self.bad_sector = self.bad_sector.filter(|bad| !sectors.contains(bad));
        self.bytes[range].copy_from_slice(data);
        self.log.push(Some((lba, data.to_vec())));
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Refused> {
        self.spend()?;
        self.log.push(None);
        Ok(())
    }
}
