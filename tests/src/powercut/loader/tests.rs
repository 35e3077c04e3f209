//! The choice of every loader, from literal states.

use std::sync::Arc;

use bootctl::SectorSize;

use super::*;
use crate::powercut::facts::Facts;
use crate::powercut::parse::{Table, digits_of};
use crate::powercut::release;

/// Six digits as in `tandem_check`.
fn state(digits: &str) -> State {
    let digit = |at: usize| digits.as_bytes()[at] - b'0';
    [0, 3].map(|at| Attr {
        priority: digit(at),
        tries: digit(at + 1),
        successful: digit(at + 2) == 1,
    })
}

/// A disk whose authority, and whose table, hold this state; both slots hold a release.
fn disk(fixture: &Fixture, digits: &str, kernels: [Number; 2]) -> SimDisk {
    let mut medium = fixture.flashed.clone();
    let state = state(digits);
    for copy in Table::both(&medium).into_iter().flatten() {
        let copy = copy.with_state(&state);
        let sector = medium.sector_size().bytes();
        medium.write(copy.lba * sector, &copy.header);
        medium.write(copy.entries_lba() * sector, &copy.entries);
    }
    for place in &fixture.layout.environment {
        let length = usize::try_from(place.end - place.start).unwrap();
        let mut copy = medium.bytes(place.start, length);
        for (name, value) in digits_of(&state) {
            let from = format!("{name}=");
            let at = copy
                .windows(from.len())
                .position(|w| w == from.as_bytes())
                .unwrap();
            copy[at + from.len()..at + from.len() + value.len()].copy_from_slice(value.as_bytes());
        }
        if fixture.board != Board::X86Grub {
            let skip = crate::powercut::facts::header_len(fixture.board);
            let crc = crc32fast::hash(&copy[skip..]);
            copy[..4].copy_from_slice(&crc.to_le_bytes());
        }
        medium.write(place.start, &copy);
    }
    for (image, number) in fixture.layout.image.iter().zip(kernels) {
        medium.write(image.start, &fixture.releases[number].image);
    }
    SimDisk::new(medium, None)
}

fn fixtures() -> Vec<Fixture> {
    let releases = Arc::new(release::all().unwrap());
    let make = |board| Fixture::new(board, SectorSize::B4096, &releases).unwrap();
    Board::ALL.into_iter().map(make).collect()
}

#[test]
fn the_best_candidate_boots_and_spends_one_try() {
    for fixture in fixtures() {
        for (before, chosen, after) in [
            ("101000", 0, "101000"),
            ("101201", 1, "101201"),
            ("101101", 0, "101101"),
            ("101230", 1, "101220"),
            ("101210", 1, "101200"),
            ("101200", 0, "101200"),
            ("230101", 0, "220101"),
            ("110110", 0, "100110"),
            ("091101", 1, "091101"),
        ] {
            let mut disk = disk(&fixture, before, [0, 1]);
            assert_eq!(
                Facts::of(&fixture, &disk.now()).authority,
                Some(state(before))
            );
            let tried = boot(&fixture, &mut disk);
            let slots: Vec<_> = tried.iter().map(|attempt| attempt.slot).collect();
            assert_eq!(slots, [chosen], "{:?}: {before}", fixture.board);
            let facts = Facts::of(&fixture, &disk.now());
            assert_eq!(
                facts.authority,
                Some(state(after)),
                "{:?}: {before}",
                fixture.board
            );
            if !fixture.board.has_environment() {
                assert_eq!(facts.tables, [Some(state(after)); 2]);
            }
        }
        let mut none = disk(&fixture, "001090", [0, 1]);
        assert_eq!(boot(&fixture, &mut none), []);
    }
}

#[test]
fn a_slot_without_a_kernel_is_skipped_and_its_try_stays_spent() {
    for fixture in fixtures() {
        let mut disk = disk(&fixture, "101210", [0, 3]);
        let slots: Vec<_> = boot(&fixture, &mut disk).iter().map(|a| a.slot).collect();
        assert_eq!(slots, [1, 0], "{:?}", fixture.board);
        let facts = Facts::of(&fixture, &disk.now());
        assert_eq!(facts.authority, Some(state("101200")));
    }
}

#[test]
fn a_try_that_cannot_be_written_boots_the_confirmed_slot() {
    use crate::powercut::disk::Fault;
    for fixture in fixtures()
        .into_iter()
        .filter(|f| f.board != Board::X86Gptprio)
    {
        let medium = disk(&fixture, "101230", [0, 1]).now();
        let mut disk = SimDisk::new(medium, Some(Fault::WritesFrom(0)));
        let tried = boot(&fixture, &mut disk);
        let found: Vec<_> = tried.iter().map(|a| (a.slot, a.env)).collect();
        assert_eq!(found, [(0, Env::ReadOnly)], "{:?}", fixture.board);
    }
}

#[test]
fn a_lost_environment_boots_what_the_board_keeps_for_that() {
    for fixture in fixtures().into_iter().filter(|f| f.board.has_environment()) {
        let mut medium = disk(&fixture, "101230", [0, 1]).now();
        for place in &fixture.layout.environment {
            medium.write(place.start, &[0; 512]);
        }
        let tried = boot(&fixture, &mut SimDisk::new(medium, None));
        let found: Vec<_> = tried.iter().map(|a| (a.slot, a.env)).collect();
        assert_eq!(found, [(0, Env::Lost)], "{:?}", fixture.board);
    }
}
