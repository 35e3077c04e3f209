//! QEMU's `-M virt` with stock U-Boot (`qemu_arm64`) and our `boot.scr`; the boot state is a U-Boot environment of one
//! sector. Any board whose U-Boot keeps its own environment elsewhere may do it this way.

use crate::{Board, Filesystem};

/// The board's data.
pub const BOARD: Board = Board {
    name: "arm64-uboot-env",
    arch: "aarch64",
    partitions: &[1, 3, 4, 6, 7, 9],
    filesystems: &[Filesystem::Ext4],
    artifacts: &["usr"],
    sectors_4096: false,
    kernel_arguments: &["gpt", "panic=10"],
};

/// Memory for the script on `-M virt`: what U-Boot keeps for network boot (`pxefile_addr_r`).
pub const SCRATCH: u64 = 0x4030_0000;
