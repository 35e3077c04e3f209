//! `tandem-bootctl` on disk images: every verb, every exit code, the shape of `--json`, and which bytes change.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::Cursor;
use std::path::PathBuf;
use std::process::Command;

use bootctl::confirmed::{CONFIRMED_FROM_END, ConfirmedRecord};
use bootctl::descriptor::{DESCRIPTOR_FROM_END, Descriptor, Store};
use bootctl::disk::{Access, Disk};
use bootctl::gpt::{Guid, LbaRange, TYPE_ESP, TYPE_LINUX, TYPE_OEM_CONFIG, TYPE_RESIZE, TYPE_USR};
use bootctl::slot_record::{self, SlotRecordHeader};
use bootctl::transaction::TransactionLock;
use bootctl::{Attributes, BootState, SectorSize, Slot, grub_env};
use gptman::{GPT, GPTPartitionEntry};
use serde_json::{Value, json};
use tempfile::TempDir;

const MIB: u64 = 1024 * 1024;
const DISK: u64 = 20 * MIB;
const OEM_CONFIG: u64 = 12 * MIB;
const OEM_CONFIG_BYTES: u64 = 2 * MIB;
const ENV: u64 = OEM_CONFIG + 64 * 1024;
const CONFIRMED: u64 = OEM_CONFIG + OEM_CONFIG_BYTES - CONFIRMED_FROM_END;
const SLOTS: [u64; 2] = [2 * MIB, 7 * MIB];
const SLOT_BYTES: u64 = 4 * MIB + 16384;
const IMAGE_BYTES: usize = 8192;

struct Image {
    _folder: TempDir,
    path: PathBuf,
}

struct Answer {
    code: i32,
    out: String,
    err: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {} {}", self.out, self.err))
    }
}

impl Image {
    /// A disk as `tandem-image build --both` makes it, slot B staged or not.
    fn new(state: &BootState, sector: SectorSize) -> Self {
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

    fn flashed() -> Self {
        Self::new(&state("P1 T0 S1", "P0 T0 S0"), SectorSize::B512)
    }

    fn staged() -> Self {
        Self::new(&state("P1 T0 S1", "P2 T3 S0"), SectorSize::B512)
    }

    fn run(&self, arguments: &[&str]) -> Answer {
        let mut command = Command::new(program());
        command.arg("--disk").arg(&self.path).args(arguments);
        answer(command)
    }

    /// Runs a verb that must succeed, with `--json`.
    fn json(&self, arguments: &[&str]) -> Value {
        let done = self.run(&[arguments, &["--json"]].concat());
        assert_eq!(done.code, 0, "{arguments:?}: {}", done.err);
        done.json()
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }

    fn damage(&self, at: u64, length: usize) {
        let mut bytes = self.bytes();
        let at = usize::try_from(at).unwrap();
        bytes[at..at + length].fill(0);
        fs::write(&self.path, bytes).unwrap();
    }

    /// Runs a verb and tells which 512-byte sectors it changed.
    fn changed(&self, arguments: &[&str]) -> (Answer, BTreeSet<u64>) {
        let before = self.bytes();
        let answer = self.run(arguments);
        let after = self.bytes();
        assert_eq!(before.len(), after.len());
        let pairs = before.chunks(512).zip(after.chunks(512)).zip(0_u64..);
        let changed = pairs.filter(|((old, new), _)| old != new);
        (answer, changed.map(|(_, n)| n).collect())
    }
}

fn program() -> PathBuf {
    tests::programs::program("bootctl", "tandem-bootctl").unwrap()
}

fn answer(mut command: Command) -> Answer {
    let output = command.env_remove("RUST_LOG").output().unwrap();
    Answer {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn table(bytes: &mut [u8], sector: u64, state: &BootState) {
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

fn image(slot: usize) -> Vec<u8> {
    let seed = u8::try_from(slot).unwrap() + 1;
    (0..IMAGE_BYTES)
        .map(|n| seed.wrapping_mul(u8::try_from(n % 251).unwrap()))
        .collect()
}

fn header(slot: usize) -> SlotRecordHeader {
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

fn state(a: &str, b: &str) -> BootState {
    let slot = |text: &str| {
        let digit = |at: usize| u64::from(text.as_bytes()[at] - b'0');
        Attributes::from_gpt(digit(1) << 48 | digit(4) << 52 | digit(7) << 56)
    };
    BootState {
        a: slot(a),
        b: slot(b),
    }
}

fn attributes(p: u8, t: u8, s: bool) -> Value {
    let candidate = p > 0 && (t > 0 || s);
    json!({"priority": p, "tries": t, "successful": s, "candidate": candidate, "confirmed": p > 0 && s})
}

/// Sectors that a change of the attributes may touch: headers and first entries of both copies.
fn gpt_sectors() -> [u64; 4] {
    let last = DISK / 512 - 1;
    [1, 2, last - 32, last]
}

#[test]
fn status_json_has_its_documented_shape() {
    for sector in [SectorSize::B512, SectorSize::B4096] {
        let image = Image::new(&state("P1 T0 S1", "P2 T3 S0"), sector);
        let record = |slot: usize, version: &str| {
            json!({
                "product": "demo", "version": version, "rollback_index": 5,
                "image_size": IMAGE_BYTES, "content": blake3::hash(&self::image(slot)).to_hex().as_str(),
                "payload_id": "ab".repeat(32), "flashed": slot == 0,
            })
        };
        let expected = json!({
            "disk": image.path.to_str(), "sector_size": sector.bytes(),
            "board": "x86_64-grub", "product": "demo",
            "running": false, "active": "a", "trial": false, "next": "b",
            "slots": {
                "a": {"attributes": attributes(1, 0, true), "record": record(0, "1.0.0"),
                      "record_error": null, "partuuid": Guid([3; 16]).to_string()},
                "b": {"attributes": attributes(2, 3, false), "record": record(1, "2.0.0"),
                      "record_error": null, "partuuid": Guid([4; 16]).to_string()},
            },
            "table": {"copies": "both", "backup_at_end": true},
            "environment": {"kind": "grub-block", "state": "ok", "reason": null, "boot": null},
            "mirror": {"a": attributes(1, 0, true), "b": attributes(2, 3, false)},
            "confirmed_record": {"slot": "a", "fresh": true},
            "last_result": null,
        });
        let (answer, changed) = image.changed(&["status", "--json"]);
        assert_eq!((answer.code, answer.json()), (0, expected.clone()));
        assert!(changed.is_empty());
        // The default verb, and flags before it.
        assert_eq!(image.run(&["--json"]).json(), expected);
        let text = image.run(&["status"]).out;
        for part in [
            "slot a  P1 T0 S1  confirmed",
            "slot b  P2 T3 S0  staged",
            "demo 2.0.0  next",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

#[test]
fn status_tells_what_is_damaged() {
    let image = Image::staged();
    image.damage(ENV, 512);
    image.damage(SLOTS[1] + SLOT_BYTES - slot_record::SLOT_RECORD_BYTES, 512);
    image.damage(512, 512);
    image.damage(CONFIRMED, 512);
    let status = image.json(&["status"]);
    assert_eq!(status["environment"]["state"], "lost");
    assert_eq!(
        status["environment"]["reason"],
        "the block has no environment signature"
    );
    assert_eq!(status["slots"]["b"]["attributes"], Value::Null);
    assert_eq!(
        status["slots"]["b"]["record_error"],
        "there is no slot record"
    );
    assert_eq!(status["table"]["copies"], "backup-only");
    assert_eq!(status["confirmed_record"], Value::Null);
    assert_eq!(status["active"], Value::Null);
    assert_eq!(status["next"], Value::Null);
}

#[test]
fn a_whole_update_and_back() {
    let image = Image::flashed();
    assert_eq!(image.json(&["next"]), json!({"next": "a"}));
    let (staged, changed) = image.changed(&["activate", "b"]);
    assert_eq!(
        (staged.code, staged.out.as_str()),
        (0, "a P1 T0 S1  b P2 T3 S0  next b\n")
    );
    let mut allowed = BTreeSet::from(gpt_sectors());
    allowed.insert(ENV / 512);
    assert_eq!(changed, allowed, "{}", staged.err);
    assert_eq!(image.run(&["next"]).out, "b\n");

    let done = image.json(&["--active", "b", "mark-successful"]);
    let slots = json!({"a": attributes(1, 0, true), "b": attributes(2, 0, true)});
    let expected = json!({"verb": "mark-successful", "active": "b", "next": "b", "slots": slots});
    assert_eq!(done, expected);
    let (again, changed) = image.changed(&["mark-successful", "--active", "b"]);
    assert_eq!((again.code, changed.len()), (0, 0));

    let back = image.json(&["rollback", "--tries", "2"]);
    let slots = json!({"a": attributes(2, 2, false), "b": attributes(1, 0, true)});
    assert_eq!(
        back,
        json!({"verb": "rollback", "active": "b", "next": "a", "slots": slots})
    );
    let (gone, changed) = image.changed(&["mark-unbootable", "a"]);
    assert_eq!(
        (gone.code, gone.out.as_str()),
        (0, "a P0 T0 S0  b P1 T0 S1  next b\n")
    );
    assert_eq!(changed, allowed);
    let status = image.json(&["status"]);
    assert_eq!(status["confirmed_record"]["slot"], "b");
    assert_eq!(status["mirror"]["a"], attributes(0, 0, false));
}

#[test]
fn refusals_end_with_6_and_change_nothing() {
    for (image, arguments, cause) in [
        (
            Image::flashed(),
            vec!["activate", "a"],
            "activate a: slot a is the active slot",
        ),
        (
            Image::staged(),
            vec!["activate", "a", "--active", "b"],
            "activate a: active slot b is not confirmed (P2 T3 S0)",
        ),
        (
            Image::staged(),
            vec!["mark-unbootable", "a", "--active", "b"],
            "mark-unbootable a: active slot b is not confirmed (P2 T3 S0)",
        ),
        (
            Image::flashed(),
            vec!["rollback"],
            "slot b is not a candidate (P0 T0 S0)",
        ),
        (
            Image::flashed(),
            vec!["mark-successful", "--active", "b"],
            "active slot b has priority 0 (P0 T0 S0)",
        ),
        (
            Image::new(&state("P1 T1 S0", "P0 T0 S0"), SectorSize::B512),
            vec!["mark-successful"],
            "no slot of this disk is confirmed; say which one is active with --active",
        ),
        (
            Image::new(&state("P0 T0 S0", "P1 T0 S0"), SectorSize::B512),
            vec!["next"],
            "no slot is a candidate",
        ),
    ] {
        let (answer, changed) = image.changed(&arguments);
        assert_eq!(answer.code, 6, "{arguments:?}: {}", answer.err);
        assert!(answer.err.contains(cause), "{cause}: {}", answer.err);
        assert_eq!(answer.err.lines().count(), 1, "{}", answer.err);
        assert!(changed.is_empty());
    }
}

#[test]
fn a_slot_without_a_record_needs_the_flag() {
    let image = Image::flashed();
    image.damage(
        SLOTS[1] + SLOT_BYTES - slot_record::SLOT_RECORD_BYTES + 512,
        1,
    );
    let (refused, changed) = image.changed(&["activate", "b"]);
    assert_eq!((refused.code, changed.len()), (6, 0));
    let cause = "activate b: slot b has no valid slot record (--unverified overrides)";
    assert!(refused.err.contains(cause), "{}", refused.err);
    let done = image.json(&["activate", "b", "--unverified", "--tries", "1"]);
    assert_eq!(done["slots"]["b"], attributes(2, 1, false));
}

#[test]
fn usage_errors_end_with_2() {
    let image = Image::flashed();
    for arguments in [
        vec!["activate"],
        vec!["activate", "c"],
        vec!["activate", "b", "--tries", "0"],
        vec!["activate", "b", "--tries", "10"],
        vec!["--active", "x"],
        vec!["frobnicate"],
    ] {
        let (answer, changed) = image.changed(&arguments);
        assert_eq!((answer.code, changed.len()), (2, 0), "{arguments:?}");
    }
    for flag in ["--help", "--version"] {
        assert_eq!(image.run(&[flag]).code, 0);
    }
}

#[test]
fn what_is_no_disk_of_ours_ends_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty.img");
    fs::write(&empty, vec![0; 1 << 20]).unwrap();
    for (path, cause) in [
        (folder.path().join("missing.img"), "No such file"),
        (empty, "no valid partition table"),
        (
            folder.path().to_owned(),
            "neither a block device nor a plain file",
        ),
    ] {
        let mut command = Command::new(program());
        command.arg("status").arg("--disk").arg(&path);
        let answer = answer(command);
        assert_eq!(answer.code, 1, "{}", answer.err);
        let object = format!("status {}: ", path.display());
        assert!(answer.err.starts_with(&object), "{}", answer.err);
        assert!(answer.err.contains(cause), "{cause}: {}", answer.err);
    }
    let image = Image::flashed();
    image.damage(OEM_CONFIG + OEM_CONFIG_BYTES - DESCRIPTOR_FROM_END, 512);
    let answer = image.run(&["status"]);
    assert!(answer.err.contains("no disk descriptor"), "{}", answer.err);
    assert_eq!(answer.code, 1);
}

#[test]
fn an_installation_under_way_makes_them_busy() {
    let image = Image::staged();
    let disk = Disk::open(&image.path, Access::Write).unwrap();
    let lock = TransactionLock::acquire(&disk).unwrap();
    for arguments in [
        vec!["activate", "b"],
        vec!["mark-unbootable", "b"],
        vec!["rollback"],
    ] {
        let (answer, changed) = image.changed(&arguments);
        assert_eq!((answer.code, changed.len()), (5, 0), "{}", answer.err);
    }
    for arguments in [
        vec!["mark-successful"],
        vec!["sync"],
        vec!["repair"],
        vec!["status"],
        vec!["verify"],
    ] {
        let answer = image.run(&arguments);
        assert_eq!(answer.code, 0, "{arguments:?}: {}", answer.err);
    }
    drop(lock);
    assert_eq!(image.run(&["mark-unbootable", "b"]).code, 0);
}

#[test]
fn verify_compares_content_and_record() {
    for sector in [SectorSize::B512, SectorSize::B4096] {
        let image = Image::new(&state("P1 T0 S1", "P2 T3 S0"), sector);
        let hash = |slot| blake3::hash(&self::image(slot)).to_hex().to_string();
        let good = json!({"slot": "a", "result": "ok", "version": "1.0.0", "expected": hash(0), "found": hash(0)});
        assert_eq!(image.json(&["verify", "a"]), json!({"slots": [good]}));
        image.damage(SLOTS[1] + 100, 1);
        let bad = image.run(&["verify", "--json"]);
        assert_eq!(bad.code, 7);
        let slots = &bad.json()["slots"];
        assert_eq!(slots[0], good);
        assert_eq!(slots[1]["result"], "mismatch");
        assert_eq!(slots[1]["expected"], hash(1));
        assert_ne!(slots[1]["found"], hash(1));
        // What lies behind the image does not count.
        image.damage(SLOTS[0] + IMAGE_BYTES as u64, 4096);
        assert_eq!(image.run(&["verify", "a"]).code, 0);
    }
    let image = Image::flashed();
    image.damage(SLOTS[1] + SLOT_BYTES - slot_record::SLOT_RECORD_BYTES, 512);
    let both = image.json(&["verify"]);
    assert_eq!(both["slots"][1]["result"], "empty");
    let named = image.run(&["verify", "b", "--json"]);
    assert_eq!(
        (named.code, &named.json()["slots"][0]["result"]),
        (7, &json!("no-record"))
    );
}

#[test]
fn sync_and_repair_write_only_what_is_wrong() {
    let image = Image::staged();
    let idle = json!({"table": false, "lost": null, "environment": false, "mirror": false, "confirmed_record": false});
    let report = |verb: &str, key: &str, value: Value| {
        let mut report = idle.clone();
        report["verb"] = verb.into();
        report[key] = value;
        report
    };
    let (answer, changed) = image.changed(&["sync", "--json"]);
    assert_eq!(answer.json(), report("sync", "verb", "sync".into()));
    assert!(changed.is_empty());
    assert_eq!(image.run(&["repair"]).out, "nothing to do\n");

    image.damage(CONFIRMED, 512);
    let (answer, changed) = image.changed(&["sync", "--json"]);
    assert_eq!(
        answer.json(),
        report("sync", "confirmed_record", true.into())
    );
    assert_eq!(changed, BTreeSet::from([CONFIRMED / 512]));

    image.damage(512, 512);
    let (answer, changed) = image.changed(&["repair", "--json"]);
    assert_eq!(answer.json(), report("repair", "table", true.into()));
    assert_eq!(changed, BTreeSet::from([1]));

    image.damage(ENV, 512);
    let (answer, changed) = image.changed(&["repair", "--json"]);
    let lost = "the block has no environment signature";
    assert_eq!(answer.json(), report("repair", "lost", lost.into()));
    assert_eq!(changed, BTreeSet::from([ENV / 512]));
    // The trial is over; the mirror follows at the next sync.
    assert_eq!(
        image.json(&["status"])["slots"]["b"]["attributes"],
        attributes(0, 0, false)
    );
    assert_eq!(image.json(&["sync"]), report("sync", "mirror", true.into()));
}

#[test]
fn repair_without_a_source_is_refused() {
    let image = Image::new(&state("P1 T3 S0", "P0 T0 S0"), SectorSize::B512);
    image.damage(ENV, 512);
    image.damage(CONFIRMED, 512);
    for verb in ["repair", "sync"] {
        let (answer, changed) = image.changed(&[verb]);
        assert_eq!((answer.code, changed.len()), (6, 0), "{}", answer.err);
        assert!(
            answer
                .err
                .contains("neither the GPT attributes nor the confirmed record")
        );
    }
    for verb in [vec!["rollback"], vec!["mark-unbootable", "b"]] {
        let answer = image.run(&[verb, vec!["--active", "a"]].concat());
        assert_eq!(answer.code, 1, "{}", answer.err);
        assert!(
            answer.err.contains("tandem-bootctl repair rebuilds it"),
            "{}",
            answer.err
        );
    }
}

#[test]
fn show_prints_what_cgpt_prints() {
    let image = Image::staged();
    let mut command = Command::new("cgpt");
    command.arg("show").arg(&image.path);
    let theirs = answer(command);
    assert_eq!(theirs.code, 0, "{}", theirs.err);
    let (ours, changed) = image.changed(&["show"]);
    assert!(changed.is_empty());
    // Debian's cgpt does not know that the USR type carries boot attributes.
    let boot = [
        "priority=1 tries=0 successful=1 ",
        "priority=2 tries=3 successful=0 ",
    ];
    assert!(
        boot.iter().all(|text| ours.out.contains(text)),
        "{}",
        ours.out
    );
    let without = boot
        .iter()
        .fold(ours.out.clone(), |out, text| out.replace(text, ""));
    assert_eq!(without, theirs.out);
    let shown = image.json(&["show"]);
    assert_eq!(shown["partitions"].as_array().map(Vec::len), Some(6));
    assert_eq!(shown["partitions"][2]["attributes"], "8032000000000004");
    assert_eq!(shown["copies"], "both");
}

#[test]
fn cgpt_and_grub_see_what_activate_wrote() {
    let image = Image::flashed();
    image.json(&["activate", "b"]);
    for (flag, expected) in [("-P", "2\n"), ("-T", "3\n"), ("-S", "0\n")] {
        let mut command = Command::new("cgpt");
        command.args(["show", "-i", "4", flag]).arg(&image.path);
        assert_eq!(answer(command).out, expected);
    }
    let at = usize::try_from(ENV).unwrap();
    let env = image.path.with_extension("env");
    fs::write(&env, &image.bytes()[at..at + 512]).unwrap();
    let mut command = Command::new("grub-editenv");
    command.arg(&env).arg("list");
    assert!(answer(command).out.ends_with("tandem_check=101230\n"));
}
