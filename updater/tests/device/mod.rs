//! A small disk in a file, with a release on trial in slot B, and the folders of its system.

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bootctl::confirmed::{CONFIRMED_FROM_END, ConfirmedRecord};
use bootctl::control::Control;
use bootctl::descriptor::{DESCRIPTOR_FROM_END, Descriptor, Store};
use bootctl::disk::{Access, Disk};
use bootctl::gpt::{Guid, TYPE_OEM_CONFIG, TYPE_RESIZE, TYPE_USR};
use bootctl::slot_record::SlotRecordHeader;
use bootctl::{Attributes, BlockIo, BootState, Priority, Slot, Tries, grub_env};
use ed25519_dalek::pkcs8::EncodePublicKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::{Signer, SigningKey};
use gptman::{GPT, GPTPartitionEntry};
use tempfile::TempDir;
use updater::Digest;
use updater::journal::{Journal, Release};
use updater::manifest::{Artifact, Manifest};
use updater::payload::{Header, MAX_MANIFEST, SignatureRecord};
use updater::signature::key_id;

const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;
const SLOT_A: u64 = 4 * MIB;
/// Size of a slot's partition where nobody says otherwise.
const SLOT: u64 = 8 * MIB;
const OEM_CONFIG: u64 = 2 * MIB;
/// Where the environment block lies in OEM-CONFIG, in bytes.
const ENV: u64 = 64 << 10;
pub const BOARD: &str = "x86_64-grub";

/// Confirmed, on trial with one try left, all tries spent.
pub const GOOD: Attributes = attributes(1, 0, true);
pub const TRIAL: Attributes = attributes(2, 1, false);
pub const SPENT: Attributes = attributes(2, 0, false);

pub const fn attributes(priority: u8, tries: u8, successful: bool) -> Attributes {
    match (Priority::new(priority), Tries::new(tries)) {
        (Some(priority), Some(tries)) => Attributes {
            priority,
            tries,
            successful,
        },
        _ => Attributes::UNBOOTABLE,
    }
}

pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub struct Device {
    folder: TempDir,
    /// Size of a slot's partition in bytes.
    slot: u64,
}

impl Device {
    /// 1.0.0 in slot A, confirmed; 2.0.0 in slot B, on trial with index 2, signed by key 1; the system of slot B runs.
    pub fn new() -> Self {
        Self::with_slots(SLOT)
    }

    /// The same with partitions of this size for the slots.
    pub fn with_slots(slot: u64) -> Self {
        let device = Self {
            folder: TempDir::new().unwrap(),
            slot,
        };
        make_disk(&device.disk(), slot);
        device.put_record(Slot::A, &manifest("demo", "1.0.0", 1), 1);
        device.put_record(Slot::B, &manifest("demo", "2.0.0", 2), 1);
        device.set_state(GOOD, TRIAL);
        let pem = key(1)
            .verifying_key()
            .to_public_key_pem(LineEnding::LF)
            .unwrap();
        device.put("usr/lib/tandem/keys.d/release.pub.pem", &pem);
        device.put_os_release("demo", "2.0.0", "2");
        device.put("proc/sys/kernel/random/boot_id", "boot-1\n");
        device
    }

    pub fn disk(&self) -> PathBuf {
        self.folder.path().join("disk.img")
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub fn put(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn put_os_release(&self, product: &str, version: &str, index: &str) {
        self.put(
            "usr/lib/os-release",
            &format!(
                "IMAGE_ID={product}\nIMAGE_VERSION={version}\nTANDEM_ROLLBACK_INDEX={index}\n"
            ),
        );
    }

    /// A check, `required.d/NAME` or `wanted.d/NAME`.
    pub fn put_check(&self, name: &str, script: &str) {
        let path = format!("usr/lib/tandem/health.d/{name}");
        self.put(&path, &format!("#!/bin/sh\n{script}\n"));
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(self.root().join(path), mode).unwrap();
    }

    pub fn control(&self) -> Control<Disk> {
        Control::open(Disk::open(self.disk(), Access::Write).unwrap()).unwrap()
    }

    pub fn state(&self) -> BootState {
        self.control().state().unwrap().state.unwrap()
    }

    /// Sets the environment and lets the mirror follow.
    pub fn set_state(&self, a: Attributes, b: Attributes) {
        let mut bytes = vec![0; 512];
        grub_env::create(&mut bytes).unwrap();
        grub_env::encode(&mut bytes, &BootState { a, b }).unwrap();
        self.put_bytes(SLOT_A + 2 * self.slot + ENV, &bytes);
        self.control().sync().unwrap();
    }

    pub fn put_bytes(&self, offset: u64, bytes: &[u8]) {
        let mut disk = Disk::open(self.disk(), Access::Write).unwrap();
        disk.write_sectors(offset / SECTOR, bytes).unwrap();
        disk.flush().unwrap();
    }

    pub fn put_record(&self, slot: Slot, manifest: &Manifest, signer: u8) {
        let (header, body) = record(manifest, signer);
        let mut control = self.control();
        control.write_slot_record(slot, &header, &body).unwrap();
    }

    /// What `apply` leaves in the journal.
    pub fn stage(&self, slot: Slot) -> Release {
        let header = self.control().read_slot_record(slot).unwrap();
        let release = Release {
            id: header.payload_id,
            version: header.version.as_str().to_owned(),
            rollback_index: header.rollback_index,
        };
        self.journal().staged(&release, slot).unwrap();
        release
    }

    pub fn journal_folder(&self) -> PathBuf {
        self.root().join("var/lib/tandem")
    }

    pub fn journal(&self) -> Journal {
        Journal::load(&self.journal_folder())
    }

    /// `update_engine health` with this slot running; its exit code and output.
    pub fn health(&self, active: Slot) -> (i32, String) {
        self.health_below(&self.root(), active)
    }

    /// As [`Self::health`], with `root` as it would be typed in the folder that holds the root.
    pub fn health_below(&self, root: &Path, active: Slot) -> (i32, String) {
        let output: Output = Command::new(env!("CARGO_BIN_EXE_update_engine"))
            .current_dir(self.root().parent().unwrap())
            .arg("health")
            .arg("--disk")
            .arg(self.disk())
            .args(["--active", active.as_str()])
            .arg("--root")
            .arg(root)
            .output()
            .unwrap();
        let mut text = String::from_utf8(output.stdout).unwrap();
        text.push_str(&String::from_utf8(output.stderr).unwrap());
        (output.status.code().unwrap(), text)
    }

    /// The disk's bytes, and every file below the root with its content and inode.
    pub fn snapshot(&self) -> (Vec<u8>, Vec<FileOnDisk>) {
        let mut files = Vec::new();
        collect(&self.root(), &mut files);
        files.sort();
        (fs::read(self.disk()).unwrap(), files)
    }
}

/// Path, inode and content.
type FileOnDisk = (PathBuf, u64, Vec<u8>);

fn collect(folder: &Path, files: &mut Vec<FileOnDisk>) {
    use std::os::unix::fs::MetadataExt;
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.metadata().unwrap().is_dir() {
            collect(&entry.path(), files);
        } else {
            let inode = entry.metadata().unwrap().ino();
            files.push((entry.path(), inode, fs::read(entry.path()).unwrap()));
        }
    }
}

pub fn manifest(product: &str, version: &str, index: u64) -> Manifest {
    let mut manifest = Manifest::new(product.parse().unwrap(), version.parse().unwrap(), index);
    manifest.boards.push(BOARD.parse().unwrap()).unwrap();
    manifest
        .artifacts
        .push(Artifact {
            name: "usr".parse().unwrap(),
            size: 4096,
            block_size: 4096,
            table: Digest::of(b"table"),
            content: Digest::of(version.as_bytes()),
        })
        .unwrap();
    manifest
}

fn record(manifest: &Manifest, signer: u8) -> (SlotRecordHeader, Vec<u8>) {
    let mut text = vec![0; MAX_MANIFEST];
    let length = manifest.emit(&mut text).unwrap();
    text.truncate(length);
    let signer = key(signer);
    let signature = SignatureRecord {
        key_id: key_id(signer.verifying_key().as_bytes()),
        signature: signer.sign(&text).to_bytes(),
    };
    let mut body = Header::new(text.len(), 1).unwrap().to_bytes().to_vec();
    body.extend(signature.to_bytes());
    body.extend(&text);
    let header = SlotRecordHeader {
        image_size: manifest.artifacts[0].size,
        content: manifest.artifacts[0].content.0,
        payload_id: Digest::of(&text).0,
        body_len: 0,
        body_crc: 0,
        flashed: false,
        rollback_index: manifest.rollback_index,
        product: manifest.product.as_str().parse().unwrap(),
        version: manifest.version.as_str().parse().unwrap(),
    };
    (header.for_body(&body).unwrap(), body)
}

fn make_disk(path: &Path, slot: u64) {
    let oem_config = (SLOT_A + 2 * slot, OEM_CONFIG);
    let end = oem_config.0 + oem_config.1;
    let mut bytes = vec![0; usize::try_from(end + 4 * MIB).unwrap()];
    let mut table = GPT::new_from(&mut Cursor::new(&mut bytes), SECTOR, [7; 16]).unwrap();
    let mut add = |number: u32, kind: Guid, (start, length): (u64, u64)| {
        table[number] = GPTPartitionEntry {
            partition_type_guid: kind.0,
            unique_partition_guid: unique(number).0,
            starting_lba: start / SECTOR,
            ending_lba: (start + length) / SECTOR - 1,
            attribute_bits: 0,
            partition_name: "partition".into(),
        };
    };
    add(3, TYPE_USR, (SLOT_A, slot));
    add(4, TYPE_USR, (SLOT_A + slot, slot));
    add(7, TYPE_OEM_CONFIG, oem_config);
    add(9, TYPE_RESIZE, (end + 2 * MIB, MIB));
    table.write_into(&mut Cursor::new(&mut bytes)).unwrap();

    let descriptor = Descriptor {
        board: BOARD.parse().unwrap(),
        product: "demo".parse().unwrap(),
        store: Store::GrubBlock {
            offset: ENV,
            size: 512,
        },
    };
    let confirmed = ConfirmedRecord {
        slot: Slot::A,
        usr_a: unique(3),
        usr_b: unique(4),
        root: unique(9),
        fresh: false,
    };
    let mut block = [0; 512];
    confirmed.encode(&mut block).unwrap();
    let mut put = |offset: u64, data: &[u8]| {
        let at = usize::try_from(offset).unwrap();
        bytes[at..at + data.len()].copy_from_slice(data);
    };
    put(
        end - DESCRIPTOR_FROM_END,
        &descriptor.encode(OEM_CONFIG).unwrap(),
    );
    put(end - CONFIRMED_FROM_END, &block);
    fs::write(path, bytes).unwrap();
}

fn unique(number: u32) -> Guid {
    Guid([u8::try_from(number).unwrap(); 16])
}
