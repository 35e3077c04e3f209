//! The boot state in U-Boot's own environment, which this build keeps in two copies: which slots the script tries, and what
//! `saveenv` then leaves, by U-Boot, `bootctl`, `fw_printenv` and `fw_setenv`.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use boards::arm64_uboot_env;
use boards::uboot::{Copies, Options, Store};
use bootctl::uboot_env::{self, Layout};
use bootctl::{Attributes, BootState};

use super::bench::Bench;
use super::disk;
use super::own::OwnCopies;
use crate::powercut::fixture::Board;
use crate::powercut::loader::places;
use crate::powercut::real;
use crate::qemu::copy_sparse;
use crate::scenario::{damage, loader_lines};
use crate::system::{self, OWN_COPIES, OWN_COPY_LENGTH, fw_env_config};

/// Digits as in `tandem_check`.
const STATES: [&str; 18] = [
    "101000", "000101", "101201", "101101", "000000", "101230", "101210", "101200", "230101",
    "210101", "230230", "110110", "231101", "131231", "191091", "980970", "101990", "091010",
];

/// With slots that come as far as `booti`: by then the script has set `bootargs` and `cmdline`, which must not be saved when
/// it spends the try of the second one.
const LOADABLE: [&str; 4] = ["230230", "131231", "101230", "910191"];
/// What `booti` says to a file that is no kernel.
const NO_KERNEL: &str = "Bad Linux ARM64 Image magic";

/// The mirror while the environment is lost.
const MIRRORS: [&str; 6] = ["101230", "131201", "101101", "230220", "000101", "000000"];

/// What the copies hold before the boot.
enum Before {
    /// This state, the first copy newer where that is true.
    State(BootState, bool),
    /// Nothing that U-Boot takes.
    Lost,
    /// Variables of U-Boot's alone.
    Missing,
    /// Another state in the newer copy, whose checksum is wrong.
    NewerDamaged(BootState),
}

struct Case {
    name: String,
    before: Before,
    mirror: BootState,
    /// The slots hold what can be loaded and is no kernel.
    loads: bool,
    /// By how much the places that the script is told of differ from those that U-Boot was built for.
    shifts: [u64; 2],
}

const HERE: [u64; 2] = [0, 0];
const ELSEWHERE: [u64; 2] = [0x10_0000, 0x10_0000];
const HALF_ELSEWHERE: [u64; 2] = [0, 0x10_0000];

/// Where the script looks.
fn copies_from(shifts: [u64; 2]) -> [Range<u64>; 2] {
    let [first, second] = OWN_COPIES;
    [first + shifts[0], second + shifts[1]].map(|at| at..at + OWN_COPY_LENGTH as u64)
}

fn base(bench: &Bench, [first, second]: [u64; 2]) -> PathBuf {
    bench.dir.join(format!("base-{first}-{second}.img"))
}

pub(super) fn run(bench: &mut Bench) -> Result<()> {
    for shifts in [HERE, ELSEWHERE, HALF_ELSEWHERE] {
        let lbas = copies_from(shifts).map(|copy| copy.start / disk::SECTOR);
        let options = Options {
            board: &arm64_uboot_env::BOARD,
            store: Store::Own(Copies {
                lbas,
                sectors: OWN_COPY_LENGTH as u64 / disk::SECTOR,
            }),
            scratch: bench.machine.scratch(),
            watchdog: None,
        };
        disk::make_from(&base(bench, shifts), &options, disk::BEHIND_OWN_COPIES)?;
    }
    let initial = bench.machine.initial_environment()?;
    for case in cases()? {
        let base = base(bench, case.shifts);
        check(bench, &base, &initial, &case).with_context(|| case.name.clone())?;
    }
    Ok(())
}

fn cases() -> Result<Vec<Case>> {
    let unused = parse("000101")?;
    let mut cases = Vec::new();
    for (number, digits) in STATES.iter().enumerate() {
        let first_is_newer = number % 2 == 0;
        cases.push(Case {
            name: format!("{digits}, the first copy is newer: {first_is_newer}"),
            before: Before::State(parse(digits)?, first_is_newer),
            mirror: unused,
            loads: false,
            shifts: HERE,
        });
    }
    for digits in LOADABLE {
        cases.push(Case {
            name: format!("{digits}, what both slots hold is loaded and is no kernel"),
            before: Before::State(parse(digits)?, false),
            mirror: unused,
            loads: true,
            shifts: HERE,
        });
    }
    for digits in MIRRORS {
        for (what, before) in [("zeros", Before::Lost), ("no state", Before::Missing)] {
            cases.push(Case {
                name: format!("{what}, mirror {digits}"),
                before,
                mirror: parse(digits)?,
                loads: false,
                shifts: HERE,
            });
        }
    }
    cases.push(Case {
        name: "the newer copy is damaged".to_owned(),
        before: Before::NewerDamaged(parse("101230")?),
        mirror: unused,
        loads: false,
        shifts: HERE,
    });
    for (shifts, what) in [
        (ELSEWHERE, "elsewhere"),
        (HALF_ELSEWHERE, "partly elsewhere"),
    ] {
        for digits in ["101230", "131231", "101000"] {
            cases.push(Case {
                name: format!("{digits}, U-Boot keeps it {what}"),
                before: Before::State(parse(digits)?, true),
                mirror: parse("131230")?,
                loads: false,
                shifts,
            });
        }
        cases.push(Case {
            name: format!("nothing, U-Boot keeps it {what}"),
            before: Before::Lost,
            mirror: parse("101230")?,
            loads: false,
            shifts,
        });
    }
    Ok(cases)
}

fn check(bench: &mut Bench, base: &Path, initial: &[String], case: &Case) -> Result<()> {
    let image = bench.dir.join("disk.img");
    copy_sparse(base, &image)?;
    disk::set_words(&image, [case.mirror.a, case.mirror.b].map(word))?;
    for (at, copy) in OWN_COPIES.into_iter().zip(copies(initial, &case.before)) {
        damage::write(&image, at, &copy)?;
    }
    // The model's environment has the same states in other words.
    let elsewhere = case.shifts != HERE;
    let places = copies_from(case.shifts).to_vec();
    let fixture = real::unloadable_at(Board::Arm64Redundant, base, places)?;
    let mut medium = fixture.flashed.clone();
    medium.write(0, &disk::bytes(&image)?);
    let (wanted, model) = real::boot(&fixture, &medium, !elsewhere);
    // For the model a slot is empty or it starts.
    if case.loads {
        disk::fill_slots(&image, &bench.dir.join("slot"))?;
    }
    let before = OwnCopies::read(&image)?;
    let tables = |image: &Path| -> Result<Vec<u8>> {
        let mut bytes = disk::bytes(image)?;
        for at in OWN_COPIES {
            disk::put(&mut bytes, usize::try_from(at)?, &[0; OWN_COPY_LENGTH]);
        }
        Ok(bytes)
    };
    let untouched = tables(&image)?;

    let said = bench.says(&image, false)?;
    ensure!(
        said.contains(NO_KERNEL) == case.loads,
        "expect what is in a slot to come as far as booti: {}",
        case.loads
    );
    let found = loader_lines(&said)?;
    ensure!(
        found == wanted,
        "expect the loader to choose {wanted:?}: it chose {found:?}"
    );
    ensure!(
        tables(&image)? == untouched,
        "something beside the copies was written"
    );
    if elsewhere {
        return Ok(());
    }
    let after = OwnCopies::read(&image)?;
    let modelled = OwnCopies(OWN_COPIES.map(|at| model.bytes(at, OWN_COPY_LENGTH)));
    let saves =
        [&before, &after, &modelled].map(|copies| copies.current().map(|n| copies.serial(n)));
    ensure!(
        saves[1] == saves[2],
        "expect as many saves as the model makes: {saves:?}"
    );
    if saves[0] == saves[1] {
        ensure!(before == after, "something was written without need");
        return Ok(());
    }
    let one = saves[0]
        .flatten()
        .map_or(1, |serial| serial.wrapping_add(1));
    if saves[1].flatten() == Some(one) {
        after.check_saved(&before, modelled.state()?)?;
    }
    ensure!(
        after.state()? == modelled.state()?,
        "expect {:?} to be saved: it is {:?}",
        modelled.state(),
        after.state()
    );
    after.check_others(&before)?;
    agree(bench, &image, &after)
}

/// `fw_printenv` reads what U-Boot saved, and U-Boot's next reader is `bootctl` with what `fw_setenv` makes of it.
fn agree(bench: &Bench, image: &Path, saved: &OwnCopies) -> Result<()> {
    let config = bench.dir.join("fw_env.config");
    let path = image.to_str().context("name the disk")?;
    fs::write(&config, fw_env_config(path)).context("write fw_env.config")?;
    let printed = system::run(Command::new("fw_printenv").arg("-c").arg(&config))?;
    let variables: BTreeMap<&str, &str> =
        printed.lines().filter_map(|l| l.split_once('=')).collect();
    let state = saved.state()?;
    for (name, value) in text(&state).iter().filter_map(|line| line.split_once('=')) {
        ensure!(
            variables.get(name) == Some(&value),
            "expect fw_printenv to print {name}={value}: {variables:?}"
        );
    }
    let mut command = Command::new("fw_setenv");
    system::run(command.arg("-c").arg(&config).args(["mark", "moved"]))?;
    let set = OwnCopies::read(image)?;
    ensure!(
        set.state()? == state && set.current() != saved.current(),
        "expect fw_setenv to write the other copy, with the state: {:?}",
        set.state()
    );
    Ok(())
}

fn copies(initial: &[String], before: &Before) -> [Vec<u8>; 2] {
    let more = ["mark=kept", "bootargs=quiet its own  words", "cmdline=x y"].map(str::to_owned);
    let own = [initial, &more].concat();
    let places = String::from_utf8_lossy(&places(&copies_from(HERE))).into_owned();
    let with = |state: &BootState| {
        let proof = [format!("tandem_places={places}")];
        [own.as_slice(), &text(state), &proof].concat()
    };
    let old = Attributes::UNBOOTABLE;
    let other = BootState { a: old, b: old };
    match before {
        Before::State(state, true) => [sealed(&with(state), 0), sealed(&with(&other), 255)],
        Before::State(state, false) => [sealed(&with(&other), 41), sealed(&with(state), 42)],
        Before::Lost => [0, 0].map(|byte| vec![byte; OWN_COPY_LENGTH]),
        Before::Missing => [sealed(&own, 1), sealed(&own, 2)],
        Before::NewerDamaged(state) => {
            let mut newer = sealed(&with(&other), 8);
            disk::put(&mut newer, 600, &[1; 16]);
            [newer, sealed(&with(state), 7)]
        }
    }
}

/// Variables as one copy, with padding of any value.
fn sealed(lines: &[String], serial: u8) -> Vec<u8> {
    let data = lines
        .iter()
        .flat_map(|line| [line.as_bytes(), &[0]].concat());
    let mut copy: Vec<u8> = [0; 5].into_iter().chain(data).collect();
    copy.push(0);
    copy.resize(OWN_COPY_LENGTH, 0xff);
    uboot_env::seal(&mut copy, Layout::Redundant, serial);
    copy
}

fn parse(digits: &str) -> Result<BootState> {
    let digits: Vec<u64> = digits
        .bytes()
        .map(|digit| u64::from(digit.wrapping_sub(b'0')))
        .collect();
    let [ap, at, asuc, bp, bt, bsuc] = digits.as_slice() else {
        return Err(anyhow!("six digits expected, not {digits:?}"));
    };
    let slot = |p: &u64, t: &u64, s: &u64| Attributes::from_gpt(p << 48 | t << 52 | s << 56);
    Ok(BootState {
        a: slot(ap, at, asuc),
        b: slot(bp, bt, bsuc),
    })
}

fn word(attributes: Attributes) -> u64 {
    let [p, t, s] = numbers(attributes).map(u64::from);
    p << 48 | t << 52 | s << 56
}

fn numbers(attributes: Attributes) -> [u8; 3] {
    let successful = u8::from(attributes.successful);
    [
        attributes.priority.get(),
        attributes.tries.get(),
        successful,
    ]
}

/// The seven variables of a state.
fn text(state: &BootState) -> Vec<String> {
    let names = ["priority", "tries", "successful"];
    let slots = [("a", numbers(state.a)), ("b", numbers(state.b))];
    let values = slots.iter().flat_map(|(slot, numbers)| {
        names
            .iter()
            .zip(numbers)
            .map(move |(name, number)| format!("tandem_{slot}_{name}={number}"))
    });
    let check: String = slots
        .iter()
        .flat_map(|(_, numbers)| numbers)
        .map(u8::to_string)
        .collect();
    values.chain([format!("tandem_check={check}")]).collect()
}
