//! Releases of the demo system: slot image, payload and what is known about them, and the disk that boots the first one.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::tree::PRODUCT;
use super::{Arch, Binaries, OWN_ENVIRONMENT, Packages, PiFiles, fw_env_config, run, tree};
use crate::host_hash;
use crate::scenario::damage;

/// Where an ext4 says in which block its first bitmap of blocks lies: at the start of the first group descriptor. Linux
/// looks there when it mounts; who only reads files does not.
const BLOCK_BITMAP_AT: u64 = 4096;

/// What is wrong with a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    KernelMissing,
    /// Its kernel ends within the header.
    KernelShort,
    /// Its kernel ends half-way, which GRUB does not notice.
    KernelHalf,
    Panic,
    /// Its loader reads its file system and Linux does not mount it: a squashfs without a driver, where the loader reads
    /// that, else a damaged ext4.
    NoUsr,
    HealthFails,
    HealthHangs,
    /// It never gets as far as `update_engine health`.
    Stalls,
    /// Nothing but one program of its own runs any more, not even the deadline.
    Hangs,
}

/// What a release is made of.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// Also the name of its files.
    pub name: &'static str,
    pub version: &'static str,
    pub rollback_index: u64,
    /// `TRIES` of its `update.conf`: how often a release that it installs is tried.
    pub tries: u8,
    /// `HEALTH_TIMEOUT` of its `update.conf`.
    pub health_timeout: Duration,
    /// `tandem.deadline` of its kernel command line.
    pub deadline: Duration,
    pub fault: Fault,
}

/// A built release.
#[derive(Clone, Debug)]
pub struct Release {
    pub recipe: Recipe,
    /// The slot image.
    pub usr: PathBuf,
    pub payload: PathBuf,
    /// Length of the slot image in bytes.
    pub size: u64,
    /// BLAKE3 of the slot image, taken from the file.
    pub hash: blake3::Hash,
}

/// Name of a disk for the Pi 3 whose script arms the watchdog.
pub const LOADER_WATCHDOG: &str = "rpi3-uboot-armed";

/// Where releases and disks are made. Everything in its folder can be thrown away.
#[derive(Clone, Debug)]
pub struct Workshop {
    pub dir: PathBuf,
    pub binaries: Binaries,
    packages: Packages,
}

impl Workshop {
    /// Empties `dir` and makes a signing key in it.
    ///
    /// # Errors
    /// A tool is missing or fails; I/O.
    pub fn open(dir: &Path, arch: Arch) -> Result<Self> {
        let packages = Packages::fetch(arch)?;
        let binaries = Binaries::build(arch)?;
        if dir.exists() {
            fs::remove_dir_all(dir).with_context(|| format!("empty {}", dir.display()))?;
        }
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let workshop = Self {
            dir: dir.to_owned(),
            binaries,
            packages,
        };
        run(workshop.image_tool().args(["keygen", "--out-dir", "keys"]))?;
        Ok(workshop)
    }

    /// Builds a release: tree, slot image, payload.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn release(&self, recipe: Recipe) -> Result<Release> {
        let Recipe {
            name,
            version,
            rollback_index,
            ..
        } = recipe;
        let context = || format!("build release {name}");
        let root = tempfile::tempdir_in(&self.dir).with_context(context)?;
        tree::write(root.path(), &recipe, &self.packages, &self.binaries).with_context(context)?;
        let usr = self.dir.join(format!("{name}.img"));
        if recipe.fault == Fault::NoUsr && self.packages.arch == Arch::X86_64 {
            squashfs(root.path(), &usr)?;
        } else {
            let mut command = self.image_tool();
            command.args(["usr", "--key", "keys/release.pub.pem", "--root"]);
            run(command.arg(root.path()).arg("--out").arg(&usr))?;
        }
        if recipe.fault == Fault::NoUsr && self.packages.arch == Arch::Aarch64 {
            damage::write(&usr, BLOCK_BITMAP_AT, &[0xff; 4]).with_context(context)?;
        }
        let payload = self.dir.join(format!("{name}.payload"));
        let boards = self.packages.arch.boards().iter().copied();
        run(self
            .image_tool()
            .args([
                "payload",
                "--product",
                PRODUCT,
                "--version",
                version,
                "--key",
                "keys/release.key.pem",
            ])
            .args(boards.flat_map(|board| ["--board", board]))
            .args(["--rollback-index", &rollback_index.to_string(), "--usr"])
            .arg(&usr)
            .arg("--out")
            .arg(&payload))?;
        let size = fs::metadata(&usr).with_context(context)?.len();
        let hash = host_hash::file_hash(&usr)?;
        Ok(Release {
            recipe,
            usr,
            payload,
            size,
            hash,
        })
    }

    /// Builds the disk image for `board`, or for [`OWN_ENVIRONMENT`] or [`LOADER_WATCHDOG`], that boots `release` from slot a.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn disk(&self, release: &Release, board: &str) -> Result<PathBuf> {
        let disk = self.dir.join(format!("{board}.disk"));
        let options = self.card_options(board)?;
        let board = match board {
            OWN_ENVIRONMENT => boards::arm64_uboot_env::BOARD.name,
            LOADER_WATCHDOG => boards::rpi3_uboot::BOARD.name,
            board => board,
        };
        let slot_size = self.packages.arch.slot_size();
        let Recipe {
            version,
            rollback_index,
            ..
        } = release.recipe;
        run(self
            .image_tool()
            .args([
                "build",
                "--board",
                board,
                "--product",
                PRODUCT,
                "--version",
                version,
                "--key",
                "keys/release.pub.pem",
            ])
            .args([
                "--rollback-index",
                &rollback_index.to_string(),
                "--slot-size",
                &slot_size.to_string(),
                "--usr",
            ])
            .arg(&release.usr)
            .args(options)
            .arg("--out")
            .arg(&disk))?;
        Ok(disk)
    }

    /// An emulated Pi starts with U-Boot: files that only have the names stand in for the firmware, which is not free. Its
    /// card has to have a power of two for its size, and its watchdog resets it as soon as it is armed, which only
    /// [`LOADER_WATCHDOG`] wants to see.
    fn card_options(&self, board: &str) -> Result<Vec<OsString>> {
        if board == OWN_ENVIRONMENT {
            let config = self.dir.join("fw_env.config");
            fs::write(&config, fw_env_config("/dev/mmcblk0")).context("write fw_env.config")?;
            return Ok(vec![
                "--power-of-two".into(),
                "--fw-env-config".into(),
                config.into(),
                "--script-memory".into(),
                format!("{:#x}", boards::rpi3_uboot::SCRATCH).into(),
            ]);
        }
        if !board.starts_with("rpi") {
            return Ok(Vec::new());
        }
        let files = PiFiles::fetch()?;
        let firmware = self.dir.join("firmware");
        fs::create_dir_all(&firmware).context("make stand-ins for the firmware")?;
        let (names, uboot) = match board == boards::rpi4_uboot::BOARD.name {
            true => (boards::raspberry_pi::PI_4.firmware, files.rpi_4),
            false => (boards::raspberry_pi::PI_3.firmware, files.rpi_3),
        };
        for name in names {
            fs::write(firmware.join(name), name).context("make stand-ins for the firmware")?;
        }
        let mut options: Vec<OsString> = vec![
            "--power-of-two".into(),
            "--firmware".into(),
            firmware.into(),
            "--device-trees".into(),
            files.device_trees.into(),
            "--u-boot".into(),
            uboot.into(),
        ];
        if board != LOADER_WATCHDOG {
            options.push("--no-loader-watchdog".into());
        }
        Ok(options)
    }

    fn image_tool(&self) -> Command {
        let mut command = Command::new(&self.binaries.tandem_image);
        command.current_dir(&self.dir);
        command
    }
}

fn squashfs(root: &Path, out: &Path) -> Result<()> {
    let mut command = Command::new("mksquashfs");
    command.arg(root).arg(out);
    run(command.args("-comp gzip -all-root -noappend -quiet -no-progress".split(' '))).map(drop)
}
