//! The formats as the loaders read them, from their specifications alone: nothing here uses `bootctl`.

use std::ops::Range;

use super::medium::Medium;

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

/// Names of the six digits, in the order of the check.
const NAMES: [&str; 6] = [
    "tandem_a_priority",
    "tandem_a_tries",
    "tandem_a_successful",
    "tandem_b_priority",
    "tandem_b_tries",
    "tandem_b_successful",
];

/// The state that an environment's variables tell of; `get` gives the value that the loader would have.
#[must_use]
pub fn state_of(get: impl Fn(&str) -> Option<Vec<u8>>) -> Option<State> {
    let mut digits = Vec::new();
    for name in NAMES {
        let value = get(name)?;
        if value.len() != 1 || !value.iter().all(u8::is_ascii_digit) {
            return None;
        }
        digits.extend(value);
    }
    if get("tandem_check")? != digits {
        return None;
    }
    let attr = |at: usize| {
        let digit = |n: usize| digits.get(at + n).map_or(0, |digit| digit - b'0');
        (digit(2) < 2).then(|| Attr {
            priority: digit(0),
            tries: digit(1),
            successful: digit(2) == 1,
        })
    };
    Some([attr(0)?, attr(3)?])
}

/// The values of the seven variables.
#[must_use]
pub fn digits_of(state: &State) -> Vec<(&'static str, String)> {
    let digit = |attr: Attr| [attr.priority, attr.tries, u8::from(attr.successful)];
    let digits: Vec<String> = state
        .iter()
        .flat_map(|attr| digit(*attr))
        .map(|digit| digit.to_string())
        .collect();
    let check = ("tandem_check", digits.concat());
    NAMES.into_iter().zip(digits).chain([check]).collect()
}

/// One variable of a block: its name, and where its value is.
pub type Variable = (Vec<u8>, Range<usize>);

/// GRUB's environment block: the variables in order; `None` without the signature.
#[must_use]
pub fn grub_variables(block: &[u8]) -> Option<Vec<Variable>> {
    let signature = b"# GRUB Environment Block\n";
    if !block.starts_with(signature) {
        return None;
    }
    let mut variables = Vec::new();
    let mut at = signature.len();
    let line_end = |from: usize| {
        let mut at = from;
        loop {
            match block.get(at)? {
                b'\n' => return Some(at),
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
    };
    while at < block.len() {
        if block.get(at) == Some(&b'#') {
            match line_end(at) {
                Some(end) => at = end + 1,
                None => break,
            }
            continue;
        }
        let rest = block.get(at..).unwrap_or_default();
        let Some(equals) = rest.iter().position(|byte| *byte == b'=') else {
            break;
        };
        let start = at + equals + 1;
        let Some(end) = line_end(start) else { break };
        let name = rest.get(..equals).unwrap_or_default().to_vec();
        variables.push((name, start..end));
        at = end + 1;
    }
    Some(variables)
}

/// A variable as `load_env` leaves it: the last entry counts.
#[must_use]
pub fn grub_get(block: &[u8], name: &str) -> Option<Vec<u8>> {
    let variables = grub_variables(block)?;
    let found = variables.iter().rev().find(|(n, _)| n == name.as_bytes())?;
    block.get(found.1.clone()).map(<[u8]>::to_vec)
}

/// U-Boot's environment: the variables in order; `None` where the checksum differs. `skip` is 4, or 5 in a redundant one.
#[must_use]
pub fn uboot_variables(copy: &[u8], skip: usize) -> Option<Vec<Variable>> {
    let data = copy.get(skip..)?;
    if crc32fast::hash(data) != u32_at(copy, 0) {
        return None;
    }
    let mut variables = Vec::new();
    let mut at = 0;
    while let Some(rest) = data.get(at..) {
        let Some(end) = rest.iter().position(|byte| *byte == 0) else {
            break;
        };
        if end == 0 {
            break;
        }
        let entry = rest.get(..end).unwrap_or_default();
        if let Some(equals) = entry.iter().position(|byte| *byte == b'=') {
            let value = skip + at + equals + 1..skip + at + end;
            variables.push((entry.get(..equals).unwrap_or_default().to_vec(), value));
        }
        at += end + 1;
    }
    Some(variables)
}

#[must_use]
pub fn uboot_get(copy: &[u8], skip: usize, name: &str) -> Option<Vec<u8>> {
    let variables = uboot_variables(copy, skip)?;
    let found = variables.iter().rev().find(|(n, _)| n == name.as_bytes())?;
    copy.get(found.1.clone()).map(<[u8]>::to_vec)
}

/// Puts values of unchanged length into a block; `false` where a variable is not there or has another length.
#[must_use]
pub fn replace(block: &mut [u8], variables: &[Variable], state: &State) -> bool {
    digits_of(state).into_iter().all(|(name, value)| {
        let found = variables.iter().find(|(n, _)| n == name.as_bytes());
        let place = found.map(|(_, place)| place.clone());
        match place.and_then(|place| block.get_mut(place)) {
            Some(place) if place.len() == value.len() => {
                place.copy_from_slice(value.as_bytes());
                true
            }
            _ => false,
        }
    })
}

/// The confirmed record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    pub slot: usize,
    /// PARTUUIDs of USR-A, USR-B and ROOT, as text; `None` unless all three look like one.
    pub ids: Option<[String; 3]>,
    pub fresh: bool,
}

/// Reads the record as the GRUB script does: the letter counts as soon as it is one.
#[must_use]
pub fn record(block: &[u8]) -> Option<Record> {
    let text = |name| grub_get(block, name).and_then(|value| String::from_utf8(value).ok());
    let slot = match text("tandem_confirmed")?.as_str() {
        "a" => 0,
        "b" => 1,
        _ => return None,
    };
    let id = |name| text(name).filter(|id| is_uuid(id));
    let ids = [id("tandem_usr_a"), id("tandem_usr_b"), id("tandem_root")];
    let [Some(a), Some(b), Some(root)] = ids else {
        return Some(Record {
            slot,
            ids: None,
            fresh: text("tandem_fresh").as_deref() != Some("0"),
        });
    };
    Some(Record {
        slot,
        ids: Some([a, b, root]),
        fresh: text("tandem_fresh").as_deref() != Some("0"),
    })
}

fn is_uuid(text: &str) -> bool {
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    text.len() == 36
        && text.chars().enumerate().all(|(at, c)| match at {
            8 | 13 | 18 | 23 => c == '-',
            _ => hex(c),
        })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environments_are_read_as_their_loaders_do() {
        let mut block =
            b"# GRUB Environment Block\nx=1\\\n2\ntandem_a_tries=1\n# c=4\ntandem_a_tries=2\n"
                .to_vec();
        block.resize(512, b'#');
        assert_eq!(grub_get(&block, "x").unwrap(), b"1\\\n2");
        assert_eq!(grub_get(&block, "tandem_a_tries").unwrap(), b"2");
        assert_eq!(grub_get(&block, "c"), None);
        let mut copy = b"\0\0\0\0a=1\0b=22\0\0".to_vec();
        copy.resize(512, 0xff);
        assert_eq!(uboot_get(&copy, 4, "b"), None);
        let crc = crc32fast::hash(&copy[4..]);
        put(&mut copy, 0, &crc.to_le_bytes());
        assert_eq!(uboot_get(&copy, 4, "b").unwrap(), b"22");
    }

    #[test]
    fn a_state_wants_its_check() {
        let state = [
            Attr::of_word(0x0032 << 48),
            Attr {
                priority: 1,
                tries: 0,
                successful: true,
            },
        ];
        let variables = digits_of(&state);
        let get = |wrong: bool| {
            let variables = variables.clone();
            move |name: &str| {
                let (_, value) = variables.iter().find(|(n, _)| *n == name)?;
                let value = if wrong && name == "tandem_check" {
                    "230100"
                } else {
                    value
                };
                Some(value.as_bytes().to_vec())
            }
        };
        assert_eq!(state_of(get(false)), Some(state));
        assert_eq!(state_of(get(true)), None);
    }
}
