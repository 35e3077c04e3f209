//! Payloads that are genuine and not for this device, this version or this moment.

use serde_json::json;

use crate::fixture::{Block, Disk, Forged, How, Program, lab, noise};

/// All that `--force` takes.
const EVERYTHING: &str = "--force=downgrade,rolled-back,on-trial,board,same";

#[track_caller]
fn refused(disk: &Disk, what: &str, forged: &Forged, words: &str) {
    let payload = forged.bytes();
    for how in How::BOTH {
        for more in [&[][..], &["--check"]] {
            disk.refuses(how, &payload, more, (6, words), &(what, how, more));
        }
    }
}

#[test]
fn wrong_product_board_and_group() {
    let disk = Disk::both();
    let good = Forged::good();
    let product = good.clone().set("/product", json!("demo2"));
    refused(&disk, "product", &product, "product `demo2`");
    let board = good
        .clone()
        .set("/boards", json!(["rpi4-uboot", "rpi3-uboot"]));
    refused(&disk, "board", &board, "board");
    let group = good.set("/group", json!("beta"));
    refused(&disk, "group", &group, "group `beta`");
    for (words, payload) in [("product", product), ("group", group)] {
        disk.refuses(
            How::File,
            &payload.bytes(),
            &[EVERYTHING],
            (6, words),
            &words,
        );
    }
    let own = [("--product", "other"), ("--board", "rpi4-uboot")];
    for (option, value) in own {
        let words = &option[2..];
        disk.refuses(
            How::File,
            &lab().good,
            &[option, value],
            (6, words),
            &option,
        );
    }
}

#[test]
fn older_versions_lower_indexes_and_too_large_steps() {
    let disk = Disk::both();
    let good = Forged::good();
    for version in ["0.9.9", "0.99", "1.0", "0"] {
        let older = good.clone().set("/version", json!(version));
        refused(&disk, version, &older, version);
    }
    let lower = good.clone().set("/rollback_index", json!(0));
    refused(&disk, "index", &lower, "rollback index");
    for (min, running_is_less) in [("1.0.1", true), ("2", true), ("1.0.0", false)] {
        let payload = good.clone().set("/min_version", json!(min));
        match running_is_less {
            true => refused(&disk, min, &payload, min),
            false => disk
                .apply(How::File, &payload.bytes(), &["--check"])
                .succeeds(&min),
        }
    }
    for feature in ["deltas", "x"] {
        let payload = good.clone().set("/requires", json!([feature]));
        refused(&disk, feature, &payload, feature);
        let forced = [EVERYTHING];
        disk.refuses(
            How::File,
            &payload.bytes(),
            &forced,
            (6, feature),
            &"forced",
        );
    }
}

#[test]
fn an_image_larger_than_the_slot() {
    let disk = Disk::both();
    // 16 MiB less the slot record.
    let room = 12 << 20;
    let size = |size: u64| Forged::good().set("/artifacts/0/size", json!(size));
    for bytes in [room + 4096, room + (4 << 20), 64 << 20] {
        refused(&disk, "image", &size(bytes), &bytes.to_string());
        let payload = size(bytes).bytes();
        disk.refuses(
            How::File,
            &payload,
            &[EVERYTHING],
            (6, "slot"),
            &(bytes, "forced"),
        );
    }
    let blocks: Vec<Block> = (0..room / (1 << 20))
        .map(|seed| {
            let plain = noise(1 << 20, seed);
            Block::new(1, plain.clone(), plain)
        })
        .collect();
    let full = Forged::of(&blocks)
        .set("/artifacts/0/size", json!(room))
        .set("/artifacts/0/block_size", json!(1 << 20));
    disk.apply(How::Stdin, &full.bytes(), &[])
        .succeeds(&"an image that just fits");
}

#[test]
fn artifacts_that_the_board_lacks_or_misses() {
    let disk = Disk::both();
    let good = Forged::good();
    let other = good.clone().set("/artifacts/0/name", json!("boot"));
    refused(&disk, "another", &other, "`boot`");
    let manifest: serde_json::Value = serde_json::from_slice(&good.manifest).unwrap();
    let usr = manifest["artifacts"][0].clone();
    let mut boot = usr.clone();
    boot["name"] = json!("boot");
    for list in [json!([usr, boot]), json!([boot, usr])] {
        let two = good.clone().set("/artifacts", list);
        refused(&disk, "one more", &two, "`boot`");
        disk.refuses(
            How::File,
            &two.bytes(),
            &[EVERYTHING],
            (6, "`boot`"),
            &"forced",
        );
    }
}

#[test]
fn the_running_version_and_the_staged_payload() {
    let mut disk = Disk::both();
    let same = Forged::good().set("/version", json!("1.0.0"));
    for how in How::BOTH {
        disk.refuses(how, &same.bytes(), &[], (3, "1.0.0"), &how);
    }
    disk.takes_good(&"first");
    disk.accept();
    for how in How::BOTH {
        disk.refuses(how, &lab().good, &[], (4, "staged"), &how);
    }
    // Another payload replaces it.
    disk.apply(How::File, &Forged::good().bytes(), &[])
        .succeeds(&"another");
}

#[test]
fn an_active_slot_that_is_not_confirmed() {
    let mut disk = Disk::both();
    disk.takes_good(&"staged");
    disk.accept();
    let next = Forged::good().set("/version", json!("3.0.0")).bytes();
    for how in How::BOTH {
        let running_b = ["--active", "b"];
        disk.refuses(how, &next, &running_b, (6, "confirmed"), &how);
    }
    // Unbootable is not confirmed either, and a disk without a confirmed slot has no active one.
    let disk = Disk::single();
    disk.refuses(
        How::File,
        &next,
        &["--active", "b"],
        (6, "unknown"),
        &"unbootable",
    );
}

#[test]
fn the_active_slot_is_no_target() {
    let disk = Disk::both();
    let bootctl = |arguments: &[&str], words: &str| {
        let mut all = vec!["--disk", disk.path()];
        all.extend(arguments);
        Program::Bootctl.run(&all).fails(6, words, &arguments);
        disk.is_unchanged(&arguments);
    };
    bootctl(&["activate", "a"], "active");
    bootctl(&["activate", "a", "--unverified"], "active");
    bootctl(&["mark-unbootable", "a"], "active");
    bootctl(&["--active", "b", "activate", "b"], "active");
    bootctl(&["--active", "b", "mark-unbootable", "b"], "active");
    // Whatever is forced, the other slot is written.
    let payload = Forged::good().bytes();
    let forced = ["--active", "b", EVERYTHING];
    disk.apply(How::File, &payload, &forced)
        .succeeds(&"b is active");
    let after = crate::fixture::Content::read(disk.path().as_ref());
    let usr_b = crate::fixture::Map::of(disk.before()).usr_b;
    let different = disk.before().differences(&after);
    assert!(
        !different.iter().any(|at| usr_b.contains(at)),
        "slot B was written"
    );
}

#[test]
fn options_that_are_none() {
    let disk = Disk::both();
    for more in [
        &["--force=everything"][..],
        &["--force="],
        &["--active", "c"],
        &["--active", "A "],
        &["--product", "demo", "--product", "other"],
    ] {
        let outcome = disk.apply(How::File, &lab().good, more);
        assert_eq!(outcome.code, Some(2), "{more:?}: {outcome:#?}");
        assert!(!outcome.stderr.contains("panicked"), "{outcome:#?}");
        disk.is_unchanged(&more);
    }
}
