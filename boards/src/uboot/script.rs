//! The boot script of one disk.

use std::collections::BTreeSet;

use bootctl::attributes::{PRIORITY_SHIFT, SUCCESSFUL_SHIFT, TRIES_SHIFT};
use bootctl::gpt::format::{self, entry, header};
use bootctl::{Slot, gpt, vars};

use crate::{Board, LOADER_CONTRACT};

/// The parts of the script, with `@NAME@` where a number goes.
const CHECKSUM: &str = include_str!("checksum.in");
const TABLE: &str = include_str!("table.in");
const SPEND_TABLE: &str = include_str!("spend_table.in");
const STATE: &str = include_str!("state.in");
const SPEND_ENV: &str = include_str!("spend_env.in");
const SPEND_OWN: &str = include_str!("spend_own.in");
const BOOT: &str = include_str!("boot.in");

/// Where the script finds the boot state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// The attributes of the USR entries in both copies of the partition table.
    Gpt,
    /// A U-Boot environment of one sector, with the partition table as the mirror.
    Environment {
        /// The sector on the disk, in units of 512 bytes.
        lba: u64,
    },
    /// U-Boot's own environment, which this build of it keeps in two copies; the partition table is the mirror.
    Own(Copies),
}

/// Where a build of U-Boot keeps its own environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copies {
    /// The first sectors on the disk, in units of 512 bytes.
    pub lbas: [u64; 2],
    /// Length of each copy in units of 512 bytes.
    pub sectors: u64,
}

/// Registers of the watchdog of a Raspberry Pi, which stock U-Boot has no command for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// Address of the power management block.
    pub base: u64,
}

impl Watchdog {
    /// The control register and the counter, in bytes from the base.
    const CONTROL: u64 = 0x1c;
    const COUNTER: u64 = 0x24;
    /// What every write must carry; the longest time, 16 s; a full reset when it is over; the control register's value
    /// after power-on.
    const PASSWORD: u64 = 0x5a00_0000;
    const LONGEST: u64 = 0x000f_ffff;
    const FULL_RESET: u64 = 0x20;
    const OFF: u64 = 0x102;

    fn arm(self) -> String {
        format!(
            "    if test ${{t_successful}} != 1; then\n      mw.l {:x} {:x}; mw.l {:x} {:x}\n    fi\n",
            self.base + Self::COUNTER,
            Self::PASSWORD | Self::LONGEST,
            self.base + Self::CONTROL,
            Self::PASSWORD | Self::FULL_RESET,
        )
    }

    fn disarm(self) -> String {
        format!(
            "    if test ${{t_successful}} != 1; then mw.l {:x} {:x}; fi\n",
            self.base + Self::CONTROL,
            Self::PASSWORD | Self::OFF,
        )
    }
}

/// What decides a script.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    pub board: &'a Board,
    pub store: Store,
    /// Start of [`SCRATCH_BYTES`] of memory that nothing else uses before a kernel is loaded.
    pub scratch: u64,
    /// Armed before a kernel on trial is started.
    pub watchdog: Option<Watchdog>,
}

/// The script can't be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    #[error("memory at {0:#x} is not a multiple of 4096 bytes, or ends past 2^32")]
    Scratch(u64),
    #[error(
        "a copy of U-Boot's environment of {0} sectors, at most {MAX_COPY_SECTORS} are possible"
    )]
    CopySize(u64),
}

/// Memory that a script uses, in bytes. `env export` clears as much as the build's own environment is long, at most
/// 256 KiB on the usual ones.
pub const SCRATCH_BYTES: u64 = 0x8_0000;

/// Longest copy of U-Boot's own environment, in sectors of 512 bytes: what the memory has room for.
const MAX_COPY_SECTORS: u64 = (buffer::ASIDE - buffer::ENV) / 512;

/// The script's buffers, in bytes from the start of its memory.
mod buffer {
    pub const HEADER: u64 = 0x0000;
    pub const TABLE: u64 = 0x1000;
    pub const PRIMARY: u64 = 0x6000;
    pub const PRIMARY_TABLE: u64 = 0x7000;
    pub const BACKUP: u64 = 0xc000;
    pub const BACKUP_TABLE: u64 = 0xd000;
    /// What is read back, and files of words for the kernel.
    pub const BACK: u64 = 0x1_2000;
    pub const CRC: u64 = 0x1_7000;
    pub const KNOWN: u64 = 0x1_7800;
    pub const ENV: u64 = 0x2_0000;
    /// All variables, while U-Boot saves those that are not the script's.
    pub const ASIDE: u64 = 0x4_0000;
}

/// CRC-32 of four zero bytes.
const ZEROS_CRC: u32 = 0x2144_df1c;

/// The script, as text; U-Boot runs it from an image, see [`boot_scr`](super::boot_scr).
///
/// # Errors
/// The memory given to it can't be used.
pub fn boot_script(options: &Options<'_>) -> Result<String, ScriptError> {
    let scratch = options.scratch;
    let end = scratch.checked_add(SCRATCH_BYTES);
    if !scratch.is_multiple_of(4096) || end.is_none_or(|end| end > 1 << 32) {
        return Err(ScriptError::Scratch(scratch));
    }
    let (state, spend) = match options.store {
        Store::Gpt => ("", SPEND_TABLE),
        Store::Environment { .. } => (STATE, SPEND_ENV),
        Store::Own(copies) if copies.sectors > MAX_COPY_SECTORS => {
            return Err(ScriptError::CopySize(copies.sectors));
        }
        Store::Own(_) => (STATE, SPEND_OWN),
    };
    let mut script = [CHECKSUM, TABLE, state, spend, BOOT].concat();
    let own = own_names(&script);
    let mut fill = |name: &str, value: &str| script = script.replace(&format!("@{name}@"), value);
    fill("BOARD", options.board.name);
    fill("LOADER", &LOADER_CONTRACT.to_string());
    fill("ARGUMENTS", &options.board.kernel_arguments.join(" "));
    let watchdog = options.watchdog;
    fill("ARM", &watchdog.map_or(String::new(), Watchdog::arm));
    fill("DISARM", &watchdog.map_or(String::new(), Watchdog::disarm));
    let writes = r#"the lines that begin with "${devtype} write""#;
    match options.store {
        Store::Gpt => fill("WRITERS", writes),
        Store::Environment { lba } => {
            fill("WRITERS", writes);
            fill("ENV_LBA", &hex(lba));
        }
        Store::Own(copies) => {
            fill("WRITERS", "saveenv");
            let [first, second] = copies.lbas;
            fill("FIRST", &hex(first));
            fill("SECOND", &hex(second));
            let bytes = copies.lbas.map(|lba| lba.saturating_mul(512));
            fill("PLACES", &vars::places(bytes, copies.sectors * 512));
            fill("COPY_SECTORS", &hex(copies.sectors));
            fill("COPY_SIZE", &hex(copies.sectors * 512));
            fill("FORGET", &in_lines("env delete", &own));
            fill(
                "REMEMBER",
                &in_lines("env import -t @ASIDE@ ${filesize}", &own),
            );
        }
    }
    for (short, name) in ["AP", "AT", "AS", "BP", "BT", "BS"].iter().zip(vars::NAMES) {
        fill(short, name);
    }
    fill("CHECK", vars::CHECK);
    fill(
        "NAMES",
        &format!("{} {}", vars::NAMES.join(" "), vars::CHECK),
    );
    for (name, number) in numbers(scratch) {
        fill(name, &hex(number));
    }
    Ok(script)
}

/// The variables of the script: every name that begins with `t_`.
fn own_names(script: &str) -> Vec<String> {
    let lines = script.lines().filter(|l| !l.starts_with('#'));
    let words = lines.flat_map(|l| l.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    let names = words.filter(|w| w.starts_with("t_") && !w.ends_with('_'));
    let names: BTreeSet<_> = names.map(str::to_owned).collect();
    names.into_iter().collect()
}

/// A command with these names as its last arguments: as often as short lines need.
fn in_lines(command: &str, names: &[String]) -> String {
    let groups = names.chunks(8);
    let lines = groups.map(|group| format!("    {command} {}\n", group.join(" ")));
    lines.collect()
}

/// As U-Boot's own commands print it.
fn hex(number: u64) -> String {
    format!("{number:x}")
}

/// Everything that is a number and the same for every disk.
fn numbers(scratch: u64) -> Vec<(&'static str, u64)> {
    let at = |buffer: u64, offset: usize| scratch + buffer + offset as u64;
    let slot = |slot: Slot, field: usize| {
        let before = u64::from(slot.partition_number().saturating_sub(1));
        at(buffer::TABLE, field) + before * u64::from(format::ENTRY_SIZE)
    };
    let [usr, usr_rest] = guid_words(gpt::TYPE_USR);
    let entry_bytes = u64::from(format::ENTRY_SIZE);
    let most = u64::from(format::MAX_ENTRIES);
    vec![
        ("SIGNATURE", u64::from_le_bytes(format::SIGNATURE)),
        ("REVISION", format::REVISION.into()),
        ("SIZE_LEAST", format::MIN_HEADER_SIZE.into()),
        ("ENTRY", entry_bytes),
        ("COUNT_MOST", most),
        ("TABLE_MOST", most * entry_bytes),
        ("HEADER", at(buffer::HEADER, 0)),
        ("HEADER_REVISION", at(buffer::HEADER, header::REVISION)),
        ("HEADER_SIZE", at(buffer::HEADER, header::HEADER_SIZE)),
        ("HEADER_CRC", at(buffer::HEADER, header::HEADER_CRC)),
        ("HEADER_MINE", at(buffer::HEADER, header::MY_LBA)),
        ("HEADER_OTHER", at(buffer::HEADER, header::ALTERNATE_LBA)),
        ("HEADER_FIRST", at(buffer::HEADER, header::FIRST_USABLE)),
        ("HEADER_LAST", at(buffer::HEADER, header::LAST_USABLE)),
        ("HEADER_ENTRIES", at(buffer::HEADER, header::ENTRIES_LBA)),
        ("HEADER_COUNT", at(buffer::HEADER, header::ENTRY_COUNT)),
        ("HEADER_EACH", at(buffer::HEADER, header::ENTRY_SIZE)),
        ("HEADER_SUMS", at(buffer::HEADER, header::ENTRIES_CRC)),
        ("TABLE", at(buffer::TABLE, 0)),
        ("TYPE_A", slot(Slot::A, entry::TYPE.start)),
        ("TYPE_A_REST", slot(Slot::A, entry::TYPE.start + 8)),
        ("TYPE_B", slot(Slot::B, entry::TYPE.start)),
        ("TYPE_B_REST", slot(Slot::B, entry::TYPE.start + 8)),
        ("WORD_A", slot(Slot::A, entry::ATTRIBUTES.start)),
        ("WORD_B", slot(Slot::B, entry::ATTRIBUTES.start)),
        ("USR", usr),
        ("USR_REST", usr_rest),
        ("PRIMARY", at(buffer::PRIMARY, 0)),
        ("PRIMARY_CRC", at(buffer::PRIMARY, header::HEADER_CRC)),
        ("PRIMARY_MINE", at(buffer::PRIMARY, header::MY_LBA)),
        ("PRIMARY_OTHER", at(buffer::PRIMARY, header::ALTERNATE_LBA)),
        ("PRIMARY_ENTRIES", at(buffer::PRIMARY, header::ENTRIES_LBA)),
        ("PRIMARY_TABLE", at(buffer::PRIMARY_TABLE, 0)),
        ("BACKUP", at(buffer::BACKUP, 0)),
        ("BACKUP_CRC", at(buffer::BACKUP, header::HEADER_CRC)),
        ("BACKUP_MINE", at(buffer::BACKUP, header::MY_LBA)),
        ("BACKUP_OTHER", at(buffer::BACKUP, header::ALTERNATE_LBA)),
        ("BACKUP_ENTRIES", at(buffer::BACKUP, header::ENTRIES_LBA)),
        ("BACKUP_TABLE", at(buffer::BACKUP_TABLE, 0)),
        ("BACK", at(buffer::BACK, 0)),
        ("KNOWN", at(buffer::KNOWN, 0)),
        ("ENV", at(buffer::ENV, 0)),
        ("ENV_SERIAL", at(buffer::ENV, 4)),
        ("ASIDE_MOST", SCRATCH_BYTES - buffer::ASIDE),
        ("ASIDE", at(buffer::ASIDE, 0)),
        ("CRC", at(buffer::CRC, 0)),
        ("CRC_1", at(buffer::CRC, 1)),
        ("CRC_2", at(buffer::CRC, 2)),
        ("CRC_3", at(buffer::CRC, 3)),
        ("CRC_4", at(buffer::CRC, 4)),
        ("CRC_5", at(buffer::CRC, 5)),
        ("CRC_6", at(buffer::CRC, 6)),
        ("CRC_7", at(buffer::CRC, 7)),
        ("ZEROS_LITTLE", ZEROS_CRC.into()),
        ("ZEROS_BIG", ZEROS_CRC.swap_bytes().into()),
        ("PRIORITY", 1 << PRIORITY_SHIFT),
        ("PRIORITY_MASK", (1 << (TRIES_SHIFT - PRIORITY_SHIFT)) - 1),
        ("TRY", 1 << TRIES_SHIFT),
        ("TRIES_MASK", (1 << (SUCCESSFUL_SHIFT - TRIES_SHIFT)) - 1),
        ("SUCCESSFUL", 1 << SUCCESSFUL_SHIFT),
        ("USR_A", Slot::A.partition_number().into()),
        ("USR_B", Slot::B.partition_number().into()),
        ("OEM", gpt::OEM.into()),
        ("ROOT", gpt::ROOT.into()),
    ]
}

/// A GUID as it lies in an entry, as the two numbers that U-Boot reads there.
fn guid_words(guid: gpt::Guid) -> [u64; 2] {
    let (words, _) = guid.0.as_chunks::<8>();
    [0, 1].map(|n| words.get(n).copied().map_or(0, u64::from_le_bytes))
}
