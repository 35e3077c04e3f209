//! The promises of `tests::fuzzing`, over the seeds in `tests/fuzz/seeds` and thousands of variants of them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tests::fuzzing::{self, TARGETS, Target};

/// Variants of each target's seeds.
const CASES: u32 = 1500;

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/seeds")
        .join(name);
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// One change of a text of bytes; places are fractions of its length, so that they suit any.
#[derive(Clone, Debug)]
enum Change {
    Set(f64, u8),
    Flip(f64, u8),
    Number(f64, u64, usize),
    Insert(f64, Vec<u8>),
    Remove(f64, usize),
    Copy(f64, f64, usize),
    Cut(f64),
}

fn change() -> impl Strategy<Value = Change> {
    let at = || 0.0..1.0_f64;
    let edge = prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(u64::from(u32::MAX)),
        Just(1 << 31),
        Just(1 << 63),
        any::<u64>()
    ];
    let wide = prop_oneof![Just(1_usize), Just(2), Just(4), Just(8)];
    prop_oneof![
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        4 => (at(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        3 => (at(), edge, wide).prop_map(|(at, n, len)| Change::Number(at, n, len)),
        1 => (at(), proptest::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, b)| Change::Insert(at, b)),
        1 => (at(), 1..64_usize).prop_map(|(at, len)| Change::Remove(at, len)),
        1 => (at(), at(), 1..128_usize).prop_map(|(from, to, len)| Change::Copy(from, to, len)),
        1 => at().prop_map(Change::Cut),
    ]
}

impl Change {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "any place will do"
    )]
    fn apply(&self, bytes: &mut Vec<u8>) {
        let place = |at: f64| (at * bytes.len() as f64) as usize;
        let put = |bytes: &mut Vec<u8>, at: usize, new: &[u8]| {
            for (place, byte) in bytes.iter_mut().skip(at).zip(new) {
                *place = *byte;
            }
        };
        match self {
            Self::Set(at, byte) => {
                let at = place(*at);
                put(bytes, at, &[*byte]);
            }
            Self::Flip(at, bit) => {
                let at = place(*at);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            Self::Number(at, number, len) => {
                let at = place(*at) / len * len;
                put(bytes, at, &number.to_le_bytes()[..*len]);
            }
            Self::Insert(at, new) => {
                let at = place(*at);
                bytes.splice(at..at, new.iter().copied());
            }
            Self::Remove(at, len) => {
                let at = place(*at);
                let end = bytes.len().min(at + len);
                bytes.drain(at..end);
            }
            Self::Copy(from, to, len) => {
                let (from, to) = (place(*from), place(*to));
                let piece: Vec<u8> = bytes.iter().skip(from).take(*len).copied().collect();
                put(bytes, to, &piece);
            }
            Self::Cut(at) => bytes.truncate(place(*at)),
        }
    }
}

fn holds(name: &str) {
    let find = |(known, _): &&(&str, Target)| *known == name;
    let target = TARGETS.iter().find(find).unwrap().1;
    let seeds = seeds(name);
    assert!(seeds.iter().any(|seed| target(seed)), "no seed is accepted");
    target(&[]);
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    });
    let variants = (0..seeds.len(), proptest::collection::vec(change(), 1..6));
    let result = runner.run(&variants, |(seed, changes)| {
        let mut bytes = seeds[seed].clone();
        changes.iter().for_each(|change| change.apply(&mut bytes));
        target(&bytes);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{name}: {error}"));
    let any = proptest::collection::vec(any::<u8>(), 0..1200);
    let result = runner.run(&any, |bytes| {
        target(&bytes);
        Ok(())
    });
    result.unwrap_or_else(|error| panic!("{name}: {error}"));
}

macro_rules! promises {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            holds(stringify!($name));
        })*

        #[test]
        fn every_target_is_tested_and_fuzzed() {
            let tested = [$(stringify!($name)),*];
            assert_eq!(tested, fuzzing::TARGETS.map(|(name, _)| name));
            for name in tested {
                let path = format!("fuzz/fuzz_targets/{name}.rs");
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
                assert!(path.exists(), "{}", path.display());
            }
        }
    };
}

promises! { manifest table payload gpt grub_env uboot_env descriptor slot_record settings ext4 }
