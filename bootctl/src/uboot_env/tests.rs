use proptest::prelude::*;

use super::*;
use crate::{Attributes, Priority, Slot, Tries};

/// `printf 'bootcmd=run x\nfoo=bar\nboot_a_left=3\n' | mkenvimage -s 0x40`: padded with 0xff.
const SINGLE: &[u8; 64] = b"\xfb\xa9\x3d\x35bootcmd=run x\0foo=bar\0boot_a_left=3\0\0\
    \xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";

fn staged() -> BootState {
    BootState {
        a: Attributes {
            priority: Priority::LOW,
            tries: Tries::NONE,
            successful: true,
        },
        b: Attributes {
            priority: Priority::HIGH,
            tries: Tries::DEFAULT,
            successful: false,
        },
    }
}

fn sealed(entries: &[u8], layout: Layout, pad: u8) -> Vec<u8> {
    let mut copy = vec![pad; 512];
    let header = layout.header_len();
    copy[header..header + entries.len()].copy_from_slice(entries);
    seal(&mut copy, layout, 7);
    copy
}

#[test]
fn an_image_of_mkenvimage() {
    let env = UbootEnv::new(SINGLE, Layout::Single).unwrap();
    let all: Vec<_> = env.entries().map(|e| (e.name, e.raw)).collect();
    let expected: [(&[u8], &[u8]); 3] = [
        (b"bootcmd", b"run x"),
        (b"foo", b"bar"),
        (b"boot_a_left", b"3"),
    ];
    assert_eq!(all, expected);
    assert!(UbootEnv::new(SINGLE, Layout::Redundant).is_none());
    let mut flipped = *SINGLE;
    flipped[63] ^= 1;
    assert!(UbootEnv::new(&flipped, Layout::Single).is_none());
}

#[test]
fn the_serial_number_is_outside_the_crc() {
    let mut copy = sealed(b"a=1\0\0", Layout::Redundant, 0xff);
    copy[4] = 9;
    let env = UbootEnv::new(&copy, Layout::Redundant).unwrap();
    assert_eq!(env.serial(), 9);
}

#[test]
fn which_copy_counts() {
    // Rows of libubootenv and U-Boot, 2023.01 to 2025.01.
    for (serials, expected) in [
        ([Some(1), Some(2)], Some(1)),
        ([Some(255), Some(0)], Some(1)),
        ([Some(0), Some(255)], Some(0)),
        ([Some(255), Some(1)], Some(0)),
        ([Some(254), Some(255)], Some(1)),
        ([Some(5), Some(5)], Some(0)),
        ([None, Some(3)], Some(1)),
        ([Some(9), None], Some(0)),
        ([None, None], None),
    ] {
        assert_eq!(current(serials), expected, "{serials:?}");
    }
}

#[test]
fn imports_as_uboot_does() {
    let entries = b"back=a\\b\\\\c\0#hash=1\0 \tlead=sp\0noeq\0empty=\0dup=1\0dup=2\0\0rest=1\0\0";
    let copy = sealed(entries, Layout::Single, 0xff);
    let env = UbootEnv::new(&copy, Layout::Single).unwrap();
    let names: Vec<_> = env.entries().map(|e| e.name).collect();
    let expected: [&[u8]; 6] = [b"back", b"lead", b"noeq", b"empty", b"dup", b"dup"];
    assert_eq!(names, expected);
    let back = env.entries().next().unwrap();
    assert_eq!(back.value().collect::<Vec<_>>(), b"ab\\c");
    assert_eq!(env.lookup("lead"), Lookup::One(b"sp"));
    assert_eq!(env.lookup("empty"), Lookup::Missing);
    assert_eq!(env.lookup("noeq"), Lookup::Missing);
    assert_eq!(env.lookup("dup"), Lookup::Several);
    assert_eq!(env.lookup("hash"), Lookup::Missing);
    assert_eq!(env.lookup("rest"), Lookup::Missing);
}

#[test]
fn an_empty_name_loses_the_environment() {
    let mut copy = sealed(b"x=1\0=y\0\0", Layout::Single, 0);
    assert_eq!(decode(&copy, Layout::Single), Err(LostReason::Malformed(8)));
    encode(&mut copy, Layout::Single, 0, &staged()).unwrap();
    assert_eq!(decode(&copy, Layout::Single), Ok(staged()));
}

#[test]
fn a_state_byte_for_byte() {
    for layout in [Layout::Single, Layout::Redundant] {
        let mut copy = vec![0xff; 512];
        if layout == Layout::Redundant {
            // U-Boot's own is not made anew.
            assert_eq!(
                encode(&mut copy, layout, 200, &staged()),
                Err(EditError::NotOurs)
            );
            create(&mut copy);
            seal(&mut copy, layout, 7);
        }
        encode(&mut copy, layout, 200, &staged()).unwrap();
        let entries = b"tandem_a_priority=1\0tandem_a_tries=0\0tandem_a_successful=1\0\
            tandem_b_priority=2\0tandem_b_tries=3\0tandem_b_successful=0\0tandem_check=101230\0\0";
        let header = layout.header_len();
        assert_eq!(&copy[header..header + entries.len()], entries);
        assert_eq!(decode(&copy, layout), Ok(staged()));
        let mut wanted = vec![0; 512];
        wanted[header..header + entries.len()].copy_from_slice(entries);
        seal(&mut wanted, layout, 200);
        assert_eq!(copy, wanted);
    }
}

#[test]
fn foreign_entries_and_padding_survive() {
    let ours =
        "tandem_b_priority=2\0tandem_b_tries=3\0tandem_b_successful=0\0tandem_check=101230\0";
    let entries = format!(
        "bootcmd=a\\b\0#c\0 x=1\0tandem_a_priority=1\0tandem_a_tries=0\0tandem_a_successful=1\0noeq\0{ours}\0"
    );
    let before = sealed(entries.as_bytes(), Layout::Redundant, 0xa5);
    let mut after = before.clone();
    let spent = Attributes {
        tries: Tries::DEFAULT.spent(),
        ..staged().b
    };
    let state = staged().with(Slot::B, spent);
    encode(&mut after, Layout::Redundant, 8, &state).unwrap();
    let changed = (5..512).filter(|&n| before[n] != after[n]).count();
    assert_eq!(changed, 2);
    assert_eq!(decode(&after, Layout::Redundant), Ok(state));
}

#[test]
fn doubled_and_odd_entries_of_ours_become_one() {
    let mut copy = sealed(
        b"tandem_a_tries=1\0x=1\0 tandem_a_tries=2\0tandem_a_tries\0y=2\0\0",
        Layout::Single,
        0xff,
    );
    encode(&mut copy, Layout::Single, 0, &staged()).unwrap();
    assert_eq!(decode(&copy, Layout::Single), Ok(staged()));
    assert!(copy[4..].starts_with(b"x=1\0y=2\0"));
}

#[test]
fn an_entry_without_its_end_does_not_swallow_the_next() {
    for layout in [Layout::Single, Layout::Redundant] {
        // The last entry runs to the end of the copy.
        let entries = b"tandem_a_tries=3\0tandem_a_tries=3\0foo=";
        let mut copy = sealed(entries, layout, b'x');
        let written = encode(&mut copy, layout, 1, &staged());
        if layout == Layout::Redundant {
            // It has no room, and what is not ours stays.
            assert!(matches!(written, Err(EditError::NoSpace { .. })));
        } else {
            assert_eq!(written, Ok(()));
            assert_eq!(decode(&copy, layout), Ok(staged()));
            set(&mut copy, layout, "foo", "bar").unwrap();
            seal(&mut copy, layout, 2);
            assert_eq!(decode(&copy, layout), Ok(staged()));
            let env = UbootEnv::new(&copy, layout).unwrap();
            assert_eq!(env.lookup("foo"), Lookup::One(b"bar"));
        }
        // What two short entries leave is room for one, behind the end of the last.
        let mut copy = sealed(b"v=1\0v=2222222222\0foo=", layout, b'x');
        set(&mut copy, layout, "v", "3").unwrap();
        seal(&mut copy, layout, 3);
        let env = UbootEnv::new(&copy, layout).unwrap();
        assert_eq!(env.lookup("v"), Lookup::One(b"3"));
        assert!(matches!(env.lookup("foo"), Lookup::One(raw) if raw.ends_with(b"xx")));
    }
}

#[test]
fn two_entries_of_a_name_the_last_without_its_end_do_not_panic() {
    for layout in [Layout::Single, Layout::Redundant] {
        let mut copy = sealed(b"v=1\0foo=bar\0v=", layout, b'x');
        set(&mut copy, layout, "v", "3").unwrap();
        seal(&mut copy, layout, 1);
        let env = UbootEnv::new(&copy, layout).unwrap();
        assert_eq!(env.lookup("v"), Lookup::One(b"3"));
        let env = UbootEnv::new(&copy, layout).unwrap();
        assert_eq!(env.lookup("foo"), Lookup::One(b"bar"));
    }
}

#[test]
fn a_full_copy_is_refused_unchanged() {
    let mut copy = vec![0; 24];
    set(&mut copy, Layout::Single, "abc", "12345678901234").unwrap();
    let before = copy.clone();
    let full = set(&mut copy, Layout::Single, "d", "1");
    assert_eq!(
        full,
        Err(EditError::NoSpace {
            needed: 28,
            size: 24
        })
    );
    assert_eq!(copy, before);
    assert!(encode(&mut [0; 3], Layout::Single, 0, &staged()).is_err());
}

proptest! {
    #[test]
    fn hostile_copies_do_no_harm(
        data in proptest::collection::vec(prop_oneof![Just(0_u8), Just(b'='), Just(b't'), any::<u8>()], 0..600),
        redundant: bool,
        good_crc: bool,
    ) {
        let layout = if redundant { Layout::Redundant } else { Layout::Single };
        let mut copy = data;
        if good_crc {
            seal(&mut copy, layout, 1);
        }
        let _ = decode(&copy, layout);
        let length = copy.len();
        if encode(&mut copy, layout, 3, &staged()).is_ok() {
            prop_assert_eq!(decode(&copy, layout), Ok(staged()));
        }
        prop_assert_eq!(copy.len(), length);
    }
}
