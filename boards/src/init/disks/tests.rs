use super::*;

fn guid(n: u8) -> Guid {
    Guid([n; 16])
}

fn wanted(slot: Slot) -> Parameters {
    Parameters {
        slot,
        usr: guid(match slot {
            Slot::A => 3,
            Slot::B => 4,
        }),
        root: guid(9),
        init: None,
        environment_lost: false,
    }
}

/// A disk of ours whose partition N has the PARTUUID `shift + N`.
fn ours(name: &str, shift: u8, fresh: bool) -> Seen {
    Seen {
        name: name.into(),
        partitions: [1, 2, 3, 4, 6, 7, 9]
            .map(|n| (u32::from(n), guid(shift + n)))
            .into(),
        record: Some(ConfirmedRecord {
            slot: Slot::A,
            usr_a: guid(shift + 3),
            usr_b: guid(shift + 4),
            root: guid(shift + 9),
            fresh,
        }),
    }
}

fn chosen(seen: &[Seen], slot: Slot, by_record: bool) -> Result<Option<String>, String> {
    match choose(seen, &wanted(slot), by_record) {
        Ok(chosen) => Ok(chosen.map(|c| c.name)),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn the_disk_with_the_wanted_partitions_is_chosen_among_others() {
    let disks = [ours("sda", 100, false), ours("sdb", 0, false)];
    assert_eq!(chosen(&disks, Slot::A, false), Ok(Some("sdb".into())));
    assert_eq!(chosen(&disks, Slot::B, false), Ok(Some("sdb".into())));
    assert_eq!(chosen(&disks[..1], Slot::B, false), Ok(None));
    assert_eq!(chosen(&[], Slot::B, true), Ok(None));
}

#[test]
fn two_partitions_with_the_wanted_identifier_are_refused() {
    let disks = [ours("sda", 0, true), ours("vda", 0, true)];
    let error = chosen(&disks, Slot::A, false).unwrap_err();
    assert!(error.contains("sda") && error.contains("vda"), "{error}");
    assert!(error.contains("both have it"), "{error}");

    // A clone of ROOT alone is enough to lose what is written there.
    let mut root_only = ours("sdb", 100, false);
    root_only.partitions = vec![(1, guid(9))];
    let disks = [ours("sda", 0, false), root_only];
    assert!(chosen(&disks, Slot::A, false).is_err());
}

#[test]
fn partitions_that_do_not_belong_together_are_refused() {
    let mut swapped = ours("sda", 0, false);
    swapped.partitions[2].1 = guid(4);
    swapped.partitions[3].1 = guid(3);
    let error = chosen(&[swapped], Slot::A, false).unwrap_err();
    assert!(error.contains("partition 4 of sda"), "{error}");

    let mut elsewhere = ours("sda", 0, false);
    elsewhere.partitions.retain(|(n, _)| *n != ROOT);
    let mut other = ours("sdb", 100, false);
    other.partitions.push((10, guid(9)));
    let error = chosen(&[elsewhere.clone(), other], Slot::A, false).unwrap_err();
    assert!(error.contains("sdb"), "{error}");
    assert!(chosen(&[elsewhere], Slot::A, false).is_err());
}

/// The loader named the identifiers of the record, but a first boot was cut after the backup table got new ones, or the
/// owner gave the partitions others.
#[test]
fn the_only_disk_of_ours_is_found_by_its_record() {
    let renamed = |fresh| {
        let mut disk = ours("sda", 100, fresh);
        if let Some(record) = &mut disk.record {
            record.usr_a = guid(3);
        }
        disk
    };
    assert_eq!(chosen(&[renamed(false)], Slot::A, false), Ok(None));
    assert_eq!(
        chosen(&[renamed(false)], Slot::A, true),
        Ok(Some("sda".into()))
    );
    // The record names something else, and the disk is not fresh.
    assert_eq!(chosen(&[renamed(false)], Slot::B, true), Ok(None));
    assert_eq!(
        chosen(&[renamed(true)], Slot::B, true),
        Ok(Some("sda".into()))
    );
    // Which of two?
    let two = [renamed(false), ours("sdb", 50, false)];
    assert_eq!(chosen(&two, Slot::A, true), Ok(None));
}

#[test]
fn a_root_with_another_identifier_is_taken_from_the_slot_s_disk() {
    let mut torn = ours("sda", 0, true);
    torn.partitions[6].1 = guid(77);
    assert_eq!(chosen(&[torn], Slot::A, false), Ok(Some("sda".into())));
}

#[test]
fn names_of_devices_in_folders() {
    assert_eq!(node("cciss!c0d0"), Path::new("/dev/cciss/c0d0"));
}
