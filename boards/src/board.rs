//! The description of a board.

use crate::{arm64_uboot_env, rpi3_uboot, rpi4_uboot, x86_64_grub};

/// Number of the contract between loader and release, passed as `tandem.loader=`. It is frozen when a disk is flashed:
/// every later release must boot with it.
pub const LOADER_CONTRACT: u32 = 1;

/// A filesystem that a slot's image may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Filesystem {
    /// ext4 with blocks of [`Board::EXT4_BLOCK_SIZE`] and without the features that loaders can't read.
    Ext4,
    /// squashfs, compressed with gzip, xz or lzo.
    Squashfs,
}

/// What a board's loader needs and can do. Plain data: nothing here touches a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Board {
    /// As in a manifest's `boards`, in the disk descriptor and on command lines.
    pub name: &'static str,
    /// Machine architecture, as `uname -m` prints it.
    pub arch: &'static str,
    /// GPT partition numbers that a disk for this board must have.
    pub partitions: &'static [u32],
    /// Filesystems that the loader reads slots from.
    pub filesystems: &'static [Filesystem],
    /// Artifacts that make up one slot, in the order in which they are installed.
    pub artifacts: &'static [&'static str],
    /// Whether the loader starts from a disk with sectors of 4096 bytes.
    pub sectors_4096: bool,
    /// What the loader passes to every kernel, beside slot, partitions and the words of the slot and of OEM.
    pub kernel_arguments: &'static [&'static str],
}

impl Board {
    /// Block size that an ext4 image must have, in bytes.
    pub const EXT4_BLOCK_SIZE: u64 = 4096;
}

/// Every board that Tandem builds disks for.
pub const BOARDS: &[Board] = &[
    x86_64_grub::BOARD,
    rpi3_uboot::BOARD,
    rpi4_uboot::BOARD,
    arm64_uboot_env::BOARD,
];

/// The board of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Board> {
    BOARDS.iter().find(|board| board.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_are_found_by_their_exact_name() {
        assert_eq!(find("x86_64-grub"), Some(&x86_64_grub::BOARD));
        assert_eq!(find("x86_64-GRUB"), None);
        assert_eq!(find(""), None);
    }

    #[test]
    fn names_fit_a_manifest() {
        for (index, board) in BOARDS.iter().enumerate() {
            assert!((1..=64).contains(&board.name.len()));
            assert!(
                board
                    .name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
            );
            assert!(BOARDS.iter().skip(index + 1).all(|b| b.name != board.name));
        }
    }
}
