mod damage;

use std::io::Cursor;

use gptman::{GPT, GPTPartitionEntry};

use super::*;
use crate::descriptor::{DESCRIPTOR_FROM_END, DescriptorError, Store};
use crate::gpt::tests::disk::{MemDisk, Refused};
use crate::gpt::{self, Guid, TYPE_LINUX, TYPE_OEM_CONFIG, TYPE_RESIZE, TYPE_USR};
use crate::store::RedundantEnvStore;
use crate::transition::{Refusal, TryCount};
use crate::uboot_env::{self, Layout, UbootEnv};
use crate::vars;
use crate::{Attributes, Priority, SectorSize, Tries, grub_env};

const MIB: u64 = 1024 * 1024;
const OEM_CONFIG_BYTES: u64 = 2 * MIB;
const ENV_OFFSET: u64 = 64 * 1024 + 512;

const KINDS: [Store; 4] = [
    Store::Gpt,
    Store::GrubBlock {
        offset: ENV_OFFSET,
        size: 512,
    },
    Store::UbootEnv {
        offset: ENV_OFFSET,
        size: 512,
    },
    Store::UbootEnvRedundant {
        offset: ENV_OFFSET,
        offset2: ENV_OFFSET + 4096,
        size: 1024,
    },
];
const SECTORS: [SectorSize; 2] = [SectorSize::B512, SectorSize::B4096];

fn attributes(p: u8, t: u8, s: u8) -> Attributes {
    Attributes {
        priority: Priority::new(p).unwrap(),
        tries: Tries::new(t).unwrap(),
        successful: s == 1,
    }
}

const UNBOOTABLE: (u8, u8, u8) = (0, 0, 0);
const GOOD: (u8, u8, u8) = (1, 0, 1);

fn state(a: (u8, u8, u8), b: (u8, u8, u8)) -> BootState {
    BootState {
        a: attributes(a.0, a.1, a.2),
        b: attributes(b.0, b.1, b.2),
    }
}

type TestControl = Control<MemDisk>;

/// A disk as `tandem-image build` makes it: slot A confirmed, slot B empty, both with a slot record.
fn flashed(store: Store, sector: SectorSize) -> TestControl {
    let size = sector.bytes();
    let mut disk = MemDisk::new(sector, 20 * MIB / size);
    let mut table = GPT::new_from(&mut Cursor::new(&mut disk.bytes), size, [7; 16]).unwrap();
    let mut first = MIB;
    for (number, kind, bytes, bits) in [
        (1, TYPE_LINUX, MIB, 0),
        (3, TYPE_USR, 4 * MIB + 8192, 0x8101_0000_0000_0001),
        (4, TYPE_USR, 4 * MIB + 8192, 0x8000_0000_0000_0000),
        (7, TYPE_OEM_CONFIG, OEM_CONFIG_BYTES, 0),
        (9, TYPE_RESIZE, MIB, 0),
    ] {
        table[number] = GPTPartitionEntry {
            partition_type_guid: kind.0,
            unique_partition_guid: [u8::try_from(number).unwrap(); 16],
            starting_lba: first / size,
            ending_lba: (first + bytes) / size - 1,
            attribute_bits: bits,
            partition_name: "something".into(),
        };
        first += bytes.next_multiple_of(MIB);
    }
    table.write_into(&mut Cursor::new(&mut disk.bytes)).unwrap();
    let oem_config = usize::try_from(table[7].starting_lba * size).unwrap();
    let descriptor = Descriptor {
        board: "test".parse().unwrap(),
        product: "demo".parse().unwrap(),
        store,
    };
    let record = descriptor.encode(OEM_CONFIG_BYTES).unwrap();
    let at = oem_config + usize::try_from(OEM_CONFIG_BYTES - DESCRIPTOR_FROM_END).unwrap();
    disk.bytes[at..at + 512].copy_from_slice(&record);
    let mut control = Control::open(disk).unwrap();
    if let Authority::Redundant(store) = control.authority {
        write_u_boots_own(&mut control, store);
    }
    control.write_authority(&state(GOOD, UNBOOTABLE)).unwrap();
    let confirmed = control.record_for(Slot::A, true).unwrap();
    control.write_confirmed(&confirmed).unwrap();
    for slot in Slot::ALL {
        let header = SlotRecordHeader {
            image_size: 4096,
            content: [0; 32],
            payload_id: [0; 32],
            body_len: 0,
            body_crc: 0,
            flashed: true,
            rollback_index: 0,
            product: "demo".parse().unwrap(),
            version: "1".parse().unwrap(),
        };
        let header = header.for_body(b"body").unwrap();
        control.write_slot_record(slot, &header, b"body").unwrap();
    }
    control.io.log.clear();
    control
}

const BOOTCMD: &str = "bootcmd=run distro_bootcmd";

/// What U-Boot's own environment holds when it has lost the boot state.
fn write_u_boots_own(control: &mut TestControl, store: RedundantEnvStore) {
    for (serial, span) in (7..).zip(store.copies) {
        let mut copy = vec![0xff; span.length];
        let offsets = store.copies.map(|copy| copy.at);
        let places = vars::places(offsets, span.length as u64);
        let entries = format!("{BOOTCMD}\0{}={places}\0\0", vars::PLACES);
        copy[5..5 + entries.len()].copy_from_slice(entries.as_bytes());
        uboot_env::seal(&mut copy, Layout::Redundant, serial);
        store::write_span(&mut control.io, span, &copy).unwrap();
    }
}

fn for_all(test: impl Fn(TestControl, Store)) {
    for store in KINDS {
        for sector in SECTORS {
            test(flashed(store, sector), store);
        }
    }
}

fn check(control: &mut TestControl, expected: BootState, confirmed: Slot) {
    let report = control.state().unwrap();
    assert_eq!(report.state, Some(expected));
    assert!(report.mirror.is_none_or(|mirror| mirror == expected));
    assert_eq!(report.confirmed, Some(confirmed));
    assert_eq!(report.copies, Copies::Both);
    assert!(!report.degraded);
}

fn has_mirror(store: Store) -> bool {
    store != Store::Gpt
}

/// Number of writes since the last call, flushes left out.
fn writes(control: &mut TestControl) -> usize {
    let log = core::mem::take(&mut control.io.log);
    assert!(log.last().is_none_or(Option::is_none), "ends with a flush");
    log.iter().flatten().count()
}

#[test]
fn one_update_and_back() {
    for_all(|mut control, _| {
        let tries = TryCount::DEFAULT;
        check(&mut control, state(GOOD, UNBOOTABLE), Slot::A);
        control.invalidate(Slot::A, Slot::B).unwrap();
        assert_eq!(writes(&mut control), 0, "it was unbootable already");
        control
            .activate(Slot::A, Slot::B, tries, Proof::Record)
            .unwrap();
        check(&mut control, state(GOOD, (2, 3, 0)), Slot::A);
        control.mark_successful(Slot::B).unwrap();
        check(&mut control, state(GOOD, (2, 0, 1)), Slot::B);
        control
            .rollback(Slot::B, TryCount::new(2).unwrap())
            .unwrap();
        check(&mut control, state((2, 2, 0), GOOD), Slot::B);
        control.mark_successful(Slot::A).unwrap();
        check(&mut control, state((2, 0, 1), GOOD), Slot::A);
        control.invalidate(Slot::A, Slot::B).unwrap();
        check(&mut control, state((2, 0, 1), UNBOOTABLE), Slot::A);
        // Foreign attribute bits of both entries.
        let word = |slot| control.gpt().usr(slot).unwrap().attributes;
        assert_eq!(
            word(Slot::A) & !crate::attributes::GPT_MASK,
            0x8000_0000_0000_0001
        );
        assert_eq!(
            word(Slot::B) & !crate::attributes::GPT_MASK,
            0x8000_0000_0000_0000
        );
    });
}

#[test]
fn a_steady_state_costs_no_write() {
    for_all(|mut control, _| {
        control
            .activate(Slot::A, Slot::B, TryCount::DEFAULT, Proof::Record)
            .unwrap();
        control.mark_successful(Slot::B).unwrap();
        control.io.log.clear();
        assert!(!control.sync().unwrap().wrote());
        control.mark_successful(Slot::B).unwrap();
        assert!(!control.repair().unwrap().wrote());
        assert!(control.io.log.is_empty());
    });
}

#[test]
fn tries_spent_by_the_loader_are_not_mirrored() {
    for_all(|mut control, store| {
        control
            .activate(Slot::A, Slot::B, TryCount::DEFAULT, Proof::Record)
            .unwrap();
        control.write_authority(&state(GOOD, (2, 2, 0))).unwrap();
        control.io.log.clear();
        assert!(!control.sync().unwrap().wrote());
        assert!(control.io.log.is_empty());
        if has_mirror(store) {
            let mirror = control.state().unwrap().mirror;
            assert_eq!(mirror, Some(state(GOOD, (2, 3, 0))));
        }
    });
}

#[test]
fn a_foreign_edit_of_the_mirror_is_overwritten() {
    for_all(|mut control, store| {
        if !has_mirror(store) {
            return;
        }
        control.write_gpt(&state((0, 0, 0), (15, 15, 1))).unwrap();
        let report = control.sync().unwrap();
        assert!(report.mirror && !report.table && report.lost.is_none());
        check(&mut control, state(GOOD, UNBOOTABLE), Slot::A);
    });
}

#[test]
fn the_order_of_the_writes() {
    for sector in SECTORS {
        let mut control = flashed(KINDS[1], sector);
        let lba = |span: store::ByteSpan| span.at / sector.bytes();
        let record = lba(control.oem_config.confirmed());
        let Authority::GrubBlock(env) = control.authority else {
            panic!("not a GRUB block");
        };
        let env = lba(env.block);
        let order = |control: &mut TestControl| {
            let log = core::mem::take(&mut control.io.log);
            let mut order: Vec<_> = log
                .iter()
                .map(|write| match write {
                    None => "flush",
                    Some((lba, _)) if *lba == record => "record",
                    Some((lba, _)) if *lba == env => "env",
                    Some(_) => "gpt",
                })
                .collect();
            order.dedup();
            order.join(" ")
        };
        // A commit of the table begins with a flush of what is not its own.
        let gpt = "flush gpt flush gpt flush";
        control
            .activate(Slot::A, Slot::B, TryCount::DEFAULT, Proof::Record)
            .unwrap();
        assert_eq!(order(&mut control), format!("{gpt} env flush"));
        control.mark_successful(Slot::B).unwrap();
        assert_eq!(order(&mut control), format!("{gpt} env flush record flush"));
        control.rollback(Slot::B, TryCount::DEFAULT).unwrap();
        assert_eq!(order(&mut control), format!("{gpt} env flush"));
        control.mark_successful(Slot::A).unwrap();
        control.io.log.clear();
        control.mark_successful(Slot::B).unwrap();
        order(&mut control);
        // The record names slot B when it is the turn of B: first of all it must name A.
        control.invalidate(Slot::A, Slot::B).unwrap();
        let gpt = "gpt flush gpt flush";
        assert_eq!(order(&mut control), format!("record flush env flush {gpt}"));
    }
}

#[test]
fn a_failed_write_stops_everything_behind_it() {
    for_all(|control, _| {
        // Everything has to be written: the record names B, authority and mirror have it bootable.
        let prepared = |control: &TestControl| {
            let mut control = Control::open(control.io.clone()).unwrap();
            control.write_authority(&state(GOOD, (2, 0, 1))).unwrap();
            control.write_gpt(&state(GOOD, (2, 0, 1))).unwrap();
            let record = control.record_for(Slot::B, false).unwrap();
            control.write_confirmed(&record).unwrap();
            control.io.log.clear();
            control
        };
        let mut whole = prepared(&control);
        whole.invalidate(Slot::A, Slot::B).unwrap();
        let actions = whole.io.log.len();
        assert!(actions >= 4);
        for budget in 0..actions {
            let mut cut = prepared(&control);
            cut.io.budget = budget;
            assert!(
                cut.invalidate(Slot::A, Slot::B).is_err(),
                "{budget} of {actions}"
            );
            assert_eq!(cut.io.log.len(), budget);
            assert_eq!(cut.io.log, whole.io.log[..budget]);
            // Done again, it comes to the same end.
            cut.io.budget = usize::MAX;
            cut.invalidate(Slot::A, Slot::B).unwrap();
            let mut again = Control::open(cut.into_inner()).unwrap();
            check(&mut again, state(GOOD, UNBOOTABLE), Slot::A);
        }
    });
}

#[test]
fn activation_asks_for_a_slot_record() {
    for_all(|mut control, _| {
        control.wipe_slot_record(Slot::B).unwrap();
        control.io.log.clear();
        let tries = TryCount::DEFAULT;
        let refused = control.activate(Slot::A, Slot::B, tries, Proof::Record);
        let expected = Refusal::NoSlotRecord { slot: Slot::B };
        assert!(matches!(refused, Err(ControlError::Refused(found)) if found == expected));
        assert!(control.io.log.is_empty());
        control
            .activate(Slot::A, Slot::B, tries, Proof::Unverified)
            .unwrap();
        check(&mut control, state(GOOD, (2, 3, 0)), Slot::A);
    });
}

#[test]
fn a_disk_gets_guids_of_its_own_once() {
    for_all(|mut control, _| {
        let mut next = 100_u8;
        let mut new_guid = || {
            next += 1;
            Guid([next; 16])
        };
        assert!(control.first_boot(&mut new_guid).unwrap());
        assert_eq!(control.gpt().disk_guid(), Guid([101; 16]));
        let guids: Vec<_> = control
            .gpt()
            .partitions()
            .map(|p| p.unique_guid.0[0])
            .collect();
        assert_eq!(guids, [102, 103, 104, 105, 106]);
        let record = control.state().unwrap().confirmed_record.unwrap();
        assert_eq!(record.usr_a, Guid([103; 16]));
        assert_eq!(record.root, Guid([106; 16]));
        assert!(!record.fresh);
        control.io.log.clear();
        assert!(!control.first_boot(&mut new_guid).unwrap());
        assert!(!control.sync().unwrap().wrote());
        assert!(control.io.log.is_empty());
        check(&mut control, state(GOOD, UNBOOTABLE), Slot::A);
    });
}

#[test]
fn a_first_boot_cut_short_is_made_up_for() {
    let mut control = flashed(KINDS[1], SectorSize::B512);
    let mut whole = Control::open(control.io.clone()).unwrap();
    let mut next = 100;
    let mut guid = || {
        next += 1;
        Guid([next; 16])
    };
    whole.first_boot(&mut guid).unwrap();
    // All but the record and its flush.
    control.io.budget = whole.io.log.len() - 2;
    assert!(control.first_boot(&mut guid).is_err());
    control.io.budget = usize::MAX;
    assert!(control.sync().unwrap().confirmed_record);
    let record = control.state().unwrap().confirmed_record.unwrap();
    assert_eq!(record.root, Guid([112; 16]));
    assert!(record.fresh);
    assert!(control.first_boot(&mut guid).unwrap());
}

#[test]
fn root_grows_to_the_end_of_a_larger_disk() {
    for_all(|control, _| {
        let mut disk = control.into_inner();
        let before = disk.sectors();
        disk.grow(8 * MIB / disk.sector.bytes());
        let mut control = Control::open(disk).unwrap();
        assert!(!control.state().unwrap().backup_at_end);
        assert!(control.grow_root().unwrap());
        assert!(control.state().unwrap().backup_at_end);
        let root = control.gpt().partition(gpt::ROOT).unwrap();
        assert!(root.last_lba > before);
        let step = MIB / control.gpt().sector_size().bytes();
        assert!((root.last_lba + 1).is_multiple_of(step));
        control.io.log.clear();
        assert!(!control.grow_root().unwrap());
        assert!(control.io.log.is_empty());
        check(&mut control, state(GOOD, UNBOOTABLE), Slot::A);
    });
}

#[test]
fn a_store_that_a_power_cut_could_tear_is_refused() {
    let refused = |sector: SectorSize, store: Store| {
        let mut control = flashed(KINDS[1], sector);
        let descriptor = Descriptor {
            store,
            ..control.descriptor.clone()
        };
        let record = descriptor.encode(OEM_CONFIG_BYTES).unwrap();
        let span = control.oem_config.descriptor();
        store::write_span(&mut control.io, span, &record).unwrap();
        let Err(error) = Control::open(control.io) else {
            panic!("{store:?} was accepted");
        };
        let ControlError::<Refused>::Layout(error) = error else {
            panic!("{store:?}: {error}");
        };
        assert!(matches!(
            error,
            LayoutError::CrossesSector { .. }
                | LayoutError::SharedSector { .. }
                | LayoutError::Descriptor(DescriptorError::CopyPlace { .. })
        ));
    };
    let size = 1024;
    refused(SectorSize::B512, Store::GrubBlock { offset: 0, size });
    refused(SectorSize::B4096, Store::UbootEnv { offset: 3584, size });
    for (offset, offset2, size, sector) in [
        (64 * 1024, 64 * 1024 + 512, 512, SectorSize::B4096),
        (65 * 1024, 64 * 1024, 1024, SectorSize::B4096),
        // In the table, in a partition, behind everything.
        (512, 64 * 1024, 1024, SectorSize::B512),
        (64 * 1024, MIB - 512, 1024, SectorSize::B512),
        (64 * 1024, 20 * MIB - 1024, 1024, SectorSize::B512),
    ] {
        let store = Store::UbootEnvRedundant {
            offset,
            offset2,
            size,
        };
        refused(sector, store);
    }
}
