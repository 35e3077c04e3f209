//! What a scenario runs on.

use crate::qemu::Firmware;
use crate::system::{Arch, OWN_ENVIRONMENT};
use crate::uboot::Machine;

/// A machine and what it starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// A PC with this firmware.
    Pc(Firmware),
    /// A machine that starts with U-Boot.
    Uboot(Machine),
}

impl Platform {
    pub const BIOS: Self = Self::Pc(Firmware::Bios);
    pub const UEFI: Self = Self::Pc(Firmware::Uefi);
    pub const VIRT: Self = Self::Uboot(Machine::Virt);
    pub const PI3: Self = Self::Uboot(Machine::Pi3);
    pub const PI4: Self = Self::Uboot(Machine::Pi4);
    pub const OWN: Self = Self::Uboot(Machine::Own);
    /// Every PC.
    pub const PC: &[Self] = &[Self::BIOS, Self::UEFI];
    /// Those with a virtual disk, whose loader keeps an environment.
    pub const WITH_ENVIRONMENT: &[Self] = &[Self::BIOS, Self::UEFI, Self::VIRT];
    /// Those whose boot state, or where to find it, hangs on the partition table.
    pub const WITH_TABLE: &[Self] = &[Self::BIOS, Self::UEFI, Self::PI3];
    /// Machines that can have a watchdog, with one firmware each: the Pi's own resets an emulated one as soon as it is armed.
    pub const WITH_WATCHDOG: &[Self] = &[Self::BIOS, Self::VIRT];
    /// One firmware is enough where it has no part in what happens.
    pub const NOT_UEFI: &[Self] = &[Self::BIOS, Self::VIRT, Self::PI3];
    /// One for each kind of loader and of boot state.
    pub const BOARDS: &[Self] = &[Self::BIOS, Self::UEFI, Self::VIRT, Self::PI3];
    /// One for each board. Where a board's U-Boot keeps its own environment, `own-environment-damaged` updates twice.
    pub const BOARDS_AND_PI4: &[Self] = &[Self::BIOS, Self::UEFI, Self::VIRT, Self::PI3, Self::PI4];
    const ALL: &[Self] = &[
        Self::BIOS,
        Self::UEFI,
        Self::VIRT,
        Self::PI3,
        Self::PI4,
        Self::OWN,
    ];

    /// As in `tests/scenarios.txt`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pc(firmware) => firmware.name(),
            Self::Uboot(machine) => machine.name(),
        }
    }

    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|known| known.name() == name)
    }

    #[must_use]
    pub fn arch(self) -> Arch {
        match self {
            Self::Pc(_) => Arch::X86_64,
            Self::Uboot(_) => Arch::Aarch64,
        }
    }

    /// The disk that it starts with, in [`Stock`](crate::system::Stock): by the board.
    #[must_use]
    pub fn board(self) -> &'static str {
        match self {
            Self::Pc(_) => "x86_64-grub",
            Self::Uboot(Machine::Virt) => "arm64-uboot-env",
            Self::Uboot(Machine::Pi3) => "rpi3-uboot",
            Self::Uboot(Machine::Pi4) => "rpi4-uboot",
            Self::Uboot(Machine::Own) => OWN_ENVIRONMENT,
        }
    }

    /// What the loader says of its environment when it starts for the first time. Its own it makes then.
    #[must_use]
    pub fn first_environment(self) -> &'static str {
        match self {
            Self::OWN => "lost",
            _ => "ok",
        }
    }
}
