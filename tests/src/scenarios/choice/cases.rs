//! Disks for the loader to choose on: states, lost and damaged environments, damaged partition tables.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::host_hash;
use crate::scenario::{Slot, damage};

/// Priority, tries and successful of a, then of b.
pub(super) type State = [u8; 6];

/// Environments that hold a state.
const STATES: [&str; 33] = [
    // One slot, both, neither.
    "101000", "000101", "101201", "201101", "101101", "000000", "200200",
    // Staged, tried before, used up.
    "101230", "101220", "101210", "101200", "230101", "210101", "200101",
    // Both on trial, ties.
    "230230", "130230", "120101", "101120", "110110", "230220",
    // Tries of a confirmed slot are spent, too; more than Tandem writes.
    "231101", "111211", "131231", "191091", "980970", "101990", "991981",
    // Priority 0 never; neither tries nor successful, whatever the priority.
    "001101", "090101", "091010", "900101", "500410", "101900",
];

/// Some of them on a medium that can't be written.
const READ_ONLY: [&str; 6] = ["101000", "101230", "111210", "230220", "131231", "210101"];

/// What is changed on a disk before the loader sees it.
#[derive(Debug, Default)]
pub(super) struct Case {
    pub name: String,
    pub number: usize,
    /// Places in bytes of the disk, and what is written there.
    pub writes: Vec<(u64, Vec<u8>)>,
    /// The partition table is changed.
    pub table: bool,
    pub medium_read_only: bool,
    /// What `status` calls the environment, where that is for it to say.
    pub environment_is: Option<&'static str>,
    /// `status` knows which slot is next.
    pub next_is_known: bool,
}

/// Where the cases are made.
struct Disk<'a> {
    image: &'a Path,
    environment_at: u64,
    record_at: u64,
    record: Vec<u8>,
}

pub(super) fn cases(image: &Path) -> Result<Vec<Case>> {
    let record_at = damage::confirmed_record(image)?;
    let disk = Disk {
        image,
        environment_at: damage::environment(image)?,
        record_at,
        record: damage::read(image, record_at, damage::SECTOR)?,
    };
    let mut cases = disk.readable()?;
    cases.extend(disk.lost()?);
    cases.extend(disk.tables()?);
    for (number, case) in cases.iter_mut().enumerate() {
        case.number = number;
    }
    Ok(cases)
}

impl Disk<'_> {
    fn case(&self, name: String, environment: Vec<u8>, record: Option<Slot>) -> Result<Case> {
        Ok(Case {
            name,
            writes: vec![
                (self.environment_at, environment),
                (self.record_at, with_slot(&self.record, record)?),
            ],
            ..Case::default()
        })
    }

    fn readable(&self) -> Result<Vec<Case>> {
        let mut cases = Vec::new();
        for (writable, digits) in [(true, STATES.as_slice()), (false, READ_ONLY.as_slice())] {
            for digits in digits {
                let name = format!("{digits}, writable: {writable}");
                cases.push(Case {
                    medium_read_only: !writable,
                    environment_is: Some("ok"),
                    next_is_known: writable,
                    // The record must not matter.
                    ..self.case(name, block(&state(digits)?), Some(Slot::B))?
                });
            }
        }
        // Without '#' behind its variables GRUB can read a block, but not change it, until userspace has mended it.
        for (name, padding) in [("zeros", 0), ("FF", 0xff)] {
            let environment = with_padding(&block(&state("101230")?), padding);
            let name = format!("padding of {name}");
            cases.push(Case {
                environment_is: Some("damaged"),
                ..self.case(name, environment, Some(Slot::A))?
            });
        }
        Ok(cases)
    }

    fn lost(&self) -> Result<Vec<Case>> {
        let mut cases = Vec::new();
        for (name, environment) in lost()? {
            for record in [Some(Slot::A), Some(Slot::B), None] {
                // What is wrong with the environment and what the record says are read apart from each other.
                if record == Some(Slot::A) || name == "zeros" {
                    let name = format!("{name}, record {record:?}");
                    cases.push(Case {
                        environment_is: Some("lost"),
                        next_is_known: record.is_some(),
                        ..self.case(name, environment.clone(), record)?
                    });
                }
            }
        }
        Ok(cases)
    }

    /// GRUB looks at the primary copy alone and at no checksum.
    fn tables(&self) -> Result<Vec<Case>> {
        let table = damage::read(self.image, 0, TABLE)?;
        let entry = |number: usize| ENTRIES + (number - 1) * 128;
        let zeroed = |at: usize, length: usize| {
            let mut table = table.clone();
            table.splice(at..at + length, vec![0; length]);
            table
        };
        let flipped = |at: usize| {
            let mut table = table.clone();
            if let Some(byte) = table.get_mut(at) {
                *byte ^= 1;
            }
            table
        };
        let (oem_config, _) = host_hash::partition(self.image, 7)?;
        let elsewhere = (oem_config / 512).to_le_bytes().to_vec();
        let mut foreign_entries = table.clone();
        foreign_entries.splice(HEADER + 72..HEADER + 80, elsewhere);
        let mut cases = Vec::new();
        for (name, damaged) in [
            ("no header", zeroed(HEADER, 512)),
            ("no entries", zeroed(ENTRIES, damage::ENTRIES_LENGTH)),
            ("first sector of entries zeroed", zeroed(ENTRIES, 512)),
            (
                "second sector of entries zeroed",
                zeroed(ENTRIES + 512, 512),
            ),
            ("no slot b", zeroed(entry(4), 128)),
            ("no OEM-CONFIG", zeroed(entry(7), 128)),
            ("no ROOT", zeroed(entry(9), 128)),
            ("header without signature", flipped(HEADER)),
            ("wrong checksum of the header", flipped(HEADER + 16)),
            ("wrong checksum of the entries", flipped(HEADER + 88)),
            ("header says it lies elsewhere", flipped(HEADER + 24)),
            (
                "an attribute changed without a checksum",
                flipped(entry(3) + 54),
            ),
            ("another disk's slot a", flipped(entry(3) + 16)),
            ("another disk's ROOT", flipped(entry(9) + 16)),
            ("entries that are none", foreign_entries),
            ("no protective entry in the MBR", zeroed(446, 64)),
        ] {
            for (digits, record, fresh) in [("101210", Slot::A, false), ("201101", Slot::B, true)] {
                let name = format!("{name}, {digits}, record {record}, fresh: {fresh}");
                let mut case = self.case(name, block(&state(digits)?), Some(record))?;
                if let Some((_, bytes)) = case.writes.last_mut() {
                    *bytes = with_fresh(bytes, fresh)?;
                }
                case.writes.push((0, damaged.clone()));
                cases.push(Case {
                    table: true,
                    ..case
                });
            }
        }
        Ok(cases)
    }
}

/// MBR, header and entries.
const TABLE: usize = ENTRIES + damage::ENTRIES_LENGTH;
const HEADER: usize = 512;
const ENTRIES: usize = 1024;

/// Environments that tell nothing.
fn lost() -> Result<Vec<(&'static str, Vec<u8>)>> {
    let good = block(&state("101210")?);
    let text = String::from_utf8(good.clone()).context("read the block as text")?;
    let edited = |from: &str, to: &str| {
        let mut bytes = text.replace(from, to).into_bytes();
        bytes.resize(damage::SECTOR, b'#');
        bytes
    };
    let mut zero_tail = good.clone();
    zero_tail.drain(100..);
    zero_tail.resize(damage::SECTOR, 0);
    Ok(vec![
        ("zeros", vec![0; damage::SECTOR]),
        ("random bytes", damage::random(damage::SECTOR)?),
        ("zeros from byte 100 on", zero_tail),
        ("no signature", edited("GRUB", "BLOB")),
        ("check of another state", edited("=101210", "=101220")),
        ("no check", edited("tandem_check", "tandem_chess")),
        (
            "a variable is missing",
            edited("tandem_b_tries", "tandem_b_trees"),
        ),
        ("a letter", edited("b_tries=1", "b_tries=x")),
        (
            "successful is 2",
            edited("a_successful=1", "a_successful=2"),
        ),
        ("two digits", edited("b_tries=1", "b_tries=11")),
        ("no digit", edited("b_tries=1", "b_tries=")),
    ])
}

pub(super) fn state(digits: &str) -> Result<State> {
    let digits = digits.bytes().map(|digit| digit.wrapping_sub(b'0'));
    let state = digits.collect::<Vec<_>>().try_into();
    state.map_err(|found| anyhow::anyhow!("six digits expected, not {found:?}"))
}

/// An environment block as `grub-editenv` makes it.
pub(super) fn block(state: &State) -> Vec<u8> {
    let [ap, at, ok_a, bp, bt, ok_b] = state;
    let mut text = format!(
        "# GRUB Environment Block\ntandem_a_priority={ap}\ntandem_a_tries={at}\ntandem_a_successful={ok_a}\n\
         tandem_b_priority={bp}\ntandem_b_tries={bt}\ntandem_b_successful={ok_b}\n\
         tandem_check={ap}{at}{ok_a}{bp}{bt}{ok_b}\n"
    )
    .into_bytes();
    text.resize(damage::SECTOR, b'#');
    text
}

/// The same variables with something else behind them.
fn with_padding(environment: &[u8], padding: u8) -> Vec<u8> {
    let end = environment.iter().rposition(|&byte| byte == b'\n');
    let mut bytes = environment.to_vec();
    bytes.truncate(end.unwrap_or(0) + 1);
    bytes.resize(damage::SECTOR, padding);
    bytes
}

/// The confirmed record with another slot, or destroyed.
fn with_slot(record: &[u8], slot: Option<Slot>) -> Result<Vec<u8>> {
    let Some(slot) = slot else {
        return Ok(vec![0; record.len()]);
    };
    let text = std::str::from_utf8(record).context("read the confirmed record")?;
    ensure!(
        text.contains("tandem_confirmed=a\n"),
        "find the slot in the confirmed record: {text:?}"
    );
    Ok(text
        .replace(
            "tandem_confirmed=a\n",
            &format!("tandem_confirmed={slot}\n"),
        )
        .into_bytes())
}

/// The confirmed record of a disk that has, or has not, got PARTUUIDs of its own.
fn with_fresh(record: &[u8], fresh: bool) -> Result<Vec<u8>> {
    let text = std::str::from_utf8(record).context("read the confirmed record")?;
    let [is, is_not] = [u8::from(fresh), u8::from(!fresh)].map(|v| format!("tandem_fresh={v}\n"));
    ensure!(
        text.contains(&is) || text.contains(&is_not),
        "find tandem_fresh in the confirmed record: {text:?}"
    );
    Ok(text.replace(&is_not, &is).into_bytes())
}
