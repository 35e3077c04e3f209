//! `update_engine apply --disk IMAGE` takes what is not given from the disk itself: keys and settings of its active
//! slot, keys of OEM while that has none, never the host's.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tests::programs::program;

struct Folder(tempfile::TempDir);

impl Folder {
    fn path(&self) -> &Path {
        self.0.path()
    }

    fn run(&self, package: &str, name: &str, line: &str) -> Output {
        Command::new(program(package, name).unwrap())
            .current_dir(self.path())
            .args(line.split_whitespace())
            .output()
            .unwrap()
    }

    fn image(&self, line: &str) {
        let output = self.run("images", "tandem-image", line);
        assert!(output.status.success(), "{line}: {output:?}");
    }

    fn tree(&self, name: &str, version: &str, settings: &str) {
        let lib = self.path().join(name).join("lib");
        fs::create_dir_all(lib.join("tandem/boot")).unwrap();
        fs::write(
            lib.join("os-release"),
            format!("IMAGE_ID=demo\nIMAGE_VERSION={version}\nTANDEM_ROLLBACK_INDEX=1\n"),
        )
        .unwrap();
        fs::write(lib.join("tandem/boot/vmlinuz"), version).unwrap();
        fs::write(lib.join("tandem/boot/initrd"), version).unwrap();
        fs::write(lib.join("tandem/update.conf"), settings).unwrap();
    }

    /// Exit code and what was said.
    fn apply(&self, more: &str) -> (Option<i32>, String) {
        let line = format!("apply --disk disk.img --payload v2.payload {more}");
        let output = self.run("updater", "update_engine", &line);
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }
}

/// A disk whose slot was made with `usr_options` and whose OEM has the key `oem`; `v2.payload` is signed by `release`.
fn folder(settings: &str, usr_options: &str, oem: &str) -> Folder {
    let folder = Folder(tempfile::tempdir().unwrap());
    folder.image("keygen --out-dir keys");
    folder.image("keygen --out-dir keys --name other");
    folder.tree("v1", "1.0.0", settings);
    folder.tree("v2", "2.0.0", "");
    folder.image(&format!("usr --root v1 {usr_options} --out v1.img"));
    folder.image("usr --root v2 --out v2.img");
    folder.image(&format!(
        "build --board x86_64-grub --usr v1.img --product demo --version 1.0.0 --rollback-index 1 --slot-size 16777216 --key keys/{oem}.pub.pem --out disk.img"
    ));
    folder.image("payload --usr v2.img --product demo --board x86_64-grub --version 2.0.0 --rollback-index 1 --key keys/release.key.pem --out v2.payload");
    folder
}

#[test]
fn its_slot_has_the_keys() {
    let folder = folder("", "--key keys/release.pub.pem", "other");
    let (code, said) = folder.apply("");
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn oem_has_them_while_the_slot_has_none() {
    let with = folder("", "", "release");
    let (code, said) = with.apply("");
    assert_eq!(code, Some(0), "{said}");
    // A slot with a key of its own does not ask OEM.
    let without = folder("", "--key keys/other.pub.pem", "release");
    let (code, said) = without.apply("");
    assert_eq!(code, Some(7), "{said}");
}

#[test]
fn its_slot_says_how_many_signatures_it_takes() {
    let folder = folder("SIGNATURES=2\n", "--key keys/release.pub.pem", "release");
    for more in ["", "--keys keys"] {
        let (code, said) = folder.apply(more);
        assert_eq!(code, Some(7), "{said}");
    }
}
