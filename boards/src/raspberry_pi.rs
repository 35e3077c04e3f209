//! What the firmware of a Raspberry Pi reads before U-Boot runs: files on the FAT at the start of the card.
//!
//! The firmware's own documentation (`config_txt`, `bootflow`) is the source. Nothing here updates the firmware in a
//! Pi's EEPROM: a card that does could leave a board that starts from nothing.

/// What a card for one kind of Pi holds beside U-Boot, its script and [`CONFIG`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Card {
    /// Files of the firmware, without which the board does not start.
    pub firmware: &'static [&'static str],
    /// How the names of the device trees for the board's models begin, in Linux and in the vendor's kernel. They end
    /// with [`DEVICE_TREE`].
    pub device_trees: &'static [&'static str],
    /// Debian's build of U-Boot (package u-boot-rpi).
    pub uboot: &'static str,
}

/// Pi 3, 3+, Compute Module 3 and Zero 2 W: the chip's ROM reads `bootcode.bin`.
pub const PI_3: Card = Card {
    firmware: &["bootcode.bin", "fixup.dat", "start.elf"],
    device_trees: &["bcm2837-rpi-", "bcm2710-rpi-"],
    uboot: "/usr/lib/u-boot/rpi_3/u-boot.bin",
};

/// Pi 4, 400 and Compute Module 4: the EEPROM reads `start4.elf`.
pub const PI_4: Card = Card {
    firmware: &["fixup4.dat", "start4.elf"],
    device_trees: &["bcm2711-rpi-"],
    uboot: "/usr/lib/u-boot/rpi_4/u-boot.bin",
};

/// Where Debian's package raspi-firmware puts the files of the firmware.
pub const FIRMWARE_FOLDER: &str = "/usr/lib/raspi-firmware";

/// Most bytes of memory that a kernel may take (`image_size` in its header): U-Boot's builds for Raspberry Pis move it to
/// 2 MiB and load the initramfs at 39 MiB (`ramdisk_addr_r`).
pub const KERNEL_MAX: u64 = 37 << 20;

/// The end of a device tree's name.
pub const DEVICE_TREE: &str = ".dtb";

/// Name of U-Boot on the card.
pub const UBOOT: &str = "u-boot.bin";

/// The firmware's settings.
pub const CONFIG_PATH: &str = "config.txt";

/// The type of the card's first MBR entry: the ROM of a Pi 3 takes FAT32 by LBA and not 0xEF.
pub const FAT_TYPE: u8 = 0x0C;

/// Content of [`CONFIG_PATH`].
pub const CONFIG: &str = "\
# Tandem: the firmware starts U-Boot, which runs boot.scr.
arm_64bit=1
kernel=u-boot.bin
# Device trees by the names that Linux gives them.
upstream_kernel=1
# U-Boot and Linux talk on pins 8 (out) and 10 (in). Noise on a cable that ends nowhere can stop U-Boot at its prompt:
# a product without a serial console wants 0.
enable_uart=1
";

#[cfg(test)]
mod tests {
    use super::*;

    /// The firmware reads no more than 98 characters of a line.
    #[test]
    fn lines_of_the_settings_are_short_where_they_count() {
        for line in CONFIG.lines().filter(|l| !l.starts_with('#')) {
            assert!(line.len() <= 98 && line.contains('='), "{line}");
        }
        assert!(CONFIG.contains(&format!("kernel={UBOOT}\n")));
    }

    #[test]
    fn nothing_updates_an_eeprom() {
        for card in [PI_3, PI_4] {
            for name in card.firmware {
                for update in ["pieeprom", "recovery", "vl805"] {
                    assert!(!name.starts_with(update), "{name}");
                }
            }
        }
    }
}
