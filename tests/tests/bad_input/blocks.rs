//! Blocks and tables that are signed and still no good: bombs, frames of another make, hashes of something else.

use std::io::Write;

use serde_json::json;
use updater::Digest;
use zstd::zstd_safe::CParameter;

use crate::fixture::{BLOCK, Block, Disk, Forged, How, noise};

/// A zstd frame of `plain` whose parameters are set by hand.
fn frame(plain: &[u8], parameters: &[CParameter], size_known: bool) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    for parameter in parameters {
        encoder.set_parameter(*parameter).unwrap();
    }
    if size_known {
        encoder
            .set_pledged_src_size(Some(plain.len() as u64))
            .unwrap();
    }
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// Two good blocks around a bad one: the first is written before the second is found out.
fn around(block: Block) -> Vec<u8> {
    Forged::of(&[Block::raw(1), block, Block::raw(2)]).bytes()
}

/// Such a block can't be told from a good one before it is unpacked.
#[track_caller]
fn found_late(disk: &Disk, what: &str, block: Block, words: &str) {
    let payload = around(block);
    for how in How::BOTH {
        disk.loses_passive(how, &payload, (7, words), &(what, how));
    }
}

/// The table tells on it.
#[track_caller]
fn found_early(disk: &Disk, what: &str, block: Block, words: &str) {
    let payload = around(block);
    for how in How::BOTH {
        disk.refuses(how, &payload, &[], (7, words), &(what, how));
    }
}

#[test]
fn the_forger_makes_good_payloads_too() {
    let disk = Disk::both();
    for how in How::BOTH {
        disk.apply(how, &Forged::good().bytes(), &[]).succeeds(&how);
        disk.restore();
    }
}

#[test]
fn zstd_bombs() {
    let disk = Disk::both();
    // RFC 8878, 3.1.1: 1000 RLE blocks of 128 KiB in four bytes each; with the size and without, with a small window.
    let rle = |last: u32| ((128 << 10) << 3 | 1 << 1 | last).to_le_bytes();
    let mut blocks: Vec<u8> = (0..999)
        .flat_map(|_| [&rle(0)[..3], b"x"].concat())
        .collect();
    blocks.extend([&rle(1)[..3], b"x"].concat());
    let size = (1000_u32 * (128 << 10)).to_le_bytes();
    let claims_a_block = (BLOCK as u16 - 256).to_le_bytes();
    for (what, head, words) in [
        (
            "size and window",
            [&[0xa0], &size[..]].concat(),
            "wants a window of 131072000 bytes",
        ),
        (
            "size only",
            [&[0x80, 0x10], &size[..]].concat(),
            "does not unpack",
        ),
        ("size unknown", vec![0x00, 0x10], "does not unpack"),
        (
            "size of one block",
            [&[0x60], &claims_a_block[..]].concat(),
            "does not unpack",
        ),
    ] {
        let bomb = [b"\x28\xb5\x2f\xfd", &head[..], &blocks].concat();
        assert!(bomb.len() < BLOCK, "{}", bomb.len());
        found_late(&disk, what, Block::new(2, vec![b'x'; BLOCK], bomb), words);
    }
    let log = CParameter::WindowLog(10);
    // Whole frames that unpack to a little more than a block.
    for len in [BLOCK + 1, 2 * BLOCK, 16 * BLOCK] {
        for size_known in [true, false] {
            let bomb = frame(&vec![0; len], &[log], size_known);
            assert!(bomb.len() < BLOCK);
            let block = Block::new(2, vec![0; BLOCK], bomb);
            found_late(
                &disk,
                &format!("{len} bytes"),
                block,
                "block 1: its zstd frame",
            );
        }
    }
}

#[test]
fn frames_that_hold_too_little() {
    let disk = Disk::both();
    for len in [0, 1, BLOCK - 1] {
        let short = zstd::bulk::compress(&vec![0; len], 3).unwrap();
        let block = Block::new(2, vec![0; BLOCK], short);
        found_late(
            &disk,
            &format!("{len} bytes"),
            block,
            "block 1: its zstd frame",
        );
    }
    let good = Block::zstd();
    let cut = good.stored[..good.stored.len() - 1].to_vec();
    let block = Block::new(2, good.plain, cut);
    found_late(
        &disk,
        "cut short",
        block,
        "block 1: its stored bytes are not one zstd frame",
    );
}

#[test]
fn windows_larger_than_the_block() {
    let disk = Disk::both();
    let plain = vec![7; BLOCK];
    for log in [13, 17, 23, 27] {
        let stored = frame(&plain, &[CParameter::WindowLog(log)], false);
        let words = format!("window of {} bytes", 1 << log);
        let block = Block::new(2, plain.clone(), stored);
        found_late(&disk, &words, block, &words);
    }
    // 3.75 TiB, the largest that a header can name.
    let mut stored = frame(&plain, &[CParameter::WindowLog(13)], false);
    assert_eq!(stored[4] & 0x20, 0, "a frame with a window descriptor");
    stored[5] = 0xff;
    found_late(
        &disk,
        "the largest",
        Block::new(2, plain, stored),
        "window of 4123168604160 bytes",
    );
}

#[test]
fn two_frames_and_other_frames() {
    let disk = Disk::both();
    let words = "block 1: its stored bytes are not one zstd frame";
    let plain = b"ab".repeat(BLOCK / 2);
    let half = |part: &[u8]| zstd::bulk::compress(part, 3).unwrap();
    let both = [half(&plain[..BLOCK / 2]), half(&plain[BLOCK / 2..])].concat();
    found_late(
        &disk,
        "two frames",
        Block::new(2, plain.clone(), both),
        words,
    );
    let one = half(&plain);
    let skippable = b"\x50\x2a\x4d\x18\x04\0\0\0skip";
    for (what, stored) in [
        ("an empty frame behind", [&one[..], &half(b"")].concat()),
        ("an empty frame before", [&half(b""), &one[..]].concat()),
        ("a skippable frame before", [&skippable[..], &one].concat()),
        ("a skippable frame behind", [&one[..], skippable].concat()),
        ("only a skippable frame", skippable.to_vec()),
        ("a byte behind", [&one[..], &[0]].concat()),
        ("no frame", noise(100, 9)),
        ("one byte", vec![0x28]),
        ("only a magic", one[..4].to_vec()),
    ] {
        found_late(&disk, what, Block::new(2, plain.clone(), stored), words);
    }
    let checked = frame(&plain, &[CParameter::ChecksumFlag(true)], true);
    let mut wrong = checked;
    *wrong.last_mut().unwrap() ^= 1;
    let block = Block::new(2, plain, wrong);
    found_late(
        &disk,
        "another checksum",
        block,
        "block 1: its zstd frame does not unpack",
    );
}

#[test]
fn frames_that_want_a_dictionary() {
    let disk = Disk::both();
    // RFC 8878, 3.1.1: descriptor (2-byte size, single segment, 1-byte dictionary id), id, size − 256, one RLE block.
    let size = (BLOCK as u16 - 256).to_le_bytes();
    let rle = ((BLOCK as u32) << 3 | 3).to_le_bytes();
    let frame = [b"\x28\xb5\x2f\xfd\x61\x05", &size[..], &rle[..3], b"x"].concat();
    let block = Block::new(2, vec![b'x'; BLOCK], frame.clone());
    found_late(&disk, "named", block, "wants a dictionary");
    let named_none = [&frame[..4], b"\x60", &frame[6..]].concat();
    let fine = Block::new(2, vec![b'x'; BLOCK], named_none);
    disk.apply(How::File, &around(fine), &[]).succeeds(&"none");
    disk.restore();

    // A dictionary of plain bytes has no id: nothing but the result tells.
    let plain = noise(BLOCK, 5);
    let mut compressor = zstd::bulk::Compressor::with_dictionary(3, &plain).unwrap();
    let stored = compressor.compress(&plain).unwrap();
    assert!(stored.len() < 100, "the dictionary is used");
    let block = Block::new(2, plain, stored);
    found_late(
        &disk,
        "not named",
        block,
        "block 1: its zstd frame does not unpack",
    );
}

#[test]
fn blocks_that_are_not_what_the_table_says() {
    let disk = Disk::both();
    let other = Digest::of(b"other").0;
    let words = "block 1 at byte 4096 of the image: the unpacked bytes";
    found_late(
        &disk,
        "zstd of another block",
        Block::zstd().entry_at(0, &other),
        words,
    );
    found_late(
        &disk,
        "zeros with another hash",
        Block::zero().entry_at(0, &other),
        words,
    );
    // Both hashes of a raw block are one; its stored bytes have another.
    let block = Block::raw(3).entry_at(0, &other).entry_at(32, &other);
    let payload = around(block);
    let words = "block 1 at byte 4096 of the image: the stored bytes";
    disk.refuses(How::File, &payload, &[], (7, words), &"raw");
    disk.loses_passive(How::Stdin, &payload, (7, words), &"raw");
}

#[test]
fn an_image_that_is_not_what_the_manifest_says() {
    let disk = Disk::both();
    let other = json!(Digest::of(b"other").to_string());
    let payload = Forged::good().set("/artifacts/0/content", other).bytes();
    for how in How::BOTH {
        disk.loses_passive(how, &payload, (7, "the image's hash"), &how);
        disk.refuses(how, &payload, &["--check"], (7, "the image's hash"), &how);
    }
}

#[test]
fn table_entries_that_break_a_rule() {
    let disk = Disk::both();
    let raw = || Block::raw(3);
    for kind in [3, 4, 5, 255] {
        found_early(&disk, "kind", raw().entry_at(64, &[kind]), "kind");
    }
    for at in 65..68 {
        found_early(&disk, "padding", raw().entry_at(at, &[1]), "padding");
    }
    for at in [72, 79] {
        found_early(&disk, "source", raw().entry_at(at, &[1]), "source offset");
    }
    let len = |block: Block, len: u32| block.entry_at(68, &len.to_le_bytes());
    let block = BLOCK as u32;
    for (what, block) in [
        ("raw, nothing", len(raw(), 0)),
        ("raw, less", len(raw(), block - 1)),
        ("raw, more", len(raw(), block + 1)),
        ("raw, most", len(raw(), u32::MAX)),
        ("zeros, one", len(Block::zero(), 1)),
        ("zeros, most", len(Block::zero(), u32::MAX)),
        ("zstd, nothing", len(Block::zstd(), 0)),
        ("zstd, a block", len(Block::zstd(), block)),
        ("zstd, half of everything", len(Block::zstd(), 1 << 31)),
        ("zstd, most", len(Block::zstd(), u32::MAX)),
    ] {
        found_early(&disk, what, block, "stored length");
    }
    let other = Digest::of(b"other").0;
    for block in [raw(), Block::zero()] {
        found_early(
            &disk,
            "stored hash",
            block.entry_at(32, &other),
            "hash of the stored bytes",
        );
    }
}
