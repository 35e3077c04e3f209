//! Partition tables that lie, with checksums that are right, in both copies or in one.

use std::fmt::Debug;

use crate::fixture::{Copy, Disk, How, Program, TableEdit, lab};

/// Fields of a header, UEFI 2.10, table 5.5.
const REVISION: usize = 8;
const HEADER_SIZE: usize = 12;
const MY_LBA: usize = 24;
const ALTERNATE: usize = 32;
const FIRST_USABLE: usize = 40;
const LAST_USABLE: usize = 48;
const ENTRIES_LBA: usize = 72;
const ENTRIES: usize = 80;
const ENTRY_SIZE: usize = 84;
/// Fields of an entry, UEFI 2.10, table 5.6.
const TYPE: usize = 0;
const UNIQUE: usize = 16;
const FIRST: usize = 32;
const LAST: usize = 40;

/// Every verb of `tandem-bootctl`.
const VERBS: &[&[&str]] = &[
    &["status"],
    &["status", "--json"],
    &["next"],
    &["verify"],
    &["activate", "b"],
    &["mark-unbootable", "b"],
    &["mark-successful"],
    &["rollback"],
    &["repair"],
    &["sync"],
];

fn lies() -> Vec<TableEdit> {
    let big = 1 << 60;
    let mut lies = vec![
        TableEdit::header32(ENTRY_SIZE, 256),
        TableEdit::header32(ENTRY_SIZE, 0),
        TableEdit::header32(ENTRY_SIZE, 64),
        TableEdit::header32(ENTRY_SIZE, 129),
        TableEdit::header32(ENTRY_SIZE, u32::MAX),
        TableEdit::header32(ENTRIES, 0),
        TableEdit::header32(ENTRIES, 129),
        TableEdit::header32(ENTRIES, 1_000_000_000),
        TableEdit::header32(ENTRIES, u32::MAX),
        TableEdit::header32(HEADER_SIZE, 0),
        TableEdit::header32(HEADER_SIZE, 91),
        TableEdit::header32(HEADER_SIZE, 513),
        TableEdit::header32(HEADER_SIZE, u32::MAX),
        TableEdit::header32(REVISION, 0x0002_0000),
        TableEdit::Header(0, b"EFI PRAT".to_vec()),
        TableEdit::Broken(56, vec![0xee]),
        TableEdit::Broken(16, vec![0; 4]),
    ];
    for value in [0, 2, 1000, big, u64::MAX] {
        lies.push(TableEdit::header64(MY_LBA, value));
    }
    for value in [0, big, u64::MAX] {
        for field in [ENTRIES_LBA, FIRST_USABLE, LAST_USABLE, ALTERNATE] {
            // A primary header whose backup is elsewhere counts where the disk has grown.
            if field != ALTERNATE {
                lies.push(TableEdit::header64(field, value));
            }
        }
        lies.push(TableEdit::entry64(9, LAST, value));
    }
    let start = |number: u64| {
        let bytes = lab().both.bytes(1024 + (number - 1) * 128 + 32, 8);
        u64::from_le_bytes(bytes.try_into().unwrap())
    };
    lies.extend([
        // USR-B overlaps USR-A, wholly, by one sector; a foreign partition lies over USR-A.
        TableEdit::entry64(4, FIRST, start(3)),
        TableEdit::entry64(4, FIRST, start(4) - 1),
        TableEdit::entry64(3, LAST, start(4)),
        TableEdit::entry64(1, LAST, start(3)),
        // Backwards, and with the largest numbers.
        TableEdit::entry64(4, LAST, start(4) - 1),
        TableEdit::entry64(4, FIRST, u64::MAX),
        TableEdit::entry64(4, LAST, u64::MAX),
        TableEdit::entry64(4, FIRST, 1),
    ]);
    let unique = lab().both.bytes(1024 + 2 * 128 + 16, 16);
    lies.push(TableEdit::Entry(4, UNIQUE, unique));
    lies
}

#[track_caller]
fn nothing_works(disk: &Disk, what: &dyn Debug) {
    only_the_table_can_be_shown(disk, what);
    let show = Program::Bootctl.run(&["--disk", disk.path(), "show"]);
    show.fails(1, "", &(what, "show"));
}

#[track_caller]
fn only_the_table_can_be_shown(disk: &Disk, what: &dyn Debug) {
    for how in How::BOTH {
        disk.refuses(how, &lab().good, &[], (1, ""), &(what, how));
    }
    for verb in VERBS {
        let mut arguments = vec!["--disk", disk.path()];
        arguments.extend(*verb);
        Program::Bootctl.run(&arguments).fails(1, "", &(what, verb));
    }
    disk.is_unchanged(what);
}

#[test]
fn both_copies_bad() {
    for lie in lies() {
        let mut disk = Disk::both();
        for copy in Copy::ALL {
            lie.apply(&mut disk, copy);
        }
        nothing_works(&disk, &lie);
    }
}

#[test]
fn both_copies_gone() {
    let mut disk = Disk::both();
    let len = disk.before().len;
    disk.edit(0, &[0; 34 * 512]);
    disk.edit(len - 33 * 512, &[0; 33 * 512]);
    nothing_works(&disk, &"zeros");
}

#[test]
fn one_copy_bad_is_rebuilt_by_an_installation() {
    let words = "no valid partition table";
    for lie in lies() {
        for copy in Copy::ALL {
            let mut disk = Disk::both();
            lie.apply(&mut disk, copy);
            let what = (&lie, copy);
            let outcome = disk.apply(How::File, &lab().good, &[]);
            assert_eq!(outcome.code, Some(0), "{what:?}: {outcome:#?}");
            assert!(!outcome.stderr.contains(words), "{what:?}: {outcome:#?}");
            let show = Program::Bootctl.run(&["--disk", disk.path(), "status", "--json"]);
            assert_eq!(show.code, Some(0), "{what:?}: {show:#?}");
            let status: serde_json::Value = serde_json::from_str(&show.stdout).unwrap();
            assert_eq!(status["table"]["copies"], "both", "{what:?}: {show:#?}");
        }
    }
}

#[test]
fn tables_without_our_partitions() {
    let zero = [0_u8; 128].to_vec();
    let linux = lab().both.bytes(1024 + 5 * 128, 16);
    for edit in [
        TableEdit::Entry(3, 0, zero.clone()),
        TableEdit::Entry(4, 0, zero.clone()),
        TableEdit::Entry(7, 0, zero),
        TableEdit::Entry(3, TYPE, linux.clone()),
        TableEdit::Entry(4, TYPE, linux),
    ] {
        let mut disk = Disk::both();
        for copy in Copy::ALL {
            edit.apply(&mut disk, copy);
        }
        only_the_table_can_be_shown(&disk, &edit);
    }
}

#[test]
fn slots_too_small_for_anything() {
    let start = |number: u64| {
        let bytes = lab().both.bytes(1024 + (number - 1) * 128 + 32, 8);
        u64::from_le_bytes(bytes.try_into().unwrap())
    };
    // One sector, just the record, one sector less than that.
    for sectors in [1, 8192, 8191] {
        let mut disk = Disk::both();
        for copy in Copy::ALL {
            TableEdit::entry64(4, LAST, start(4) + sectors - 1).apply(&mut disk, copy);
        }
        let outcome = disk.apply(How::File, &lab().good, &[]);
        assert!(
            matches!(outcome.code, Some(1 | 6)),
            "{sectors}: {outcome:#?}"
        );
        outcome.fails(outcome.code.unwrap(), "", &sectors);
        disk.is_unchanged(&sectors);
    }
    // OEM-CONFIG without room for the descriptor.
    for sectors in [1, 2047] {
        let mut disk = Disk::both();
        for copy in Copy::ALL {
            TableEdit::entry64(7, LAST, start(7) + sectors - 1).apply(&mut disk, copy);
        }
        only_the_table_can_be_shown(&disk, &("OEM-CONFIG", sectors));
    }
}
