//! Stores that are lost, damaged or older than they should be.

use super::*;

fn destroy_environment(control: &mut TestControl) {
    let spans: Vec<store::ByteSpan> = match control.authority {
        Authority::Gpt => Vec::new(),
        Authority::GrubBlock(store) => vec![store.block],
        Authority::UbootEnv(store) => vec![store.copy],
        Authority::Redundant(store) => store.copies.to_vec(),
    };
    for span in spans {
        store::write_span(&mut control.io, span, &[0; 512]).unwrap();
    }
}

/// The store is an environment that Tandem may make anew.
fn is_ours(store: Store) -> bool {
    matches!(store, Store::GrubBlock { .. } | Store::UbootEnv { .. })
}

#[test]
fn a_lost_environment_is_rebuilt_without_its_trial() {
    for_all(|mut control, store| {
        if !is_ours(store) {
            return;
        }
        control
            .activate(Slot::A, Slot::B, TryCount::DEFAULT, Proof::Record)
            .unwrap();
        destroy_environment(&mut control);
        let report = control.state().unwrap();
        assert!(report.lost.is_some() && report.state.is_none());
        assert_eq!(report.next(), Some(Slot::A));
        let refused = control.mark_successful(Slot::B);
        assert!(matches!(refused, Err(ControlError::Lost(_))));
        let report = control.sync().unwrap();
        assert!(report.lost.is_some() && report.mirror);
        check(&mut control, state(GOOD, UNBOOTABLE), Slot::A);
        assert!(!control.sync().unwrap().wrote());
    });
}

#[test]
fn a_record_that_cannot_be_read_is_written_again() {
    for_all(|mut control, _| {
        let span = control.oem_config.confirmed();
        control.io.bad_sector = Some(span.at / control.io.sector.bytes());
        let unreadable = ConfirmedError::Unreadable;
        assert_eq!(control.state().unwrap().confirmed_record, Err(unreadable));
        assert!(control.sync().unwrap().confirmed_record);
        assert_eq!(control.io.bad_sector, None);
        check(&mut control, state(GOOD, UNBOOTABLE), Slot::A);
        assert!(!control.sync().unwrap().wrote());
    });
}

/// A loader that finds no primary table goes by the record: both must not be at risk at once.
#[test]
fn a_lost_record_is_mended_before_the_table_is_written() {
    for_all(|mut control, _| {
        let record = control.oem_config.confirmed();
        let lba = record.at / control.io.sector.bytes();
        control.io.bad_sector = Some(lba);
        let sectors = control.io.bytes.len() + (1 << 20);
        control.io.bytes.resize(sectors, 0);
        control.io.log.clear();
        assert!(control.grow_root().unwrap());
        let first = control.io.log.iter().flatten().next().unwrap();
        assert_eq!(first.0, lba);
    });
}

#[test]
fn an_environment_that_cannot_be_read_is_rebuilt() {
    for_all(|mut control, store| {
        let copies = match control.authority {
            Authority::Gpt => return,
            Authority::GrubBlock(store) => vec![store.block],
            Authority::UbootEnv(store) => vec![store.copy],
            Authority::Redundant(store) => store.copies.to_vec(),
        };
        let alone = copies.len() == 1;
        let sector = control.io.sector.bytes();
        let sectors = copies.iter().flat_map(|copy| {
            let end = copy.at + copy.length as u64;
            copy.at / sector..end.div_ceil(sector)
        });
        for lba in sectors.collect::<Vec<_>>() {
            control.io.bad_sector = Some(lba);
            let lost = control.state().unwrap().lost;
            assert_eq!(lost, alone.then_some(LostReason::Unreadable), "{store:?}");
            let report = control.sync().unwrap();
            assert!(report.environment || report.lost.is_some());
            assert_eq!(control.io.bad_sector, None);
            check(&mut control, state(GOOD, UNBOOTABLE), Slot::A);
            assert!(!control.sync().unwrap().wrote());
        }
    });
}

#[test]
fn mirror_and_record_make_up_for_each_other() {
    for_all(|mut control, store| {
        if !is_ours(store) {
            return;
        }
        // The mirror knows nothing, the record does.
        control.write_gpt(&BootState::default()).unwrap();
        destroy_environment(&mut control);
        control.repair().unwrap();
        let report = control.state().unwrap();
        assert_eq!(report.state, Some(state((2, 0, 1), UNBOOTABLE)));
        control.sync().unwrap();
        check(&mut control, state((2, 0, 1), UNBOOTABLE), Slot::A);
        // The record knows nothing, the mirror does.
        let record = control.oem_config.confirmed();
        store::write_span(&mut control.io, record, &[0xff; 512]).unwrap();
        destroy_environment(&mut control);
        assert!(control.repair().unwrap().confirmed_record);
        check(&mut control, state((2, 0, 1), UNBOOTABLE), Slot::A);
        // Neither does.
        control.write_gpt(&BootState::default()).unwrap();
        store::write_span(&mut control.io, record, &[0xff; 512]).unwrap();
        destroy_environment(&mut control);
        control.io.log.clear();
        let refused = control.repair().unwrap_err();
        assert!(matches!(refused, ControlError::NoSource(_)), "{refused}");
        assert_eq!(refused.exit(), crate::exit::Exit::Refused);
        assert!(control.io.log.is_empty());
    });
}

#[test]
fn a_damaged_confirmed_record_is_rebuilt() {
    for_all(|mut control, _| {
        let record = control.oem_config.confirmed();
        store::write_span(&mut control.io, record, &[0; 512]).unwrap();
        assert!(control.sync().unwrap().confirmed_record);
        check(&mut control, state(GOOD, UNBOOTABLE), Slot::A);
    });
}

#[test]
fn a_redundant_copy_that_is_damaged_is_mended() {
    let mut control = flashed(KINDS[3], SectorSize::B512);
    let Authority::Redundant(store) = control.authority else {
        panic!("not redundant");
    };
    for copy in store.copies {
        store::write_span(&mut control.io, copy, &[1; 512]).unwrap();
        assert!(control.state().unwrap().degraded);
        assert!(control.sync().unwrap().environment);
        check(&mut control, state(GOOD, UNBOOTABLE), Slot::A);
    }
}

/// It holds the commands that the board starts with: one with our variables alone would leave a board without them. And
/// where nothing shows that it is U-Boot's, it may be anything.
#[test]
fn u_boots_own_environment_is_never_made_anew() {
    for (sector, unproven) in SECTORS.into_iter().zip([false, true]) {
        let mut control = flashed(KINDS[3], sector);
        let b = Slot::B;
        control
            .activate(Slot::A, b, TryCount::DEFAULT, Proof::Record)
            .unwrap();
        let Authority::Redundant(store) = control.authority else {
            panic!("not redundant");
        };
        if unproven {
            for span in store.copies {
                let mut copy = vec![0; span.length];
                store::read_span(&mut control.io, span, &mut copy).unwrap();
                uboot_env::set(&mut copy, Layout::Redundant, vars::PLACES, "80.90.2").unwrap();
                uboot_env::seal(&mut copy, Layout::Redundant, 7);
                store::write_span(&mut control.io, span, &copy).unwrap();
            }
        } else {
            destroy_environment(&mut control);
        }
        let before = control.io.bytes.clone();
        assert!(control.state().unwrap().lost.is_some());
        for refused in [
            control.mark_successful(Slot::A).err(),
            control.invalidate(Slot::A, b).err(),
        ] {
            let refused = refused.unwrap();
            assert!(
                matches!(refused, ControlError::LostForLoader(_)),
                "{refused}"
            );
            assert_eq!(refused.exit(), crate::exit::Exit::Failed);
        }
        assert!(control.io.bytes == before);
        // What the boot script will go by.
        for refused in [control.repair().err(), control.sync().err()] {
            assert!(matches!(refused, Some(ControlError::LostForLoader(_))));
        }
        let mirror = control.state().unwrap().mirror;
        assert_eq!(mirror, Some(state(GOOD, UNBOOTABLE)));
        let copies = store
            .copies
            .map(|copy| copy.at)
            .map(|at| usize::try_from(at).unwrap());
        for at in copies {
            assert!(control.io.bytes[at..at + 1024] == before[at..at + 1024]);
        }
    }
}

/// Then the script has a mirror to go by.
#[test]
fn a_record_makes_up_for_the_mirror_where_only_u_boot_mends_the_environment() {
    let mut control = flashed(KINDS[3], SectorSize::B512);
    control.write_gpt(&BootState::default()).unwrap();
    destroy_environment(&mut control);
    control.repair().unwrap_err();
    let mirror = control.state().unwrap().mirror;
    assert_eq!(mirror, Some(state((2, 0, 1), UNBOOTABLE)));
}

/// `fw_setenv` between our reads and writes leaves an older copy with a slot that must not be bootable.
#[test]
fn an_older_copy_that_has_another_slot_bootable_is_levelled() {
    let mut control = flashed(KINDS[3], SectorSize::B512);
    let Authority::Redundant(store) = control.authority else {
        panic!("not redundant");
    };
    let older = |control: &mut TestControl, wanted| {
        let span = store.copies[0];
        let mut copy = vec![0; span.length];
        store::read_span(&mut control.io, span, &mut copy).unwrap();
        let serial = UbootEnv::new(&copy, Layout::Redundant).unwrap().serial();
        let other = store.copies[1];
        let mut counts = vec![0; other.length];
        store::read_span(&mut control.io, other, &mut counts).unwrap();
        let current = UbootEnv::new(&counts, Layout::Redundant).unwrap().serial();
        let serial = if serial > current {
            current.wrapping_sub(1)
        } else {
            serial
        };
        uboot_env::encode(&mut copy, Layout::Redundant, serial, &wanted).unwrap();
        store::write_span(&mut control.io, span, &copy).unwrap();
    };
    older(&mut control, state(GOOD, (2, 3, 0)));
    let report = control.state().unwrap();
    assert_eq!(report.state, Some(state(GOOD, UNBOOTABLE)));
    assert!(report.degraded);
    assert!(control.sync().unwrap().environment);
    assert!(!control.state().unwrap().degraded);
    // Tries that U-Boot has spent are no damage.
    control
        .activate(Slot::A, Slot::B, TryCount::DEFAULT, Proof::Record)
        .unwrap();
    older(&mut control, state(GOOD, (2, 2, 0)));
    assert!(!control.state().unwrap().degraded);
}

/// After `env default -a; saveenv` our variables are missing in it.
#[test]
fn u_boots_own_environment_keeps_what_else_it_holds() {
    for sector in SECTORS {
        let mut control = flashed(KINDS[3], sector);
        let Authority::Redundant(store) = control.authority else {
            panic!("not redundant");
        };
        for missing in [true, false] {
            if missing {
                write_u_boots_own(&mut control, store);
                assert!(control.sync().unwrap().lost.is_some());
            } else {
                control.invalidate(Slot::A, Slot::B).unwrap();
            }
            check(&mut control, state(GOOD, UNBOOTABLE), Slot::A);
            for span in store.copies {
                let mut copy = vec![0; span.length];
                store::read_span(&mut control.io, span, &mut copy).unwrap();
                let env = UbootEnv::new(&copy, Layout::Redundant).unwrap();
                let first = env.entries().next().unwrap();
                assert_eq!(first.name, b"bootcmd");
                assert!(BOOTCMD.as_bytes().ends_with(first.raw) && !first.raw.is_empty());
            }
        }
    }
}

#[test]
fn no_older_redundant_copy_brings_a_slot_back() {
    for damaged in 0..2 {
        let mut control = flashed(KINDS[3], SectorSize::B512);
        control
            .activate(Slot::A, Slot::B, TryCount::DEFAULT, Proof::Record)
            .unwrap();
        control.invalidate(Slot::A, Slot::B).unwrap();
        let Authority::Redundant(store) = control.authority else {
            panic!("not redundant");
        };
        store::write_span(&mut control.io, store.copies[damaged], &[0; 512]).unwrap();
        let report = control.state().unwrap();
        assert_eq!(report.state, Some(state(GOOD, UNBOOTABLE)));
    }
}

#[test]
fn a_block_that_grub_can_read_but_not_change_is_written_anew() {
    let mut control = flashed(KINDS[1], SectorSize::B512);
    let Authority::GrubBlock(store) = control.authority else {
        panic!("not a GRUB block");
    };
    let mut block = [0; 512];
    store::read_span(&mut control.io, store.block, &mut block).unwrap();
    block[500..].fill(b'x');
    store::write_span(&mut control.io, store.block, &block).unwrap();
    assert!(control.state().unwrap().degraded);
    assert!(control.sync().unwrap().environment);
    check(&mut control, state(GOOD, UNBOOTABLE), Slot::A);
    store::read_span(&mut control.io, store.block, &mut block).unwrap();
    assert!(grub_env::is_editable(&block));
}
