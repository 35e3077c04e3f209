//! Where the partitions lie.

use anyhow::Result;
use bootctl::gpt::{self, Guid};
use bootctl::slot_record::SLOT_RECORD_BYTES;
use bootctl::{SectorSize, Slot};

use crate::failure::refuse;

/// Everything starts and ends on a multiple of this many bytes.
pub const ALIGN: u64 = 4 << 20;
/// What comes before the first partition: the table, and room for loaders that live there.
const FIRST: u64 = 8 << 20;
const ESP: u64 = 64 << 20;
const BIOS_BOOT: u64 = 4 << 20;
const OEM: u64 = 32 << 20;
const OEM_CONFIG: u64 = 16 << 20;
/// Size of a slot unless the command line gives one: an image may double.
const LEAST_SLOT: u64 = 512 << 20;
/// ROOT grows to the disk's end on the first boot.
pub const DEFAULT_ROOT: u64 = 256 << 20;
const LEAST_ROOT: u64 = 32 << 20;
/// More than anyone has: sums of sizes stay far from 2^64.
const LARGEST: u64 = 1 << 50;

/// A range of bytes of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: u64,
    pub len: u64,
}

/// What decides the layout. Sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Wishes {
    pub sector_size: SectorSize,
    /// Size of the image that goes into slot A.
    pub image: u64,
    pub slot: Option<u64>,
    pub root: u64,
    /// The disk's size becomes a power of two.
    pub power_of_two: bool,
    /// The board starts from a BIOS too.
    pub bios: bool,
}

/// The partitions of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub sector_size: SectorSize,
    pub esp: Span,
    pub bios_boot: Option<Span>,
    pub usr_a: Span,
    pub usr_b: Span,
    pub oem: Span,
    pub oem_config: Span,
    pub root: Span,
    /// Size of the disk.
    pub total: u64,
}

impl Layout {
    /// Lays the partitions out one after the other.
    ///
    /// # Errors
    /// The image does not fit into a slot, a size is no multiple of 4 MiB, or the disk is larger than anyone has.
    pub fn plan(wishes: &Wishes) -> Result<Self> {
        if wishes.image > LARGEST {
            refuse!(
                "lay out disk: an image of {} bytes is larger than any disk",
                wishes.image
            );
        }
        let least = wishes.image.saturating_add(SLOT_RECORD_BYTES);
        let slot = match wishes.slot {
            Some(slot) => slot,
            None => LEAST_SLOT
                .max(wishes.image.saturating_mul(2))
                .next_multiple_of(ALIGN),
        };
        if slot < least {
            refuse!(
                "lay out disk: the image of {} bytes and its record of {SLOT_RECORD_BYTES} do not fit into a slot of \
                 {slot} bytes; {} are needed (--slot-size)",
                wishes.image,
                least.next_multiple_of(ALIGN)
            );
        }
        for (size, option) in [(slot, "--slot-size"), (wishes.root, "--root-size")] {
            if !size.is_multiple_of(ALIGN) || size > LARGEST {
                refuse!("lay out disk: {size} is not a multiple of {ALIGN} bytes ({option})");
            }
        }
        if wishes.root < LEAST_ROOT {
            refuse!(
                "lay out disk: {} bytes are too little for ROOT, {LEAST_ROOT} are needed (--root-size)",
                wishes.root
            );
        }
        let mut end = FIRST;
        let mut next = |len| {
            let start = end;
            end += len;
            Span { start, len }
        };
        let mut layout = Self {
            sector_size: wishes.sector_size,
            esp: next(ESP),
            bios_boot: wishes.bios.then(|| next(BIOS_BOOT)),
            usr_a: next(slot),
            usr_b: next(slot),
            oem: next(OEM),
            oem_config: next(OEM_CONFIG),
            root: next(wishes.root),
            total: 0,
        };
        // The backup table stands behind the last partition.
        layout.total = end + ALIGN;
        if wishes.power_of_two {
            layout.total = layout.total.next_power_of_two();
        }
        Ok(layout)
    }

    /// The USR partition of a slot.
    #[must_use]
    pub const fn usr(&self, slot: Slot) -> Span {
        match slot {
            Slot::A => self.usr_a,
            Slot::B => self.usr_b,
        }
    }

    /// Number, name, type and place of every partition, by number.
    #[must_use]
    pub fn partitions(&self) -> Vec<(u32, &'static str, Guid, Span)> {
        let mut all = vec![(gpt::EFI_SYSTEM, "EFI-SYSTEM", gpt::TYPE_ESP, self.esp)];
        if let Some(span) = self.bios_boot {
            all.push((gpt::BIOS_BOOT, "BIOS-BOOT", gpt::TYPE_BIOS_BOOT, span));
        }
        all.extend([
            (gpt::USR_A, "USR-A", gpt::TYPE_USR, self.usr_a),
            (gpt::USR_B, "USR-B", gpt::TYPE_USR, self.usr_b),
            (gpt::OEM, "OEM", gpt::TYPE_LINUX, self.oem),
            (
                gpt::OEM_CONFIG,
                "OEM-CONFIG",
                gpt::TYPE_OEM_CONFIG,
                self.oem_config,
            ),
            (gpt::ROOT, "ROOT", gpt::TYPE_RESIZE, self.root),
        ]);
        all
    }

    /// First sector of a place.
    #[must_use]
    pub const fn lba(&self, span: Span) -> u64 {
        span.start / self.sector_size.bytes()
    }

    /// Number of sectors of a place.
    #[must_use]
    pub const fn sectors(&self, span: Span) -> u64 {
        span.len / self.sector_size.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WISHES: Wishes = Wishes {
        sector_size: SectorSize::B512,
        image: 100 << 20,
        slot: None,
        root: DEFAULT_ROOT,
        power_of_two: false,
        bios: true,
    };

    #[test]
    fn partitions_are_aligned_in_order_and_apart() {
        let layout = Layout::plan(&WISHES).unwrap();
        let mut end = 8 << 20;
        for (_, name, _, span) in layout.partitions() {
            assert_eq!(span.start, end, "{name}");
            assert_eq!((span.start % ALIGN, span.len % ALIGN), (0, 0), "{name}");
            end = span.start + span.len;
        }
        assert_eq!(layout.total, end + ALIGN);
        assert_eq!(layout.usr_a.len, 512 << 20);
    }

    #[test]
    fn a_slot_takes_image_and_record_or_refuses() {
        let with = |image, slot| {
            Layout::plan(&Wishes {
                image,
                slot,
                ..WISHES
            })
        };
        assert_eq!(with(300 << 20, None).unwrap().usr_b.len, 600 << 20);
        assert!(with(100 << 20, Some(104 << 20)).is_ok());
        let error = with((100 << 20) + 4096, Some(104 << 20)).unwrap_err();
        assert!(
            error.to_string().contains("113246208 are needed"),
            "{error}"
        );
        assert!(with(1 << 20, Some((64 << 20) + 512)).is_err());
        assert!(with(u64::MAX - 4095, Some(64 << 20)).is_err());
        assert!(with(u64::MAX - 4095, None).is_err());
    }

    #[test]
    fn a_power_of_two_is_one() {
        let wishes = Wishes {
            power_of_two: true,
            bios: false,
            ..WISHES
        };
        let layout = Layout::plan(&wishes).unwrap();
        assert!(layout.total.is_power_of_two());
        assert_eq!(layout.usr_a.start, layout.esp.start + layout.esp.len);
    }
}
