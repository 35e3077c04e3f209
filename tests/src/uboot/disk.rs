//! Small disks with a boot script, an empty slot A and an empty slot B.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use boards::uboot::{Options, SCRIPT_PATH, boot_scr, boot_script};
use gptman::{GPT, GPTPartitionEntry};
use images::fat::{self, Volume};

use crate::scenario::damage;
use crate::system::run;

pub(crate) const SECTOR: u64 = 512;
/// A power of two, as QEMU wants a card to be.
pub(crate) const SECTORS: u64 = 32 << 11;
/// The last sector, which holds the backup header, and the first one of its entries.
pub(crate) const BACKUP_HEADER: u64 = SECTORS - 1;
pub(crate) const BACKUP_ENTRIES: u64 = SECTORS - 33;
/// First sector of OEM-CONFIG and, within it, of the environment.
pub(crate) const ENVIRONMENT_LBA: u64 = 26 << 11;

/// EFI system partition and USR, as they lie in an entry.
const ESP: [u8; 16] = *b"\x28\x73\x2a\xc1\x1f\xf8\xd2\x11\xba\x4b\x00\xa0\xc9\x3e\xc9\x3b";
const USR: [u8; 16] = *b"\xf4\xf5\xfb\x5d\x48\x28\xac\x4b\xaa\x5e\x0d\x9a\x20\xb7\x45\xa6";
const OTHER: [u8; 16] = *b"\xaf\x3d\xc6\x0f\x83\x84\x72\x47\x8e\x79\x3d\x69\xd8\x47\x7d\xe4";

/// First MiB of the first partition, where it leaves room for U-Boot's own environment.
pub(crate) const BEHIND_OWN_COPIES: u64 = 8;
const USUAL_FIRST: u64 = 1;

/// Number, type, first MiB, length in MiB.
const PARTITIONS: [(u8, [u8; 16], u64, u64); 5] = [
    (1, ESP, USUAL_FIRST, 20),
    (3, USR, 22, 1),
    (4, USR, 23, 1),
    (7, OTHER, 26, 2),
    (9, OTHER, 28, 2),
];

/// Makes the disk, with attributes of zero.
///
/// # Errors
/// I/O; a script that can't be made.
pub(crate) fn make(path: &Path, options: &Options<'_>) -> Result<()> {
    make_from(path, options, USUAL_FIRST)
}

/// The same, the first partition shortened so that it begins at this MiB.
///
/// # Errors
/// I/O; a script that can't be made.
pub(crate) fn make_from(path: &Path, options: &Options<'_>, first: u64) -> Result<()> {
    let script = boot_script(options).context("make the boot script")?;
    let image = boot_scr(&script).context("make boot.scr")?;
    let mut disk = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(path)
        .with_context(|| format!("create {}", path.display()))?;
    disk.set_len(SECTORS * SECTOR).context("size the disk")?;
    GPT::write_protective_mbr_into(&mut disk, SECTOR).context("write the MBR")?;
    let mut table = GPT::new_from(&mut disk, SECTOR, [7; 16]).context("make the table")?;
    for (number, kind, start, length) in PARTITIONS {
        let (start, length) = match number {
            1 => (first, length - (first - start)),
            _ => (start, length),
        };
        table[u32::from(number)] = GPTPartitionEntry {
            partition_type_guid: kind,
            unique_partition_guid: [number; 16],
            starting_lba: start << 11,
            ending_lba: ((start + length) << 11) - 1,
            attribute_bits: 0,
            partition_name: "x".into(),
        };
    }
    table.write_into(&mut disk).context("write the table")?;
    let volume = Volume {
        start: first << 20,
        len: (20 - (first - USUAL_FIRST)) << 20,
        sector: 512,
        label: "BOOT",
        id: 1,
        files: &[(SCRIPT_PATH, &image)],
    };
    fat::make(&disk, &volume)
}

/// Puts a kernel that is none, an initramfs and words for the kernel into both slots; `work` is a folder for this alone.
///
/// # Errors
/// I/O, or a tool is missing.
pub(crate) fn fill_slots(path: &Path, work: &Path) -> Result<()> {
    let boot = work.join("lib/tandem/boot");
    fs::create_dir_all(&boot).with_context(|| format!("create {}", boot.display()))?;
    for name in ["vmlinuz", "initrd"] {
        fs::write(boot.join(name), [b'x'; 4096]).context("fill a slot")?;
    }
    let words = boot.join("cmdline");
    run(Command::new("grub-editenv").arg(&words).arg("create"))?;
    let set = ["set", "cmdline=of the slot"];
    run(Command::new("grub-editenv").arg(&words).args(set))?;
    let image = work.with_extension("img");
    // /usr/sbin is not in every user's PATH.
    let search = std::env::var("PATH").unwrap_or_default();
    run(Command::new("mke2fs")
        .env("PATH", format!("{search}:/usr/sbin:/sbin"))
        .args(["-q", "-F", "-t", "ext4", "-b", "1024", "-O", "^has_journal"])
        .arg("-d")
        .args([work, &image])
        .arg("1M"))?;
    let bytes = fs::read(&image).with_context(|| format!("read {}", image.display()))?;
    for (number, _, first, _) in PARTITIONS {
        if matches!(number, 3 | 4) {
            damage::write(path, first << 20, &bytes)?;
        }
    }
    Ok(())
}

/// A copy of a table: sectors of its header and of its entries.
pub(crate) const PRIMARY: (u64, u64) = (1, 2);
pub(crate) const BACKUP: (u64, u64) = (BACKUP_HEADER, BACKUP_ENTRIES);

/// Changes one copy of the table and makes its checksums right again.
///
/// # Errors
/// I/O.
pub(crate) fn edit(
    path: &Path,
    (header_lba, entries_lba): (u64, u64),
    change: impl FnOnce(&mut [u8], &mut [u8]),
) -> Result<()> {
    let mut header = damage::read(path, header_lba * SECTOR, damage::SECTOR)?;
    let mut entries = damage::read(path, entries_lba * SECTOR, damage::ENTRIES_LENGTH)?;
    change(&mut header, &mut entries);
    let length = number(&header, 80)? * number(&header, 84)?;
    let covered = entries.get(..length.min(damage::ENTRIES_LENGTH));
    put(
        &mut header,
        88,
        &crc32(covered.unwrap_or_default()).to_le_bytes(),
    );
    put(&mut header, 16, &[0; 4]);
    let size = number(&header, 12)?;
    let crc = crc32(header.get(..size).context("read the header's size")?);
    put(&mut header, 16, &crc.to_le_bytes());
    damage::write(path, entries_lba * SECTOR, &entries)?;
    damage::write(path, header_lba * SECTOR, &header)
}

/// Gives both slots these attribute words, in both copies.
///
/// # Errors
/// I/O.
pub(crate) fn set_words(path: &Path, words: [u64; 2]) -> Result<()> {
    for copy in [PRIMARY, BACKUP] {
        edit(path, copy, |_, entries| set_entries(entries, words))?;
    }
    Ok(())
}

pub(crate) fn set_entries(entries: &mut [u8], words: [u64; 2]) {
    for (entry, word) in [2, 3].into_iter().zip(words) {
        put(entries, entry * 128 + 48, &word.to_le_bytes());
    }
}

/// The attribute words of both slots, by the copy that `gptman` takes.
///
/// # Errors
/// I/O, no table.
pub(crate) fn words(path: &Path) -> Result<[u64; 2]> {
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let table = GPT::find_from(&mut file).map_err(|e| anyhow!("read the table: {e}"))?;
    Ok([3, 4].map(|number| table[number].attribute_bits))
}

/// Every byte of the disk.
///
/// # Errors
/// I/O.
pub(crate) fn bytes(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let length = file.metadata().context("size of the disk")?.len();
    ensure!(length <= 1 << 30, "read {}: too large", path.display());
    let mut bytes = vec![0; usize::try_from(length).context("size of the disk")?];
    file.read_exact_at(&mut bytes, 0)
        .with_context(|| format!("read {}", path.display()))?;
    Ok(bytes)
}

pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (place, byte) in bytes.iter_mut().skip(at).zip(value) {
        *place = *byte;
    }
}

fn number(header: &[u8], at: usize) -> Result<usize> {
    let bytes = header.get(at..at + 4).context("read the header")?;
    let bytes = bytes.iter().rev();
    Ok(bytes.fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
}

/// CRC-32 bit by bit, so that no table of anybody's can be wrong.
pub(crate) fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| crc >> 1 ^ (0xedb8_8320 * (crc & 1));
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc))
    });
    !crc
}
