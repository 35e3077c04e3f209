//! The simulated boards, and a disk of each as it is flashed.

use std::collections::HashMap;
use std::io::Cursor;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use bootctl::confirmed::{CONFIRMED_BYTES, CONFIRMED_FROM_END, ConfirmedRecord};
use bootctl::descriptor::{
    DESCRIPTOR_BYTES, DESCRIPTOR_FROM_END, Descriptor, Store, UBOOT_ENV_FROM_END,
};
use bootctl::gpt::{self, Guid, LbaRange};
use bootctl::slot_record::{self, SLOT_RECORD_BYTES};
use bootctl::{SectorSize, Slot};
use gptman::{GPT, GPTPartitionEntry};
use images::fat;

use super::disk::SimDisk;
use super::loader::places;
use super::medium::{Medium, Zone, Zones};
use super::parse::{self, Attr, State};
use super::release::{self, IMAGE, Number, Release};

/// What a disk is booted by, and where its loader keeps the boot state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Board {
    /// GRUB with our script: a GRUB block, mirrored in the GPT.
    X86Grub,
    /// U-Boot with our boot script: the GPT.
    RpiUboot,
    /// U-Boot with our environment script: one sector, mirrored in the GPT.
    Arm64Env,
    /// The same with U-Boot's own redundant environment.
    Arm64Redundant,
    /// GRUB with `gptprio.next`: the GPT.
    X86Gptprio,
}

impl Board {
    pub const ALL: [Self; 5] = [
        Self::X86Grub,
        Self::RpiUboot,
        Self::Arm64Env,
        Self::Arm64Redundant,
        Self::X86Gptprio,
    ];

    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86Grub => "x86_64-grub",
            Self::RpiUboot => "rpi-uboot",
            Self::Arm64Env => "arm64-uboot-env",
            Self::Arm64Redundant => "arm64-uboot-redundant",
            Self::X86Gptprio => "x86_64-gptprio",
        }
    }

    /// The GPT attributes are a mirror only.
    #[must_use]
    pub const fn has_environment(self) -> bool {
        matches!(self, Self::X86Grub | Self::Arm64Env | Self::Arm64Redundant)
    }
}

/// Where things are, in bytes of the disk.
#[derive(Clone, Debug)]
pub struct Layout {
    pub usr: [Range<u64>; 2],
    pub image: [Range<u64>; 2],
    pub oem_config: Range<u64>,
    /// The copies of the environment; none where the GPT is the authority.
    pub environment: Vec<Range<u64>>,
    pub confirmed: Range<u64>,
}

/// A board with one sector size: its flashed disk and the releases for it.
#[derive(Debug)]
pub struct Fixture {
    pub board: Board,
    pub sector_size: SectorSize,
    pub layout: Layout,
    pub releases: Arc<Vec<Release>>,
    /// Slot a holds release 0, slot b nothing.
    pub flashed: Medium,
    /// The release whose image has this sum, in slot a and in slot b.
    known: [HashMap<u64, Number>; 2],
}

const KIB: u64 = 1024;
const FAT_BYTES: u64 = 512 * KIB;
const OEM_CONFIG_BYTES: u64 = FAT_BYTES + 1024 * KIB;
const USR_BYTES: u64 = IMAGE as u64 + SLOT_RECORD_BYTES;
const FIRST: u64 = 64 * KIB;
const TAIL: u64 = 64 * KIB;
/// Where U-Boot keeps its own environment on the board where that is redundant: between table and first partition.
const OWN_ENVIRONMENT: [u64; 2] = [32 * KIB, 48 * KIB];
/// Size of each copy of a redundant environment in bytes.
const REDUNDANT_BYTES: u64 = 1024;
const GRUBENV: &[u8; 11] = b"GRUBENV    ";

/// Bits of an attribute word that belong to somebody else.
const FOREIGN_BITS: u64 = 0x8200_0000_0000_0005;

const PARTITIONS: [(u32, Guid, u64); 8] = [
    (1, gpt::TYPE_ESP, 64 * KIB),
    (2, gpt::TYPE_BIOS_BOOT, 64 * KIB),
    (3, gpt::TYPE_USR, USR_BYTES),
    (4, gpt::TYPE_USR, USR_BYTES),
    (5, Guid([0xa5; 16]), 64 * KIB),
    (6, gpt::TYPE_LINUX, 64 * KIB),
    (7, gpt::TYPE_OEM_CONFIG, OEM_CONFIG_BYTES),
    (9, gpt::TYPE_RESIZE, 128 * KIB),
];

impl Fixture {
    /// # Errors
    /// The disk can't be made: a fault of the tests.
    pub fn new(
        board: Board,
        sector_size: SectorSize,
        releases: &Arc<Vec<Release>>,
    ) -> Result<Self> {
        let mut fixture = Self::empty(board, sector_size, releases)?;
        let mut disk = SimDisk::new(fixture.flashed.clone(), None);
        let flashed = fixture.release(0)?;
        let (header, body) = flashed.flashed_record()?;
        let usr = fixture.usr_sectors(0);
        slot_record::write(&mut disk, usr, &header, &body).map_err(|e| anyhow!("{e}"))?;
        fixture.flashed = disk.now().settled();
        fixture.learn_images()?;
        Ok(fixture)
    }

    /// A disk that was made elsewhere, with something in its slots that does not load.
    #[must_use]
    pub fn unloadable(board: Board, layout: Layout, flashed: Medium) -> Self {
        let known = [0, 1].map(|slot| HashMap::from([(flashed.zone_key(zone(slot)), 0)]));
        Self {
            board,
            sector_size: flashed.sector_size(),
            layout,
            releases: Arc::new(vec![Release::unloadable()]),
            flashed,
            known,
        }
    }

    fn empty(board: Board, sector_size: SectorSize, releases: &Arc<Vec<Release>>) -> Result<Self> {
        let sector = sector_size.bytes();
        let sizes: u64 = PARTITIONS.iter().map(|(_, _, size)| size).sum();
        let mut bytes = vec![0; usize::try_from(FIRST + sizes + TAIL)?];
        for (at, byte) in bytes.iter_mut().take(440).enumerate() {
            *byte = u8::try_from(at % 251)?;
        }
        let ranges = partition(&mut bytes, sector)?;
        let range = |number: u32| ranges.get(&number).cloned().context("find a partition");
        let usr = [range(3)?, range(4)?];
        let image = usr.clone().map(|usr| usr.start..usr.start + IMAGE as u64);
        let oem_config = range(7)?;
        let fat = make_fat(sector)?;
        put(&mut bytes, oem_config.start, &fat);
        let zones = Zones {
            image_a: image[0].clone(),
            image_b: image[1].clone(),
        };
        let medium = Medium::new(&bytes, sector_size, zones.clone());
        let (environment, store) = environment(board, &medium, &oem_config)?;
        let confirmed = oem_config.end - CONFIRMED_FROM_END;
        let layout = Layout {
            usr,
            image,
            environment,
            confirmed: confirmed..confirmed + CONFIRMED_BYTES as u64,
            oem_config: oem_config.clone(),
        };
        let release = releases.first().context("find the first release")?;
        put(&mut bytes, layout.image[0].start, &release.image);
        let mut old = vec![0; IMAGE];
        blake3::Hasher::new().finalize_xof().fill(&mut old);
        put(&mut bytes, layout.image[1].start, &old);
        let descriptor = Descriptor {
            board: release::BOARD.parse().map_err(|e| anyhow!("{e}"))?,
            product: release::PRODUCT.parse().map_err(|e| anyhow!("{e}"))?,
            store,
        };
        let record = descriptor
            .encode(OEM_CONFIG_BYTES)
            .map_err(|e| anyhow!("{e}"))?;
        put(&mut bytes, oem_config.end - DESCRIPTOR_FROM_END, &record);
        put(&mut bytes, confirmed, &confirmed_record()?);
        for (number, copy) in layout.environment.iter().enumerate() {
            let length = usize::try_from(copy.end - copy.start)?;
            put(
                &mut bytes,
                copy.start,
                &environment_copy(board, length, number, &layout.environment),
            );
        }
        let descriptor = oem_config.end - DESCRIPTOR_FROM_END;
        let descriptor = descriptor..descriptor + DESCRIPTOR_BYTES as u64;
        for record in [&descriptor, &layout.confirmed]
            .into_iter()
            .chain(&layout.environment)
        {
            surround(&mut bytes, record, sector);
        }
        Ok(Self {
            board,
            sector_size,
            layout,
            releases: Arc::clone(releases),
            flashed: Medium::new(&bytes, sector_size, zones),
            known: Default::default(),
        })
    }

    fn learn_images(&mut self) -> Result<()> {
        let mut known: [HashMap<u64, Number>; 2] = Default::default();
        for (number, release) in self.releases.iter().enumerate() {
            let mut medium = self.flashed.clone();
            for (slot, image) in self.layout.image.iter().enumerate() {
                medium.write(image.start, &release.image);
                let sum = medium.zone_key(zone(slot));
                known
                    .get_mut(slot)
                    .context("find a slot")?
                    .insert(sum, number);
            }
        }
        self.known = known;
        Ok(())
    }

    pub fn release(&self, number: Number) -> Result<&Release> {
        self.releases.get(number).context("find a release")
    }

    /// The release whose complete image a slot holds.
    #[must_use]
    pub fn content(&self, medium: &Medium, slot: usize) -> Option<Number> {
        let known = self.known.get(slot)?;
        known.get(&medium.zone_key(zone(slot))).copied()
    }

    /// The sectors of a slot's partition.
    #[must_use]
    pub fn usr_sectors(&self, slot: usize) -> LbaRange {
        let sector = self.sector_size.bytes();
        let range = self.layout.usr.get(slot).cloned().unwrap_or_default();
        LbaRange {
            first: range.start / sector,
            last: (range.end / sector).saturating_sub(1),
        }
    }

    /// Where GRUB finds its environment in a volume.
    #[must_use]
    pub fn grubenv(medium: &Medium, volume: Range<u64>) -> Option<Range<u64>> {
        parse::fat_file(medium, volume, GRUBENV)
    }
}

const fn zone(slot: usize) -> Zone {
    match slot {
        0 => Zone::ImageA,
        _ => Zone::ImageB,
    }
}

/// Slot number of the models.
#[must_use]
pub const fn index(slot: Slot) -> usize {
    match slot {
        Slot::A => 0,
        Slot::B => 1,
    }
}

/// The slot that a model's number means.
#[must_use]
pub const fn slot(index: usize) -> Slot {
    match index {
        0 => Slot::A,
        _ => Slot::B,
    }
}

/// As a disk is flashed: a confirmed, b empty.
pub const FLASHED: State = [
    Attr {
        priority: 1,
        tries: 0,
        successful: true,
    },
    Attr::UNBOOTABLE,
];

fn put(bytes: &mut [u8], at: u64, data: &[u8]) {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    parse::put(bytes, at, data);
}

/// Fills what a record leaves of its sectors with bytes of somebody else's.
fn surround(bytes: &mut [u8], record: &Range<u64>, sector: u64) {
    let first = record.start - record.start % sector;
    let end = record.end.next_multiple_of(sector);
    for at in (first..record.start).chain(record.end..end) {
        put(bytes, at, b"n");
    }
}

/// Writes the table, with bytes of somebody else's wherever there is room for some; returns the partitions' places.
fn partition(bytes: &mut [u8], sector: u64) -> Result<HashMap<u32, Range<u64>>> {
    let mut table = GPT::new_from(&mut Cursor::new(&mut *bytes), sector, [7; 16])?;
    let mut ranges = HashMap::new();
    let mut first = FIRST;
    for (number, kind, size) in PARTITIONS {
        let state = match number {
            3 => FLASHED[0],
            _ => Attr::UNBOOTABLE,
        };
        table[number] = GPTPartitionEntry {
            partition_type_guid: kind.0,
            unique_partition_guid: [u8::try_from(number)?; 16],
            starting_lba: first / sector,
            ending_lba: (first + size) / sector - 1,
            attribute_bits: state.in_word(FOREIGN_BITS),
            partition_name: format!("partition {number}").as_str().into(),
        };
        ranges.insert(number, first..first + size);
        first += size;
    }
    table.write_into(&mut Cursor::new(&mut *bytes))?;
    GPT::write_protective_mbr_into(&mut Cursor::new(&mut *bytes), sector)?;
    let last = bytes.len() as u64 - sector;
    for header in [sector, last] {
        put(bytes, header + 92, b"behind the header");
    }
    Ok(ranges)
}

/// A FAT with an empty environment, as `tandem-image` makes it.
fn make_fat(sector: u64) -> Result<Vec<u8>> {
    let file = tempfile::tempfile()?;
    file.set_len(FAT_BYTES)?;
    let volume = fat::Volume {
        start: 0,
        len: FAT_BYTES,
        sector: u16::try_from(sector)?,
        label: "OEM-CONFIG",
        id: 1,
        files: &[("grubenv", &[b'#'; 512])],
    };
    fat::make(&file, &volume)?;
    let mut bytes = vec![0; usize::try_from(FAT_BYTES)?];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, 0)?;
    Ok(bytes)
}

/// Where the environment's copies are, and what the descriptor says of it.
fn environment(
    board: Board,
    medium: &Medium,
    oem_config: &Range<u64>,
) -> Result<(Vec<Range<u64>>, Store)> {
    let raw = OEM_CONFIG_BYTES - UBOOT_ENV_FROM_END;
    let at = |offset: u64, size: u64| {
        let start = oem_config.start + offset;
        start..start + size
    };
    Ok(match board {
        Board::RpiUboot | Board::X86Gptprio => (Vec::new(), Store::Gpt),
        Board::X86Grub => {
            let file = Fixture::grubenv(medium, oem_config.clone()).context("find grubenv")?;
            let offset = file.start - oem_config.start;
            (vec![file], Store::GrubBlock { offset, size: 512 })
        }
        Board::Arm64Env => {
            let store = Store::UbootEnv {
                offset: raw,
                size: 512,
            };
            (vec![at(raw, 512)], store)
        }
        Board::Arm64Redundant => {
            let [offset, offset2] = OWN_ENVIRONMENT;
            let size = REDUNDANT_BYTES;
            let store = Store::UbootEnvRedundant {
                offset,
                offset2,
                size,
            };
            let copies = OWN_ENVIRONMENT.map(|start| start..start + size);
            (copies.to_vec(), store)
        }
    })
}

/// An environment with the flashed state and a variable of somebody else's.
fn environment_copy(board: Board, length: usize, number: usize, copies: &[Range<u64>]) -> Vec<u8> {
    let variables = parse::digits_of(&FLASHED);
    if board == Board::X86Grub {
        let mut text = "# GRUB Environment Block\n# a remark\nforeign=kept\n".to_owned();
        for (name, value) in variables {
            text.push_str(&format!("{name}={value}\n"));
        }
        let mut block = text.into_bytes();
        block.resize(length, b'#');
        return block;
    }
    let skip = if board == Board::Arm64Redundant { 5 } else { 4 };
    let mut copy = vec![0; skip];
    copy.extend(b"foreign=kept\0");
    if board == Board::Arm64Redundant {
        copy.extend([&b"tandem_places="[..], &places(copies), b"\0"].concat());
    }
    for (name, value) in variables {
        copy.extend(format!("{name}={value}\0").into_bytes());
    }
    copy.push(0);
    copy.resize(length, 0xff);
    if skip == 5 {
        // Copy 0 is the newer one.
        parse::put(&mut copy, 4, &[if number == 0 { 255 } else { 254 }]);
    }
    let crc = crc32fast::hash(copy.get(skip..).unwrap_or_default());
    parse::put(&mut copy, 0, &crc.to_le_bytes());
    copy
}

fn confirmed_record() -> Result<[u8; CONFIRMED_BYTES]> {
    let record = ConfirmedRecord {
        slot: Slot::A,
        usr_a: Guid([3; 16]),
        usr_b: Guid([4; 16]),
        root: Guid([9; 16]),
        fresh: true,
    };
    let mut block = [0; CONFIRMED_BYTES];
    record.encode(&mut block).map_err(|e| anyhow!("{e}"))?;
    Ok(block)
}
