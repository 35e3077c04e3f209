//! An environment of the loader that is lost or can't be written.

use anyhow::{Context, Result, ensure};
use bootctl::uboot_env::{self, Layout};
use serde_json::Value;

use crate::qemu::Bus;
use crate::scenario::{Platform, Rig, Scenario, Slot, damage, expect};
use crate::system::{OWN_COPIES, Release};
use crate::uboot::own::OwnCopies;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "environment-zeroed",
        on: Platform::WITH_ENVIRONMENT,
        run: zeroed,
    },
    Scenario {
        name: "environment-torn",
        on: Platform::WITH_ENVIRONMENT,
        run: torn,
    },
    Scenario {
        name: "environment-lost-after-rollback",
        on: Platform::WITH_ENVIRONMENT,
        run: lost_after_rollback,
    },
    Scenario {
        name: "own-environment-damaged",
        on: &[Platform::OWN],
        run: own_damaged,
    },
    Scenario {
        name: "read-only-medium-on-trial",
        on: Platform::BOARDS,
        run: read_only_medium,
    },
];

/// The loader boots the confirmed record's slot and the system mends the environment.
fn expect_recovery(rig: &mut Rig<'_>, slot: Slot, release: &Release) -> Result<Value> {
    rig.power_on()?;
    rig.expect_loader(slot, 0, "lost")?;
    let status = rig.expect_confirmed(slot, release)?;
    expect(&status, "/environment/boot", &Value::from("lost"))?;
    Ok(status)
}

/// With a slot staged, whose try is not given back, and with b confirmed, where "the first slot" would be the wrong answer.
fn zeroed(rig: &mut Rig<'_>) -> Result<()> {
    let (v1, v2) = (rig.stock.v1.clone(), rig.stock.v2()?);
    rig.stage_v2()?;
    zero(rig)?;
    let status = expect_recovery(rig, Slot::A, &v1)?;
    expect_unbootable(&status, Slot::B)?;
    rig.reboot()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    let status = rig.expect_confirmed(Slot::A, &v1)?;
    expect_unbootable(&status, Slot::B)?;

    // The update can be repeated.
    rig.install(&v2)?;
    rig.reboot()?;
    rig.expect_loader(Slot::B, 0, "ok")?;
    rig.expect_confirmed(Slot::B, &v2)?;
    rig.shut_down(Slot::B, &v2)?;
    zero(rig)?;
    let status = expect_recovery(rig, Slot::B, &v2)?;
    expect(&status, "/slots/a/attributes/confirmed", &Value::from(true))?;
    rig.shut_down(Slot::B, &v2)
}

fn zero(rig: &Rig<'_>) -> Result<()> {
    let place = damage::environment(&rig.disk)?;
    damage::write(&rig.disk, place, &[0; damage::SECTOR])
}

fn expect_unbootable(status: &Value, slot: Slot) -> Result<()> {
    for (name, wanted) in [
        ("priority", Value::from(0)),
        ("tries", Value::from(0)),
        ("successful", Value::from(false)),
    ] {
        expect(status, &format!("/slots/{slot}/attributes/{name}"), &wanted)?;
        expect(status, &format!("/mirror/{slot}/{name}"), &wanted)?;
    }
    Ok(())
}

/// A write of the sector that the power cut in two: the new head, and the tail of before, random bytes, 00 or FF.
fn torn(rig: &mut Rig<'_>) -> Result<()> {
    let (v1, v2) = (rig.stock.v1.clone(), rig.stock.v2()?);
    let place = damage::environment(&rig.disk)?;
    let old = damage::read(&rig.disk, place, damage::SECTOR)?;
    rig.power_on()?;
    rig.expect_confirmed(Slot::A, &v1)?;
    rig.install(&v2)?;
    rig.shut_down(Slot::A, &v1)?;
    let new = damage::read(&rig.disk, place, damage::SECTOR)?;
    let differing: Vec<usize> = (0..damage::SECTOR)
        .filter(|&at| old.get(at) != new.get(at))
        .collect();
    let (first, last) = differing
        .first()
        .zip(differing.last())
        .context("find what the installation changed")?;
    ensure!(
        first < last,
        "tear the environment: only byte {first} differs"
    );
    // Somewhere between the first and the last change, so that neither state is complete.
    let cut = damage::random_below(*first as u64 + 1, *last as u64 + 1)?;
    let cut = usize::try_from(cut).context("tear the environment")?;
    let length = damage::SECTOR - cut;
    let old_tail = old.get(cut..).unwrap_or_default().to_vec();
    let tails = [
        ("old", old_tail),
        ("random", damage::random(length)?),
        ("00", vec![0; length]),
        ("FF", vec![0xff; length]),
    ];
    for (name, tail) in tails {
        let block = [new.get(..cut).unwrap_or_default(), &tail].concat();
        damage::write(&rig.disk, place, &block)?;
        let context = || format!("{name} tail from byte {cut}");
        let status = expect_recovery(rig, Slot::A, &v1).with_context(context)?;
        expect_unbootable(&status, Slot::B).with_context(context)?;
        rig.shut_down(Slot::A, &v1).with_context(context)?;
    }
    Ok(())
}

/// The confirmed record has followed the rollback, so that the half-written slot is not what the loader falls back to.
fn lost_after_rollback(rig: &mut Rig<'_>) -> Result<()> {
    let (v1, v2, v3) = (rig.stock.v1.clone(), rig.stock.v2()?, rig.stock.v3()?);
    rig.stage_v2()?;
    rig.power_on()?;
    rig.expect_loader(Slot::B, 0, "ok")?;
    rig.expect_confirmed(Slot::B, &v2)?;
    rig.check("tandem-bootctl rollback")?;
    rig.reboot()?;
    let line = rig.loader_line()?;
    ensure!(line.slot == Slot::A, "expect slot a: {line:?}");
    rig.expect_confirmed(Slot::A, &v1)?;
    rig.half_install(&v3, 6 << 20)?;
    rig.cut_power()?;
    zero(rig)?;
    let status = expect_recovery(rig, Slot::A, &v1)?;
    expect_unbootable(&status, Slot::B)?;
    expect(&status, "/slots/b/record", &Value::Null)?;
    rig.install(&v3)?;
    rig.reboot()?;
    rig.expect_loader(Slot::B, 0, "ok")?;
    rig.expect_confirmed(Slot::B, &v3)?;
    rig.shut_down(Slot::B, &v3)
}

/// U-Boot's own environment: one copy damaged with a slot staged, the other one counts; both, and what is confirmed boots
/// from an environment that U-Boot makes anew.
fn own_damaged(rig: &mut Rig<'_>) -> Result<()> {
    let (v1, v2, v3) = (rig.stock.v1.clone(), rig.stock.v2()?, rig.stock.v3()?);
    rig.bring(&v2)?;
    rig.bring(&v3)?;
    let [first, second] = OWN_COPIES;
    let tear = |rig: &Rig<'_>, copy| damage::write(&rig.disk, copy + 512, &[0xff; 512]);
    rig.power_on()?;
    rig.expect_loader(Slot::A, 0, "lost")?;
    let status = rig.expect_confirmed(Slot::A, &v1)?;
    expect(
        &status,
        "/environment/kind",
        &Value::from("uboot-env-redundant"),
    )?;
    rig.install(&v2)?;
    rig.shut_down(Slot::A, &v1)?;
    tear(rig, first)?;
    rig.power_on()?;
    rig.expect_loader(Slot::B, 0, "ok")?;
    rig.expect_confirmed(Slot::B, &v2)?;

    // Both copies hold the state again.
    rig.install(&v3)?;
    rig.shut_down(Slot::B, &v2)?;
    let copies = OwnCopies::read(&rig.disk)?;
    let good = copies
        .0
        .iter()
        .map(|copy| uboot_env::decode(copy, Layout::Redundant));
    let good: Vec<_> = good.collect();
    ensure!(
        good.first().is_some_and(Result::is_ok) && good.first() == good.last(),
        "expect both copies to hold one state: {good:?}"
    );
    tear(rig, first)?;
    tear(rig, second)?;
    rig.power_on()?;
    rig.expect_loader(Slot::B, 0, "lost")?;
    let status = rig.expect_confirmed(Slot::B, &v2)?;
    expect(&status, "/environment/boot", &Value::from("lost"))?;
    expect_unbootable(&status, Slot::A)?;

    // The update can be repeated.
    rig.install(&v3)?;
    rig.reboot()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.expect_confirmed(Slot::A, &v3)?;
    rig.shut_down(Slot::A, &v3)
}

/// A try that can't be written down is not spent: the confirmed slot boots until the medium can be written again.
fn read_only_medium(rig: &mut Rig<'_>) -> Result<()> {
    let (v1, v2) = (rig.stock.v1.clone(), rig.stock.v2()?);
    let on_pi = rig.platform == Platform::PI3;
    let bus = if on_pi { Bus::Card } else { Bus::Virtio };
    rig.stage_v2()?;
    // There are no read-only cards in QEMU, and its Linux does not find a USB disk that U-Boot has used.
    rig.attach(if on_pi { Bus::UsbStick } else { bus }, true);
    rig.power_on()?;
    rig.expect_loader(Slot::A, 0, "readonly")?;
    if on_pi {
        rig.wait_for("Starting kernel")?;
        rig.cut_power()?;
        return comes_back(rig, bus, &v2);
    }
    let status = rig.status()?;
    expect(&status, "/active", &Value::from("a"))?;
    expect(&status, "/environment/boot", &Value::from("readonly"))?;
    expect(&status, "/slots/b/attributes/candidate", &Value::from(true))?;
    expect(&status, "/slots/b/attributes/tries", &Value::from(1))?;
    rig.shut_down(Slot::A, &v1)?;
    comes_back(rig, bus, &v2)
}

/// The medium can be written again, and the release on trial runs.
fn comes_back(rig: &mut Rig<'_>, bus: Bus, release: &Release) -> Result<()> {
    rig.attach(bus, false);
    rig.power_on()?;
    rig.expect_loader(Slot::B, 0, "ok")?;
    rig.expect_confirmed(Slot::B, release)?;
    rig.shut_down(Slot::B, release)
}
