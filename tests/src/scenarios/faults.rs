//! Releases that do not work: the device is back on the old one, and says why.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::scenario::{Platform, Rig, Scenario, Slot};
use crate::system::Fault;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "kernel-missing",
        on: Platform::BOARDS_AND_PI4,
        run: |rig| skipped(rig, Fault::KernelMissing),
    },
    Scenario {
        name: "kernel-cut-short",
        on: Platform::PC,
        run: kernel_cut_short,
    },
    Scenario {
        name: "panic",
        on: Platform::BOARDS,
        run: panics,
    },
    Scenario {
        name: "tries-spent",
        on: Platform::NOT_UEFI,
        run: tries_spent,
    },
    Scenario {
        name: "usr-not-mounted",
        on: Platform::BOARDS,
        run: |rig| falls_back(rig, Fault::NoUsr, "init: mount"),
    },
    Scenario {
        name: "health-fails",
        on: Platform::BOARDS,
        run: |rig| falls_back(rig, Fault::HealthFails, "50-demo"),
    },
    Scenario {
        name: "health-hangs",
        on: Platform::PC,
        run: |rig| falls_back(rig, Fault::HealthHangs, "50-demo"),
    },
    Scenario {
        name: "hangs",
        on: Platform::WITH_WATCHDOG,
        run: hangs,
    },
    Scenario {
        name: "stops-before-health",
        on: Platform::PC,
        run: |rig| falls_back(rig, Fault::Stalls, "not confirmed within"),
    },
];

/// The loader goes on to the old slot in the same boot.
fn skipped(rig: &mut Rig<'_>, fault: Fault) -> Result<()> {
    install(rig, fault)?;
    rig.expect_loader(Slot::B, 0, "ok")?;
    rig.wait_for("tandem: slot b does not load")?;
    end(rig, fault, "load")
}

/// A kernel that ends in its header is skipped. That one ends later GRUB does not notice: it stops or resets before init,
/// where no software is left to end a stop, so somebody has to turn the machine off and on.
fn kernel_cut_short(rig: &mut Rig<'_>) -> Result<()> {
    skipped(rig, Fault::KernelShort)?;
    let (v1, half) = (rig.stock.v1.clone(), rig.stock.broken(Fault::KernelHalf)?);
    rig.power_on()?;
    rig.expect_confirmed(Slot::A, &v1)?;
    rig.install(&half)?;
    // From a cold start: the memory still holds the rest of the same kernel after a warm one.
    rig.shut_down(Slot::A, &v1)?;
    rig.power_on()?;
    rig.expect_loader(Slot::B, 0, "ok")?;
    if rig.platform == Platform::BIOS {
        std::thread::sleep(Duration::from_secs(30));
        rig.cut_power()?;
        rig.power_on()?;
    }
    end(rig, Fault::KernelHalf, "unexplained")
}

/// The new release starts, fails and the machine resets.
fn falls_back(rig: &mut Rig<'_>, fault: Fault, reason: &str) -> Result<()> {
    install(rig, fault)?;
    rig.expect_loader(Slot::B, 0, "ok")?;
    end(rig, fault, reason)
}

/// UEFI firmware keeps what the kernel said last; no other machine here has a place for it.
fn panics(rig: &mut Rig<'_>) -> Result<()> {
    falls_back(rig, Fault::Panic, panic_reason(rig))
}

fn panic_reason(rig: &Rig<'_>) -> &'static str {
    match rig.platform {
        Platform::UEFI => "panic: Kernel panic",
        _ => "unexplained",
    }
}

/// The hardware watchdog is all that is left; its driver says afterwards that it was the one.
fn hangs(rig: &mut Rig<'_>) -> Result<()> {
    rig.watchdog = true;
    falls_back(rig, Fault::Hangs, "watchdog: watchdog0")
}

fn install(rig: &mut Rig<'_>, fault: Fault) -> Result<()> {
    start(rig, fault)?;
    rig.install(&rig.stock.broken(fault)?)?;
    rig.reboot()
}

fn start(rig: &mut Rig<'_>, fault: Fault) -> Result<()> {
    rig.bring(&rig.stock.broken(fault)?)?;
    rig.power_on()?;
    rig.expect_loader(Slot::A, 0, rig.platform.first_environment())?;
    rig.expect_confirmed(Slot::A, &rig.stock.v1.clone())?;
    Ok(())
}

/// One try after the other, until none is left.
fn tries_spent(rig: &mut Rig<'_>) -> Result<()> {
    start(rig, Fault::Panic)?;
    rig.set_tries(3)?;
    rig.install(&rig.stock.broken(Fault::Panic)?)?;
    rig.reboot()?;
    for left in [2, 1, 0] {
        rig.expect_loader(Slot::B, left, "ok")?;
    }
    end(rig, Fault::Panic, panic_reason(rig))
}

fn end(rig: &mut Rig<'_>, fault: Fault, reason: &str) -> Result<()> {
    let (v1, broken) = (rig.stock.v1.clone(), rig.stock.broken(fault)?);
    rig.expect_loader(Slot::A, 0, "ok")?;
    let status = rig.expect_confirmed(Slot::A, &v1)?;
    let result = status["last_result"]
        .as_str()
        .context("find last_result in the status")?;
    ensure!(
        result.contains(broken.recipe.version) && result.contains(reason),
        "expect the last result to name {} and {reason:?}: {result:?}",
        broken.recipe.version
    );
    rig.shut_down(Slot::A, &v1)?;
    rig.expect_content(Slot::B, &broken)?;
    Ok(())
}
