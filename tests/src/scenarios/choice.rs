//! GRUB's own choice against the model that the simulated power cuts go by (`powercut::loader`).
//!
//! Neither slot of the disk can be loaded here, so that in one boot the loader goes through everything it would boot,
//! in its order, spends the tries and says that there is nothing left.

mod cases;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::host_hash;
use crate::powercut::fixture::{Board, Fixture};
use crate::powercut::medium::Medium;
use crate::powercut::real;
use crate::qemu::{Bus, copy_sparse};
use crate::scenario::{LoaderLine, Platform, Rig, Scenario, Slot, damage, expect, loader_lines};
use crate::system;
use cases::{Case, block, cases, state};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "grub-choice",
    on: Platform::PC,
    run: grub_choice,
}];

fn grub_choice(rig: &mut Rig<'_>) -> Result<()> {
    let v1 = rig.stock.v1.clone();
    let whole = rig.drives.clone();
    let image = rig.dir.join("choice.img");
    copy_sparse(&rig.disk, &image)?;
    for slot in [Slot::A, Slot::B] {
        let (start, _) = host_hash::partition(&image, slot.partition())?;
        damage::write(&image, start, &vec![0; usize::try_from(real::HEAD)?])?;
    }
    if let Some(own) = rig.drives.first_mut() {
        own.image.clone_from(&image);
    }
    let fixture = real::unloadable(Board::X86Grub, &image)?;
    let environment_at = damage::environment(&image)?;

    for case in cases(&image)? {
        let (every, with_table) = match rig.platform {
            Platform::BIOS => (1, true),
            // Both firmwares run the same script; the slower one to start gets one case of nine, and mends a damaged
            // table before the script runs.
            _ => (9, false),
        };
        if case.number % every != 0 || (case.table && !with_table) {
            continue;
        }
        let (wanted, after) = model(&fixture, &case);
        for (at, bytes) in &case.writes {
            damage::write(&image, *at, bytes)?;
        }
        expect_agreement(rig, &image, &case, &wanted).context(case.name.clone())?;
        rig.attach(Bus::Virtio, case.medium_read_only);
        rig.power_on()?;
        let said = rig
            .wait_for("no slot can be booted")
            .context(case.name.clone())?;
        rig.cut_power()?;
        let found = loader_lines(&said)?;
        ensure!(
            found == wanted,
            "{}: expect the loader to choose {wanted:?}: it chose {found:?}",
            case.name
        );
        let differs = real::first_difference(&after, &fixture, &image)?;
        ensure!(
            differs.is_none(),
            "{}: byte {differs:?} of the disk is not what the model makes of it",
            case.name
        );
        restore(&fixture, &case, &image)?;
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

/// What the loader tries, one after the other, and the disk that it leaves.
fn model(fixture: &Fixture, case: &Case) -> (Vec<LoaderLine>, Medium) {
    let mut medium = fixture.flashed.clone();
    for (at, bytes) in &case.writes {
        medium.write(*at, bytes);
    }
    real::boot(fixture, &medium, !case.medium_read_only)
}

/// Every byte that the case changed, and the loader may have, as it was before.
fn restore(fixture: &Fixture, case: &Case, image: &Path) -> Result<()> {
    for (at, bytes) in &case.writes {
        damage::write(image, *at, &fixture.flashed.bytes(*at, bytes.len()))?;
    }
    let differs = real::first_difference(&fixture.flashed, fixture, image)?;
    ensure!(
        differs.is_none(),
        "{}: byte {differs:?} of the disk was changed by the loader",
        case.name
    );
    Ok(())
}

/// Userspace reads the same from the disk as the loader.
fn expect_agreement(rig: &Rig<'_>, image: &Path, case: &Case, wanted: &[LoaderLine]) -> Result<()> {
    let Some(environment_is) = case.environment_is else {
        return Ok(());
    };
    let mut command = Command::new(&rig.stock.binaries().tandem_bootctl);
    command.arg("--disk").arg(image).args(["status", "--json"]);
    let status = serde_json::from_str(&system::run(&mut command)?).context("read the status")?;
    expect(&status, "/environment/state", &Value::from(environment_is))?;
    // The loader may go on without either, where userspace makes no claim.
    if case.next_is_known {
        let next = wanted.first().map(|line| line.slot.name());
        expect(&status, "/next", &Value::from(next))?;
    }
    Ok(())
}
