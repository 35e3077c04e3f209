//! The boot state in an environment of one sector: which slots the script tries, and what others then read there.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use boards::arm64_uboot_env;
use boards::uboot::{Options, Store};
use bootctl::uboot_env::{self, Layout};

use super::bench::Bench;
use super::disk::{self, ENVIRONMENT_LBA, SECTOR};
use crate::powercut::fixture::Board;
use crate::powercut::real;
use crate::qemu::copy_sparse;
use crate::scenario::damage;
use crate::system;

/// Priority, tries and successful of a, then of b.
type State = [u8; 6];

const NAMES: [&str; 6] = [
    "tandem_a_priority",
    "tandem_a_tries",
    "tandem_a_successful",
    "tandem_b_priority",
    "tandem_b_tries",
    "tandem_b_successful",
];

const STATES: [&str; 20] = [
    "101000", "000101", "101201", "101101", "000000", "101230", "101210", "101200", "230101",
    "210101", "230230", "110110", "231101", "131231", "191091", "980970", "101990", "001101",
    "091010", "500410",
];

const READ_ONLY: [&str; 4] = ["101000", "101230", "230220", "131231"];

/// The mirror while the environment is lost: only what is confirmed there boots, without a try.
const MIRRORS: [&str; 4] = ["101230", "131201", "101101", "230220"];

struct Case {
    name: String,
    sector: Vec<u8>,
    mirror: State,
    writable: bool,
}

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    let base = bench.dir.join("base.img");
    let options = Options {
        board: &arm64_uboot_env::BOARD,
        store: Store::Environment {
            lba: ENVIRONMENT_LBA,
        },
        scratch: bench.machine.scratch(),
        watchdog: None,
    };
    disk::make(&base, &options)?;
    for case in cases()? {
        check(bench, &base, &case).with_context(|| case.name.clone())?;
    }
    Ok(())
}

fn cases() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (writable, states) in [(true, STATES.as_slice()), (false, READ_ONLY.as_slice())] {
        for digits in states {
            let state = parse(digits)?;
            cases.push(Case {
                name: format!("{digits}, writable: {writable}"),
                sector: sector(&text(&state)),
                // It must not matter.
                mirror: parse("000101")?,
                writable,
            });
        }
    }
    let good = text(&parse("101210")?);
    let without = |name: &str| -> Vec<String> {
        let lines = good.iter().filter(|line| !line.starts_with(name));
        lines.cloned().collect()
    };
    let with = |name: &str, value: &str| {
        let mut lines = without(name);
        lines.push(format!("{name}={value}"));
        sector(&lines)
    };
    let mut torn = sector(&good);
    disk::put(&mut torn, 256, &[1; 256]);
    let mut zero_crc = sector(&good);
    disk::put(&mut zero_crc, 0, &[0; 4]);
    let lost = [
        ("zeros", vec![0; damage::SECTOR]),
        ("torn", torn),
        ("no checksum", zero_crc),
        ("random bytes", damage::random(damage::SECTOR)?),
        ("check of another state", with("tandem_check", "101220")),
        ("no check", sector(&without("tandem_check"))),
        ("a variable is missing", sector(&without("tandem_b_tries"))),
        ("a letter", {
            let mut lines = without("tandem_b_tries");
            lines.retain(|line| !line.starts_with("tandem_check"));
            lines.extend([
                "tandem_b_tries=x".to_owned(),
                "tandem_check=1012x0".to_owned(),
            ]);
            sector(&lines)
        }),
        ("successful is 2", {
            let mut lines = without("tandem_a_successful");
            lines.retain(|line| !line.starts_with("tandem_check"));
            lines.extend([
                "tandem_a_successful=2".to_owned(),
                "tandem_check=102210".to_owned(),
            ]);
            sector(&lines)
        }),
    ];
    for (index, (name, sector)) in lost.into_iter().enumerate() {
        let mirror = MIRRORS
            .get(index % MIRRORS.len())
            .copied()
            .unwrap_or("101101");
        cases.push(Case {
            name: format!("{name}, mirror {mirror}"),
            sector,
            mirror: parse(mirror)?,
            writable: true,
        });
    }
    // Others may keep variables there, but none that changes what U-Boot does; and padding may be anything.
    let state = parse("101230")?;
    let mut lines = text(&state);
    lines.push("bootcmd=echo hijacked".to_owned());
    lines.push("t_environment=ok".to_owned());
    cases.push(Case {
        name: "variables of others".to_owned(),
        sector: padded(&lines, 0xff),
        mirror: parse("000101")?,
        writable: true,
    });
    Ok(cases)
}

fn check(bench: &mut Bench, base: &Path, case: &Case) -> Result<()> {
    let image = bench.dir.join("disk.img");
    copy_sparse(base, &image)?;
    disk::set_words(&image, words(&case.mirror))?;
    let place = ENVIRONMENT_LBA * SECTOR;
    damage::write(&image, place, &case.sector)?;

    let fixture = real::unloadable_with(Board::Arm64Env, base, Some(place))?;
    let mut medium = fixture.flashed.clone();
    medium.write(0, &disk::bytes(&image)?);
    let (wanted, model) = real::boot(&fixture, &medium, case.writable);
    let found = bench.choices(&image, !case.writable)?;
    ensure!(
        found == wanted,
        "expect the loader to choose {wanted:?}: it chose {found:?}"
    );
    let found = disk::bytes(&image)?;
    let wanted = model.bytes(0, found.len());
    let differ = found.iter().zip(&wanted).position(|(a, b)| a != b);
    ensure!(
        differ.is_none(),
        "compare the disks: they differ from byte {differ:?} on"
    );
    if model.key() != medium.key() {
        let left = damage::read(&image, place, damage::SECTOR)?;
        agree(bench, &image, &left)?;
    }
    Ok(())
}

/// `bootctl` and `fw_printenv` read the same state in the sector, and nothing else.
fn agree(bench: &Bench, image: &Path, sector: &[u8]) -> Result<()> {
    let decoded = uboot_env::decode(sector, Layout::Single);
    let decoded = decoded.map_err(|e| anyhow!("read the environment: {e}"))?;
    let numbers = [decoded.a, decoded.b].map(|slot| {
        let successful = u8::from(slot.successful);
        [slot.priority.get(), slot.tries.get(), successful]
    });
    let state: State = numbers.concat().try_into().unwrap_or_default();
    let config = bench.dir.join("fw_env.config");
    let place = ENVIRONMENT_LBA * SECTOR;
    let line = format!("{} {place:#x} 0x200\n", image.display());
    fs::write(&config, line).context("write fw_env.config")?;
    let printed = system::run(Command::new("fw_printenv").arg("-c").arg(&config))?;
    let mut lines: Vec<_> = printed.lines().collect();
    lines.sort_unstable();
    let mut wanted = text(&state);
    wanted.sort_unstable();
    ensure!(
        lines == wanted,
        "fw_printenv: {wanted:?} expected, {printed}"
    );
    Ok(())
}

fn parse(digits: &str) -> Result<State> {
    let digits: Vec<u8> = digits
        .bytes()
        .map(|digit| digit.wrapping_sub(b'0'))
        .collect();
    let state = digits.try_into();
    state.map_err(|found| anyhow!("six digits expected, not {found:?}"))
}

fn words(state: &State) -> [u64; 2] {
    let word = |at: usize| {
        let [p, t, s] = [state[at], state[at + 1], state[at + 2]].map(u64::from);
        p << 48 | t << 52 | s << 56
    };
    [word(0), word(3)]
}

/// The seven variables of a state.
fn text(state: &State) -> Vec<String> {
    let values = NAMES.iter().zip(state);
    let mut lines: Vec<String> = values
        .map(|(name, digit)| format!("{name}={digit}"))
        .collect();
    let check: String = state.iter().map(u8::to_string).collect();
    lines.push(format!("tandem_check={check}"));
    lines
}

/// These variables as an environment of one sector.
fn sector(lines: &[String]) -> Vec<u8> {
    padded(lines, 0)
}

fn padded(lines: &[String], padding: u8) -> Vec<u8> {
    let mut data: Vec<u8> = lines
        .iter()
        .flat_map(|line| [line.as_bytes(), &[0]].concat())
        .collect();
    data.push(0);
    data.resize(damage::SECTOR - 4, padding);
    [disk::crc32(&data).to_le_bytes().as_slice(), &data].concat()
}
