//! Small disks with small updates: one that keeps its promises, and others that each break one.

use std::io::Cursor;
use std::path::Path;

use gptman::{GPT, GPTPartitionEntry};

use super::log::encode;
use super::*;
use crate::qemu::Firmware;
use crate::scenario::Slot;

const SECTORS: u64 = 40_000;
const IMAGE: usize = 8192;
/// First and last sector of the partitions that matter.
const PARTITIONS: [(u32, u64, u64); 4] = [
    (3, 2048, 12_287),
    (4, 12_288, 22_527),
    (7, 22_528, 26_623),
    (9, 26_624, 30_719),
];
const CONFIRMED: &str = "101000";
const STAGED: &str = "101230";
const ENVIRONMENT: u64 = 22_600;
const RECORD: u64 = 26_623 - 1023;

type Step = Option<(u64, Vec<u8>)>;

/// A disk that runs release 0 from slot a.
fn disk(path: &Path) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(SECTORS).unwrap() * 512];
    let mut cursor = Cursor::new(&mut bytes);
    let mut table = GPT::new_from(&mut cursor, 512, [7; 16]).unwrap();
    for (number, first, last) in PARTITIONS {
        table[number] = GPTPartitionEntry {
            partition_type_guid: [1; 16],
            unique_partition_guid: [u8::try_from(number).unwrap(); 16],
            starting_lba: first,
            ending_lba: last,
            attribute_bits: 0,
            partition_name: "x".into(),
        };
    }
    table.write_into(&mut cursor).unwrap();
    GPT::write_protective_mbr_into(&mut cursor, 512).unwrap();
    let mut put = |sector: u64, data: &[u8]| {
        let at = usize::try_from(sector).unwrap() * 512;
        bytes[at..at + data.len()].copy_from_slice(data);
    };
    put(2048, &[10; IMAGE]);
    put(ENVIRONMENT, &environment(CONFIRMED));
    put(RECORD, &record('a'));
    std::fs::write(path, &bytes).unwrap();
    bytes
}

fn block(text: &str) -> Vec<u8> {
    let mut block = format!("# GRUB Environment Block\n{text}").into_bytes();
    block.resize(512, b'#');
    block
}

fn environment(digits: &str) -> Vec<u8> {
    let names = [
        "a_priority",
        "a_tries",
        "a_successful",
        "b_priority",
        "b_tries",
        "b_successful",
    ];
    let pairs = names.into_iter().zip(digits.chars());
    let lines: String = pairs
        .map(|(name, digit)| format!("tandem_{name}={digit}\n"))
        .collect();
    block(&format!("{lines}tandem_check={digits}\n"))
}

fn record(slot: char) -> Vec<u8> {
    let id = |byte: &str| {
        let of = |bytes: usize| byte.repeat(bytes);
        format!("{}-{}-{}-{}-{}", of(4), of(2), of(2), of(2), of(6))
    };
    block(&format!(
        "tandem_confirmed={slot}\ntandem_usr_a={}\ntandem_usr_b={}\ntandem_root={}\ntandem_fresh=0\n",
        id("03"),
        id("04"),
        id("09")
    ))
}

fn known(version: &str, byte: u8) -> Known {
    Known {
        version: version.to_owned(),
        size: IMAGE as u64,
        blake3: blake3::hash(&[byte; IMAGE]).to_hex().to_string(),
        sha256: String::new(),
    }
}

/// Slot b is written, flushed, staged, tried, confirmed.
fn good() -> Vec<Step> {
    let half = IMAGE / 2;
    vec![
        Some((12_288, vec![20; half])),
        Some((12_288 + 8, vec![20; half])),
        None,
        Some((ENVIRONMENT, environment(STAGED))),
        None,
        Some((ENVIRONMENT, environment("101220"))),
        None,
        Some((ENVIRONMENT, environment("101201"))),
        None,
        Some((RECORD, record('b'))),
        None,
    ]
}

/// Judges every medium of `steps`: those that are good, and what is wrong with the others.
fn judged(steps: &[Step]) -> (Vec<Cut>, Vec<String>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("base");
    disk(&path);
    let base = Base::open(&path).unwrap();
    let log = Log::parse(encode(steps), base.sectors).unwrap();
    let range = |at: usize| PARTITIONS[at].1..PARTITIONS[at].2 + 1;
    let places = Places {
        sectors: SECTORS,
        usr: [range(0), range(1)],
        oem_config: range(2),
        root: range(3),
        flashed_root_end: range(3).end,
        environment: ENVIRONMENT,
        confirmed: RECORD,
    };
    let releases = [known("1", 10), known("2", 20)];
    let mut judge = Judge::new(&places, &releases, Firmware::Bios);
    let mut wrong: Vec<String> = judge
        .writes(&log)
        .err()
        .into_iter()
        .map(|error| error.to_string())
        .collect();
    let mut replay = Replay::new(&base, &log).unwrap();
    let found = judge_all(&mut replay, &mut judge, &places, &[], 1).unwrap();
    wrong.extend(found.violations);
    (found.cuts, wrong)
}

fn expect(steps: &[Step], broken: &str) {
    let (_, wrong) = judged(steps);
    assert!(
        wrong.iter().any(|wrong| wrong.contains(broken)),
        "{broken}: {wrong:?}"
    );
}

#[test]
fn an_update_in_the_right_order_breaks_nothing() {
    let (media, wrong) = judged(&good());
    assert_eq!(wrong, [""; 0]);
    assert!(media.len() > 30, "{}", media.len());
    let ends = [media.first(), media.last()].map(|cut| {
        let judged = &cut.unwrap().judgement;
        (judged.choice.slot, judged.release)
    });
    assert_eq!(ends, [(Slot::A, 0), (Slot::B, 1)]);
}

#[test]
fn staged_before_the_slot_is_flushed() {
    let mut steps = good();
    steps.remove(2);
    expect(&steps, "invariant 3");
}

#[test]
fn a_staged_slot_is_written_over() {
    let mut steps = good();
    steps.truncate(5);
    steps.push(Some((12_288, vec![30; 512])));
    expect(&steps, "invariant 3");
}

#[test]
fn confirmed_in_the_record_before_it_is_written() {
    let mut steps = good();
    steps.insert(0, Some((RECORD, record('b'))));
    expect(&steps, "invariant 3");
}

#[test]
fn nothing_is_confirmed_any_more() {
    let steps = [good(), vec![Some((ENVIRONMENT, environment("110210")))]].concat();
    expect(&steps, "invariant 5");
}

#[test]
fn both_copies_of_the_table_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let disk = disk(&dir.path().join("disk"));
    let sector = |number: u64| {
        let at = usize::try_from(number).unwrap() * 512;
        let mut sector = disk[at..at + 512].to_vec();
        // The sum over the entries, which are not written.
        sector[88] ^= 1;
        (number, sector)
    };
    let (primary, backup) = (sector(1), sector(SECTORS - 1));
    expect(
        &[Some(primary.clone()), Some(backup.clone())],
        "invariant 6",
    );
    assert_eq!(
        judged(&[Some(backup)]).1,
        [""; 0],
        "the primary alone is enough"
    );
}

#[test]
fn the_environment_is_no_environment_for_a_moment() {
    let steps = [Some((ENVIRONMENT, environment("10100x")))];
    expect(&steps, "the environment is lost");
}

#[test]
fn a_partition_moves() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = disk(&dir.path().join("disk"));
    let mut cursor = Cursor::new(&mut disk);
    let mut table = GPT::find_from(&mut cursor).unwrap();
    table[9].starting_lba += 8;
    table.write_into(&mut cursor).unwrap();
    let steps = [Some((1, disk[512..34 * 512].to_vec()))];
    expect(&steps, "invariant 7");
}

#[test]
fn somebody_writes_where_nobody_should() {
    for sector in [0, 40, 2048, 12_287, 22_528] {
        expect(&[Some((sector, vec![0; 512]))], "was written");
    }
}
