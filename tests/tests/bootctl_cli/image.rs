//! A small disk image of ours, made without `bootctl`'s own writers of tables, and the program run on it.

use bootctl::confirmed::{CONFIRMED_FROM_END, ConfirmedRecord};
use bootctl::descriptor::{DESCRIPTOR_FROM_END, Descriptor, Store};
use bootctl::disk::{Access, Disk};
use bootctl::gpt::{Guid, LbaRange, TYPE_ESP, TYPE_LINUX, TYPE_OEM_CONFIG, TYPE_RESIZE, TYPE_USR};
use bootctl::slot_record::{self, SlotRecordHeader};
use bootctl::{Attributes, BootState, SectorSize, Slot, grub_env};
use gptman::{GPT, GPTPartitionEntry};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

pub const MIB: u64 = 1024 * 1024;
pub const DISK: u64 = 20 * MIB;
pub const OEM_CONFIG: u64 = 12 * MIB;
pub const OEM_CONFIG_BYTES: u64 = 2 * MIB;
pub const ENV: u64 = OEM_CONFIG + 64 * 1024;
pub const CONFIRMED: u64 = OEM_CONFIG + OEM_CONFIG_BYTES - CONFIRMED_FROM_END;
pub const SLOTS: [u64; 2] = [2 * MIB, 7 * MIB];
pub const SLOT_BYTES: u64 = 4 * MIB + 16384;
pub const IMAGE_BYTES: usize = 8192;

pub struct Image {
    _folder: TempDir,
    pub path: PathBuf,
}

pub struct Answer {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {} {}", self.out, self.err))
    }
}

impl Image {
    /// A disk as `tandem-image build --both` makes it, slot B staged or not.
    pub fn new(state: &BootState, sector: SectorSize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.img");
        let mut bytes = vec![0; usize::try_from(DISK).unwrap()];
        table(&mut bytes, sector.bytes(), state);
        let mut put = |at: u64, data: &[u8]| {
            let at = usize::try_from(at).unwrap();
            bytes[at..at + data.len()].copy_from_slice(data);
        };
        let mut env = [0; 512];
        grub_env::encode(&mut env, state).unwrap();
        put(ENV, &env);
        let descriptor = Descriptor {
            board: "x86_64-grub".parse().unwrap(),
            product: "demo".parse().unwrap(),
            store: Store::GrubBlock {
                offset: ENV - OEM_CONFIG,
                size: 512,
            },
        };
        let record = descriptor.encode(OEM_CONFIG_BYTES).unwrap();
        put(OEM_CONFIG + OEM_CONFIG_BYTES - DESCRIPTOR_FROM_END, &record);
        let mut confirmed = [0; 512];
        let record = ConfirmedRecord {
            slot: Slot::A,
            usr_a: Guid([3; 16]),
            usr_b: Guid([4; 16]),
            root: Guid([9; 16]),
            fresh: true,
        };
        record.encode(&mut confirmed).unwrap();
        put(CONFIRMED, &confirmed);
        for (slot, start) in SLOTS.into_iter().enumerate() {
            put(start, &image(slot));
        }
        fs::write(&path, bytes).unwrap();
        let mut disk = Disk::open(&path, Access::Write).unwrap();
        for (slot, start) in SLOTS.into_iter().enumerate() {
            let first = start / sector.bytes();
            let last = first + SLOT_BYTES / sector.bytes() - 1;
            let range = LbaRange { first, last };
            slot_record::write(&mut disk, range, &header(slot), b"body").unwrap();
        }
        Self {
            _folder: folder,
            path,
        }
    }

    pub fn flashed() -> Self {
        Self::new(&state("P1 T0 S1", "P0 T0 S0"), SectorSize::B512)
    }

    pub fn staged() -> Self {
        Self::new(&state("P1 T0 S1", "P2 T3 S0"), SectorSize::B512)
    }

    pub fn run(&self, arguments: &[&str]) -> Answer {
        let mut command = Command::new(program());
        command.arg("--disk").arg(&self.path).args(arguments);
        answer(command)
    }

    /// Runs a verb that must succeed, with `--json`.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let done = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(done.code, 0, "{arguments:?}: {}", done.err);
        done.json()
    }

    pub fn bytes(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }

    pub fn damage(&self, at: u64, length: usize) {
        let mut bytes = self.bytes();
        let at = usize::try_from(at).unwrap();
        bytes[at..at + length].fill(0);
        fs::write(&self.path, bytes).unwrap();
    }

    /// Runs a verb and tells which 512-byte sectors it changed.
    pub fn changed(&self, arguments: &[&str]) -> (Answer, BTreeSet<u64>) {
        let before = self.bytes();
        let answer = self.run(arguments);
        let after = self.bytes();
        assert_eq!(before.len(), after.len());
        let pairs = before.chunks(512).zip(after.chunks(512)).zip(0_u64..);
        let changed = pairs.filter(|((old, new), _)| old != new);
        (answer, changed.map(|(_, n)| n).collect())
    }
}

pub fn program() -> PathBuf {
    tests::programs::program("bootctl", "tandem-bootctl").unwrap()
}

pub fn answer(mut command: Command) -> Answer {
    let output = command.env_remove("RUST_LOG").output().unwrap();
    Answer {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

pub fn table(bytes: &mut [u8], sector: u64, state: &BootState) {
    let mut table = GPT::new_from(&mut Cursor::new(&mut *bytes), sector, [7; 16]).unwrap();
    let word = |slot| state.get(slot).into_gpt(0x8000_0000_0000_0004);
    for (number, kind, start, length, bits, name) in [
        (1, TYPE_ESP, MIB, MIB, 0, "EFI-SYSTEM"),
        (3, TYPE_USR, SLOTS[0], SLOT_BYTES, word(Slot::A), "USR-A"),
        (4, TYPE_USR, SLOTS[1], SLOT_BYTES, word(Slot::B), "USR-B"),
        (6, TYPE_LINUX, 14 * MIB, MIB, 0, "OEM"),
        (
            7,
            TYPE_OEM_CONFIG,
            OEM_CONFIG,
            OEM_CONFIG_BYTES,
            1 << 63,
            "OEM-CONFIG",
        ),
        (9, TYPE_RESIZE, 15 * MIB, MIB, 0, "ROOT"),
    ] {
        table[number] = GPTPartitionEntry {
            partition_type_guid: kind.0,
            unique_partition_guid: [u8::try_from(number).unwrap(); 16],
            starting_lba: start / sector,
            ending_lba: (start + length) / sector - 1,
            attribute_bits: bits,
            partition_name: name.into(),
        };
    }
    table.write_into(&mut Cursor::new(bytes)).unwrap();
}

pub fn image(slot: usize) -> Vec<u8> {
    let seed = u8::try_from(slot).unwrap() + 1;
    (0..IMAGE_BYTES)
        .map(|n| seed.wrapping_mul(u8::try_from(n % 251).unwrap()))
        .collect()
}

pub fn header(slot: usize) -> SlotRecordHeader {
    let header = SlotRecordHeader {
        image_size: IMAGE_BYTES as u64,
        content: blake3::hash(&image(slot)).into(),
        payload_id: [0xab; 32],
        body_len: 0,
        body_crc: 0,
        flashed: slot == 0,
        rollback_index: 5,
        product: "demo".parse().unwrap(),
        version: ["1.0.0", "2.0.0"][slot].parse().unwrap(),
    };
    header.for_body(b"body").unwrap()
}

pub fn state(a: &str, b: &str) -> BootState {
    let slot = |text: &str| {
        let digit = |at: usize| u64::from(text.as_bytes()[at] - b'0');
        Attributes::from_gpt(digit(1) << 48 | digit(4) << 52 | digit(7) << 56)
    };
    BootState {
        a: slot(a),
        b: slot(b),
    }
}

pub fn attributes(p: u8, t: u8, s: bool) -> Value {
    let candidate = p > 0 && (t > 0 || s);
    json!({"priority": p, "tries": t, "successful": s, "candidate": candidate, "confirmed": p > 0 && s})
}

/// Sectors that a change of the attributes may touch: headers and first entries of both copies.
pub fn gpt_sectors() -> [u64; 4] {
    let last = DISK / 512 - 1;
    [1, 2, last - 32, last]
}
