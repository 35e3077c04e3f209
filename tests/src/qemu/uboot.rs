//! Machines that start with one of Debian's U-Boot builds.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use super::{Bus, Drive, Machine, Monitor, WATCHDOG};

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
    /// A Raspberry Pi 4 with `rpi_4` and an SD card, in a QEMU that has one.
    Pi4 {
        qemu: PathBuf,
        uboot: PathBuf,
        device_tree: PathBuf,
    },
}

/// A machine to be started.
#[derive(Clone, Debug)]
pub struct Setup {
    pub board: Board,
    /// The disk, card or stick; a card's size is a power of two.
    pub drive: Drive,
    /// A watchdog on PCI, which a Pi does not have.
    pub watchdog: bool,
    /// All output of U-Boot is appended to this file.
    pub log: PathBuf,
}

impl Setup {
    /// Turns the machine on.
    ///
    /// # Errors
    /// QEMU or U-Boot is missing, the log can't be written, or the machine takes no drive of that kind.
    pub fn start(&self) -> Result<Machine> {
        let monitor = Monitor::new();
        let command = self.command(&monitor)?;
        Machine::launch(command, monitor, &self.log, "qemu-system-arm")
    }

    fn command(&self, monitor: &Monitor) -> Result<Command> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
        match &self.board {
            Board::Pi4 { qemu, .. } => command.arg(qemu),
            _ => command.arg(QEMU),
        };
        command.args("-nodefaults -display none".split(' '));
        command.args(["-monitor", &monitor.argument()]);
        match &self.board {
            Board::Virt => {
                // For a machine with firmware QEMU leaves pins out, unless ACPI is off.
                command.args("-accel tcg -M virt,acpi=off -cpu cortex-a53 -m 512".split(' '));
                command.args("-serial stdio -bios".split(' '));
                command.arg(VIRT);
                command
                    .args("-netdev user,id=net0 -device virtio-net-device,netdev=net0".split(' '));
            }
            Board::Pi3 {
                uboot, device_tree, ..
            }
            | Board::Pi4 {
                uboot, device_tree, ..
            } => {
                command.args(match self.board {
                    Board::Pi4 { .. } => ["-M", "raspi4b", "-m", "2G"],
                    _ => ["-M", "raspi3b", "-m", "1G"],
                });
                command.args(match self.board {
                    Board::Pi4 { .. } => ["-serial", "stdio", "-serial", "null"],
                    // U-Boot talks on the second serial port.
                    _ => ["-serial", "null", "-serial", "stdio"],
                });
                command.args(["-smp", "4"]);
                // Three processors spin until Linux wakes them: in threads of their own they would take what the first needs.
                command.args(["-accel", "tcg,thread=single"]);
                command.arg("-kernel").arg(uboot);
                command.arg("-dtb").arg(device_tree);
            }
        }
        let virt = self.board == Board::Virt;
        if self.watchdog {
            command.args(["-device", WATCHDOG]);
        }
        let device = match self.drive.bus {
            Bus::Virtio if virt => "virtio-blk-device",
            Bus::UsbStick if !virt => "usb-storage",
            Bus::Card if !virt && !self.drive.read_only => {
                let drive = format!("if=sd,format=raw,file={}", self.drive.image.display());
                command.args(["-drive", &drive]);
                return Ok(command);
            }
            bus => bail!(
                "start the machine: QEMU has no {bus:?} for it, read-only: {}",
                self.drive.read_only
            ),
        };
        command.args(self.drive.arguments(0)?);
        command.args(["-device", &format!("{device},drive=disk0")]);
        Ok(command)
    }
}
