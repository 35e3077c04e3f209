//! Updates that work.

use anyhow::Result;

use crate::scenario::{Platform, Rig, Scenario, Slot};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "good-update",
    on: Platform::BOARDS_AND_PI4,
    run: good_update,
}];

/// A to B and B to A.
fn good_update(rig: &mut Rig<'_>) -> Result<()> {
    let (v1, v2, v3) = (rig.stock.v1.clone(), rig.stock.v2()?, rig.stock.v3()?);
    rig.bring(&v2)?;
    rig.bring(&v3)?;
    rig.power_on()?;
    rig.expect_loader(Slot::A, 0, rig.platform.first_environment())?;
    rig.expect_confirmed(Slot::A, &v1)?;
    rig.check("echo kept > /var/lib/kept")?;
    rig.install(&v2)?;
    rig.reboot()?;
    rig.expect_loader(Slot::B, 0, "ok")?;
    rig.expect_confirmed(Slot::B, &v2)?;
    rig.install(&v3)?;
    rig.reboot()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.expect_confirmed(Slot::A, &v3)?;
    // ROOT survives both.
    rig.check("grep -qx kept /var/lib/kept")?;
    rig.shut_down(Slot::A, &v3)?;
    rig.expect_content(Slot::B, &v2)?;
    Ok(())
}
