//! `tandem-bootctl` on disk images: every verb, every exit code, the shape of `--json`, and which bytes change.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod image;

use bootctl::SectorSize;
use bootctl::descriptor::DESCRIPTOR_FROM_END;
use bootctl::disk::{Access, Disk};
use bootctl::gpt::Guid;
use bootctl::slot_record;
use bootctl::transaction::TransactionLock;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use image::*;

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
            "reset": null,
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
