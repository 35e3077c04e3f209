//! U-Boot environment: one copy or two, read as U-Boot imports it, edited in place.
//!
//! A copy is the CRC-32 of everything after the header (little-endian on every board of ours), in a redundant
//! environment one byte of serial number that the CRC does not cover, then `name=value\0` entries up to an empty one.
//! What follows is padding, of any value, and inside the CRC.
//!
//! Import rules (U-Boot 2023.01–2025.01): leading blanks of an entry are skipped, `#` makes it a comment, a missing or
//! empty value deletes the variable, a backslash escapes the next byte, the last entry of a name wins, and an empty
//! name fails the whole import.

use crate::BootState;
use crate::grub_env::{EditError, is_plain};
use crate::vars::{self, Lookup, LostReason, Values};

/// Which header a copy has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// CRC, data.
    Single,
    /// CRC, serial number, data; there are two copies.
    Redundant,
}

impl Layout {
    /// Bytes before the entries.
    #[must_use]
    pub const fn header_len(self) -> usize {
        match self {
            Self::Single => 4,
            Self::Redundant => 5,
        }
    }
}

/// A copy whose CRC is good.
#[derive(Clone, Copy, Debug)]
pub struct UbootEnv<'a> {
    data: &'a [u8],
    serial: u8,
}

/// One entry that U-Boot does not skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Without the leading blanks; never empty in an environment that U-Boot accepts.
    pub name: &'a [u8],
    /// As it stands in the copy, escapes included; empty deletes the variable.
    pub raw: &'a [u8],
    /// Where the entry starts, leading blanks included, in bytes from the start of the data.
    at: usize,
    /// Length of the entry with its terminator, if it has one.
    length: usize,
    /// Where `raw` starts, in bytes from the start of the data.
    value_at: usize,
}

impl<'a> Entry<'a> {
    /// The value without its escapes.
    pub fn value(&self) -> impl Iterator<Item = u8> + use<'a> {
        let mut bytes = self.raw.iter().copied().peekable();
        core::iter::from_fn(move || match bytes.next() {
            Some(b'\\') if bytes.peek().is_some() => bytes.next(),
            byte => byte,
        })
    }
}

impl<'a> UbootEnv<'a> {
    /// Checks the CRC of one copy. `None` where it differs or the copy is shorter than its header.
    #[must_use]
    pub fn new(copy: &'a [u8], layout: Layout) -> Option<Self> {
        let (crc, _) = copy.split_first_chunk::<4>()?;
        let data = copy.get(layout.header_len()..)?;
        (u32::from_le_bytes(*crc) == crc32fast::hash(data)).then_some(Self {
            data,
            serial: match layout {
                Layout::Single => 0,
                Layout::Redundant => *copy.get(4)?,
            },
        })
    }

    /// The serial number of a redundant copy, 0 in a single one.
    #[must_use]
    pub const fn serial(&self) -> u8 {
        self.serial
    }

    /// Entries in order, comments skipped.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        entries(self.data)
    }

    /// What U-Boot has under this name after an import.
    #[must_use]
    pub fn lookup(&self, name: &str) -> Lookup<'a> {
        let mut found = self.entries().filter(|e| e.name == name.as_bytes());
        match (found.next(), found.next()) {
            (None, _) => Lookup::Missing,
            (Some(entry), None) if entry.raw.is_empty() => Lookup::Missing,
            (Some(entry), None) => Lookup::One(entry.raw),
            _ => Lookup::Several,
        }
    }
}

fn entries(data: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut at = 0;
    core::iter::from_fn(move || {
        loop {
            let rest = data.get(at..)?;
            let bytes = match rest.iter().position(|&byte| byte == 0) {
                Some(end) => rest.get(..end)?,
                None => rest,
            };
            if bytes.is_empty() {
                return None;
            }
            let (start, length) = (at, rest.len().min(bytes.len() + 1));
            at += length;
            let entry = bytes.trim_ascii_start_blanks();
            if entry.starts_with(b"#") {
                continue;
            }
            let stop = entry.iter().position(|&byte| byte == b'=');
            let (name, value) = entry.split_at(stop.unwrap_or(entry.len()));
            let raw = value.get(1..).unwrap_or_default();
            return Some(Entry {
                name,
                raw,
                at: start,
                length,
                value_at: start + bytes.len() - raw.len(),
            });
        }
    })
}

trait TrimBlanks {
    fn trim_ascii_start_blanks(&self) -> &[u8];
}

impl TrimBlanks for [u8] {
    fn trim_ascii_start_blanks(&self) -> &[u8] {
        let blanks = self
            .iter()
            .take_while(|&&b| b == b' ' || b == b'\t')
            .count();
        self.get(blanks..).unwrap_or_default()
    }
}

/// The copy that U-Boot uses, 0 or 1, from the serial numbers of the copies whose CRC is good. The higher wins, but 0
/// is newer than 255; copy 0 on a tie; `None` where both are bad.
#[must_use]
pub const fn current(serials: [Option<u8>; 2]) -> Option<usize> {
    match serials {
        [None, None] => None,
        [Some(_), None] => Some(0),
        [None, Some(_)] => Some(1),
        [Some(255), Some(0)] => Some(1),
        [Some(0), Some(255)] => Some(0),
        [Some(first), Some(second)] => Some((second > first) as usize),
    }
}

/// Gives a variable this value and removes other entries of that name. A value of unchanged length is replaced in
/// place, a new variable goes to the end. The CRC is not touched: see [`seal`].
///
/// # Errors
/// The copy is full or shorter than its header, or name or value would need quoting; it is unchanged then.
pub fn set(copy: &mut [u8], layout: Layout, name: &str, value: &str) -> Result<(), EditError> {
    if !is_plain(name, value) {
        return Err(EditError::NotPlain);
    }
    let size = copy.len();
    let header = layout.header_len();
    let no_space = |needed| EditError::NoSpace { needed, size };
    let data = copy.get_mut(header..).ok_or(no_space(header))?;
    if let Some(at) = same_length(data, name, value) {
        overwrite(data, at, value.bytes());
        return Ok(());
    }
    let mut end = entries_end(data);
    let freed: usize = entries(data)
        .filter(|e| e.name == name.as_bytes())
        .map(|e| e.length)
        .sum();
    let added = name.len() + value.len() + 2;
    let unterminated = |data: &[u8], end: usize| {
        let last = end.checked_sub(1).and_then(|last| data.get(last));
        last.is_some_and(|byte| *byte != 0)
    };
    // One more byte for the empty entry that ends the list.
    let needed = header + end.saturating_sub(freed) + added + 1;
    // And one where the last entry runs to the very end: what follows it must not become a part of its value.
    let needed = needed + usize::from(unterminated(data, end));
    if needed > size {
        return Err(no_space(needed));
    }
    while let Some((at, length)) = find(data, name) {
        // Once something was removed, a last entry without its end has found one in the zeros behind the list.
        let tail = end.min(at + length);
        data.copy_within(tail..end, at);
        let new_end = end - (tail - at);
        if let Some(freed) = data.get_mut(new_end..end) {
            freed.fill(0);
        }
        end = new_end;
    }
    end += usize::from(unterminated(data, end));
    let parts = [name, "=", value, "\0\0"];
    overwrite(data, end, parts.iter().flat_map(|part| part.bytes()));
    Ok(())
}

/// Where the value of the only entry of that name starts, if it is as long as `value`.
fn same_length(data: &[u8], name: &str, value: &str) -> Option<usize> {
    let mut ours = entries(data).filter(|e| e.name == name.as_bytes());
    match (ours.next(), ours.next()) {
        (Some(entry), None) if entry.raw.len() == value.len() => Some(entry.value_at),
        _ => None,
    }
}

/// Start and length of the first entry of that name.
fn find(data: &[u8], name: &str) -> Option<(usize, usize)> {
    let entry = entries(data).find(|e| e.name == name.as_bytes())?;
    Some((entry.at, entry.length))
}

/// Where the list of entries ends: the offset of the empty entry, or the end of the data.
fn entries_end(data: &[u8]) -> usize {
    let mut at = 0;
    while let Some(rest) = data.get(at..) {
        match rest.iter().position(|&byte| byte == 0) {
            Some(0) => return at,
            Some(end) => at += end + 1,
            None => break,
        }
    }
    data.len()
}

fn overwrite(data: &mut [u8], at: usize, bytes: impl Iterator<Item = u8>) {
    for (place, byte) in data.iter_mut().skip(at).zip(bytes) {
        *place = byte;
    }
}

/// Makes `copy` an empty environment of its own length, padded with zeros. The CRC is not valid yet: see [`seal`].
pub fn create(copy: &mut [u8]) {
    copy.fill(0);
}

/// Writes the serial number (of a redundant copy) and the CRC.
pub fn seal(copy: &mut [u8], layout: Layout, serial: u8) {
    if layout == Layout::Redundant
        && let Some(place) = copy.get_mut(4)
    {
        *place = serial;
    }
    let crc = crc32fast::hash(copy.get(layout.header_len()..).unwrap_or_default());
    if let Some(place) = copy.first_chunk_mut::<4>() {
        *place = crc.to_le_bytes();
    }
}

/// The boot state in one copy.
///
/// # Errors
/// The CRC differs, U-Boot would refuse the import, or the variables do not describe a state.
pub fn decode(copy: &[u8], layout: Layout) -> Result<BootState, LostReason> {
    let env = UbootEnv::new(copy, layout).ok_or(LostReason::BadCrc)?;
    if let Some(entry) = env.entries().find(|e| e.name.is_empty()) {
        return Err(LostReason::Malformed(entry.at + layout.header_len()));
    }
    vars::decode(|name| env.lookup(name))
}

/// The boot state in one copy of U-Boot's own environment, if that copy says that it belongs at `places`.
///
/// # Errors
/// As [`decode`]; or it does not say so.
pub fn decode_own(copy: &[u8], places: &str) -> Result<BootState, LostReason> {
    let env = UbootEnv::new(copy, Layout::Redundant).ok_or(LostReason::BadCrc)?;
    match env.lookup(vars::PLACES) {
        Lookup::One(value) if value == places.as_bytes() => decode(copy, Layout::Redundant),
        _ => Err(LostReason::NotProven),
    }
}

/// Puts the boot state into a copy and seals it: into what is there if its CRC is good, U-Boot accepts it and it has
/// room, else into a new one. But two copies are U-Boot's own environment, with the commands that it starts with: that is
/// never replaced by one with our variables alone.
///
/// # Errors
/// A number of more than one digit; a copy too small for the seven variables alone; an environment of U-Boot's own that is
/// damaged or has no room. The bytes of a copy are not to be used then.
pub fn encode(
    copy: &mut [u8],
    layout: Layout,
    serial: u8,
    state: &BootState,
) -> Result<(), EditError> {
    let values = Values::of(state)?;
    let set_all = |copy: &mut [u8]| values.iter().try_for_each(|(n, v)| set(copy, layout, n, v));
    let keep = UbootEnv::new(copy, layout)
        .is_some_and(|env| env.entries().all(|entry| !entry.name.is_empty()));
    match (keep, layout) {
        (true, Layout::Redundant) => set_all(copy)?,
        (false, Layout::Redundant) => return Err(EditError::NotOurs),
        (true, Layout::Single) if set_all(copy).is_ok() => {}
        (_, Layout::Single) => {
            create(copy);
            set_all(copy)?;
        }
    }
    seal(copy, layout, serial);
    Ok(())
}

#[cfg(test)]
mod tests;
