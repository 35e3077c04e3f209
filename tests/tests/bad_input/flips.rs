//! One flipped bit: in the header, the signature, the manifest, the table, in every block.

use updater::payload::Header;

use crate::fixture::{Disk, Forged, How, lab};

/// The prefix of the good payload, and of a small one that has all kinds of blocks.
fn regions(payload: &[u8]) -> (usize, usize) {
    let header = Header::parse(payload.first_chunk().unwrap()).unwrap();
    (header.manifest_offset(), header.prefix_len())
}

fn flipped(payload: &[u8], at: usize, bit: u8) -> Vec<u8> {
    let mut payload = payload.to_vec();
    payload[at] ^= 1 << bit;
    payload
}

#[test]
fn any_bit_of_the_header() {
    let disk = Disk::both();
    for at in 0..16 {
        for bit in [0, 3, 7] {
            let payload = flipped(&lab().good, at, bit);
            disk.refuses(How::File, &payload, &[], (7, "payload: "), &(at, bit));
        }
        let payload = flipped(&lab().good, at, 0);
        disk.refuses(How::Stdin, &payload, &[], (7, "payload: "), &at);
    }
}

#[test]
fn a_bit_of_every_byte_of_the_signature() {
    let disk = Disk::both();
    let (manifest, _) = regions(&lab().good);
    for at in 16..manifest {
        let payload = flipped(&lab().good, at, at as u8 % 8);
        let words = if at < 48 {
            "1 by unknown keys"
        } else {
            "1 wrong"
        };
        disk.refuses(How::File, &payload, &[], (7, words), &at);
    }
    let payload = flipped(&lab().good, 16 + 32, 0);
    disk.refuses(How::Stdin, &payload, &[], (7, "1 wrong"), &"standard input");
}

#[test]
fn bits_of_the_manifest() {
    let disk = Disk::both();
    let (start, end) = regions(&lab().good);
    for at in (start..end).step_by(5).chain([end - 1]) {
        let payload = flipped(&lab().good, at, at as u8 % 8);
        disk.refuses(How::File, &payload, &[], (7, "1 wrong"), &at);
    }
    let payload = flipped(&lab().good, start, 5);
    disk.refuses(How::Stdin, &payload, &[], (7, "1 wrong"), &"standard input");
}

#[test]
fn a_bit_of_every_field_of_every_table_entry() {
    let disk = Disk::both();
    let payload = Forged::good().bytes();
    let (_, start) = regions(&payload);
    for entry in 0..4 {
        for at in [0, 31, 32, 63, 64, 65, 67, 68, 71, 72, 79] {
            let at = start + entry * 80 + at;
            let payload = flipped(&payload, at, 0);
            for how in How::BOTH {
                disk.refuses(how, &payload, &[], (7, "table"), &(how, at));
            }
        }
    }
}

#[test]
fn a_bit_of_every_block_in_a_file() {
    let disk = Disk::both();
    for (name, payload, step) in [
        ("good", &lab().good, 60_000),
        ("forged", &Forged::good().bytes(), 1000),
    ] {
        let (_, end) = regions(payload);
        let table = if name == "good" {
            lab().image.len().div_ceil(256 << 10)
        } else {
            4
        };
        let data = end + table * 80;
        for at in (data..payload.len())
            .step_by(step)
            .chain([payload.len() - 1])
        {
            let payload = flipped(payload, at, 2);
            let words = "the stored bytes do not match their hash";
            disk.refuses(How::File, &payload, &[], (7, words), &(name, at));
        }
    }
}

#[test]
fn a_bit_of_every_block_of_a_stream() {
    let disk = Disk::both();
    let payload = Forged::good().bytes();
    let (_, end) = regions(&payload);
    let data = end + 4 * 80;
    let last = payload.len() - 4096;
    for (block, at) in [
        (0, data),
        (0, data + 4095),
        (1, data + 4096),
        (1, last - 1),
        (3, last),
        (3, last + 4095),
    ] {
        let payload = flipped(&payload, at, 7);
        let words = format!("block {block} at byte {}", block * 4096);
        disk.loses_passive(How::Stdin, &payload, (7, &words), &at);
    }
}
