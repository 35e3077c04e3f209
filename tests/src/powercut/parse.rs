//! The formats as the loaders read them, from their specifications alone: nothing here uses `bootctl`.

mod environment;
mod table;

use std::ops::Range;

use super::medium::Medium;

pub use environment::{
    Record, Variable, digits_of, grub_get, grub_variables, record, replace, state_of, uboot_get,
    uboot_variables,
};
pub use table::Table;

/// Boot attributes of one slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attr {
    pub priority: u8,
    pub tries: u8,
    pub successful: bool,
}

impl Attr {
    /// P0 T0 S0.
    pub const UNBOOTABLE: Self = Self {
        priority: 0,
        tries: 0,
        successful: false,
    };

    #[must_use]
    pub const fn candidate(self) -> bool {
        self.priority > 0 && (self.tries > 0 || self.successful)
    }

    #[must_use]
    pub const fn confirmed(self) -> bool {
        self.priority > 0 && self.successful
    }

    /// From bits 48 to 56 of a GPT attribute word.
    #[must_use]
    pub fn of_word(word: u64) -> Self {
        let nibble = |shift: u32| u8::try_from(word >> shift & 15).unwrap_or(0);
        Self {
            priority: nibble(48),
            tries: nibble(52),
            successful: word >> 56 & 1 == 1,
        }
    }

    /// `word` with bits 48 to 56 replaced.
    #[must_use]
    pub fn in_word(self, word: u64) -> u64 {
        let ours =
            u64::from(self.priority) | u64::from(self.tries) << 4 | u64::from(self.successful) << 8;
        word & !(0x1ff << 48) | ours << 48
    }
}

impl std::fmt::Display for Attr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (p, t, s) = (self.priority, self.tries, u8::from(self.successful));
        write!(f, "P{p}T{t}S{s}")
    }
}

/// Both slots, a first.
pub type State = [Attr; 2];

/// The candidate (or, with `only_confirmed`, the confirmed slot) of highest priority, a on a tie, among those that
/// `usable` allows.
#[must_use]
pub fn best(state: &State, usable: impl Fn(usize, Attr) -> bool) -> Option<usize> {
    let mut best = None;
    let mut highest = 0;
    for (slot, attr) in state.iter().enumerate() {
        if attr.priority > highest && usable(slot, *attr) {
            (best, highest) = (Some(slot), attr.priority);
        }
    }
    best
}

#[must_use]
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    u32::from_le_bytes(field.copied().unwrap_or_default())
}

#[must_use]
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
    u64::from_le_bytes(field.copied().unwrap_or_default())
}

pub fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (place, byte) in bytes.iter_mut().skip(at).zip(value) {
        *place = *byte;
    }
}

/// A PARTUUID as loaders print it.
#[must_use]
pub fn uuid(bytes: [u8; 16]) -> String {
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = String::new();
    for (n, at) in order.into_iter().enumerate() {
        if matches!(n, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{:02x}", bytes.get(at).copied().unwrap_or(0)));
    }
    text
}

/// The first 512 bytes of a file in the root folder of a FAT12 or FAT16 volume: where they are, in bytes of the disk.
#[must_use]
pub fn fat_file(medium: &Medium, volume: Range<u64>, name: &[u8; 11]) -> Option<Range<u64>> {
    let boot = medium.bytes(volume.start, 516);
    let u16_at = |at: usize| u32_at(&boot, at) & 0xffff;
    if u16_at(510) != 0xaa55 {
        return None;
    }
    let sector = u64::from(u16_at(11));
    let (per_cluster, reserved) = (u64::from(*boot.get(13)?), u64::from(u16_at(14)));
    let (tables, root_entries) = (u64::from(*boot.get(16)?), u64::from(u16_at(17)));
    let table_sectors = u64::from(u16_at(22));
    if !matches!(sector, 512 | 4096) || per_cluster == 0 || root_entries > 4096 {
        return None;
    }
    let root = volume.start + (reserved + tables * table_sectors) * sector;
    let data = root + (root_entries * 32).div_ceil(sector) * sector;
    let folder = medium.bytes(root, usize::try_from(root_entries * 32).ok()?);
    let file = folder
        .chunks(32)
        .find(|entry| entry.starts_with(name) && entry.get(11).is_some_and(|a| a & 0x18 == 0))?;
    let cluster = u64::from(u32_at(file, 26) & 0xffff);
    let at = data + cluster.checked_sub(2)? * per_cluster * sector;
    (u32_at(file, 28) == 512 && at + 512 <= volume.end).then_some(at..at + 512)
}
