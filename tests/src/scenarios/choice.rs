//! GRUB's own choice against a model that knows nothing of `bootctl`.
//!
//! Neither slot of the disk can be loaded here, so that in one boot the loader goes through everything it would boot,
//! in its order, spends the tries and says that there is nothing left.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::host_hash;
use crate::qemu::{Bus, Firmware, copy_sparse};
use crate::scenario::{LoaderLine, Rig, Scenario, Slot, damage, expect, loader_lines};
use crate::system;

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "grub-choice",
    run: grub_choice,
}];

/// Priority, tries and successful of a, then of b.
type State = [u8; 6];

/// Environments that hold a state.
const STATES: [&str; 33] = [
    // One slot, both, neither.
    "101000", "000101", "101201", "201101", "101101", "000000", "200200",
    // Staged, tried before, used up.
    "101230", "101220", "101210", "101200", "230101", "210101", "200101",
    // Both on trial, ties.
    "230230", "130230", "120101", "101120", "110110", "230220",
    // Tries of a confirmed slot are spent, too; more than Tandem writes.
    "231101", "111211", "131231", "191091", "980970", "101990", "991981",
    // Priority 0 never; neither tries nor successful, whatever the priority.
    "001101", "090101", "091010", "900101", "500410", "101900",
];

/// Some of them on a medium that can't be written.
const READ_ONLY: [&str; 6] = ["101000", "101230", "111210", "230220", "131231", "210101"];

/// Where the loader keeps what it should do, as it stands on the disk.
struct Case {
    name: String,
    environment: Vec<u8>,
    /// `None` for an environment that is lost.
    state: Option<State>,
    record: Option<Slot>,
    /// Whether the loader can write the environment.
    writable: bool,
    medium_read_only: bool,
    /// What `status` calls the environment.
    environment_is: &'static str,
}

fn grub_choice(rig: &mut Rig<'_>) -> Result<()> {
    let v1 = rig.stock.v1.clone();
    let whole = rig.drives.clone();
    let image = rig.dir.join("choice.img");
    copy_sparse(&rig.disk, &image)?;
    for slot in [Slot::A, Slot::B] {
        let (start, _) = host_hash::partition(&image, slot.partition())?;
        damage::write(&image, start, &vec![0; 1 << 20])?;
    }
    if let Some(own) = rig.drives.first_mut() {
        own.image.clone_from(&image);
    }
    let environment_at = damage::environment(&image)?;
    let record_at = damage::confirmed_record(&image)?;
    let record = damage::read(&image, record_at, damage::SECTOR)?;

    // Both firmwares run the same script; the slower one to start gets a third of the cases.
    let every = match rig.firmware {
        Firmware::Bios => 1,
        Firmware::Uefi => 3,
    };
    for case in cases()?.into_iter().step_by(every) {
        damage::write(&image, environment_at, &case.environment)?;
        damage::write(&image, record_at, &with_slot(&record, case.record)?)?;
        let (wanted, after) = model(&case);
        expect_agreement(rig, &image, &case, &wanted).context(case.name.clone())?;
        rig.attach(Bus::Virtio, case.medium_read_only);
        rig.power_on()?;
        let said = rig.wait_for("no slot can be booted")?;
        rig.cut_power()?;
        let found = loader_lines(&said)?;
        ensure!(
            found == wanted,
            "{}: expect the loader to choose {wanted:?}: it chose {found:?}",
            case.name
        );
        let environment = match after {
            Some(state) => with_state(&case.environment, &state),
            None => case.environment,
        };
        ensure!(
            damage::read(&image, environment_at, damage::SECTOR)? == environment,
            "{}: the environment is not what the spent tries make of it",
            case.name
        );
    }

    // And with a slot that does load, the loader's choice is what runs.
    rig.drives = whole;
    damage::write(&rig.disk, environment_at, &block(&state("131210")?))?;
    rig.power_on()?;
    // b is empty.
    rig.expect_loader(Slot::B, 0, "ok")?;
    rig.wait_for("tandem: slot b does not load")?;
    rig.expect_loader(Slot::A, 2, "ok")?;
    rig.expect_confirmed(Slot::A, &v1)?;
    rig.shut_down(Slot::A, &v1)
}

/// Userspace reads the same from the disk as the loader.
fn expect_agreement(rig: &Rig<'_>, image: &Path, case: &Case, wanted: &[LoaderLine]) -> Result<()> {
    let mut command = Command::new(&rig.stock.binaries().tandem_bootctl);
    command.arg("--disk").arg(image).args(["status", "--json"]);
    let status = serde_json::from_str(&system::run(&mut command)?).context("read the status")?;
    expect(
        &status,
        "/environment/state",
        &Value::from(case.environment_is),
    )?;
    // The loader may go on without either, where userspace makes no claim.
    if case.writable && (case.state.is_some() || case.record.is_some()) {
        let next = wanted.first().map(|line| line.slot.name());
        expect(&status, "/next", &Value::from(next))?;
    }
    Ok(())
}

/// What the loader tries, one after the other, and the state it leaves; `None` when it writes nothing.
fn model(case: &Case) -> (Vec<LoaderLine>, Option<State>) {
    let line = |slot, tries, environment: &str| LoaderLine {
        slot,
        tries,
        environment: environment.to_owned(),
        table: "ok".to_owned(),
    };
    let Some(mut state) = case.state else {
        let slots = case
            .record
            .map_or(vec![Slot::A, Slot::B], |slot| vec![slot]);
        let lines = slots.into_iter().map(|slot| line(slot, 0, "lost"));
        return (lines.collect(), None);
    };
    let mut order = [(Slot::A, 0), (Slot::B, 3)];
    order.sort_by_key(|&(_, at)| u8::MAX - state[at]);
    let (mut lines, mut environment) = (Vec::new(), "ok");
    for (slot, at) in order {
        let [priority, tries, successful] = [state[at], state[at + 1], state[at + 2]];
        if priority == 0 || (tries == 0 && successful == 0) {
            continue;
        }
        if tries > 0 && case.writable {
            state[at + 1] -= 1;
        } else if tries > 0 {
            environment = "readonly";
            if successful == 0 {
                continue;
            }
        }
        lines.push(line(slot, state[at + 1], environment));
    }
    (lines, case.writable.then_some(state))
}

fn cases() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (writable, digits) in [(true, STATES.as_slice()), (false, READ_ONLY.as_slice())] {
        for digits in digits {
            let state = state(digits)?;
            cases.push(Case {
                name: format!("{digits}, writable: {writable}"),
                environment: block(&state),
                state: Some(state),
                // It must not matter.
                record: Some(Slot::B),
                writable,
                medium_read_only: !writable,
                environment_is: "ok",
            });
        }
    }
    // Without '#' behind its variables GRUB can read a block, but not change it, until userspace has mended it.
    for (name, padding) in [("zeros", 0), ("FF", 0xff)] {
        let state = state("101230")?;
        let padding: Vec<u8> = [padding; damage::SECTOR].to_vec();
        cases.push(Case {
            name: format!("padding of {name}"),
            environment: with_state(&padding, &state),
            state: Some(state),
            record: Some(Slot::A),
            writable: false,
            medium_read_only: false,
            environment_is: "damaged",
        });
    }
    let good = block(&state("101210")?);
    let text = String::from_utf8(good.clone()).context("read the block as text")?;
    let edited = |from: &str, to: &str| {
        let mut bytes = text.replace(from, to).into_bytes();
        bytes.resize(damage::SECTOR, b'#');
        bytes
    };
    let mut zero_tail = good.clone();
    zero_tail.drain(100..);
    zero_tail.resize(damage::SECTOR, 0);
    for (name, environment) in [
        ("zeros", vec![0; damage::SECTOR]),
        ("random bytes", damage::random(damage::SECTOR)?),
        ("zeros from byte 100 on", zero_tail),
        ("no signature", edited("GRUB", "BLOB")),
        ("check of another state", edited("=101210", "=101220")),
        ("no check", edited("tandem_check", "tandem_chess")),
        (
            "a variable is missing",
            edited("tandem_b_tries", "tandem_b_trees"),
        ),
        ("a letter", edited("b_tries=1", "b_tries=x")),
        (
            "successful is 2",
            edited("a_successful=1", "a_successful=2"),
        ),
        ("two digits", edited("b_tries=1", "b_tries=11")),
        ("no digit", edited("b_tries=1", "b_tries=")),
    ] {
        for record in [Some(Slot::A), Some(Slot::B), None] {
            // What is wrong with the environment and what the record says are read apart from each other.
            if record == Some(Slot::A) || name == "zeros" {
                cases.push(Case {
                    name: format!("{name}, record {record:?}"),
                    environment: environment.clone(),
                    state: None,
                    record,
                    writable: true,
                    medium_read_only: false,
                    environment_is: "lost",
                });
            }
        }
    }
    Ok(cases)
}

fn state(digits: &str) -> Result<State> {
    let digits = digits.bytes().map(|digit| digit.wrapping_sub(b'0'));
    let state = digits.collect::<Vec<_>>().try_into();
    state.map_err(|found| anyhow::anyhow!("six digits expected, not {found:?}"))
}

/// An environment block as `grub-editenv` makes it.
fn block(state: &State) -> Vec<u8> {
    let [ap, at, ok_a, bp, bt, ok_b] = state;
    let mut text = format!(
        "# GRUB Environment Block\ntandem_a_priority={ap}\ntandem_a_tries={at}\ntandem_a_successful={ok_a}\n\
         tandem_b_priority={bp}\ntandem_b_tries={bt}\ntandem_b_successful={ok_b}\n\
         tandem_check={ap}{at}{ok_a}{bp}{bt}{ok_b}\n"
    )
    .into_bytes();
    text.resize(damage::SECTOR, b'#');
    text
}

/// An environment with other digits, and every other byte as it was.
fn with_state(environment: &[u8], state: &State) -> Vec<u8> {
    let mut bytes = block(state);
    let padding = bytes.iter().rposition(|&byte| byte == b'\n').unwrap_or(0) + 1;
    bytes.truncate(padding);
    bytes.extend_from_slice(environment.get(padding..).unwrap_or_default());
    bytes
}

/// The confirmed record with another slot, or destroyed.
fn with_slot(record: &[u8], slot: Option<Slot>) -> Result<Vec<u8>> {
    let Some(slot) = slot else {
        return Ok(vec![0; record.len()]);
    };
    let text = std::str::from_utf8(record).context("read the confirmed record")?;
    ensure!(
        text.contains("tandem_confirmed=a\n"),
        "find the slot in the confirmed record: {text:?}"
    );
    Ok(text
        .replace(
            "tandem_confirmed=a\n",
            &format!("tandem_confirmed={slot}\n"),
        )
        .into_bytes())
}
