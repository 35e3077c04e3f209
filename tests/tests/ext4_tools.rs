//! Our reader of ext4 finds what `mke2fs` and `debugfs` put into a file system.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use bootctl::SectorSize;
use bootctl::disk::{Access, Disk};
use tempfile::TempDir;
use updater::ext4::{Ext4, Ext4Error};

fn tool(name: &str, arguments: &[&str]) {
    let output = Command::new(name)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .args(arguments)
        .output()
        .unwrap();
    // e2fsck has changed something: 1.
    let code = output.status.code();
    assert!(
        matches!(code, Some(0 | 1)),
        "{name} {arguments:?}: {output:?}"
    );
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7 + at) as u8).collect()
}

fn make(folder: &Path, options: &[&str]) -> String {
    let root = folder.join("root");
    fs::create_dir_all(root.join("lib/tandem/keys.d")).unwrap();
    for (name, len) in [
        ("empty", 0),
        ("small", 700),
        ("exact", 4096),
        ("large", 60_000),
    ] {
        fs::write(root.join("lib").join(name), text(len)).unwrap();
    }
    let sparse = fs::File::create(root.join("lib/sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 20_000).unwrap();
    for n in 0..900 {
        fs::write(
            root.join(format!("lib/tandem/keys.d/a-rather-long-name-{n}")),
            b"x",
        )
        .unwrap();
    }
    symlink("lib", root.join("relative")).unwrap();
    symlink("/lib/../lib/./small", root.join("absolute")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    symlink(format!("{}lib/small", "./".repeat(300)), root.join("long")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    let image = folder.join("fs").to_str().unwrap().to_owned();
    let mut arguments = vec!["-q", "-F", "-d", root.to_str().unwrap()];
    arguments.extend(options);
    arguments.extend([image.as_str(), "24M"]);
    tool("mke2fs", &arguments);
    image
}

fn open(image: &str, sector: SectorSize) -> Ext4<Disk> {
    Ext4::open(Disk::open_sized(image, Access::Read, sector).unwrap()).unwrap()
}

#[test]
fn what_mke2fs_wrote_is_found() {
    let sets: [&[&str]; 7] = [
        &["-t", "ext4", "-b", "4096"],
        &["-t", "ext4", "-b", "1024"],
        &["-t", "ext4", "-b", "2048", "-O", "^64bit,^metadata_csum"],
        &[
            "-t",
            "ext4",
            "-b",
            "1024",
            "-O",
            "^64bit,^flex_bg,uninit_bg,^metadata_csum",
        ],
        &["-t", "ext2", "-b", "1024", "-I", "128"],
        &["-t", "ext3", "-b", "4096"],
        &[
            "-t",
            "ext4",
            "-b",
            "4096",
            "-I",
            "512",
            "-O",
            "metadata_csum_seed",
        ],
    ];
    for options in sets {
        let folder = TempDir::new().unwrap();
        let image = make(folder.path(), options);
        for indexed in [false, true] {
            if indexed {
                tool("e2fsck", &["-f", "-D", "-y", &image]);
            }
            for sector in [SectorSize::B512, SectorSize::B4096] {
                let mut fs = open(&image, sector);
                finds_all(&mut fs, &format!("{options:?} {indexed} {sector:?}"));
            }
        }
    }
}

fn finds_all(fs: &mut Ext4<Disk>, what: &str) {
    for (name, len) in [
        ("empty", 0),
        ("small", 700),
        ("exact", 4096),
        ("large", 60_000),
    ] {
        let found = fs.read(&format!("/lib/{name}"), 1 << 20).unwrap();
        assert!(found == text(len), "{what}: {name}");
    }
    let sparse = fs.read("lib/sparse", 1 << 20).unwrap();
    assert_eq!(
        (sparse.len(), &sparse[20_000..]),
        (20_003, &b"end"[..]),
        "{what}"
    );
    assert!(sparse[..20_000].iter().all(|b| *b == 0), "{what}");
    for link in [
        "/relative/small",
        "//absolute",
        "long",
        "/lib/../../lib/small",
    ] {
        assert!(fs.read(link, 700).unwrap() == text(700), "{what}: {link}");
    }
    let names = fs.names("/lib/tandem/keys.d", 900).unwrap();
    let names: BTreeSet<_> = names
        .into_iter()
        .map(|n| String::from_utf8(n).unwrap())
        .collect();
    let expected: BTreeSet<_> = (0..900)
        .map(|n| format!("a-rather-long-name-{n}"))
        .collect();
    assert!(names == expected, "{what}");
    let last = fs.read("/lib/tandem/keys.d/a-rather-long-name-899", 1);
    assert_eq!(last.unwrap(), b"x", "{what}");
    for (path, error) in [
        ("/lib/none", Ext4Error::NotFound),
        ("/dangling", Ext4Error::NotFound),
        ("/loop", Ext4Error::TooMuch),
        ("/lib", Ext4Error::NotAFile),
        ("/lib/small/x", Ext4Error::NotAFolder),
    ] {
        assert_eq!(fs.read(path, 700), Err(error), "{what}: {path}");
    }
    let limit = 699;
    assert_eq!(
        fs.read("/lib/small", limit),
        Err(Ext4Error::TooLong { limit }),
        "{what}"
    );
    let limit = 899;
    let too_many = Err(Ext4Error::TooManyEntries { limit });
    assert_eq!(fs.names("/lib/tandem/keys.d", limit), too_many, "{what}");
}

#[test]
fn what_this_reader_does_not_know_is_said() {
    for (options, error) in [
        (&["-t", "ext4", "-O", "inline_data"][..], "other features"),
        (
            &["-t", "ext4", "-O", "meta_bg,^resize_inode"],
            "other features",
        ),
        (
            &["-t", "ext4", "-b", "8192"],
            "blocks of more than 4096 bytes",
        ),
    ] {
        let folder = TempDir::new().unwrap();
        let image = make(folder.path(), options);
        let disk = Disk::open_sized(&image, Access::Read, SectorSize::B512).unwrap();
        assert_eq!(Ext4::open(disk).unwrap_err(), Ext4Error::Unsupported(error));
    }
}
