//! A model of what boots an `x86_64-grub` disk, from the description of the rule and of what GRUB and the firmware do with
//! a partition table. The environment can be written.

use anyhow::{Context, Result};

use super::log::SECTOR;
use super::medium::Medium;
use super::places::Places;
use crate::qemu::Firmware;
use crate::scenario::Slot;

const ENTRY: usize = 128;
const ENTRIES: u64 = 128;
const SIGNATURE: &[u8] = b"EFI PART";

fn field(bytes: &[u8], at: usize) -> u64 {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>());
    u64::from_le_bytes(field.copied().unwrap_or_default())
}

fn half(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk::<4>());
    u32::from_le_bytes(field.copied().unwrap_or_default())
}

/// Boot attributes of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Attributes {
    pub priority: u8,
    pub tries: u8,
    pub successful: bool,
}

impl Attributes {
    #[must_use]
    pub const fn candidate(self) -> bool {
        self.priority > 0 && (self.tries > 0 || self.successful)
    }

    #[must_use]
    pub const fn confirmed(self) -> bool {
        self.priority > 0 && self.successful
    }
}

/// One copy of the partition table.
#[derive(Clone, Debug)]
pub struct Table {
    entries: Vec<u8>,
    /// Both checksums hold, and it says itself where it is.
    pub valid: bool,
}

impl Table {
    /// The copy whose header is at sector `at`; `None` without a signature.
    ///
    /// # Errors
    /// I/O.
    pub fn read(medium: &Medium<'_>, at: u64) -> Result<Option<Self>> {
        let header = medium.read(at, 1)?;
        if !header.starts_with(SIGNATURE) {
            return Ok(None);
        }
        let count = ENTRIES * ENTRY as u64 / SECTOR;
        let first = field(&header, 72);
        if first
            .checked_add(count)
            .is_none_or(|end| end > medium.sectors())
        {
            return Ok(None);
        }
        let entries = medium.read(first, count)?;
        let mut summed = header.get(..92).unwrap_or_default().to_vec();
        if let Some(crc) = summed.get_mut(16..20) {
            crc.fill(0);
        }
        let shape = half(&header, 12) == 92 && half(&header, 80) == 128 && half(&header, 84) == 128;
        let valid = shape
            && field(&header, 24) == at
            && crc32fast::hash(&summed) == half(&header, 16)
            && crc32fast::hash(&entries) == half(&header, 88);
        Ok(Some(Self { entries, valid }))
    }

    fn entry(&self, number: usize) -> Option<&[u8]> {
        let at = number.checked_sub(1)? * ENTRY;
        let entry = self.entries.get(at..at + ENTRY)?;
        let used = entry.iter().take(16).any(|&byte| byte != 0);
        used.then_some(entry)
    }

    /// PARTUUID of a partition, as loaders print it.
    #[must_use]
    pub fn id(&self, number: usize) -> Option<String> {
        let bytes = self.entry(number)?.get(16..32)?;
        let mut text = String::new();
        for (n, at) in [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]
            .iter()
            .enumerate()
        {
            if matches!(n, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.push_str(&format!("{:02x}", bytes.get(*at)?));
        }
        Some(text)
    }

    /// First and last sector of a partition.
    #[must_use]
    pub fn borders(&self, number: usize) -> Option<(u64, u64)> {
        let entry = self.entry(number)?;
        Some((field(entry, 32), field(entry, 40)))
    }

    /// The attributes of both slots.
    #[must_use]
    pub fn state(&self) -> [Attributes; 2] {
        [3, 4].map(|number| {
            let word = self.entry(number).map_or(0, |entry| field(entry, 48));
            let nibble = |shift: u32| u8::try_from((word >> shift) & 15).unwrap_or(0);
            Attributes {
                priority: nibble(48),
                tries: nibble(52),
                successful: (word >> 56) & 1 == 1,
            }
        })
    }
}

/// Both copies, the primary first, as they lie on the disk; only those whose checksums hold.
///
/// # Errors
/// I/O.
pub fn valid_tables(medium: &Medium<'_>) -> Result<[Option<Table>; 2]> {
    let last = medium.sectors().saturating_sub(1);
    let read = |at| Ok(Table::read(medium, at)?.filter(|table| table.valid));
    let read: [Result<_>; 2] = [read(1), read(last)];
    let [primary, backup] = read;
    Ok([primary?, backup?])
}

/// The value of a variable of a GRUB block; the last one counts.
fn variable(block: &[u8], name: &str) -> Option<String> {
    if !block.starts_with(b"# GRUB Environment Block\n") {
        return None;
    }
    let mut lines: Vec<&[u8]> = block.split(|&byte| byte == b'\n').collect();
    // What has no end is no line.
    lines.pop();
    let value = |line: &&[u8]| {
        line.strip_prefix(name.as_bytes())?
            .strip_prefix(b"=")
            .map(<[u8]>::to_vec)
    };
    let value = lines.iter().rev().find_map(value)?;
    String::from_utf8(value).ok()
}

/// What the environment tells; `None` when it is lost.
///
/// # Errors
/// I/O.
pub fn environment(medium: &Medium<'_>, places: &Places) -> Result<Option<[Attributes; 2]>> {
    let block = medium.read(places.environment, 1)?;
    let mut digits = String::new();
    for slot in ["a", "b"] {
        for what in ["priority", "tries", "successful"] {
            let Some(value) = variable(&block, &format!("tandem_{slot}_{what}")) else {
                return Ok(None);
            };
            if value.len() != 1 {
                return Ok(None);
            }
            digits.push_str(&value);
        }
    }
    let numbers: Vec<u8> = digits
        .bytes()
        .map(|digit| digit.wrapping_sub(b'0'))
        .collect();
    let &[ap, at, ok_a, bp, bt, ok_b] = numbers.as_slice() else {
        return Ok(None);
    };
    let sound = numbers.iter().all(|&digit| digit <= 9) && ok_a <= 1 && ok_b <= 1;
    if !sound || variable(&block, "tandem_check") != Some(digits) {
        return Ok(None);
    }
    let attributes = |priority, tries, successful| Attributes {
        priority,
        tries,
        successful: successful == 1,
    };
    Ok(Some([attributes(ap, at, ok_a), attributes(bp, bt, ok_b)]))
}

/// What the confirmed record tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmed {
    pub slot: Slot,
    /// PARTUUIDs of both slots and of ROOT.
    pub ids: [Option<String>; 3],
    /// The disk has not got PARTUUIDs of its own yet.
    pub fresh: bool,
}

/// The confirmed record; `None` when it names no slot.
///
/// # Errors
/// I/O.
pub fn confirmed(medium: &Medium<'_>, places: &Places) -> Result<Option<Confirmed>> {
    let block = medium.read(places.confirmed, 1)?;
    let slot = variable(&block, "tandem_confirmed").and_then(|slot| slot.parse().ok());
    Ok(slot.map(|slot| Confirmed {
        slot,
        ids: ["tandem_usr_a", "tandem_usr_b", "tandem_root"].map(|name| variable(&block, name)),
        fresh: variable(&block, "tandem_fresh").as_deref() != Some("0"),
    }))
}

/// What the loader does first, in its own words and with what it passes to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    pub slot: Slot,
    /// Tries left.
    pub tries: u8,
    pub environment: &'static str,
    pub table: &'static str,
    /// PARTUUIDs of the slot and of ROOT.
    pub ids: [Option<String>; 2],
}

/// The loader's first choice; `None` when it finds nothing to boot.
///
/// # Errors
/// I/O.
pub fn choose(medium: &Medium<'_>, places: &Places, firmware: Firmware) -> Result<Option<Choice>> {
    let table = seen_by_grub(medium, firmware)?;
    let record = confirmed(medium, places)?;
    let table_ids = table
        .as_ref()
        .map(|table| [3, 4, 9].map(|number| table.id(number)));
    let complete = table_ids
        .as_ref()
        .is_some_and(|ids| ids.iter().all(Option::is_some));
    let config = table.as_ref().and_then(|table| table.borders(7));
    let recorded = record.as_ref().map(|record| record.ids.clone());
    let recorded = recorded.filter(|ids| ids.iter().all(Option::is_some));
    let own = record.as_ref().is_some_and(|record| !record.fresh);
    let contradicted = own && recorded.is_some() && recorded != table_ids;
    let usable = complete && config.is_some() && !contradicted;
    let ids = if usable { table_ids } else { recorded };
    let [a, b, root] = ids.unwrap_or_default();
    let choice = |slot, tries, environment| Choice {
        slot,
        tries,
        environment,
        table: if usable { "ok" } else { "unusable" },
        ids: match slot {
            Slot::A => [a.clone(), root.clone()],
            Slot::B => [b.clone(), root.clone()],
        },
    };
    let expected = (
        places.oem_config.start,
        places.oem_config.end.saturating_sub(1),
    );
    if usable
        && config == Some(expected)
        && let Some(state) = environment(medium, places)?
    {
        let mut best: Option<(Slot, Attributes)> = None;
        for (slot, found) in [Slot::A, Slot::B].into_iter().zip(state) {
            let highest = best.map_or(0, |(_, best)| best.priority);
            if found.candidate() && found.priority > highest {
                best = Some((slot, found));
            }
        }
        return Ok(best.map(|(slot, found)| choice(slot, found.tries.saturating_sub(1), "ok")));
    }
    Ok(match record {
        Some(record) => Some(choice(record.slot, 0, "lost")),
        None if usable => Some(choice(Slot::A, 0, "lost")),
        None => None,
    })
}

/// GRUB reads the primary copy without a look at its checksums; UEFI has mended that from the backup by then.
fn seen_by_grub(medium: &Medium<'_>, firmware: Firmware) -> Result<Option<Table>> {
    let primary = Table::read(medium, 1).context("read the primary table")?;
    let sound = primary.as_ref().is_some_and(|table| table.valid);
    if firmware == Firmware::Uefi && !sound {
        let [_, backup] = valid_tables(medium)?;
        return Ok(backup.or(primary));
    }
    Ok(primary)
}
