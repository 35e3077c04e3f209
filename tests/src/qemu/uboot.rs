//! Machines that start with one of Debian's U-Boot builds.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};

use super::{Machine, Monitor};

const QEMU: &str = "qemu-system-aarch64";
/// From the package u-boot-qemu.
const VIRT: &str = "/usr/lib/u-boot/qemu_arm64/u-boot.bin";

/// A machine and the build of U-Boot that it starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Board {
    /// QEMU's own, with `qemu_arm64` and a virtio disk.
    Virt,
    /// A Raspberry Pi 3 with `rpi_3` and an SD card.
    Pi3 {
        uboot: PathBuf,
        device_tree: PathBuf,
    },
}

/// A machine to be started.
#[derive(Clone, Debug)]
pub struct Setup {
    pub board: Board,
    /// The disk or card; a card's size is a power of two.
    pub image: PathBuf,
    pub read_only: bool,
    /// All output of U-Boot is appended to this file.
    pub log: PathBuf,
}

impl Setup {
    /// Turns the machine on.
    ///
    /// # Errors
    /// QEMU or U-Boot is missing, the log can't be written, or a card is to be read-only, which QEMU does not do.
    pub fn start(&self) -> Result<Machine> {
        let monitor = Monitor::new();
        let command = self.command(&monitor)?;
        Machine::launch(command, monitor, &self.log, "qemu-system-arm")
    }

    fn command(&self, monitor: &Monitor) -> Result<Command> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", QEMU]);
        command.args("-accel tcg -nodefaults -display none".split(' '));
        command.args(["-monitor", &monitor.argument()]);
        let drive = format!("format=raw,file={}", self.image.display());
        match &self.board {
            Board::Virt => {
                command.args("-M virt -cpu cortex-a53 -m 256 -serial stdio -bios".split(' '));
                command.arg(VIRT);
                let read_only = if self.read_only { "on" } else { "off" };
                let drive = format!("if=none,id=disk,read-only={read_only},{drive}");
                command.args(["-drive", &drive, "-device", "virtio-blk-device,drive=disk"]);
            }
            Board::Pi3 { uboot, device_tree } => {
                ensure!(!self.read_only, "start a Pi: QEMU has no read-only cards");
                // U-Boot talks on the second serial port.
                command.args("-M raspi3b -m 1G -smp 4 -serial null -serial stdio".split(' '));
                command.arg("-kernel").arg(uboot);
                command.arg("-dtb").arg(device_tree);
                command.args(["-drive", &format!("if=sd,{drive}")]);
            }
        }
        Ok(command)
    }
}
