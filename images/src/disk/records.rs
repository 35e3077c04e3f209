//! OEM-CONFIG: the environment of boards that have one, descriptor and confirmed record behind it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, bail, ensure};
use boards::Board;
use boards::start::Start;
use bootctl::confirmed::{CONFIRMED_BYTES, CONFIRMED_FROM_END, ConfirmedRecord};
use bootctl::descriptor::{
    DESCRIPTOR_BYTES, DESCRIPTOR_FROM_END, Descriptor, Store, UBOOT_ENV_FROM_END,
};
use bootctl::{BootState, Slot, gpt, grub_env, uboot_env};

use super::layout::Layout;
use super::table::Ids;
use crate::fat::{self, Volume};
use crate::fw_env_config::OwnEnvironment;

/// The last MiB of the partition is not the FAT's.
const RECORDS: u64 = DESCRIPTOR_FROM_END;
/// Length of an environment: one sector, so that no write can tear it.
const BLOCK: usize = 512;

/// Fills OEM-CONFIG.
///
/// # Errors
/// The file can't be written, or `product` is no name.
pub fn write(
    disk: &File,
    layout: &Layout,
    state: &BootState,
    ids: Ids,
    board: &Board,
    own: Option<OwnEnvironment>,
    product: &str,
) -> Result<()> {
    let span = layout.oem_config;
    let store = match Start::of(board) {
        Some(Start::UBoot(_)) if let Some(own) = own => own.store(),
        Some(Start::Grub) => write_grub_block(disk, layout, state, ids)?,
        Some(Start::UBoot(uboot)) if uboot.environment => write_uboot_env(disk, layout, state)?,
        Some(Start::UBoot(_)) => Store::Gpt,
        None => bail!("make OEM-CONFIG: unknown board {}", board.name),
    };
    let descriptor = Descriptor {
        board: board
            .name
            .parse()
            .with_context(|| format!("use board {}", board.name))?,
        product: product
            .parse()
            .with_context(|| format!("use product {product} (--product)"))?,
        store,
    };
    let record = descriptor
        .encode(span.len)
        .context("make disk descriptor")?;
    put(disk, span.start + span.len - DESCRIPTOR_FROM_END, &record)?;

    let confirmed = ConfirmedRecord {
        slot: Slot::A,
        usr_a: ids.partition(gpt::USR_A),
        usr_b: ids.partition(gpt::USR_B),
        root: ids.partition(gpt::ROOT),
        fresh: true,
    };
    let mut record = [0; CONFIRMED_BYTES];
    confirmed
        .encode(&mut record)
        .context("make confirmed record")?;
    put(disk, span.start + span.len - CONFIRMED_FROM_END, &record)?;

    check(disk, layout, state, &descriptor, &confirmed)
}

/// The environment as the one file of a small FAT, where GRUB finds it.
fn write_grub_block(disk: &File, layout: &Layout, state: &BootState, ids: Ids) -> Result<Store> {
    let span = layout.oem_config;
    let mut block = [0; BLOCK];
    grub_env::create(&mut block).context("make environment")?;
    grub_env::encode(&mut block, state).context("make environment")?;
    let volume = Volume {
        start: span.start,
        len: span.len - RECORDS,
        sector: if layout.sector_size.len() == 512 {
            512
        } else {
            4096
        },
        label: "OEM-CONFIG",
        id: ids.volume(gpt::OEM_CONFIG),
        files: &[("grubenv", &block)],
    };
    fat::make(disk, &volume).context("make OEM-CONFIG")?;
    let offset = fat::find_sector(disk, &volume, &block).context("make OEM-CONFIG")?;
    Ok(Store::GrubBlock {
        offset,
        size: BLOCK as u64,
    })
}

/// The environment as a sector of its own.
fn write_uboot_env(disk: &File, layout: &Layout, state: &BootState) -> Result<Store> {
    let span = layout.oem_config;
    let offset = span.len - UBOOT_ENV_FROM_END;
    let mut block = [0; BLOCK];
    uboot_env::encode(&mut block, uboot_env::Layout::Single, 0, state)
        .context("make environment")?;
    put(disk, span.start + offset, &block)?;
    Ok(Store::UbootEnv {
        offset,
        size: BLOCK as u64,
    })
}

fn put(disk: &File, at: u64, bytes: &[u8]) -> Result<()> {
    disk.write_all_at(bytes, at).context("write OEM-CONFIG")
}

fn check(
    disk: &File,
    layout: &Layout,
    state: &BootState,
    descriptor: &Descriptor,
    confirmed: &ConfirmedRecord,
) -> Result<()> {
    let span = layout.oem_config;
    let end = span.start + span.len;
    let read = |at, bytes: &mut [u8]| disk.read_exact_at(bytes, at).context("read OEM-CONFIG");
    let mut record = [0; DESCRIPTOR_BYTES];
    read(end - DESCRIPTOR_FROM_END, &mut record)?;
    ensure!(
        Descriptor::decode(&record, span.len).context("check disk descriptor")? == *descriptor,
        "check disk descriptor: not as it was written"
    );
    let mut record = [0; CONFIRMED_BYTES];
    read(end - CONFIRMED_FROM_END, &mut record)?;
    ensure!(
        ConfirmedRecord::decode(&record).context("check confirmed record")? == *confirmed,
        "check confirmed record: not as it was written"
    );
    let mut block = [0; BLOCK];
    let found = match descriptor.store {
        Store::GrubBlock { offset, .. } => {
            read(span.start + offset, &mut block)?;
            grub_env::decode(&block).context("check environment")?
        }
        Store::UbootEnv { offset, .. } => {
            read(span.start + offset, &mut block)?;
            uboot_env::decode(&block, uboot_env::Layout::Single).context("check environment")?
        }
        // The table is checked where it is written, and U-Boot's own environment is not made here.
        Store::Gpt | Store::UbootEnvRedundant { .. } => *state,
    };
    ensure!(found == *state, "check environment: not as it was written");
    Ok(())
}
