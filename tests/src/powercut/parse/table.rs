//! The partition table.

use std::ops::Range;

use super::{Attr, State, put, u32_at, u64_at};
use crate::powercut::medium::Medium;

/// One copy of a partition table whose checksums hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Sector of the header.
    pub lba: u64,
    /// The header's whole sector.
    pub header: Vec<u8>,
    pub entries: Vec<u8>,
}

impl Table {
    /// Where a header whose checksum holds, and entries whose checksum holds, start at sector `lba`.
    #[must_use]
    pub fn read(medium: &Medium, lba: u64) -> Option<Self> {
        Self::unchecked(medium, lba)
            .filter(|table| table.header_is_good() && table.entries_are_good())
    }

    /// The header's checksum holds, it knows where it is, and everything lies in this order: first header, entries, usable
    /// sectors, entries, second header.
    #[must_use]
    pub fn header_is_good(&self) -> bool {
        let header = &self.header;
        let size = u32_at(header, 12) as usize;
        let Some(mut summed) = header.get(..size).map(<[u8]>::to_vec) else {
            return false;
        };
        put(&mut summed, 16, &[0; 4]);
        let sectors = (self.entries.len() as u64).div_ceil(header.len() as u64);
        let [mine, other, first, last, entries] = [24, 32, 40, 48, 72].map(|at| u64_at(header, at));
        let end = entries.saturating_add(sectors);
        let in_order = match self.lba {
            1 => entries >= 2 && end <= first && other > last,
            lba => entries > last && end <= lba && other == 1,
        };
        size >= 92
            && crc32fast::hash(&summed) == u32_at(header, 16)
            && u32_at(header, 8) == 0x1_0000
            && mine == self.lba
            && !self.entries.is_empty()
            && first >= sectors.saturating_add(2)
            && first <= last
            && in_order
    }

    /// The checksum of the entries holds.
    #[must_use]
    pub fn entries_are_good(&self) -> bool {
        crc32fast::hash(&self.entries) == u32_at(&self.header, 88)
    }

    /// The same without any checksum: the signature is all that is looked at, as GRUB does.
    #[must_use]
    pub fn unchecked(medium: &Medium, lba: u64) -> Option<Self> {
        let sector = medium.sector_size().bytes();
        let header = medium.bytes(lba.checked_mul(sector)?, medium.sector_size().len());
        if !header.starts_with(b"EFI PART") {
            return None;
        }
        let (count, size) = (u32_at(&header, 80), u32_at(&header, 84));
        if size != 128 || count > 128 {
            return None;
        }
        let mut entries = vec![0; (count * size) as usize];
        let at = u64_at(&header, 72).checked_mul(sector)?;
        medium.read(at, &mut entries).then_some(Self {
            lba,
            header,
            entries,
        })
    }

    /// Both copies: the primary, and the backup where a good primary says, else in the last sector.
    #[must_use]
    pub fn both(medium: &Medium) -> [Option<Self>; 2] {
        let last = (medium.len() / medium.sector_size().bytes()).saturating_sub(1);
        let primary = Self::read(medium, 1);
        let place = primary.as_ref().map_or(last, Self::alternate);
        let backup = Self::read(medium, place);
        [primary, backup]
    }

    #[must_use]
    pub fn alternate(&self) -> u64 {
        u64_at(&self.header, 32)
    }

    #[must_use]
    pub fn entries_lba(&self) -> u64 {
        u64_at(&self.header, 72)
    }

    /// The entry of a partition, counted from 1.
    #[must_use]
    pub fn entry(&self, number: usize) -> &[u8] {
        let at = number.saturating_sub(1) * 128;
        self.entries.get(at..at + 128).unwrap_or_default()
    }

    /// Its sectors, if its type is not zero.
    #[must_use]
    pub fn partition(&self, number: usize) -> Option<Range<u64>> {
        let entry = self.entry(number);
        let used = entry.iter().take(16).any(|byte| *byte != 0);
        used.then(|| u64_at(entry, 32)..u64_at(entry, 40).saturating_add(1))
    }

    /// Its PARTUUID, as the bytes stand in the entry.
    #[must_use]
    pub fn guid(&self, number: usize) -> [u8; 16] {
        let bytes = self.entry(number).get(16..32).unwrap_or_default();
        bytes.try_into().unwrap_or_default()
    }

    /// The boot attributes of partitions 3 and 4.
    #[must_use]
    pub fn state(&self) -> State {
        [3, 4].map(|number| Attr::of_word(u64_at(self.entry(number), 48)))
    }

    /// With other boot attributes and both checksums new.
    #[must_use]
    pub fn with_state(&self, state: &State) -> Self {
        let mut table = self.clone();
        for (at, attr) in [2 * 128 + 48, 3 * 128 + 48].into_iter().zip(state) {
            let word = attr.in_word(u64_at(&table.entries, at));
            put(&mut table.entries, at, &word.to_le_bytes());
        }
        table.seal();
        table
    }

    /// Computes both checksums.
    pub fn seal(&mut self) {
        let crc = crc32fast::hash(&self.entries);
        put(&mut self.header, 88, &crc.to_le_bytes());
        put(&mut self.header, 16, &[0; 4]);
        let size = usize::try_from(u32_at(&self.header, 12)).unwrap_or(92);
        let crc = crc32fast::hash(self.header.get(..size).unwrap_or_default());
        put(&mut self.header, 16, &crc.to_le_bytes());
    }
}
