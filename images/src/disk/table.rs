//! The partition table: written with gptman, read back with our own validation.

use std::fs::File;

use anyhow::{Context, Result, anyhow, ensure};
use bootctl::BootState;
use bootctl::gpt::{self, Copies, Gpt, Guid};

use super::layout::Layout;
use crate::ids::Uuid;
use crate::image_io::ImageIo;

/// Nobody shall mount OEM-CONFIG by itself (Discoverable Partitions Specification, no-auto).
const NO_AUTOMOUNT: u64 = 1 << 63;

/// The disk's own UUIDs.
#[derive(Clone, Copy, Debug)]
pub struct Ids<'a> {
    seed: &'a [u8],
}

impl<'a> Ids<'a> {
    /// UUIDs that follow from `seed`.
    #[must_use]
    pub const fn new(seed: &'a [u8]) -> Self {
        Self { seed }
    }

    /// The UUID of the disk.
    #[must_use]
    pub fn disk(&self) -> Guid {
        guid(Uuid::derive(self.seed, "disk"))
    }

    /// The UUID of the partition with that number.
    #[must_use]
    pub fn partition(&self, number: u32) -> Guid {
        guid(Uuid::derive(self.seed, &format!("partition {number}")))
    }

    /// The volume id of a FAT in that partition.
    #[must_use]
    pub fn volume(&self, number: u32) -> u32 {
        let id = Uuid::derive(self.seed, &format!("volume {number}")).number();
        u32::try_from(id & 0xFFFF_FFFF).unwrap_or(1)
    }
}

/// As it stands in a table.
#[must_use]
pub const fn guid(id: Uuid) -> Guid {
    Guid::from_u128(id.number())
}

/// Writes protective MBR and both copies of the table into a file that has the disk's size.
///
/// # Errors
/// The file can't be written.
pub fn write(mut disk: &File, layout: &Layout, state: &BootState, ids: Ids) -> Result<()> {
    let sector = layout.sector_size.bytes();
    let failed = |e| anyhow!("write partition table: {e}");
    gptman::GPT::write_protective_mbr_into(&mut disk, sector).map_err(failed)?;
    let mut table = gptman::GPT::new_from(&mut disk, sector, ids.disk().0).map_err(failed)?;
    for (number, name, type_guid, span) in layout.partitions() {
        let attributes = match number {
            gpt::USR_A => state.a.into_gpt(0),
            gpt::USR_B => state.b.into_gpt(0),
            gpt::OEM_CONFIG => NO_AUTOMOUNT,
            _ => 0,
        };
        table[number] = gptman::GPTPartitionEntry {
            partition_type_guid: type_guid.0,
            unique_partition_guid: ids.partition(number).0,
            starting_lba: layout.lba(span),
            ending_lba: layout.lba(span) + layout.sectors(span) - 1,
            attribute_bits: attributes,
            partition_name: name.into(),
        };
    }
    table.write_into(&mut disk).map_err(failed)?;
    Ok(())
}

/// Reads the table back and compares it with what it should say.
///
/// # Errors
/// Our validation refuses the table, or it says something else.
pub fn check(disk: &File, layout: &Layout, state: &BootState, ids: Ids) -> Result<()> {
    let mut io = ImageIo::new(disk, layout.sector_size, layout.total);
    let table = Gpt::read(&mut io).map_err(|e| anyhow!("check partition table: {e}"))?;
    ensure!(
        table.copies() == Copies::Both && table.backup_at_end(),
        "check partition table: its copies differ"
    );
    for (number, name, type_guid, span) in layout.partitions() {
        let found = table
            .partition(number)
            .with_context(|| format!("check partition table: {name} is missing"))?;
        ensure!(
            found.type_guid == type_guid
                && found.unique_guid == ids.partition(number)
                && found.first_lba == layout.lba(span)
                && found.range().sectors() == layout.sectors(span),
            "check partition table: {name} is not as it was written"
        );
    }
    let found = table
        .boot_state()
        .map_err(|e| anyhow!("check boot state: {e}"))?;
    ensure!(found == *state, "check partition table: another boot state");
    Ok(())
}
