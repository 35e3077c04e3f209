//! Writing a disk image to a real disk: exclusively, with UUIDs of its own, compared afterwards.

mod target;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bootctl::confirmed::{CONFIRMED_BYTES, CONFIRMED_FROM_END, ConfirmedRecord};
use bootctl::gpt::{self, Gpt};
use bootctl::slot_record::{self, SLOT_RECORD_BYTES};
use bootctl::{SectorSize, Slot};

pub use target::Target;

use crate::disk::table::guid;
use crate::failure::refuse;
use crate::ids::Uuid;
use crate::image_io::ImageIo;
use crate::region::{is_zero, next_data};

/// What stands in front until everything else is compared: without it nothing boots the disk.
const HEAD: u64 = 1 << 20;
const CHUNK: usize = 1 << 20;
/// Bytes between two flushes.
const FLUSH_EVERY: u64 = 32 << 20;

/// A disk image that is to be written.
#[derive(Debug)]
pub struct Source {
    file: File,
    /// In bytes.
    pub size: u64,
    pub sector_size: SectorSize,
    /// Ranges whose bytes don't matter: behind the images, before the slot records.
    unused: Vec<(u64, u64)>,
}

impl Source {
    /// Opens a disk image and checks its table.
    ///
    /// # Errors
    /// It can't be read, or holds no valid table with both slots.
    pub fn open(path: &Path) -> Result<Self> {
        let shown = path.display();
        let file = File::open(path).with_context(|| format!("open {shown}"))?;
        let size = file
            .metadata()
            .with_context(|| format!("open {shown}"))?
            .len();
        let sector_size = [SectorSize::B512, SectorSize::B4096]
            .into_iter()
            .find(|s| {
                let mut magic = [0; 8];
                file.read_exact_at(&mut magic, s.bytes()).is_ok() && magic == *b"EFI PART"
            })
            .with_context(|| format!("read {shown}: no partition table"))?;
        let mut io = ImageIo::new(&file, sector_size, size);
        let table = Gpt::read(&mut io).map_err(|e| anyhow!("read {shown}: {e}"))?;
        let mut unused = Vec::new();
        for slot in [Slot::A, Slot::B] {
            let partition = table.usr(slot).map_err(|e| anyhow!("read {shown}: {e}"))?;
            let range = partition.range();
            let start = range.first * sector_size.bytes();
            let end = start + range.sectors() * sector_size.bytes();
            let used = slot_record::read_header(&mut io, range).map_or(0, |h| h.image_size);
            unused.push((start + used, end.saturating_sub(SLOT_RECORD_BYTES)));
        }
        Ok(Self {
            file,
            size,
            sector_size,
            unused,
        })
    }

    /// Ranges that the target must hold as they are here, in order; `true` for data, `false` for zeros.
    fn ranges(&self) -> Result<Vec<(u64, u64, bool)>> {
        let mut ranges = Vec::new();
        let mut at = 0;
        while at < self.size {
            let data = next_data(&self.file, at, self.size)?.unwrap_or(self.size);
            if data > at {
                self.add_zeros(&mut ranges, at, data);
            }
            if data == self.size {
                break;
            }
            let end = (data + CHUNK as u64).min(self.size);
            ranges.push((data, end, true));
            at = end;
        }
        Ok(ranges)
    }

    fn add_zeros(&self, ranges: &mut Vec<(u64, u64, bool)>, mut start: u64, end: u64) {
        for &(unused_start, unused_end) in &self.unused {
            if unused_start < end && unused_end > start {
                if unused_start > start {
                    ranges.push((start, unused_start, false));
                }
                start = unused_end.min(end);
            }
        }
        if start < end {
            ranges.push((start, end, false));
        }
    }
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Writing,
    Comparing,
}

/// Hears how far it is: a phase, bytes done and bytes in all of that phase.
pub type Progress<'a> = &'a mut dyn FnMut(Phase, u64, u64);

/// Writes `source` to `target`, gives it UUIDs of its own and moves the backup table to its end.
///
/// # Errors
/// The target is too small or has other sectors (nothing was written then), can't be written, or does not hold what was
/// written: it boots nothing then.
pub fn write(source: &Source, target: Target, progress: Progress) -> Result<()> {
    target.check(source)?;
    let ranges = source.ranges()?;
    let (head, rest): (Vec<_>, Vec<_>) = ranges.into_iter().partition(|r| r.0 < HEAD);
    target.zero(0, HEAD.min(source.size))?;
    // Whatever stands at the end must not be taken for this disk's backup table.
    target.zero(
        target.size - source.sector_size.bytes(),
        source.sector_size.bytes(),
    )?;
    let total = rest.iter().map(|r| r.1 - r.0).sum();
    let mut done = 0;
    copy(source, &target, &rest, &mut |bytes| {
        done += bytes;
        progress(Phase::Writing, done, total);
    })?;
    target.flush()?;
    done = 0;
    compare(source, &target, &rest, &mut |bytes| {
        done += bytes;
        progress(Phase::Comparing, done, total);
    })?;
    // Too short for anybody to wait for.
    copy(source, &target, &head, &mut |_| {})?;
    target.flush()?;
    compare(source, &target, &head, &mut |_| {})?;
    renew(source, &target)?;
    target.flush()?;
    target.finish()
}

fn copy(
    source: &Source,
    target: &Target,
    ranges: &[(u64, u64, bool)],
    done: &mut dyn FnMut(u64),
) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    // Bytes that wait in memory would make the progress a lie, and the flush at the end a long silence.
    let mut unflushed = 0;
    for &(start, end, is_data) in ranges {
        if is_data {
            let part = &mut buffer[..usize::try_from(end - start).unwrap_or(CHUNK)];
            source
                .file
                .read_exact_at(part, start)
                .context("read disk image")?;
            target.write(part, start)?;
            unflushed += end - start;
        } else {
            target.zero(start, end - start)?;
        }
        if unflushed >= FLUSH_EVERY {
            target.flush()?;
            unflushed = 0;
        }
        done(end - start);
    }
    Ok(())
}

fn compare(
    source: &Source,
    target: &Target,
    ranges: &[(u64, u64, bool)],
    done: &mut dyn FnMut(u64),
) -> Result<()> {
    let (mut ours, mut theirs) = (vec![0; CHUNK], vec![0; CHUNK]);
    for &(start, end, is_data) in ranges {
        let mut at = start;
        while at < end {
            let len = usize::try_from(end - at).map_or(CHUNK, |n| n.min(CHUNK));
            let (ours, theirs) = (&mut ours[..len], &mut theirs[..len]);
            target.read(theirs, at)?;
            let same = if is_data {
                source
                    .file
                    .read_exact_at(ours, at)
                    .context("read disk image")?;
                ours == theirs
            } else {
                is_zero(theirs)
            };
            if !same {
                bail!(crate::Failure::Unverified(format!(
                    "compare {}: it does not hold what was written between bytes {at} and {}",
                    target.name,
                    at + len as u64
                )));
            }
            at += len as u64;
            done(len as u64);
        }
    }
    Ok(())
}

/// New UUIDs in the table and in the confirmed record.
fn renew(source: &Source, target: &Target) -> Result<()> {
    let name = &target.name;
    let mut io = ImageIo::new(&target.file, source.sector_size, target.size);
    let mut table = Gpt::read(&mut io).map_err(|e| anyhow!("read table of {name}: {e}"))?;
    let numbers: Vec<u32> = table.partitions().map(|p| p.number).collect();
    table.set_disk_guid(guid(Uuid::random()?));
    for number in numbers {
        table
            .set_unique_guid(number, guid(Uuid::random()?))
            .map_err(|e| anyhow!("change table of {name}: {e}"))?;
    }
    table
        .relocate_backup()
        .map_err(|e| anyhow!("change table of {name}: {e}"))?;
    let place = table
        .partition(gpt::OEM_CONFIG)
        .with_context(|| format!("change {name}: it has no OEM-CONFIG"))?
        .range();
    let at = (place.last + 1) * source.sector_size.bytes() - CONFIRMED_FROM_END;
    let unique = |number| {
        table
            .partition(number)
            .map(|p| p.unique_guid)
            .with_context(|| format!("change {name}: partition {number} is missing"))
    };
    let mut block = [0; CONFIRMED_BYTES];
    target
        .file
        .read_exact_at(&mut block, at)
        .with_context(|| format!("read {name}"))?;
    let old = ConfirmedRecord::decode(&block).with_context(|| format!("change {name}"))?;
    let record = ConfirmedRecord {
        usr_a: unique(gpt::USR_A)?,
        usr_b: unique(gpt::USR_B)?,
        root: unique(gpt::ROOT)?,
        ..old
    };
    record
        .encode(&mut block)
        .with_context(|| format!("change {name}"))?;
    target.write(&block, at)?;
    target.flush()?;
    table
        .commit(&mut io)
        .map_err(|e| anyhow!("write table of {name}: {e}"))?;
    target.flush()?;
    let table = Gpt::read(&mut io).map_err(|e| anyhow!("read table of {name}: {e}"))?;
    ensure!(
        table.backup_at_end() && !table.needs_repair(),
        "check table of {name}: its copies differ"
    );
    let boots = table
        .boot_state()
        .map_err(|e| anyhow!("check {name}: {e}"))?;
    if boots.best_confirmed().is_none() {
        refuse!("check {name}: no slot of it is confirmed");
    }
    Ok(())
}
