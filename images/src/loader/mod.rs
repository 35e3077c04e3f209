//! Loader installation: what the board's firmware starts, and the script that chooses a slot.

mod grub;
mod uboot;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use boards::Board;
use boards::start::Start;

use crate::disk::layout::Layout;
use crate::failure::Failure;
use crate::fw_env_config::OwnEnvironment;

/// Where Debian's grub-pc-bin and grub-efi-amd64-bin put their modules.
pub const GRUB_DIR: &str = "/usr/lib/grub";

/// Largest file that is put on the first partition, in bytes.
const MAX_FILE: u64 = 32 << 20;

/// Where the parts of a loader come from. What is `None` comes from where Debian's packages put it.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Folder with GRUB's modules.
    pub grub: Option<PathBuf>,
    /// Folder with the firmware of the Raspberry Pi.
    pub firmware: Option<PathBuf>,
    /// Folder with device trees of the Raspberry Pi; without it they are with the firmware.
    pub device_trees: Option<PathBuf>,
    /// `config.txt` for the Raspberry Pi.
    pub config_txt: Option<PathBuf>,
    /// U-Boot for the Raspberry Pi.
    pub uboot: Option<PathBuf>,
    /// U-Boot's script does not arm a watchdog.
    pub no_watchdog: bool,
    /// `fw_env.config` of a board whose U-Boot keeps its own environment in two copies: the boot state goes there.
    pub fw_env_config: Option<PathBuf>,
    /// Memory for U-Boot's script instead of the board's.
    pub script_memory: Option<u64>,
}

/// A loader for one disk layout.
#[derive(Debug)]
pub struct Loader {
    /// For BIOS: `boot.img` and the core image. `None` on disks that no BIOS reads.
    bios: Option<(Vec<u8>, Vec<u8>)>,
    /// Paths on the first partition and contents.
    pub files: Vec<(String, Vec<u8>)>,
    /// The first partition stands in the MBR too, for firmware that reads no GPT.
    pub hybrid: bool,
    /// U-Boot's own environment, if the boot state is there.
    pub own_environment: Option<OwnEnvironment>,
}

impl Loader {
    /// Makes the loader of `board` for a disk with this layout.
    ///
    /// # Errors
    /// `sources` names something that the board has no use for; a file, a package or a tool is missing; a tool fails.
    pub fn make(board: &Board, layout: &Layout, sources: &Sources) -> Result<Self> {
        let Some(start) = Start::of(board) else {
            bail!("install loader: don't know how for board {}", board.name);
        };
        sources.check(board, &start)?;
        match start {
            Start::Grub => grub::make(layout, sources),
            Start::UBoot(uboot) => uboot::make(board, &uboot, layout, sources),
        }
    }

    /// Puts what lies outside any file system into its place.
    ///
    /// # Errors
    /// It does not fit, or the disk can't be written.
    pub fn install(&self, disk: &File, layout: &Layout) -> Result<()> {
        match (&self.bios, layout.bios_boot) {
            (Some((boot, core)), Some(span)) => {
                grub::install_bios(disk, boot, core, layout.lba(span), span)
            }
            _ => Ok(()),
        }
    }
}

impl Sources {
    /// Files, apart from folders, that are read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.config_txt, &self.uboot, &self.fw_env_config]
            .into_iter()
            .flat_map(|file| file.as_deref())
    }

    /// An option that changes nothing would be believed to have changed something.
    fn check(&self, board: &Board, start: &Start) -> Result<()> {
        let is_card = matches!(start, Start::UBoot(uboot) if uboot.card.is_some());
        let is_uboot = matches!(start, Start::UBoot(_));
        let has_environment = matches!(start, Start::UBoot(uboot) if uboot.environment);
        let useless = [
            ("--grub-dir", self.grub.is_some(), is_uboot),
            ("--firmware", self.firmware.is_some(), !is_card),
            ("--device-trees", self.device_trees.is_some(), !is_card),
            ("--config-txt", self.config_txt.is_some(), !is_card),
            ("--u-boot", self.uboot.is_some(), !is_card),
            ("--no-loader-watchdog", self.no_watchdog, !is_uboot),
            (
                "--fw-env-config",
                self.fw_env_config.is_some(),
                !has_environment,
            ),
            ("--script-memory", self.script_memory.is_some(), !is_uboot),
        ]
        .into_iter()
        .find(|(_, given, useless)| *given && *useless);
        match useless {
            None => Ok(()),
            Some((option, _, _)) => Err(Failure::Usage(format!(
                "use {option}: a disk for {} has nothing of that kind",
                board.name
            ))
            .into()),
        }
    }
}

/// A file, if it is not longer than [`MAX_FILE`].
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    let name = || format!("read {}", path.display());
    let mut bytes = Vec::new();
    File::open(path)
        .with_context(name)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)
        .with_context(name)?;
    ensure!(
        bytes.len() as u64 <= MAX_FILE,
        "read {}: longer than {MAX_FILE} bytes",
        path.display()
    );
    Ok(bytes)
}
