//! Whole disks: partition table, loader, slots, records.

mod bmap;
pub mod layout;
mod mbr;
mod records;
mod root;
pub mod table;

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use boards::Board;
use bootctl::gpt::{self, LbaRange};
use bootctl::slot_record::{self, SlotRecordHeader};
use bootctl::{Attributes, BootState, Priority, SectorSize, Slot, Tries};

use crate::failure::refuse;
use crate::fat::{self, Volume};
use crate::image::Image;
use crate::image_io::ImageIo;
use crate::loader::{Loader, Sources};
use crate::output::{Output, is_no_input};
use crate::region::copy_sparse;
use crate::tree::Tree;
use crate::{ext4, keys, payload};
use layout::{Layout, Span, Wishes};
use table::Ids;

/// What a disk is made of. Sizes in bytes.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    pub board: &'a Board,
    pub usr: &'a Path,
    pub product: &'a str,
    pub version: &'a str,
    pub rollback_index: u64,
    /// Public keys for OEM.
    pub keys: &'a [PathBuf],
    pub sector_size: SectorSize,
    pub slot_size: Option<u64>,
    pub root_size: u64,
    pub power_of_two: bool,
    /// The image goes into both slots.
    pub both: bool,
    /// Decides the UUIDs; without it the input does.
    pub ids_from: Option<&'a str>,
    /// Seconds since 1970 for timestamps.
    pub time: u32,
    /// Where the parts of the loader come from.
    pub loader: Sources,
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Built {
    pub layout: Layout,
    pub warnings: Vec<String>,
}

/// Makes `out` a disk that boots `options.usr` from slot A, and `out.bmap` its block map. The same input gives the same
/// bytes.
///
/// # Errors
/// The image is not one that the board boots or does not fit, a tool is missing, or the file can't be written. Nothing
/// is left at `out` then.
pub fn build(options: &Options, out: &Path) -> Result<Built> {
    let map = map_path(out);
    for output in [out, &map] {
        let keys = options.keys.iter().map(PathBuf::as_path);
        is_no_input(
            output,
            keys.chain([options.usr]).chain(options.loader.files()),
        )?;
    }
    let board = options.board;
    let image = Image::open(options.usr, &[board])?;
    if options.sector_size == SectorSize::B4096 && !board.sectors_4096 {
        refuse!(
            "build for {}: its loader does not start from sectors of 4096 bytes (--sector-size)",
            board.name
        );
    }
    let mut warnings = Vec::new();
    warnings.extend(image.check_release(
        options.product,
        options.version,
        options.rollback_index,
    )?);
    if options.keys.is_empty() {
        warnings.push("no key for OEM (--key)".to_owned());
    }
    let layout = Layout::plan(&Wishes {
        sector_size: options.sector_size,
        image: image.size,
        slot: options.slot_size,
        root: options.root_size,
        power_of_two: options.power_of_two,
        // A BIOS reads sectors of 512 bytes.
        bios: board.partitions.contains(&gpt::BIOS_BOOT) && options.sector_size == SectorSize::B512,
    })?;
    let flashed = payload::flashed(&image, options)?;
    let state = initial_state(options.both);
    let loader = Loader::make(board, &layout, &options.loader)?;
    let seed = seed(options, &layout, &flashed)?;
    let ids = Ids::new(&seed);

    let map_output = Output::create(&map)?;
    let output = Output::create(out)?;
    let disk = output.file();
    disk.set_len(layout.total)
        .with_context(|| format!("write {}", out.display()))?;
    table::write(disk, &layout, &state, ids)?;
    loader.install(disk, &layout)?;
    if loader.hybrid {
        mbr::write(disk, &layout)?;
    }
    let files: Vec<(&str, &[u8])> = loader
        .files
        .iter()
        .map(|(path, bytes)| (path.as_str(), bytes.as_slice()))
        .collect();
    let esp = Volume {
        start: layout.esp.start,
        len: layout.esp.len,
        sector: if options.sector_size == SectorSize::B512 {
            512
        } else {
            4096
        },
        label: "EFI-SYSTEM",
        id: ids.volume(gpt::EFI_SYSTEM),
        files: &files,
    };
    fat::make(disk, &esp).context("make EFI-SYSTEM")?;
    write_slot(disk, &layout, Slot::A, &image, &flashed)?;
    if options.both {
        write_slot(disk, &layout, Slot::B, &image, &flashed)?;
    }
    let oem = oem_tree(options.keys)?;
    write_ext4(disk, &oem, layout.oem, "OEM", &seed, options.time)?;
    let own = loader.own_environment;
    records::write(disk, &layout, &state, ids, board, own, options.product)?;
    let root = root::skeleton()?;
    write_ext4(disk, &root, layout.root, "ROOT", &seed, options.time)?;
    table::check(disk, &layout, &state, ids)?;
    let used = |slot| {
        if slot == Slot::A || options.both {
            image.size
        } else {
            0
        }
    };
    let text = bmap::make(disk, &layout, own.is_some(), used)?;
    map_output
        .file()
        .write_all(text.as_bytes())
        .with_context(|| format!("write {}", map.display()))?;
    output.commit()?;
    map_output.commit()?;
    Ok(Built { layout, warnings })
}

/// Where `bmaptool` looks for the map of the image `out`.
fn map_path(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".bmap");
    name.into()
}

/// What a release's first record says, and the bytes behind it.
#[derive(Clone, Debug)]
pub struct Flashed {
    pub header: SlotRecordHeader,
    pub body: Vec<u8>,
}

fn initial_state(both: bool) -> BootState {
    let confirmed = |priority| Attributes {
        priority,
        tries: Tries::NONE,
        successful: true,
    };
    if both {
        BootState {
            a: confirmed(Priority::HIGH),
            b: confirmed(Priority::LOW),
        }
    } else {
        BootState {
            a: confirmed(Priority::LOW),
            b: Attributes::UNBOOTABLE,
        }
    }
}

/// What UUIDs follow from: the given seed, or everything that decides the disk's content.
fn seed(options: &Options, layout: &Layout, flashed: &Flashed) -> Result<Vec<u8>> {
    if let Some(seed) = options.ids_from {
        return Ok(seed.as_bytes().to_vec());
    }
    let mut hasher = blake3::Hasher::new_derive_key("tandem disk seed, format 1");
    let mut field = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    field(options.board.name.as_bytes());
    field(&flashed.header.encode());
    for key in options.keys {
        field(keys::read_public(key)?.as_bytes());
    }
    for (number, _, _, span) in layout.partitions() {
        field(&number.to_le_bytes());
        field(&span.start.to_le_bytes());
        field(&span.len.to_le_bytes());
    }
    field(&layout.total.to_le_bytes());
    field(&layout.sector_size.bytes().to_le_bytes());
    field(&[u8::from(options.both)]);
    field(&options.time.to_le_bytes());
    Ok(hasher.finalize().as_bytes().to_vec())
}

fn write_slot(
    disk: &File,
    layout: &Layout,
    slot: Slot,
    image: &Image,
    flashed: &Flashed,
) -> Result<()> {
    let span = layout.usr(slot);
    let room = span.len - slot_record::SLOT_RECORD_BYTES;
    copy_sparse(&image.file, disk, span.start, room)
        .with_context(|| format!("write slot {slot} from {}", image.path.display()))?;
    let mut io = ImageIo::new(disk, layout.sector_size, layout.total);
    let first = layout.lba(span);
    let range = LbaRange {
        first,
        last: first + layout.sectors(span) - 1,
    };
    slot_record::write(&mut io, range, &flashed.header, &flashed.body)
        .map_err(|e| anyhow::anyhow!("write record of slot {slot}: {e}"))
}

fn oem_tree(keys: &[PathBuf]) -> Result<Tree> {
    let mut tree = Tree::default();
    tree.add_folder("tandem", 0o755)?;
    tree.add_folder("tandem/keys.d", 0o755)?;
    for key in keys {
        keys::read_public(key)?;
        let name = keys::installed_name(key)?;
        tree.add_file(&format!("tandem/keys.d/{name}"), key)?;
    }
    Ok(tree)
}

fn write_ext4(
    disk: &File,
    tree: &Tree,
    span: Span,
    label: &str,
    seed: &[u8],
    time: u32,
) -> Result<()> {
    let name = || format!("make {label}");
    let file = tempfile::NamedTempFile::new().with_context(name)?;
    let options = ext4::Options {
        label,
        size: Some(span.len),
        writable: true,
        time,
        salt: seed,
    };
    ext4::make(tree, file.path(), &options).with_context(name)?;
    ext4::fsck(file.path()).with_context(name)?;
    let file = file.reopen().with_context(name)?;
    copy_sparse(&file, disk, span.start, span.len).with_context(name)?;
    // The file's last page may be a hole that the copy did not write: the disk is zero there already.
    disk.read_exact_at(&mut [0], span.start + span.len - 1)
        .with_context(name)
}
