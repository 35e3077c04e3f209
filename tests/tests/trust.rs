//! Who may sign what, from release to release: rotation of keys, thresholds, and settings that nobody can read. On disk
//! images, with the programs as people run them: packed, applied, and confirmed by the release's own health check.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tests::programs::program;

const DISK: &str = "disk.img";

struct Device {
    folder: tempfile::TempDir,
}

impl Device {
    /// Key pairs of these names, and a disk whose slot A has version 1, which trusts the keys in `trusts`.
    fn new(keys: &str, trusts: &str, settings: &str) -> Self {
        let device = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        for key in keys.split_whitespace() {
            device.image(&format!("keygen --out-dir keys --name {key}"));
        }
        device.tree(1, trusts, settings);
        device.image("usr --root r1/usr --out 1.img");
        let first = keys.split_whitespace().next().unwrap();
        device.image(&format!(
            "build --board x86_64-grub --usr 1.img --product demo --version 1 --rollback-index 1 --slot-size 16777216 --root-size 33554432 --key keys/{first}.pub.pem --out {DISK}"
        ));
        device
    }

    fn path(&self) -> &Path {
        self.folder.path()
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

    /// Exit code of `update_engine` and what it said.
    fn engine(&self, line: &str) -> (i32, String) {
        let output = self.run("updater", "update_engine", line);
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.code().unwrap(),
            String::from_utf8(said).unwrap(),
        )
    }

    /// The files of a release, below `rVERSION/usr`.
    fn tree(&self, version: u32, trusts: &str, settings: &str) {
        let lib = self.path().join(format!("r{version}/usr/lib"));
        fs::create_dir_all(lib.join("tandem/boot")).unwrap();
        fs::create_dir_all(lib.join("tandem/keys.d")).unwrap();
        for key in trusts.split_whitespace() {
            let name = format!("{key}.pub.pem");
            let from = self.path().join("keys").join(&name);
            fs::copy(from, lib.join("tandem/keys.d").join(&name)).unwrap();
        }
        fs::write(
            lib.join("os-release"),
            format!("IMAGE_ID=demo\nIMAGE_VERSION={version}\nTANDEM_ROLLBACK_INDEX=1\n"),
        )
        .unwrap();
        for file in ["vmlinuz", "initrd"] {
            fs::write(lib.join("tandem/boot").join(file), version.to_string()).unwrap();
        }
        fs::write(lib.join("tandem/update.conf"), settings).unwrap();
    }

    /// Packs a release that trusts these keys, signs it with those, and applies it with what the disk itself trusts.
    fn apply(&self, version: u32, trusts: &str, signers: &str, settings: &str) -> (i32, String) {
        self.tree(version, trusts, settings);
        self.image(&format!("usr --root r{version}/usr --out usr.img"));
        let keys: String = signers
            .split_whitespace()
            .map(|key| format!(" --key keys/{key}.key.pem"))
            .collect();
        self.image(&format!(
            "payload --usr usr.img --product demo --board x86_64-grub --version {version} --rollback-index 1{keys} --out p{version}"
        ));
        let applied = self.engine(&format!("apply --disk {DISK} --payload p{version}"));
        for file in [format!("p{version}"), "usr.img".to_owned()] {
            fs::remove_file(self.path().join(file)).unwrap();
        }
        applied
    }

    /// Runs the health check of a release as that release would, in the slot that the loader boots next.
    fn boot(&self, version: u32) -> (i32, String) {
        let output = self.run("bootctl", "tandem-bootctl", &format!("--disk {DISK} next"));
        let next = String::from_utf8(output.stdout).unwrap();
        let next = next.trim();
        fs::create_dir_all(self.path().join(format!("r{version}/var"))).unwrap();
        self.engine(&format!(
            "health --disk {DISK} --active {next} --root r{version} --no-reboot"
        ))
    }

    /// It is installed and confirms itself.
    #[track_caller]
    fn takes(&self, version: u32, trusts: &str, signers: &str, settings: &str) {
        let (code, said) = self.apply(version, trusts, signers, settings);
        assert_eq!(code, 0, "{said}");
        let (code, said) = self.boot(version);
        assert_eq!(code, 0, "{said}");
        assert!(said.contains("passed its checks"), "{said}");
    }

    /// It is refused before anything is written.
    #[track_caller]
    fn refuses(&self, version: u32, signers: &str, words: &str) {
        let before = fs::read(self.path().join(DISK)).unwrap();
        let (code, said) = self.apply(version, "", signers, "");
        assert_eq!(code, 7, "{said}");
        assert!(said.contains(words), "{said}");
        assert!(before == fs::read(self.path().join(DISK)).unwrap());
    }
}

#[test]
fn a_release_signed_by_the_old_key_brings_the_new_one_and_a_later_one_drops_the_old() {
    let device = Device::new("old new", "old", "");
    device.refuses(
        2,
        "new",
        "0 of 1 required signatures are valid (1 by unknown keys",
    );
    device.takes(2, "old new", "old", "");
    device.takes(3, "new", "new", "");
    device.refuses(4, "old", "1 by unknown keys");
    device.takes(4, "new", "new old", "");
}

#[test]
fn a_release_that_does_not_trust_its_own_signer_is_not_confirmed() {
    let device = Device::new("old new", "old", "");
    let (code, said) = device.apply(2, "new", "old", "");
    assert_eq!(code, 0, "{said}");
    let (code, said) = device.boot(2);
    assert_eq!(code, 7, "{said}");
    assert!(said.contains("announcement"), "{said}");
    // Signed by both it does in one step what otherwise takes two.
    device.takes(3, "new", "old new", "");
    device.refuses(4, "old", "1 by unknown keys");
}

#[test]
fn two_signatures_are_two_keys() {
    let device = Device::new("a b c stranger", "a b c", "SIGNATURES=2\n");
    device.refuses(2, "a", "1 of 2 required signatures are valid");
    device.refuses(
        2,
        "a stranger",
        "1 of 2 required signatures are valid (1 by unknown",
    );
    device.takes(2, "a b c", "c stranger a", "SIGNATURES=2\n");
    // A release that asks for more than its own signatures would lock the device out of every update.
    let (code, said) = device.apply(3, "a b c", "a b", "SIGNATURES=3\n");
    assert_eq!(code, 0, "{said}");
    let (code, said) = device.boot(3);
    assert_eq!(code, 7, "{said}");
    assert!(said.contains("2 of 3 required signatures"), "{said}");
    // Two of the old keys may hand over to two others.
    device.takes(4, "c stranger", "a b c stranger", "SIGNATURES=2\n");
    device.refuses(5, "a b", "0 of 2 required signatures");
}

#[test]
fn a_threshold_that_nobody_can_read_is_the_strictest_that_can_be_met() {
    for bad in ["SIGNATURES=two\n", "SIGNATURES=\n", "SIGNATURES 2\n"] {
        let device = Device::new("a b", "a b", bad);
        device.refuses(2, "b", "1 of 2 required signatures are valid");
        let (code, said) = device.apply(2, "a b", "a b", "");
        assert_eq!(code, 0, "{said}");
        assert!(
            said.contains("/usr/lib/tandem/update.conf, line 1"),
            "{said}"
        );
    }
    // With one key there is nothing that could be weakened, and nothing that could be asked for.
    let device = Device::new("a", "a", "SIGNATURES=two\n");
    let (code, said) = device.apply(2, "a", "a", "");
    assert_eq!(code, 0, "{said}");
}

#[test]
fn what_stands_in_etc_raises_the_threshold_and_is_not_blamed_on_a_release() {
    let device = Device::new("a b", "a b", "");
    let etc = device.path().join("r2/etc/tandem");
    fs::create_dir_all(&etc).unwrap();
    let (code, said) = device.apply(2, "a b", "a", "");
    assert_eq!(code, 0, "{said}");
    fs::write(etc.join("update.conf"), "SIGNATURES=2\n").unwrap();
    let (code, said) = device.boot(2);
    assert_eq!(code, 7, "{said}");
    fs::write(etc.join("update.conf"), "SIGNATURES=2x\n").unwrap();
    let (code, said) = device.boot(2);
    assert_eq!(code, 0, "{said}");
}
