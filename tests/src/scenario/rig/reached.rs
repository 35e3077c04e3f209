//! Where several scenarios begin. The first one on a platform gets there on its own machine, the others take its disk:
//! a boot costs most of a minute.

use std::sync::PoisonError;

use anyhow::Result;

use super::Rig;
use crate::qemu::copy_sparse;
use crate::scenario::Slot;

impl Rig<'_> {
    /// Brings a device that has never been on to where v1 is confirmed and v2 is staged. The machine is off then.
    ///
    /// # Errors
    /// It does not get there.
    pub fn stage_v2(&mut self) -> Result<()> {
        self.reach("v2-staged", |rig| {
            let (v1, v2) = (rig.stock.v1.clone(), rig.stock.v2()?);
            rig.bring(&v2)?;
            rig.power_on()?;
            rig.expect_loader(Slot::A, 0, rig.platform.first_environment())?;
            rig.expect_confirmed(Slot::A, &v1)?;
            rig.install(&v2)?;
            rig.shut_down(Slot::A, &v1)
        })
    }

    /// Brings a device that has never been on to where v2 is confirmed. The machine is off then.
    ///
    /// # Errors
    /// It does not get there.
    pub fn confirm_v2(&mut self) -> Result<()> {
        self.reach("v2-confirmed", |rig| {
            let v2 = rig.stock.v2()?;
            rig.stage_v2()?;
            rig.power_on()?;
            rig.expect_loader(Slot::B, 0, "ok")?;
            rig.expect_confirmed(Slot::B, &v2)?;
            rig.shut_down(Slot::B, &v2)
        })
    }

    fn reach(&mut self, state: &str, get_there: fn(&mut Self) -> Result<()>) -> Result<()> {
        let name = format!("{}-{state}", self.platform.name());
        let reached = self.stock.reached(&name);
        // Whoever comes while another one is on the way waits for its disk.
        let mut reached = reached.lock().unwrap_or_else(PoisonError::into_inner);
        if !*reached {
            get_there(self)?;
            copy_sparse(&self.disk, &self.stock.reached_disk(&name))?;
            *reached = true;
            return Ok(());
        }
        copy_sparse(&self.stock.reached_disk(&name), &self.disk)
    }
}
