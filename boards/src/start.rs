//! How each board starts: which loader it has, and what that wants to know.

use crate::raspberry_pi::{self, Card};
use crate::uboot::Watchdog;
use crate::{Board, arm64_uboot_env, rpi3_uboot, rpi4_uboot, x86_64_grub};

/// A board's loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Stock GRUB with a script inside its images: [`x86_64_grub`].
    Grub,
    /// Stock U-Boot with a `boot.scr` on the first partition: [`crate::uboot`].
    UBoot(UBoot),
}

/// What a boot script for stock U-Boot is made from, beside the disk's layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UBoot {
    /// The boot state is an environment sector in OEM-CONFIG; otherwise it is the GPT attributes.
    pub environment: bool,
    /// Memory for the script, see [`crate::uboot::Options`].
    pub scratch: u64,
    /// Armed before a kernel on trial is started.
    pub watchdog: Option<Watchdog>,
    /// What the board's own firmware wants on the first partition; `None` if it has U-Boot elsewhere.
    pub card: Option<Card>,
}

impl Start {
    /// How `board` starts; `None` for a board that is not one of [`crate::BOARDS`].
    #[must_use]
    pub fn of(board: &Board) -> Option<Self> {
        const GPT: UBoot = UBoot {
            environment: false,
            scratch: rpi3_uboot::SCRATCH,
            watchdog: None,
            card: None,
        };
        [
            (&x86_64_grub::BOARD, Self::Grub),
            (
                &rpi3_uboot::BOARD,
                Self::UBoot(UBoot {
                    scratch: rpi3_uboot::SCRATCH,
                    watchdog: Some(rpi3_uboot::WATCHDOG),
                    card: Some(raspberry_pi::PI_3),
                    ..GPT
                }),
            ),
            (
                &rpi4_uboot::BOARD,
                Self::UBoot(UBoot {
                    scratch: rpi4_uboot::SCRATCH,
                    watchdog: Some(rpi4_uboot::WATCHDOG),
                    card: Some(raspberry_pi::PI_4),
                    ..GPT
                }),
            ),
            (
                &arm64_uboot_env::BOARD,
                Self::UBoot(UBoot {
                    environment: true,
                    scratch: arm64_uboot_env::SCRATCH,
                    ..GPT
                }),
            ),
        ]
        .into_iter()
        .find_map(|(known, start)| (known.name == board.name).then_some(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BOARDS;

    #[test]
    fn every_board_starts_somehow() {
        for board in BOARDS {
            assert!(Start::of(board).is_some(), "{}", board.name);
        }
        let unknown = Board {
            name: "unknown",
            ..x86_64_grub::BOARD
        };
        assert_eq!(Start::of(&unknown), None);
    }
}
