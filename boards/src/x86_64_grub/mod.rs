//! PCs with stock GRUB 2.06 or later, BIOS and UEFI from one disk.
//!
//! GRUB's configuration is a memdisk inside the BIOS core image and inside `BOOTX64.EFI`, so that once the loader runs
//! nothing on the EFI system partition is read or written. Both images get the same script, made by [`grub_cfg`] for one
//! disk layout.

use crate::{Board, Filesystem};

#[cfg(feature = "std")]
mod script;
#[cfg(feature = "std")]
pub use script::{Extent, Layout, LayoutError, grub_cfg};

/// The board's data.
pub const BOARD: Board = Board {
    name: "x86_64-grub",
    arch: "x86_64",
    partitions: &[1, 2, 3, 4, 6, 7, 9],
    filesystems: &[Filesystem::Ext4, Filesystem::Squashfs],
    artifacts: &["usr"],
    // UEFI only: a BIOS reads sectors of 512 bytes.
    sectors_4096: true,
    kernel_arguments: &["gpt", "panic=10"],
};

/// `grub-mkimage --prefix`: the memdisk, so that no module and no configuration is looked for on a disk.
pub const PREFIX: &str = "(memdisk)/boot/grub";

/// Where in the memdisk's tar archive the script of [`grub_cfg`] belongs.
pub const CONFIG_PATH: &str = "boot/grub/grub.cfg";

/// Modules of both core images.
pub const MODULES: &[&str] = &[
    "boot",
    "echo",
    "ext2",
    "fat",
    "linux",
    "loadenv",
    "loopback",
    "memdisk",
    "multiboot",
    "normal",
    "part_gpt",
    "probe",
    "reboot",
    "regexp",
    "sleep",
    "squash4",
    "tar",
    "test",
    "true",
];

/// What the BIOS core image (`i386-pc`) needs in addition to [`MODULES`].
pub const MODULES_BIOS: &[&str] = &["biosdisk", "serial", "terminal"];

/// What `BOOTX64.EFI` (`x86_64-efi`) needs in addition to [`MODULES`]: a graphical console for the kernel.
pub const MODULES_EFI: &[&str] = &["all_video", "terminal"];
