//! `tandem-image inspect` and `attach`, which read what came from elsewhere too.

use std::fs;

use serde_json::json;
use updater::Digest;

use crate::fixture::{BLOCK, Block, Forged, Program, lab, noise};

#[track_caller]
fn inspect_refuses(what: &str, payload: &[u8], words: &str) {
    let path = lab().path("payload");
    fs::write(&path, payload).unwrap();
    let path = path.to_str().unwrap();
    for more in [&[][..], &["--json"]] {
        let mut arguments = vec!["inspect", path];
        arguments.extend(more);
        Program::Image
            .run(&arguments)
            .fails(7, words, &(what, more));
    }
    fs::remove_file(path).unwrap();
}

#[test]
fn payloads_cut_anywhere() {
    let payload = Forged::good().bytes();
    for cut in (0..payload.len())
        .step_by(97)
        .chain([15, 16, payload.len() - 1])
    {
        inspect_refuses(&format!("cut at {cut}"), &payload[..cut], "");
    }
    inspect_refuses("a byte more", &[&payload[..], &[0]].concat(), "follow");
}

#[test]
fn flipped_bits() {
    let payload = Forged::good().bytes();
    // The signature is not looked at unless a key is given.
    for at in (0..16).chain((112..payload.len()).step_by(61)) {
        let mut payload = payload.clone();
        payload[at] ^= 0x10;
        inspect_refuses(&format!("byte {at}"), &payload, "");
    }
}

#[test]
fn signatures_by_others() {
    let path = lab().path("payload");
    let path = path.to_str().unwrap();
    let key = lab().keys().join("release.pub.pem");
    let key = key.to_str().unwrap();
    let forged = Forged::good();
    for records in [vec![], vec![vec![0; 96]]] {
        fs::write(path, forged.signed(&records)).unwrap();
        let outcome = Program::Image.run(&["inspect", path, "--key", key]);
        outcome.fails(7, "no valid signature", &records.len());
        let signature = lab().path("signature");
        fs::write(&signature, [7; 64]).unwrap();
        let signature = signature.to_str().unwrap();
        let attach = ["attach", path, "--signature", signature, "--key", key];
        Program::Image
            .run(&attach)
            .fails(7, "signature", &records.len());
        assert_eq!(
            fs::read(path).unwrap(),
            forged.signed(&records),
            "attach wrote"
        );
    }
}

#[test]
fn hostile_lengths_blocks_and_manifests() {
    let good = Forged::good();
    for (path, value) in [
        ("/artifacts/0/size", json!(u64::MAX - 4095)),
        ("/artifacts/0/size", json!(1_u64 << 40)),
        ("/artifacts/0/size", json!(0)),
        ("/artifacts/0/block_size", json!(u32::MAX)),
        ("/artifacts/0/block_size", json!(0)),
        ("/artifacts/0/content", json!("0".repeat(64))),
        ("/artifacts/0/table", json!("0".repeat(64))),
        ("/boards", json!([])),
        ("/product", json!("de\u{1b}[31mmo")),
    ] {
        let payload = good.clone().set(path, value.clone()).bytes();
        inspect_refuses(&format!("{path} = {value}"), &payload, "");
    }
    let deep = format!("{{\"a\":{}", "[".repeat(16_000));
    inspect_refuses("deep", &good.clone().manifest(deep.as_bytes()).bytes(), "");
    let mut header = good.bytes();
    header[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    inspect_refuses("manifest of 4 GiB", &header, "manifest");

    let plain = vec![0; BLOCK];
    let bomb = zstd::bulk::compress(&vec![0; 16 << 20], 3).unwrap();
    let packed = zstd::bulk::compress(&plain, 3).unwrap();
    let twice = [&packed[..], &packed].concat();
    let stored = |len: u32| Block::zstd().entry_at(68, &len.to_le_bytes());
    for (what, block) in [
        ("a bomb", Block::new(2, plain.clone(), bomb)),
        ("two frames", Block::new(2, plain.clone(), twice)),
        ("no frame", Block::new(2, plain.clone(), noise(99, 1))),
        (
            "another block",
            Block::zstd().entry_at(0, &Digest::of(b"").0),
        ),
        ("an unknown kind", Block::raw(1).entry_at(64, &[3])),
        ("4 GiB stored", stored(u32::MAX)),
        ("nothing stored", stored(0)),
    ] {
        inspect_refuses(what, &Forged::of(&[Block::raw(1), block]).bytes(), "");
    }
}
