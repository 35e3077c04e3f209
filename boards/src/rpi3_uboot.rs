//! Raspberry Pi 3, 3+ and Zero 2 W with stock U-Boot (`rpi_3`) and our `boot.scr`.

use crate::{Board, Filesystem};

/// The board's data.
pub const BOARD: Board = Board {
    name: "rpi3-uboot",
    arch: "aarch64",
    partitions: &[1, 3, 4, 6, 7, 9],
    filesystems: &[Filesystem::Ext4],
    artifacts: &["usr"],
    sectors_4096: false,
    kernel_arguments: &["gpt", "panic=10"],
};

/// Memory for the script: what U-Boot keeps for network boot (`pxefile_addr_r`), which there is none of here.
pub const SCRATCH: u64 = 0x0250_0000;

/// The power management block of the BCM2837, with its watchdog.
#[cfg(feature = "std")]
pub const WATCHDOG: crate::uboot::Watchdog = crate::uboot::Watchdog { base: 0x3f10_0000 };
