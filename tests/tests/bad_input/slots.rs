//! File systems in the active slot, which has the keys and settings of a disk that is not running, that lie.

use std::fs;
use std::process::Command;

use crate::fixture::{Disk, Map, Program, lab};

/// Where the superblock starts, in bytes.
const SUPERBLOCK: usize = 1024;
const IMAGE: usize = 3 << 20;

type Edit = Box<dyn Fn(&mut Vec<u8>)>;

fn number(at: usize, value: u32) -> Edit {
    Box::new(move |fs: &mut Vec<u8>| {
        let at = SUPERBLOCK + at;
        fs[at..at + 4].copy_from_slice(&value.to_le_bytes());
    })
}

/// Several of them.
fn all(edits: Vec<Edit>) -> Edit {
    Box::new(move |fs: &mut Vec<u8>| edits.iter().for_each(|edit| edit(fs)))
}

/// `set_inode_field` of `debugfs`, which makes the checksums true again.
fn inode(path: &'static str, field: &'static str, value: u64) -> Edit {
    Box::new(move |fs: &mut Vec<u8>| {
        let image = lab().path("fs");
        fs::write(&image, &fs[..]).unwrap();
        let output = Command::new("debugfs")
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
            .args(["-w", "-R", &format!("sif {path} {field} {value}")])
            .arg(&image)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        *fs = fs::read(&image).unwrap();
        fs::remove_file(image).unwrap();
    })
}

/// Applies the good payload without writing, with the slot's own keys, after `edit` of the active slot.
fn check(edit: &Edit) -> crate::fixture::Outcome {
    let mut disk = Disk::both();
    let start = Map::of(disk.before()).usr_a.start;
    let mut content = disk.before().bytes(start, IMAGE);
    edit(&mut content);
    disk.edit(start, &content);
    let payload = lab().path("good");
    fs::write(&payload, &lab().good).unwrap();
    let payload = payload.to_str().unwrap();
    let arguments = [
        "apply",
        "--check",
        "--disk",
        disk.path(),
        "--payload",
        payload,
    ];
    let outcome = Program::UpdateEngine.run(&arguments);
    disk.is_unchanged(&"a check");
    fs::remove_file(payload).unwrap();
    outcome
}

#[test]
fn file_systems_that_claim_too_much() {
    let groups = || all(vec![number(0x4, u32::MAX), number(0x20, 1)]);
    let cases: Vec<(&str, Edit, &str)> = vec![
        ("untouched", all(vec![]), ""),
        ("no ext4", number(0x38, 0), "not ext4"),
        ("4 billion groups", groups(), "larger than its partition"),
        ("blocks of 64 KiB", number(0x18, 6), "blocks"),
        ("blocks of 1 GiB", number(0x18, 20), "blocks"),
        ("blocks of 2^65 bytes", number(0x18, 55), "blocks"),
        ("groups without inodes", number(0x28, 0), "no inodes"),
        ("no inodes at all", number(0x0, 0), "out of range"),
        ("inodes of no bytes", number(0x58, 0), "size of inodes"),
        ("a journal that waits", number(0x60, 0x2c6), "journal"),
        ("unknown features", number(0x60, u32::MAX - 4), "features"),
        (
            "descriptors elsewhere",
            number(0x14, u32::MAX),
            "out of range",
        ),
        ("a link of 4 KiB", link(4096), "longer than"),
        ("a link of 1 GiB", link(1 << 30), "longer than"),
        ("a link of 16 TiB", link((1 << 44) - 4096), "longer than"),
        ("a key of 8 TiB", inode(KEY, "size", 1 << 43), "longer than"),
        (
            "a key that is a fifo",
            inode(KEY, "mode", 0o01_0644),
            "not a plain file",
        ),
        (
            "a key that is a folder",
            inode(KEY, "mode", 0o04_0755),
            "not a plain file",
        ),
        (
            "keys.d is a file",
            inode("/lib/tandem/keys.d", "mode", 0o10_0644),
            "not a folder",
        ),
        (
            "keys.d of 16 TiB",
            inode("/lib/tandem/keys.d", "size", (1 << 44) - 4096),
            "damaged",
        ),
        // Not an index at all, but its entries are there.
        ("an index that lies", inode("<2>", "flags", 0x8_1000), ""),
    ];
    for (what, edit, words) in cases {
        let outcome = check(&edit);
        match words {
            "" => outcome.succeeds(&what),
            words => outcome.fails(7, words, &what),
        }
    }
}

const KEY: &str = "/lib/tandem/keys.d/release.pub.pem";

fn link(size: u64) -> Edit {
    let mode = inode("/lib", "mode", 0o12_0777);
    all(vec![mode, inode("/lib", "size", size)])
}

/// A tree of extents five deep, all of whose nodes are one, with more ways through it than anybody could walk.
#[test]
fn a_file_whose_extents_go_round_in_circles() {
    let circle: Edit = Box::new(|fs: &mut Vec<u8>| {
        let node = |depth: u16, count: u16, child: u32| {
            let mut node = vec![0x0a, 0xf3];
            for short in [count, count, depth, 0, 0] {
                node.extend(short.to_le_bytes());
            }
            for _ in 0..count {
                node.extend(0_u32.to_le_bytes());
                node.extend(child.to_le_bytes());
                node.extend([0; 4]);
            }
            node
        };
        let last = u32::try_from(fs.len() / 4096).unwrap() - 1;
        // Inode 2 is the second of the table that the first group's descriptor names.
        let table = u32::from_le_bytes(*fs[4096 + 8..].first_chunk().unwrap());
        let area = table as usize * 4096 + 256 + 0x28;
        fs[area..area + 60].copy_from_slice(&node(5, 4, last));
        let at = last as usize * 4096;
        let ring = node(4, 340, last);
        fs[at..at + ring.len()].copy_from_slice(&ring);
    });
    check(&circle).fails(7, "damaged", &"extents");
}
