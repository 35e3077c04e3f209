//! What of a demo system follows from the processor that it is for.

use super::modules;

/// Architecture of a system's kernel and programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    X86_64,
    /// One release for every board: a virtual machine and a Raspberry Pi.
    Aarch64,
}

impl Arch {
    /// The boards that a release is for.
    #[must_use]
    pub fn boards(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => &["x86_64-grub"],
            Self::Aarch64 => &["arm64-uboot-env", "rpi3-uboot", "rpi4-uboot"],
        }
    }

    /// Bytes of a slot that holds the demo system with room for a slot record.
    pub(super) fn slot_size(self) -> u64 {
        match self {
            Self::X86_64 => 64 << 20,
            // The kernel alone, which U-Boot wants uncompressed, has 33 MB.
            Self::Aarch64 => 80 << 20,
        }
    }

    /// Where the kernel talks. Of those that there are the last one is also the shell's.
    pub(super) fn consoles(self) -> &'static str {
        match self {
            Self::X86_64 => "console=ttyS0",
            Self::Aarch64 => "console=ttyAMA0 console=ttyS1,115200",
        }
    }

    /// The terminal of the shell, for busybox init; empty: the console.
    pub(super) fn terminal(self) -> &'static str {
        match self {
            Self::X86_64 => "ttyS0",
            Self::Aarch64 => "",
        }
    }

    pub(super) fn modules(self) -> &'static [&'static str] {
        match self {
            Self::X86_64 => modules::X86_64,
            Self::Aarch64 => modules::AARCH64,
        }
    }
}
