//! Repair of what is damaged, and the comparison of mirror and authority at every boot.

use super::{Authority, Control, ControlError};
use crate::gpt::Copies;
use crate::transition::{mirror_follows, rebuild};
use crate::vars::LostReason;
use crate::{BlockIo, BootState, Slot};

/// What a repair or a sync wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// A copy of the partition table was rebuilt, or the backup moved to the end of the disk.
    pub table: bool,
    /// The environment was rebuilt; this was wrong with it.
    pub lost: Option<LostReason>,
    /// A usable environment was written again, because a copy was damaged or the loader could not change it.
    pub environment: bool,
    /// The GPT attributes were made to follow the authority.
    pub mirror: bool,
    /// The confirmed record was written.
    pub confirmed_record: bool,
}

impl RepairReport {
    /// Whether anything was written.
    #[must_use]
    pub fn wrote(&self) -> bool {
        *self != Self::default()
    }
}

impl<B: BlockIo> Control<B> {
    /// Rebuilds a damaged copy of the table, moves the backup to the true end of the disk, rebuilds a lost
    /// environment and a damaged confirmed record. Writes nothing where all is well.
    ///
    /// # Errors
    /// Refused when neither mirror nor confirmed record know a confirmed slot for a lost environment; I/O.
    pub fn repair(&mut self) -> Result<RepairReport, ControlError<B::Error>> {
        self.repair_state().map(|(report, _)| report)
    }

    /// [`repair`](Self::repair), then makes the mirror follow the authority, where they differ by more than tries that
    /// the loader has spent. For every boot: a steady state costs no write.
    ///
    /// # Errors
    /// As [`repair`](Self::repair).
    pub fn sync(&mut self) -> Result<RepairReport, ControlError<B::Error>> {
        let (mut report, state) = self.repair_state()?;
        let mirror = self.gpt.boot_state()?;
        if !matches!(self.authority, Authority::Gpt) && !mirror_follows(mirror, state) {
            for slot in Slot::ALL {
                let (found, wanted) = (mirror.get(slot), state.get(slot));
                if found != wanted && report.lost.is_none() {
                    log::warn!(
                        "gpt attributes of slot {slot} are {found}, the loader's store says {wanted}: overwritten"
                    );
                }
            }
            report.mirror = self.write_gpt(&state)?;
        }
        Ok(report)
    }

    fn repair_state(&mut self) -> Result<(RepairReport, BootState), ControlError<B::Error>> {
        self.reload()?;
        let mut report = RepairReport::default();
        if self.gpt.needs_repair() {
            report.confirmed_record = self.record_before_table()?;
            let found = match self.gpt.copies() {
                Copies::PrimaryOnly => "only the primary copy is good",
                Copies::BackupOnly => "only the backup copy is good",
                Copies::Differ => "the copies differ, the primary counts",
                Copies::Both => "the backup copy is not at the end of the disk",
            };
            log::warn!("partition table: {found}: written again");
            report.table = self.gpt.commit(&mut self.io)?;
        }
        let reading = self.read_authority()?;
        let state = match reading.state {
            Ok(state) => {
                if reading.degraded && !matches!(self.authority, Authority::Gpt) {
                    log::warn!("boot environment: damaged, but readable: written again");
                    report.environment = self.write_authority(&state)?;
                }
                state
            }
            Err(reason) => {
                report.lost = Some(reason);
                self.rebuild_environment(reason)?
            }
        };
        report.confirmed_record |= self.repair_confirmed(&state)?;
        Ok((report, state))
    }

    /// A loader that can't use the primary table goes by the confirmed record. Before the table is written the record is
    /// mended, so that a cut does not take both.
    pub(super) fn record_before_table(&mut self) -> Result<bool, ControlError<B::Error>> {
        match self.read_authority()?.state {
            Ok(state) if self.read_confirmed().is_err() => self.repair_confirmed(&state),
            _ => Ok(false),
        }
    }

    fn rebuild_environment(
        &mut self,
        reason: LostReason,
    ) -> Result<BootState, ControlError<B::Error>> {
        let recorded = self.read_confirmed().ok().map(|record| record.slot);
        let mirror = self.gpt.boot_state()?;
        let state = rebuild(mirror, recorded).ok_or(ControlError::NoSource(reason))?;
        log::warn!(
            "boot environment: lost ({reason}): to be rebuilt as a {}, b {}",
            state.a,
            state.b
        );
        if self.only_the_loader_mends(reason) {
            // The boot script goes by the mirror.
            self.write_gpt(&state)?;
            self.repair_confirmed(&state)?;
            return Err(self.lost(reason));
        }
        self.write_authority(&state)?;
        Ok(state)
    }

    /// The record must name a confirmed slot and the PARTUUIDs of this disk.
    fn repair_confirmed(&mut self, state: &BootState) -> Result<bool, ControlError<B::Error>> {
        let found = self.read_confirmed();
        let good = found.ok().map(|record| record.slot);
        let good = good.filter(|&slot| state.get(slot).is_confirmed());
        let Some(slot) = good.or(state.best_confirmed()) else {
            if let Err(error) = found {
                log::warn!("{error}, and no slot is confirmed: left as it is");
            }
            return Ok(false);
        };
        let fresh = found.is_ok_and(|record| record.fresh);
        let wanted = self.record_for(slot, fresh)?;
        if let Err(error) = found {
            log::warn!("{error}: rebuilt for slot {slot}");
        }
        self.write_confirmed(&wanted)
    }
}
