//! Tables on a disk in memory, made by gptman or taken from sgdisk so that nothing of ours vouches for itself.

mod commits;
mod cuts;
pub mod disk;
mod fixture;
mod hostile;
mod repairs;

use disk::MemDisk;

use super::*;

const BOTH_SIZES: [SectorSize; 2] = [SectorSize::B512, SectorSize::B4096];

/// A state unlike the one that [`MemDisk::with_table`] starts with.
fn staged() -> BootState {
    BootState {
        a: Attributes::from_gpt(0x0101 << 48),
        b: Attributes::from_gpt(0x32 << 48),
    }
}

/// What [`MemDisk::with_table`] starts with.
fn initial() -> BootState {
    BootState {
        a: Attributes::from_gpt(0x0101 << 48),
        b: Attributes::UNBOOTABLE,
    }
}
