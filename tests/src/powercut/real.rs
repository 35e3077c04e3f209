//! Real disks as the models of the loaders see them: so that the models can be held against the real
//! loaders. Only what a loader reads is looked at, the slots but for their beginning.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use bootctl::SectorSize;

use super::disk::{Fault, SimDisk};
use super::fixture::{Board, Fixture, Layout};
use super::loader::{self, Attempt, Env};
use super::medium::{Medium, Zones};
use crate::host_hash;
use crate::scenario::{LoaderLine, Slot, damage};

/// Beginning and end of a disk: more than the partition tables.
const TABLES: u64 = 1 << 20;
/// What of a slot is looked at.
pub const HEAD: u64 = 1 << 20;

/// A disk image of `tandem-image` with sectors of 512 bytes whose slots do not load.
///
/// # Errors
/// I/O; it is not laid out like ours.
pub fn unloadable(board: Board, image: &Path) -> Result<Fixture> {
    let environment = match board.has_environment() {
        true => Some(damage::environment(image)?),
        false => None,
    };
    unloadable_with(board, image, environment)
}

/// The same of any disk with our partitions, and an environment from byte `environment` on.
///
/// # Errors
/// I/O; a partition is missing.
pub fn unloadable_with(board: Board, image: &Path, environment: Option<u64>) -> Result<Fixture> {
    let sector = damage::SECTOR as u64;
    let places = environment.map(|start| start..start + sector);
    unloadable_at(board, image, places.into_iter().collect())
}

/// The same with an environment whose copies lie there.
///
/// # Errors
/// I/O; a partition is missing.
pub fn unloadable_at(board: Board, image: &Path, environment: Vec<Range<u64>>) -> Result<Fixture> {
    let partition = |number| -> Result<Range<u64>> {
        let (start, length) = host_hash::partition(image, number)?;
        Ok(start..start + length)
    };
    let usr = [partition(3)?, partition(4)?];
    let head = usr.clone().map(|usr| usr.start..usr.start + HEAD);
    let oem_config = partition(7)?;
    let length = std::fs::metadata(image)
        .with_context(|| format!("look at {}", image.display()))?
        .len();
    ensure!(
        length >= 2 * TABLES && length % 4096 == 0,
        "{} is no disk: it has {length} bytes",
        image.display()
    );
    let [image_a, image_b] = head.clone();
    let mut medium = Medium::zeros(length, SectorSize::B512, Zones { image_a, image_b });
    let tables = [0..TABLES, length - TABLES..length];
    for range in tables.iter().chain(&head).chain([&oem_config]) {
        let bytes = damage::read(
            image,
            range.start,
            usize::try_from(range.end - range.start)?,
        )?;
        medium.write(range.start, &bytes);
    }
    let sector = damage::SECTOR as u64;
    let confirmed = damage::confirmed_record(image)?;
    let layout = Layout {
        usr,
        image: head,
        oem_config,
        environment,
        confirmed: confirmed..confirmed + sector,
    };
    Ok(Fixture::unloadable(board, layout, medium.settled()))
}

/// What the model's loader tries on a disk, one slot after the other, and the disk that it leaves.
#[must_use]
pub fn boot(fixture: &Fixture, medium: &Medium, writable: bool) -> (Vec<LoaderLine>, Medium) {
    let fault = (!writable).then_some(Fault::WritesFrom(0));
    let mut disk = SimDisk::new(medium.clone(), fault);
    let line = |attempt: &Attempt| LoaderLine {
        slot: match attempt.slot {
            0 => Slot::A,
            _ => Slot::B,
        },
        tries: attempt.tries,
        environment: match attempt.env {
            Env::Ok => "ok",
            Env::Lost => "lost",
            Env::ReadOnly => "readonly",
        }
        .to_owned(),
        table: attempt.table.to_owned(),
    };
    let lines = loader::boot(fixture, &mut disk).iter().map(line).collect();
    (lines, disk.now())
}

/// The first byte of what a loader reads that differs between the model's disk and the image.
///
/// # Errors
/// I/O.
pub fn first_difference(model: &Medium, fixture: &Fixture, image: &Path) -> Result<Option<u64>> {
    let length = model.len();
    let tables = [0..TABLES, length - TABLES..length];
    for range in tables
        .into_iter()
        .chain([fixture.layout.oem_config.clone()])
    {
        let found = damage::read(
            image,
            range.start,
            usize::try_from(range.end - range.start)?,
        )?;
        let wanted = model.bytes(range.start, found.len());
        let differs = found.iter().zip(&wanted).position(|(a, b)| a != b);
        if let Some(at) = differs {
            return Ok(Some(range.start + at as u64));
        }
    }
    Ok(None)
}
