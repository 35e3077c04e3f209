//! The machine that a script runs on.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::qemu::uboot::{Board, Setup};
use crate::qemu::{Bus, Drive};
use crate::scenario::{LoaderLine, loader_lines};
use crate::system::{PiFiles, own_uboot, qemu_raspi4b};

/// On a Pi U-Boot looks for USB devices first.
const BOOT: Duration = Duration::from_secs(600);

/// Which machine, as `tests/scenarios.txt` calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    Virt,
    Pi3,
    Pi4,
    /// A Pi 3 whose U-Boot keeps its own environment in two copies.
    Own,
}

impl Machine {
    pub const ALL: [Self; 4] = [Self::Virt, Self::Pi3, Self::Pi4, Self::Own];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Virt => "virt",
            Self::Pi3 => "pi3",
            Self::Pi4 => "pi4",
            Self::Own => "own",
        }
    }

    /// The machine, with what is downloaded for it if the host does not have it.
    ///
    /// # Errors
    /// No network.
    pub fn board(self) -> Result<Board> {
        Ok(match self {
            Self::Virt => Board::Virt,
            Self::Pi4 => {
                let files = PiFiles::fetch()?;
                let qemu = qemu_raspi4b(&files.pi4_device_tree())?;
                Board::Pi4 {
                    device_tree: qemu.join("raspi4b.dtb"),
                    qemu: qemu.join("run"),
                    uboot: files.rpi_4,
                }
            }
            Self::Pi3 | Self::Own => {
                let files = PiFiles::fetch()?;
                Board::Pi3 {
                    device_tree: files.pi3_device_tree(),
                    uboot: match self {
                        Self::Own => own_uboot()?,
                        _ => files.rpi_3,
                    },
                }
            }
        })
    }

    /// The variables that a build of U-Boot of ours has by itself, `NAME=VALUE`.
    ///
    /// # Errors
    /// This machine has none of ours, or the file can't be read.
    pub fn initial_environment(self) -> Result<Vec<String>> {
        ensure!(self == Self::Own, "{} has Debian's U-Boot", self.name());
        let path = own_uboot()?.with_file_name("u-boot-initial-env");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// How its own disk is attached.
    #[must_use]
    pub fn bus(self) -> Bus {
        match self {
            Self::Virt => Bus::Virtio,
            Self::Pi3 | Self::Pi4 | Self::Own => Bus::Card,
        }
    }

    /// Memory that the script may use there.
    #[must_use]
    pub fn scratch(self) -> u64 {
        match self {
            Self::Virt => boards::arm64_uboot_env::SCRATCH,
            Self::Pi3 | Self::Own => boards::rpi3_uboot::SCRATCH,
            Self::Pi4 => boards::rpi4_uboot::SCRATCH,
        }
    }
}

/// A folder and a machine for one scenario.
#[derive(Debug)]
pub struct Bench {
    pub dir: PathBuf,
    pub machine: Machine,
    board: Board,
    boots: usize,
}

impl Bench {
    /// Empties `dir`, and downloads what the machine needs and the host does not have.
    ///
    /// # Errors
    /// I/O, no network.
    pub fn new(machine: Machine, dir: &Path) -> Result<Self> {
        if dir.exists() {
            fs::remove_dir_all(dir).with_context(|| format!("empty {}", dir.display()))?;
        }
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(Self {
            dir: dir.to_owned(),
            machine,
            board: machine.board()?,
            boots: 0,
        })
    }

    /// How often a machine was started.
    #[must_use]
    pub fn boots(&self) -> usize {
        self.boots
    }

    /// Starts the machine, waits until the loader gives up, and returns what it tried.
    ///
    /// # Errors
    /// The loader never gives up.
    pub fn choices(&mut self, image: &Path, read_only: bool) -> Result<Vec<LoaderLine>> {
        loader_lines(&self.says(image, read_only)?)
    }

    /// The same, and returns all that the loader said meanwhile.
    ///
    /// # Errors
    /// The loader never gives up.
    pub fn says(&mut self, image: &Path, read_only: bool) -> Result<String> {
        self.says_on(self.machine.bus(), image, read_only)
    }

    /// What is tried when the same disk is a USB stick, and there is no other.
    ///
    /// # Errors
    /// The loader never gives up.
    pub fn choices_on_stick(&mut self, image: &Path, read_only: bool) -> Result<Vec<LoaderLine>> {
        loader_lines(&self.says_on(Bus::UsbStick, image, read_only)?)
    }

    fn says_on(&mut self, bus: Bus, image: &Path, read_only: bool) -> Result<String> {
        let setup = Setup {
            board: self.board.clone(),
            drive: Drive {
                bus,
                read_only,
                ..Drive::virtio(image)
            },
            watchdog: false,
            log: self.dir.join("serial.log"),
        };
        let mut machine = setup.start()?;
        // What U-Boot does by itself after two seconds, now.
        machine.wait_for("stop autoboot", BOOT)?;
        machine.type_line("")?;
        // `=> `, and on a Pi `U-Boot> `.
        machine.wait_for("> ", BOOT)?;
        machine.type_line("boot")?;
        let said = machine.wait_for("no slot can be booted", BOOT)?;
        machine.cut_power()?;
        self.boots += 1;
        Ok(said)
    }
}
