//! Claimed lengths that no disk, no memory and no number holds.

use serde_json::json;

use crate::fixture::{Disk, Forged, How};

const VERIFY: (i32, &str) = (7, "payload: ");

#[test]
fn lengths_in_the_header() {
    let disk = Disk::both();
    let good = Forged::good().bytes();
    for len in [0, 16385, 65536, 1 << 31, u32::MAX - 15, u32::MAX] {
        let mut payload = good.clone();
        payload[8..12].copy_from_slice(&len.to_le_bytes());
        for how in How::BOTH {
            disk.refuses(how, &payload, &[], (7, "its manifest of"), &(how, len));
        }
    }
    for count in [0, 5, 256, u16::MAX] {
        let mut payload = good.clone();
        payload[12..14].copy_from_slice(&count.to_le_bytes());
        for how in How::BOTH {
            disk.refuses(
                how,
                &payload,
                &[],
                (7, "signatures, not 1 to 4"),
                &(how, count),
            );
        }
    }
}

#[test]
fn a_manifest_may_be_as_long_as_the_header_allows_and_no_longer() {
    let disk = Disk::both();
    let good = Forged::good();
    let room = 16384 - good.manifest.len() - r#""x":"","product""#.len() + r#""product""#.len();
    for (spare, fits) in [(0, true), (1, false)] {
        let text = format!("\"x\":\"{}\",\"product\"", "y".repeat(room + spare));
        let payload = good.clone().replace("\"product\"", text.as_bytes()).bytes();
        match fits {
            true => disk
                .apply(How::File, &payload, &["--check"])
                .succeeds(&spare),
            false => disk.refuses(How::File, &payload, &[], (7, "its manifest of"), &spare),
        }
    }
    disk.is_unchanged(&"checked");
}

#[test]
fn sizes_of_the_image() {
    let disk = Disk::both();
    let near_all = u64::MAX - u64::MAX % 4096;
    let sizes = [
        0,
        1,
        4095,
        4097,
        1 << 63,
        near_all,
        near_all - 4096,
        u64::MAX,
    ];
    for size in sizes {
        for block_size in [4096, 1 << 20] {
            let payload = Forged::good()
                .set("/artifacts/0/size", json!(size))
                .set("/artifacts/0/block_size", json!(block_size))
                .bytes();
            for how in How::BOTH {
                disk.refuses(how, &payload, &[], VERIFY, &(how, size, block_size));
            }
        }
    }
    for size in [
        "18446744073709551616",
        "-4096",
        "4096.0",
        "4e3",
        "\"4096\"",
        "1e400",
    ] {
        let payload = Forged::good();
        let to = format!("\"size\":{size}");
        let payload = payload.replace("\"size\":16384", to.as_bytes()).bytes();
        disk.refuses(How::File, &payload, &[], (7, "the manifest"), &size);
    }
}

#[test]
fn sizes_of_the_blocks() {
    let disk = Disk::both();
    let sizes = [
        0,
        1,
        512,
        2048,
        4095,
        4097,
        12288,
        1 << 21,
        1 << 31,
        u64::from(u32::MAX),
        1 << 32,
        u64::MAX,
    ];
    for size in sizes {
        let payload = Forged::good()
            .set("/artifacts/0/block_size", json!(size))
            .bytes();
        disk.refuses(How::File, &payload, &[], (7, "verify payload: "), &size);
    }
}

#[test]
fn tables_that_no_slot_record_holds() {
    let disk = Disk::both();
    // 4 MiB of entries for blocks of 4096 bytes.
    let size: u64 = (4 << 20) / 80 * 4096;
    let payload = Forged::good().set("/artifacts/0/size", json!(size)).bytes();
    for how in How::BOTH {
        disk.refuses(how, &payload, &[], (7, "tables"), &how);
    }
}

#[test]
fn tables_of_another_length_than_the_image_needs() {
    let disk = Disk::both();
    for size in [4096, 3 * 4096, 5 * 4096, 100 * 4096] {
        let payload = Forged::good().set("/artifacts/0/size", json!(size)).bytes();
        for how in How::BOTH {
            disk.refuses(how, &payload, &[], VERIFY, &(how, size));
        }
    }
}
