//! The GRUB script for one disk layout.

use bootctl::confirmed::CONFIRMED_FROM_END;
use bootctl::{SectorSize, Slot, gpt, vars};

use super::BOARD;
use crate::LOADER_CONTRACT;

/// The script, with `@NAME@` where the layout, or a constant of `bootctl`, goes.
const TEMPLATE: &str = include_str!("grub.cfg.in");

/// An extended regular expression, as both bootctl and GRUB print identifiers.
const UUID: &str = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";

/// A partition's place on the disk, in sectors of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub first_lba: u64,
    pub sectors: u64,
}

/// What the script records of a disk when it is built: these places never change on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub sector_size: SectorSize,
    pub usr_a: Extent,
    pub usr_b: Extent,
    pub oem: Extent,
    pub oem_config: Extent,
}

/// The layout can't be expressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    #[error(
        "partition at sector {first_lba} with {sectors} sectors ends past 2^64 sectors of 512 bytes"
    )]
    TooLarge { first_lba: u64, sectors: u64 },
    #[error("OEM-CONFIG has {bytes} bytes, fewer than its records need")]
    OemConfigTooSmall { bytes: u64 },
}

/// The script for a disk with this layout.
///
/// # Errors
/// The layout's numbers overflow, or OEM-CONFIG can't hold the confirmed record.
pub fn grub_cfg(layout: &Layout) -> Result<String, LayoutError> {
    let usr_a = grub_extent(layout.usr_a, layout.sector_size)?;
    let usr_b = grub_extent(layout.usr_b, layout.sector_size)?;
    let oem = grub_extent(layout.oem, layout.sector_size)?;
    let oem_config = grub_extent(layout.oem_config, layout.sector_size)?;
    let from_end = CONFIRMED_FROM_END / GRUB_SECTOR;
    let confirmed = oem_config
        .sectors
        .checked_sub(from_end)
        .map(|within| oem_config.first_lba.saturating_add(within))
        .ok_or(LayoutError::OemConfigTooSmall {
            bytes: oem_config.sectors.saturating_mul(GRUB_SECTOR),
        })?;

    let block_list = |e: Extent| format!("{}+{}", e.first_lba, e.sectors);
    let variables = format!("{} {}", vars::NAMES.join(" "), vars::CHECK);
    let mut script = TEMPLATE.to_owned();
    for (name, value) in [
        ("USR_A", block_list(usr_a)),
        ("USR_B", block_list(usr_b)),
        ("OEM", block_list(oem)),
        ("CONFIRMED", format!("{confirmed}+1")),
        ("USR_A_NUMBER", Slot::A.partition_number().to_string()),
        ("USR_B_NUMBER", Slot::B.partition_number().to_string()),
        ("OEM_NUMBER", gpt::OEM.to_string()),
        ("OEM_CONFIG_NUMBER", gpt::OEM_CONFIG.to_string()),
        ("ROOT_NUMBER", gpt::ROOT.to_string()),
        ("VARIABLES", variables),
        ("UUID", UUID.to_owned()),
        ("LOADER", LOADER_CONTRACT.to_string()),
        ("ARGUMENTS", BOARD.kernel_arguments.join(" ")),
    ] {
        script = script.replace(&format!("@{name}@"), &value);
    }
    Ok(script)
}

/// GRUB counts in sectors of 512 bytes, whatever the disk's are.
const GRUB_SECTOR: u64 = 512;

fn grub_extent(extent: Extent, sector_size: SectorSize) -> Result<Extent, LayoutError> {
    let factor = sector_size.bytes() / GRUB_SECTOR;
    let Extent { first_lba, sectors } = extent;
    first_lba
        .checked_mul(factor)
        .zip(sectors.checked_mul(factor))
        .filter(|(first, count)| first.checked_add(*count).is_some())
        .map(|(first_lba, sectors)| Extent { first_lba, sectors })
        .ok_or(LayoutError::TooLarge { first_lba, sectors })
}

#[cfg(test)]
mod tests;
