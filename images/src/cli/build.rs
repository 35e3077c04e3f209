//! `build`.

use std::path::PathBuf;

use anyhow::Result;
use bootctl::SectorSize;
use clap::Args;
use images::Failure;

use super::{Size, image_time, warn_all};

/// Make a disk that boots an image
///
/// The image goes into slot A, which is confirmed from the start. The same input gives the same bytes.
#[derive(Args, Debug)]
pub struct Build {
    /// Board: x86_64-grub, rpi3-uboot, rpi4-uboot or arm64-uboot-env
    #[arg(long)]
    board: String,
    /// Image of /usr: ext4 as `usr` makes it, or a squashfs that the board's loader reads
    #[arg(long, value_name = "IMG")]
    usr: PathBuf,
    /// Name of the product; updates for other products are refused
    #[arg(long)]
    product: String,
    /// Version of the image
    #[arg(long)]
    version: String,
    /// Public key for OEM, used while a release has none of its own (may be given again)
    #[arg(long, value_name = "PUB", required = true)]
    key: Vec<PathBuf>,
    /// Rollback index of the image [default: what its lib/os-release says, else 0]
    #[arg(long, value_name = "N")]
    rollback_index: Option<u64>,
    /// Size of each slot in bytes (units K, M, G) [default: twice the image, at least 512M]
    #[arg(long, value_name = "BYTES")]
    slot_size: Option<Size>,
    /// Size of ROOT in bytes (units K, M, G); it grows on the first boot
    #[arg(long, value_name = "BYTES", default_value = "256M")]
    root_size: Size,
    /// Make the disk's size a power of two, as QEMU wants an SD card's
    #[arg(long)]
    power_of_two: bool,
    /// Bytes in a sector of the disk: 512 or 4096 (no BIOS starts from those)
    #[arg(long, value_name = "BYTES", default_value_t = 512)]
    sector_size: u64,
    /// Put the image into both slots
    #[arg(long)]
    both: bool,
    /// Let UUIDs follow from this text instead of the input
    #[arg(long, value_name = "SEED")]
    ids_from: Option<String>,
    #[command(flatten)]
    loader: Loader,
    /// Disk image
    #[arg(long, value_name = "DISK")]
    out: PathBuf,
}

/// Where the parts of the loader come from.
#[derive(Args, Debug)]
struct Loader {
    /// Folder with GRUB's modules for i386-pc and x86_64-efi [default: /usr/lib/grub]
    #[arg(long, value_name = "DIR")]
    grub_dir: Option<PathBuf>,
    /// Folder with start*.elf, fixup*.dat and bootcode.bin [default: /usr/lib/raspi-firmware]
    #[arg(long, value_name = "DIR")]
    firmware: Option<PathBuf>,
    /// Folder with the Raspberry Pi's device trees, bcm*.dtb [default: that of --firmware]
    #[arg(long, value_name = "DIR")]
    device_trees: Option<PathBuf>,
    /// config.txt for the Raspberry Pi instead of Tandem's own
    #[arg(long, value_name = "FILE")]
    config_txt: Option<PathBuf>,
    /// U-Boot for the Raspberry Pi [default: that of the package u-boot-rpi for the board]
    #[arg(long, value_name = "FILE")]
    u_boot: Option<PathBuf>,
    /// Don't let the boot script arm the watchdog before it boots a slot on trial (QEMU resets at once)
    #[arg(long)]
    no_loader_watchdog: bool,
    /// fw_env.config of a board whose U-Boot keeps its own environment in two copies on this disk: the boot state goes
    /// there instead of into a sector of OEM-CONFIG
    #[arg(long, value_name = "FILE")]
    fw_env_config: Option<PathBuf>,
    /// Start of 512 KiB of memory that the boot script may use before a kernel is loaded [default: the board's]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    script_memory: Option<u64>,
}

/// A number as U-Boot takes it, hexadecimal with or without 0x.
fn address(text: &str) -> Result<u64, std::num::ParseIntError> {
    u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16)
}

impl From<Loader> for images::loader::Sources {
    fn from(loader: Loader) -> Self {
        Self {
            grub: loader.grub_dir,
            firmware: loader.firmware,
            device_trees: loader.device_trees,
            config_txt: loader.config_txt,
            uboot: loader.u_boot,
            no_watchdog: loader.no_loader_watchdog,
            fw_env_config: loader.fw_env_config,
            script_memory: loader.script_memory,
        }
    }
}

impl Build {
    pub fn run(self) -> Result<()> {
        let board = images::payload::find_board(&self.board)?;
        let sector_size = SectorSize::new(self.sector_size).ok_or_else(|| {
            Failure::Usage(format!(
                "use --sector-size {}: only 512 and 4096 exist",
                self.sector_size
            ))
        })?;
        let rollback_index = match self.rollback_index {
            Some(index) => index,
            None => images::image::Image::open(&self.usr, &[board])?.rollback_index()?,
        };
        let options = images::disk::Options {
            board,
            usr: &self.usr,
            product: &self.product,
            version: &self.version,
            rollback_index,
            keys: &self.key,
            sector_size,
            slot_size: self.slot_size.map(|size| size.0),
            root_size: self.root_size.0,
            power_of_two: self.power_of_two,
            both: self.both,
            ids_from: self.ids_from.as_deref(),
            time: image_time()?,
            loader: self.loader.into(),
        };
        let built = images::disk::build(&options, &self.out)?;
        warn_all(&built.warnings);
        say!("{}: {} bytes\n", self.out.display(), built.layout.total);
        for (number, name, _, span) in built.layout.partitions() {
            say!(
                "  {number} {name:<10} at {:>11}  {:>11} bytes\n",
                span.start,
                span.len
            );
        }
        Ok(())
    }
}
