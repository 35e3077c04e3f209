//! Cuts of power at every step of a commit: any subset of what was not flushed yet arrives, one write torn.

use super::*;

/// Starts from `disk`, commits the staged state (and growth), cuts everywhere. Every state afterwards must hold a valid
/// table that says the old or the new, and repeating the commit must bring the new one. Returns the number of cuts.
fn cut_everywhere(name: &str, disk: &MemDisk) -> usize {
    let mut run = disk.clone();
    commit(&mut run);
    let log = std::mem::take(&mut run.log);
    let mut durable = disk.clone();
    let mut pending: Vec<&(u64, Vec<u8>)> = Vec::new();
    let mut cuts = 0;
    for step in &log {
        match step {
            Some(write) => pending.push(write),
            None => {
                pending
                    .drain(..)
                    .for_each(|write| apply(&mut durable, write, usize::MAX));
            }
        }
        for subset in 0..1_u32 << pending.len() {
            for torn in 0..=pending.len() {
                // The lengths at which a write may be cut: sector boundaries and odd places.
                let length = pending.get(torn).map_or(0, |(_, data)| data.len());
                for keep in [20, 512, length.saturating_sub(1)] {
                    let mut cut = durable.clone();
                    for (n, write) in pending.iter().enumerate() {
                        if n == torn {
                            apply(&mut cut, write, keep);
                        } else if subset >> n & 1 == 1 {
                            apply(&mut cut, write, usize::MAX);
                        }
                    }
                    check(name, cut);
                    cuts += 1;
                }
            }
        }
    }
    assert!(durable.bytes == run.bytes, "{name}: everything was flushed");
    cuts
}

fn apply(disk: &mut MemDisk, (lba, data): &(u64, Vec<u8>), keep: usize) {
    let at = usize::try_from(lba * disk.sector.bytes()).unwrap();
    let data = &data[..keep.min(data.len())];
    disk.bytes[at..at + data.len()].copy_from_slice(data);
}

fn commit(disk: &mut MemDisk) {
    let mut gpt = Gpt::read(disk).unwrap();
    gpt.set_boot_state(staged()).unwrap();
    gpt.relocate_backup().unwrap();
    gpt.grow_last(ROOT, gpt.usable().last).unwrap();
    gpt.commit(disk).unwrap();
}

fn check(name: &str, mut disk: MemDisk) {
    let gpt = Gpt::read(&mut disk).unwrap_or_else(|error| panic!("{name}: {error}"));
    let state = gpt.boot_state().unwrap();
    assert!([initial(), staged()].contains(&state), "{name}: {state:?}");
    commit(&mut disk);
    let gpt = Gpt::read(&mut disk).unwrap();
    assert_eq!(
        (gpt.copies(), gpt.backup_at_end()),
        (Copies::Both, true),
        "{name}"
    );
    assert_eq!(gpt.boot_state(), Ok(staged()), "{name}");
}

#[test]
fn every_cut_leaves_a_valid_copy() {
    let mut cuts = 0;
    for sector in BOTH_SIZES {
        for growth in [0, 5, 40] {
            let mut start = MemDisk::with_table(sector, 380);
            if growth > 0 {
                start.grow(growth);
            }
            let end = 379;
            cuts += cut_everywhere("both copies good", &start);
            let mut differ = start.clone();
            differ.edit_table(end, |table| table[3 * 128 + 54] = 0x32);
            cuts += cut_everywhere("copies differ", &differ);
            let mut primary_only = start.clone();
            primary_only.sector_mut(end).fill(0);
            cuts += cut_everywhere("backup header lost", &primary_only);
            if growth == 0 {
                let mut backup_only = start.clone();
                backup_only.sector_mut(1).fill(0);
                cuts += cut_everywhere("primary header lost", &backup_only);
            }
            let mut torn = start.clone();
            torn.sector_mut(2)[300] ^= 1;
            cuts += cut_everywhere("primary entries torn", &torn);
        }
    }
    println!("{cuts} cuts");
    assert!(cuts > 1000, "{cuts}");
}
