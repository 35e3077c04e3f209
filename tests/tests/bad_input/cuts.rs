//! Payloads that end too early, at every boundary of the format and beside it, and payloads that do not end.

use std::collections::BTreeSet;

use updater::payload::Header;

use crate::fixture::{BLOCK, Disk, Forged, How, lab};

/// Where parts of the forged payload end: everything up to the tables, then each block.
fn boundaries(payload: &[u8]) -> (Vec<usize>, Vec<usize>) {
    let header = Header::parse(payload.first_chunk().unwrap()).unwrap();
    let (manifest, tables) = (header.manifest_offset(), header.prefix_len());
    let mut head = vec![0, 8, 12, 14, 16, 48, manifest, tables];
    head.extend((1..=4).map(|entry| tables + entry * 80));
    let data = tables + 4 * 80;
    let last = payload.len() - BLOCK;
    (head, vec![data + BLOCK, last, payload.len()])
}

fn around(boundaries: &[usize], limit: usize) -> BTreeSet<usize> {
    let near = |at: &usize| [at.saturating_sub(1), *at, at + 1];
    let all = boundaries.iter().flat_map(near);
    all.filter(|at| *at < limit).collect()
}

#[test]
fn a_file_cut_anywhere_costs_nothing() {
    let disk = Disk::both();
    let payload = Forged::good().bytes();
    let (head, blocks) = boundaries(&payload);
    for cut in around(&[head, blocks].concat(), payload.len()) {
        disk.refuses(How::File, &payload[..cut], &[], (7, "too early"), &cut);
    }
}

#[test]
fn a_stream_cut_before_its_blocks_costs_nothing() {
    let disk = Disk::both();
    let payload = Forged::good().bytes();
    let (head, _) = boundaries(&payload);
    let data = *head.last().unwrap();
    for cut in around(&head, data) {
        disk.refuses(How::Stdin, &payload[..cut], &[], (7, "too early"), &cut);
    }
}

#[test]
fn a_stream_cut_in_its_blocks_costs_the_passive_slot_only() {
    let disk = Disk::both();
    let payload = Forged::good().bytes();
    let (head, blocks) = boundaries(&payload);
    let data = *head.last().unwrap();
    let cuts = around(&[vec![data], blocks].concat(), payload.len());
    for cut in cuts.into_iter().filter(|cut| *cut >= data) {
        disk.loses_passive(How::Stdin, &payload[..cut], (7, "too early"), &cut);
    }
    let good = &lab().good;
    let cut = good.len() / 2;
    disk.loses_passive(How::Stdin, &good[..cut], (7, "too early"), &"in the middle");
}

#[test]
fn what_follows_the_last_block_is_refused() {
    let disk = Disk::both();
    for more in [1, 80, 4096, 1 << 20] {
        let payload = [Forged::good().bytes(), vec![0; more]].concat();
        disk.refuses(
            How::File,
            &payload,
            &[],
            (7, "follows its last block"),
            &more,
        );
        let found = (7, "follows its last block");
        disk.loses_passive(How::Stdin, &payload, found, &more);
    }
}

#[test]
fn what_is_not_a_payload_is_refused() {
    let disk = Disk::both();
    let image = &lab().image;
    let inputs: [&[u8]; 4] = [b"", b"TANDEM", &image[..], &[0xff; 20_000]];
    for (index, input) in inputs.iter().enumerate() {
        for how in How::BOTH {
            disk.refuses(how, input, &[], (7, "read payload: "), &(how, index));
        }
    }
}
