//! Power that fails, during an installation and on trial.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::scenario::{Platform, Rig, Scenario, Slot, damage, expect};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "reset-during-apply",
        on: Platform::BOARDS,
        run: reset_during_apply,
    },
    Scenario {
        name: "reset-during-download",
        on: &[Platform::BIOS, Platform::VIRT],
        run: reset_during_download,
    },
    Scenario {
        name: "power-cycled-on-trial",
        on: Platform::WITH_ENVIRONMENT,
        run: power_cycled_on_trial,
    },
];

/// Everything up to here is header, signatures, manifest and tables.
const BLOCKS_FROM: u64 = 16784;
/// Bytes of a block of the image.
const BLOCK: u64 = 256 * 1024;

fn reset_during_apply(rig: &mut Rig<'_>) -> Result<()> {
    let (v1, v2) = (rig.stock.v1.clone(), rig.stock.v2()?);
    let length = std::fs::metadata(&v2.payload)
        .context("find the payload's length")?
        .len();
    rig.bring(&v2)?;
    for attempt in 1..=3 {
        let place = damage::random_below(BLOCKS_FROM, length)?;
        let context = || format!("attempt {attempt}, cut after {place} of {length} bytes");
        rig.power_on()?;
        rig.expect_loader(Slot::A, 0, "ok").with_context(context)?;
        rig.expect_confirmed(Slot::A, &v1).with_context(context)?;
        rig.half_install(&v2, place).with_context(context)?;
        rig.cut_power()?;
        rig.expect_content(Slot::A, &v1).with_context(context)?;
    }
    rig.power_on()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    let status = rig.expect_confirmed(Slot::A, &v1)?;
    expect(
        &status,
        "/slots/b/attributes/candidate",
        &Value::from(false),
    )?;
    expect(&status, "/slots/b/record", &Value::Null)?;
    rig.install(&v2)?;
    rig.reboot()?;
    rig.expect_loader(Slot::B, 0, "ok")?;
    rig.expect_confirmed(Slot::B, &v2)?;
    rig.shut_down(Slot::B, &v2)
}

/// What has reached the disk is neither lost nor fetched again.
fn reset_during_download(rig: &mut Rig<'_>) -> Result<()> {
    let (v1, v2) = (rig.stock.v1.clone(), rig.stock.v2()?);
    let length = std::fs::metadata(&v2.payload)
        .context("find the payload's length")?
        .len();
    rig.power_on()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.expect_confirmed(Slot::A, &v1)?;
    rig.half_update(&v2, length / 4 * 3)?;
    rig.cut_power()?;
    rig.expect_content(Slot::A, &v1)?;
    rig.power_on()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.expect_confirmed(Slot::A, &v1)?;
    let (facts, sent) = rig.rest_of_update()?;
    let resumed = facts["resumed"].as_u64().context("find resumed")?;
    ensure!(resumed > 0, "expect to go on where it was: {facts}");
    let twice = sent.saturating_sub(length);
    ensure!(
        twice <= BLOCK,
        "expect no more than a block to come twice: {twice} bytes did"
    );
    rig.reboot()?;
    rig.expect_loader(Slot::B, 0, "ok")?;
    rig.expect_confirmed(Slot::B, &v2)?;
    rig.shut_down(Slot::B, &v2)
}

fn power_cycled_on_trial(rig: &mut Rig<'_>) -> Result<()> {
    let (v1, v2) = (rig.stock.v1.clone(), rig.stock.v2()?);
    rig.power_on()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.expect_confirmed(Slot::A, &v1)?;
    rig.set_tries(3)?;
    rig.install(&v2)?;
    rig.reboot()?;
    rig.expect_loader(Slot::B, 2, "ok")?;
    rig.cut_power()?;
    rig.power_on()?;
    rig.expect_loader(Slot::B, 1, "ok")?;
    rig.wait_for("version 2.0.0 is starting")?;
    rig.cut_power()?;
    rig.power_on()?;
    rig.expect_loader(Slot::B, 0, "ok")?;
    rig.expect_confirmed(Slot::B, &v2)?;
    rig.shut_down(Slot::B, &v2)?;
    rig.expect_content(Slot::A, &v1)?;
    Ok(())
}
