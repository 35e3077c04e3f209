//! Where the things that Tandem reads and writes lie on a disk.

use crate::confirmed::{CONFIRMED_BYTES, CONFIRMED_FROM_END};
use crate::descriptor::{
    DESCRIPTOR_BYTES, DESCRIPTOR_FROM_END, Descriptor, DescriptorError, Store,
};
use crate::gpt::{self, Gpt};
use crate::store::{ByteSpan, GrubBlockStore, RedundantEnvStore, UbootEnvStore};

/// Why a disk with a valid table is not one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    #[error("partition {0} (OEM-CONFIG) is missing", gpt::OEM_CONFIG)]
    NoOemConfig,
    #[error("partition {number} has type {found} instead of OEM-CONFIG's", number = gpt::OEM_CONFIG)]
    NotOemConfig { found: gpt::Guid },
    #[error("OEM-CONFIG has {bytes} bytes, too few for its records")]
    OemConfigTooSmall { bytes: u64 },
    #[error(
        "the environment of {size} bytes at byte {offset} of OEM-CONFIG crosses a sector boundary"
    )]
    CrossesSector { offset: u64, size: u64 },
    #[error("both copies of U-Boot's environment lie in one sector, at byte {offset} of the disk")]
    SharedSector { offset: u64 },
    #[error(transparent)]
    Descriptor(#[from] DescriptorError),
}

/// OEM-CONFIG, in bytes from the start of the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct OemConfig {
    start: u64,
    pub length: u64,
}

impl OemConfig {
    pub fn of(gpt: &Gpt) -> Result<Self, LayoutError> {
        let partition = gpt
            .partition(gpt::OEM_CONFIG)
            .ok_or(LayoutError::NoOemConfig)?;
        if partition.type_guid != gpt::TYPE_OEM_CONFIG {
            return Err(LayoutError::NotOemConfig {
                found: partition.type_guid,
            });
        }
        let sector = gpt.sector_size().bytes();
        let length = partition.range().sectors().saturating_mul(sector);
        if length < DESCRIPTOR_FROM_END {
            return Err(LayoutError::OemConfigTooSmall { bytes: length });
        }
        Ok(Self {
            start: partition.first_lba.saturating_mul(sector),
            length,
        })
    }

    pub fn descriptor(self) -> ByteSpan {
        self.before_end(DESCRIPTOR_FROM_END, DESCRIPTOR_BYTES)
    }

    pub fn confirmed(self) -> ByteSpan {
        self.before_end(CONFIRMED_FROM_END, CONFIRMED_BYTES)
    }

    fn before_end(self, distance: u64, length: usize) -> ByteSpan {
        let at = self.length.saturating_sub(distance);
        self.span(at, length)
    }

    fn span(self, offset: u64, length: usize) -> ByteSpan {
        ByteSpan {
            at: self.start.saturating_add(offset),
            length,
        }
    }

    /// The store that the descriptor tells of.
    pub fn authority(self, descriptor: &Descriptor, gpt: &Gpt) -> Result<Authority, LayoutError> {
        let sector = gpt.sector_size().bytes();
        let one_sector = |offset, size| {
            let span = self.span(offset, usize::try_from(size).unwrap_or(usize::MAX));
            let fits = span.fits_one_sector(sector);
            fits.then_some(span)
                .ok_or(LayoutError::CrossesSector { offset, size })
        };
        match descriptor.store {
            Store::Gpt => Ok(Authority::Gpt),
            Store::GrubBlock { offset, size } => {
                one_sector(offset, size).map(|block| Authority::GrubBlock(GrubBlockStore { block }))
            }
            Store::UbootEnv { offset, size } => {
                one_sector(offset, size).map(|copy| Authority::UbootEnv(UbootEnvStore { copy }))
            }
            Store::UbootEnvRedundant {
                offset,
                offset2,
                size,
            } => {
                let (from, to) = gap(gpt);
                descriptor.store.check_place(from, to)?;
                let length = usize::try_from(size).unwrap_or(usize::MAX);
                let copies = [offset, offset2].map(|at| ByteSpan { at, length });
                let [first, second] = copies.map(|copy| copy.sectors(sector));
                if first.start < second.end && second.start < first.end {
                    // One torn sector would take both copies along.
                    return Err(LayoutError::SharedSector { offset });
                }
                Ok(Authority::Redundant(RedundantEnvStore { copies }))
            }
        }
    }
}

/// What lies between the partition table and the first partition, in bytes from the start of the disk.
fn gap(gpt: &Gpt) -> (u64, u64) {
    let sector = gpt.sector_size().bytes();
    let first = gpt.partitions().map(|partition| partition.first_lba).min();
    let from = gpt.usable().first.saturating_mul(sector);
    let to = first.unwrap_or(0).saturating_mul(sector);
    (from, to)
}

/// The slot store that the board's loader reads.
#[derive(Clone, Copy, Debug)]
pub(super) enum Authority {
    Gpt,
    GrubBlock(GrubBlockStore),
    UbootEnv(UbootEnvStore),
    Redundant(RedundantEnvStore),
}
