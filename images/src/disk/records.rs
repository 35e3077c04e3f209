//! OEM-CONFIG: the environment block in its small FAT, descriptor and confirmed record behind it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result, ensure};
use bootctl::confirmed::{CONFIRMED_BYTES, CONFIRMED_FROM_END, ConfirmedRecord};
use bootctl::descriptor::{DESCRIPTOR_BYTES, DESCRIPTOR_FROM_END, Descriptor, Store};
use bootctl::{BootState, Slot, gpt, grub_env};

use super::layout::Layout;
use super::table::Ids;
use crate::fat::{self, Volume};

/// The last MiB of the partition is not the FAT's.
const RECORDS: u64 = DESCRIPTOR_FROM_END;
/// Length of the environment block: one sector, so that no write can tear it.
const BLOCK: usize = 512;

/// Fills OEM-CONFIG of a disk with a GRUB block.
///
/// # Errors
/// The file can't be written, or `board` or `product` is no name.
pub fn write(
    disk: &File,
    layout: &Layout,
    state: &BootState,
    ids: Ids,
    board: &str,
    product: &str,
) -> Result<()> {
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

    let descriptor = Descriptor {
        board: board
            .parse()
            .with_context(|| format!("use board {board}"))?,
        product: product
            .parse()
            .with_context(|| format!("use product {product} (--product)"))?,
        store: Store::GrubBlock {
            offset,
            size: BLOCK as u64,
        },
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

    check(disk, layout, state, &descriptor, &confirmed, offset)
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
    offset: u64,
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
    read(span.start + offset, &mut block)?;
    ensure!(
        grub_env::decode(&block).context("check environment")? == *state,
        "check environment: not as it was written"
    );
    Ok(())
}
