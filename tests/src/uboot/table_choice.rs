//! The boot state in the partition table: which slots the script tries, and every byte that it leaves, by the model that
//! the simulated power cuts go by.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use boards::rpi3_uboot;
use boards::uboot::{Options, Store};
use bootctl::disk::{Access, Disk};
use bootctl::gpt::Gpt;
use bootctl::{Attributes, BootState};

use super::bench::{Bench, Machine};
use super::disk::{self, BACKUP, PRIMARY, SECTOR, SECTORS};
use crate::powercut::fixture::Board;
use crate::powercut::medium::Medium;
use crate::powercut::real;
use crate::qemu::copy_sparse;
use crate::scenario::{Slot, damage};
use crate::system;

/// Attribute bits that are not ours, of a and of b: they must survive.
const FOREIGN: [u64; 2] = [0x8000_0000_0000_0004, 0x7e00_0000_0000_0003];

/// Priority, tries and successful of a, then of b, in hexadecimal.
const STATES: [&str; 34] = [
    // One slot, both, neither.
    "101000", "000101", "101201", "201101", "101101", "000000", "200200",
    // Staged, tried before, used up.
    "101230", "101220", "101210", "101200", "230101", "210101", "200101",
    // Both on trial, ties.
    "230230", "130230", "120101", "101120", "110110",
    // Tries of a confirmed slot are spent, too; more than Tandem writes.
    "231101", "111211", "131231", "1911f0", "9f0a70", "101ff1", "f10e01",
    // Priority 0 never; neither tries nor successful, whatever the priority.
    "001101", "090101", "0f11f0", "f00101", "500410", "101f00", "1a0f10", "ff1ff1",
];

/// Some of them on a medium that can't be written.
const READ_ONLY: [&str; 6] = ["101000", "101230", "111210", "230220", "131231", "210101"];

/// Some from a USB stick, which a Pi starts from too: whether it can be written, and the state.
const ON_STICK: [(bool, &str); 6] = [
    (true, "101230"),
    (true, "131231"),
    (true, "101201"),
    (false, "101230"),
    (false, "131231"),
    (false, "210101"),
];

/// What a case does to a disk of its state, and what the script calls the table then.
type Damage = (&'static str, &'static str, fn(&Path) -> Result<()>);

/// A table that `cgpt` takes no part in: it accepts no other number than 128.
const FEW_ENTRIES: &str = "32 entries";

const DAMAGED: [Damage; 20] = [
    ("primary header of zeros", "backup", |disk| {
        fill(disk, PRIMARY.0, 1)
    }),
    ("a bit of the primary header", "backup", |disk| {
        flip(disk, PRIMARY.0, 40)
    }),
    ("a bit of the primary's checksum", "backup", |disk| {
        flip(disk, PRIMARY.0, 16)
    }),
    ("primary entries of zeros", "backup", |disk| {
        fill(disk, PRIMARY.1, 32)
    }),
    ("a bit of the primary's attributes", "backup", |disk| {
        flip(disk, PRIMARY.1, 2 * 128 + 54)
    }),
    ("a bit of the primary's last entry", "backup", |disk| {
        flip(disk, PRIMARY.1 + 31, 511)
    }),
    ("primary of another place", "backup", |disk| {
        disk::edit(disk, PRIMARY, |header, _| disk::put(header, 24, &[5]))
    }),
    ("primary of another revision", "backup", |disk| {
        disk::edit(disk, PRIMARY, |header, _| disk::put(header, 10, &[2]))
    }),
    ("primary header too short", "backup", |disk| {
        disk::edit(disk, PRIMARY, |header, _| disk::put(header, 12, &[91]))
    }),
    ("primary entries within the partitions", "backup", |disk| {
        disk::edit(disk, PRIMARY, |header, _| {
            disk::put(header, 72, &4096_u64.to_le_bytes());
        })
    }),
    ("backup header of zeros", "primary", |disk| {
        fill(disk, BACKUP.0, 1)
    }),
    ("a bit of the backup's entries", "primary", |disk| {
        flip(disk, BACKUP.1 + 7, 9)
    }),
    ("backup of another place", "primary", |disk| {
        disk::edit(disk, BACKUP, |header, _| disk::put(header, 24, &[5]))
    }),
    (
        "backup that is not where the primary says",
        "primary",
        |disk| {
            disk::edit(disk, PRIMARY, |header, _| {
                disk::put(header, 32, &(SECTORS - 20).to_le_bytes());
            })
        },
    ),
    ("backup all zeros", "primary", |disk| {
        fill(disk, BACKUP.1, 33)
    }),
    ("two valid copies that differ", "ok", |disk| {
        disk::edit(disk, BACKUP, |header, entries| {
            disk::put(header, 56, &[3; 16]);
            disk::set_entries(entries, [0x000a << 48, 0x0109 << 48]);
        })
    }),
    (FEW_ENTRIES, "ok", |disk| {
        [PRIMARY, BACKUP]
            .into_iter()
            .try_for_each(|copy| disk::edit(disk, copy, |header, _| disk::put(header, 80, &[32])))
    }),
    ("bytes behind the headers", "ok", |disk| {
        behind_headers(disk, &[0xa5; 400], &[0x5a; 420])
    }),
    (
        "bytes behind the backup's header, no primary",
        "backup",
        |disk| {
            behind_headers(disk, &[], &[0x5a; 420])?;
            fill(disk, PRIMARY.0, 1)
        },
    ),
    (
        "bytes behind a header whose entries are damaged",
        "primary",
        |disk| {
            behind_headers(disk, &[0xa5; 400], &[0x5a; 420])?;
            flip(disk, BACKUP.1 + 1, 1)
        },
    ),
];

struct Case {
    name: String,
    /// In the copy that counts.
    words: [u64; 2],
    damage: Option<fn(&Path) -> Result<()>>,
    table: &'static str,
    writable: bool,
    stick: bool,
}

/// Runs the cases whose number it `takes`.
pub(super) fn run(bench: &mut Bench, takes: fn(usize) -> bool) -> Result<()> {
    let base = bench.dir.join("base.img");
    let options = Options {
        board: &rpi3_uboot::BOARD,
        store: Store::Gpt,
        scratch: bench.machine.scratch(),
        watchdog: None,
    };
    disk::make(&base, &options)?;
    // QEMU has no read-only cards, and sticks on a Pi only.
    let machine = bench.machine;
    let fits = |case: &Case| match machine {
        Machine::Virt => !case.stick,
        _ => case.writable || case.stick,
    };
    for (number, case) in cases()?.into_iter().filter(fits).enumerate() {
        if !takes(number) && !case.stick {
            continue;
        }
        check(bench, &base, &case).with_context(|| case.name.clone())?;
    }
    foreign_types(bench, &base).context("slots of another type")?;
    grown(bench, &base).context("backup not at the end of a larger disk")
}

fn cases() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (writable, states) in [(true, STATES.as_slice()), (false, READ_ONLY.as_slice())] {
        for state in states {
            cases.push(Case {
                name: format!("{state}, writable: {writable}"),
                words: words(state)?,
                damage: None,
                table: "ok",
                writable,
                stick: false,
            });
        }
    }
    for (writable, state) in ON_STICK {
        cases.push(Case {
            name: format!("{state} on a stick, writable: {writable}"),
            words: words(state)?,
            damage: None,
            table: "ok",
            writable,
            stick: true,
        });
    }
    for (index, (name, table, damage)) in DAMAGED.into_iter().enumerate() {
        // Also with nothing to spend: then nothing may be mended.
        let state = ["101230", "131230", "101201", "230210"].get(index % 4);
        cases.push(Case {
            name: name.to_owned(),
            words: words(state.copied().unwrap_or("101230"))?,
            damage: Some(damage),
            table,
            writable: true,
            stick: false,
        });
    }
    Ok(cases)
}

fn check(bench: &mut Bench, base: &Path, case: &Case) -> Result<()> {
    let [image, expected] = ["disk.img", "expected.img"].map(|name| bench.dir.join(name));
    copy_sparse(base, &image)?;
    disk::set_words(&image, case.words)?;
    if let Some(damage) = case.damage {
        damage(&image)?;
    }
    copy_sparse(&image, &expected)?;

    let fixture = real::unloadable_with(Board::RpiUboot, base, None)?;
    let mut medium = fixture.flashed.clone();
    medium.write(0, &disk::bytes(&image)?);
    let (wanted, model) = real::boot(&fixture, &medium, case.writable);
    ensure!(
        wanted.iter().all(|line| line.table == case.table),
        "expect the model to call the table {}: {wanted:?}",
        case.table
    );
    let found = match case.stick {
        true => bench.choices_on_stick(&image, !case.writable)?,
        false => bench.choices(&image, !case.writable)?,
    };
    ensure!(
        found == wanted,
        "expect the loader to choose {wanted:?}: it chose {found:?}"
    );
    let differ = medium_differs(&model, &image)?;
    ensure!(
        differ.is_none(),
        "byte {differ:?} of the disk is not what the model makes of it"
    );
    if model.key() == medium.key() {
        return same(&image, &expected, "nothing was to be written");
    }
    commit(&expected, disk::words(&image)?)?;
    same(&image, &expected, "bootctl would have written other bytes")?;
    verify(&image)?;
    if case.name == FEW_ENTRIES {
        return Ok(());
    }
    show(&image)
}

/// What `bootctl` writes to bring a disk to these words.
fn commit(image: &Path, words: [u64; 2]) -> Result<()> {
    let mut disk = Disk::open(image, Access::Write).map_err(|e| anyhow!("{e}"))?;
    let mut table = Gpt::read(&mut disk).map_err(|e| anyhow!("read the table: {e}"))?;
    let [a, b] = words.map(Attributes::from_gpt);
    let set = table.set_boot_state(BootState { a, b });
    set.map_err(|e| anyhow!("set the boot state: {e}"))?;
    let written = table
        .commit(&mut disk)
        .map_err(|e| anyhow!("commit: {e}"))?;
    ensure!(written, "commit: there was nothing to write");
    Ok(())
}

/// `sgdisk` finds nothing wrong.
fn verify(image: &Path) -> Result<()> {
    let text = system::run(Command::new("sgdisk").arg("-v").arg(image))?;
    ensure!(text.contains("No problems found"), "sgdisk: {text}");
    Ok(())
}

/// `cgpt` accepts both copies.
fn show(image: &Path) -> Result<()> {
    let text = system::run(Command::new("cgpt").arg("show").arg(image))?;
    ensure!(
        !text.contains("INVALID") && text.contains("Sec GPT header"),
        "cgpt: {text}"
    );
    Ok(())
}

fn foreign_types(bench: &mut Bench, base: &Path) -> Result<()> {
    let [image, expected] = ["disk.img", "expected.img"].map(|name| bench.dir.join(name));
    copy_sparse(base, &image)?;
    disk::set_words(&image, words("101230")?)?;
    for copy in [PRIMARY, BACKUP] {
        disk::edit(&image, copy, |_, entries| disk::put(entries, 3 * 128, &[1]))?;
    }
    copy_sparse(&image, &expected)?;
    let found = bench.choices(&image, false)?;
    ensure!(found.is_empty(), "expect no choice: {found:?}");
    same(&image, &expected, "nothing was to be written")
}

/// Until the first boot has moved it, the backup of an image stands where the image ended. The script leaves it there.
fn grown(bench: &mut Bench, base: &Path) -> Result<()> {
    let image = bench.dir.join("disk.img");
    copy_sparse(base, &image)?;
    let before = words("101230")?;
    disk::set_words(&image, before)?;
    fs::File::options()
        .write(true)
        .open(&image)
        .and_then(|file| file.set_len(2 * SECTORS * SECTOR))
        .context("make the disk larger")?;
    let found = bench.choices(&image, false)?;
    let chosen: Vec<_> = found.iter().map(|line| (line.slot, line.tries)).collect();
    ensure!(
        chosen == [(Slot::B, 2), (Slot::A, 0)],
        "expect b and then a: {found:?}"
    );
    let mut disk = Disk::open(&image, Access::Read).map_err(|e| anyhow!("{e}"))?;
    let table = Gpt::read(&mut disk).map_err(|e| anyhow!("read the table: {e}"))?;
    ensure!(
        table.copies() == bootctl::gpt::Copies::Both && !table.backup_at_end(),
        "expect two equal copies: {:?}",
        table.copies()
    );
    let after = disk::words(&image)?;
    ensure!(after == [before[0], before[1] - (1 << 52)], "{after:x?}");
    Ok(())
}

/// The first byte that differs from the model's disk.
fn medium_differs(model: &Medium, image: &Path) -> Result<Option<usize>> {
    let found = disk::bytes(image)?;
    let wanted = model.bytes(0, found.len());
    Ok(found.iter().zip(&wanted).position(|(a, b)| a != b))
}

fn same(image: &Path, expected: &Path, what: &str) -> Result<()> {
    let (found, wanted) = (disk::bytes(image)?, disk::bytes(expected)?);
    let differ = found.iter().zip(&wanted).position(|(a, b)| a != b);
    ensure!(
        differ.is_none() && found.len() == wanted.len(),
        "compare the disks: they differ from byte {differ:?} on; {what}"
    );
    Ok(())
}

/// Six hexadecimal digits as two attribute words, with foreign bits.
fn words(state: &str) -> Result<[u64; 2]> {
    let (a, b) = state.split_at(3);
    Ok([word(a)? | FOREIGN[0], word(b)? | FOREIGN[1]])
}

fn word(digits: &str) -> Result<u64> {
    let digits = u64::from_str_radix(digits, 16).context("three hexadecimal digits expected")?;
    Ok(digits >> 8 << 48 | (digits >> 4 & 15) << 52 | (digits & 1) << 56)
}

fn fill(disk: &Path, lba: u64, sectors: usize) -> Result<()> {
    damage::write(disk, lba * SECTOR, &vec![0; sectors * damage::SECTOR])
}

fn flip(disk: &Path, lba: u64, at: u64) -> Result<()> {
    let place = lba * SECTOR + at;
    let byte = damage::read(disk, place, 1)?;
    damage::write(disk, place, &byte.iter().map(|b| b ^ 4).collect::<Vec<_>>())
}

fn behind_headers(disk: &Path, primary: &[u8], backup: &[u8]) -> Result<()> {
    damage::write(disk, PRIMARY.0 * SECTOR + 92, primary)?;
    damage::write(disk, BACKUP.0 * SECTOR + 92, backup)
}
