//! Writing a table so that a cut of power at any moment leaves one valid copy.
//!
//! One copy is written completely, entries and then header, and flushed before the other one is touched: the backup
//! first, so that an error there leaves the primary alone. Where the primary is damaged and the backup changes or moves,
//! the primary is rebuilt from it beforehand.
//!
//! A commit always leaves the backup in the last sector of the disk. On a disk that has grown, a torn primary header
//! would otherwise leave nobody who knows where the backup is.

use super::entry::{self, Table};
use super::fault::{EditError, GptError};
use super::header::{Header, HeaderSector, Place, Role};
use super::{Copies, DiskCopy, Gpt, MAX_SECTOR};
use crate::BlockIo;

/// One action of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// Write whole sectors.
    Write { lba: u64, data: &'a [u8] },
    /// Wait until everything written before is on the medium; an error ends the commit.
    Flush,
}

/// What a commit will do, in order. Borrows the table.
pub struct CommitPlan<'a> {
    phases: [Option<Phase<'a>>; 3],
    sector: usize,
}

impl core::fmt::Debug for CommitPlan<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut list = f.debug_list();
        let Ok(()) = self.try_steps::<core::convert::Infallible>(|step| {
            match step {
                Step::Write { lba, data } => list.entry(&(lba, data.len() / self.sector)),
                Step::Flush => list.entry(&"flush"),
            };
            Ok(())
        });
        list.finish()
    }
}

/// The writes to one copy, flushed at their end.
struct Phase<'a> {
    place: Place,
    /// The entries, valid to the end of their last full sector.
    table: &'a Table,
    full_sectors: usize,
    /// The sector after those, if the table ends within one: its tail belongs to this copy.
    partial: Option<[u8; MAX_SECTOR]>,
    /// Bit n: sector n of the entries differs from what the disk holds.
    dirty: u32,
    /// The header, if it differs from what the disk holds.
    header: Option<HeaderSector>,
}

impl CommitPlan<'_> {
    /// Nothing differs, nothing will be written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.phases.iter().all(Option::is_none)
    }

    /// Hands every step to `act`, in order, and stops at its first error.
    ///
    /// The first step is a flush: what a loader wrote, or a commit that failed half-way, may still be in the device's
    /// cache, and must not get lost together with the first copy.
    ///
    /// # Errors
    /// The first error of `act`.
    pub fn try_steps<E>(&self, mut act: impl FnMut(Step<'_>) -> Result<(), E>) -> Result<(), E> {
        if !self.is_empty() {
            act(Step::Flush)?;
        }
        for phase in self.phases.iter().flatten() {
            phase.try_steps(self.sector, &mut act)?;
        }
        Ok(())
    }

    /// Carries the plan out. Touches the disk; read the table again after an error.
    ///
    /// # Errors
    /// A write or a flush failed; nothing was written after that.
    pub fn execute<B: BlockIo>(&self, io: &mut B) -> Result<(), B::Error> {
        self.try_steps(|step| match step {
            Step::Write { lba, data } => io.write_sectors(lba, data),
            Step::Flush => io.flush(),
        })
    }
}

impl Phase<'_> {
    fn try_steps<E>(
        &self,
        sector: usize,
        act: &mut impl FnMut(Step<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let dirty = |n: usize| self.dirty >> n & 1 == 1;
        let lba = |n: usize| self.place.entries_lba.saturating_add(n as u64);
        let mut from = 0;
        while from < self.full_sectors {
            let to = (from..self.full_sectors)
                .find(|&n| !dirty(n))
                .unwrap_or(self.full_sectors);
            if let Some(data) = self.table.get(from * sector..to * sector)
                && to > from
            {
                act(Step::Write {
                    lba: lba(from),
                    data,
                })?;
            }
            from = to + 1;
        }
        if let Some(partial) = &self.partial
            && dirty(self.full_sectors)
        {
            act(Step::Write {
                lba: lba(self.full_sectors),
                data: &partial[..sector],
            })?;
        }
        if let Some(header) = &self.header {
            act(Step::Write {
                lba: self.place.header_lba,
                data: &header[..sector],
            })?;
        }
        act(Step::Flush)
    }
}

/// Both headers as a commit leaves them.
struct Target {
    primary: Header,
    backup: Header,
}

impl Gpt {
    /// Brings both copies on the disk to this table and the backup to the last sector, or does nothing if they are so
    /// already. Returns whether anything was written. Touches the disk; everything is flushed when it returns.
    ///
    /// # Errors
    /// The table would be invalid, the backup does not fit, or a write or flush failed. After an error of the disk the
    /// table must be read again; one copy is valid then, with the old content or the new.
    pub fn commit<B: BlockIo>(&mut self, io: &mut B) -> Result<bool, GptError<B::Error>> {
        let found = io.sector_count();
        if found != self.sector_count || io.sector_size() != self.sector_size {
            return Err(EditError::DiskChanged {
                read: self.sector_count,
                found,
            }
            .into());
        }
        let plan = self.commit_plan()?;
        let writes = !plan.is_empty();
        if let Err(error) = plan.execute(io) {
            self.must_reread = true;
            return Err(GptError::Io(error));
        }
        self.settle()?;
        Ok(writes)
    }

    /// What [`commit`](Self::commit) will do. Does not touch the disk; after executing the plan oneself the table must
    /// be read again.
    ///
    /// # Errors
    /// The table would be invalid, or the backup does not fit.
    pub fn commit_plan(&mut self) -> Result<CommitPlan<'_>, EditError> {
        if self.must_reread {
            return Err(EditError::MustReread);
        }
        self.relocate_backup()?;
        let this = &*self;
        let target = this.target()?;
        let backup = this.phase(&this.backup, &target.backup, &this.entries);
        // Even where the backup moves: its old place may be known from the header of the damaged primary alone, and the
        // new place may hold what others read for want of a primary.
        let restore = if this.copies == Copies::BackupOnly && backup.is_some() {
            this.restore_phase(&target)?
        } else {
            None
        };
        let primary = match &restore {
            None => this.phase(&this.primary, &target.primary, &this.entries),
            // What the restored primary holds is the backup's table.
            Some(restored) => this.phase_over(
                &this.primary,
                &target.primary,
                &this.entries,
                restored
                    .header
                    .as_ref()
                    .or(this.primary.known_header(target.primary.place)),
                Some(&this.backup.entries),
            ),
        };
        Ok(CommitPlan {
            phases: [restore, backup, primary],
            sector: this.sector_size.len(),
        })
    }

    /// The writes that rebuild a damaged primary from the backup as it is on the disk.
    fn restore_phase(&self, target: &Target) -> Result<Option<Phase<'_>>, EditError> {
        let mut header = self.backup.good().ok_or(EditError::MustReread)?;
        header.alternate_lba = self.backup.place.header_lba;
        header.place = target.primary.place;
        Ok(self.phase(&self.primary, &header, &self.backup.entries))
    }

    /// Both headers as they should be. Validates the whole table once more, so that no checksum covers what no check
    /// has seen.
    fn target(&self) -> Result<Target, EditError> {
        let len = self.header.table_len();
        entry::check(&self.entries, len, self.header.usable).map_err(EditError::Invalid)?;
        let table = self.header.table_sectors(self.sector_size);
        let last = self.sector_count.saturating_sub(1);
        let base = Header {
            entries_crc: entry::crc(&self.entries, len),
            ..self.header
        };
        let at = |role, now: Place, alternate_lba, standard| {
            let fits = |place| {
                let header = Header {
                    place,
                    alternate_lba,
                    ..base
                };
                header
                    .check_places(role, self.sector_size, self.sector_count)
                    .map(|()| header)
            };
            fits(now)
                .or_else(|_| fits(standard))
                .map_err(EditError::Invalid)
        };
        let first = Place {
            header_lba: 1,
            entries_lba: 2,
        };
        let end = Place {
            header_lba: last,
            entries_lba: last.saturating_sub(table),
        };
        let now = if self.backup_at_end() {
            self.backup.place
        } else {
            end
        };
        Ok(Target {
            primary: at(Role::Primary, self.primary.place, last, first)?,
            backup: at(Role::Backup, now, 1, end)?,
        })
    }

    /// The writes that turn what the disk holds at `header.place` into this header and these entries.
    fn phase<'a>(&self, copy: &DiskCopy, header: &Header, table: &'a Table) -> Option<Phase<'a>> {
        let known_header = copy.known_header(header.place);
        self.phase_over(
            copy,
            header,
            table,
            known_header,
            copy.known_entries(header.place),
        )
    }

    fn phase_over<'a>(
        &self,
        copy: &DiskCopy,
        header: &Header,
        table: &'a Table,
        known_header: Option<&HeaderSector>,
        known_entries: Option<&Table>,
    ) -> Option<Phase<'a>> {
        let sector = self.sector_size.len();
        let len = header.table_len();
        let full_sectors = len / sector;
        let partial = (!len.is_multiple_of(sector)).then(|| self.partial_sector(copy, table, len));
        let wanted = |n: usize| match &partial {
            Some(partial) if n == full_sectors => partial.get(..sector),
            _ => table.get(n * sector..(n + 1) * sector),
        };
        let held = |n: usize| known_entries.and_then(|t| t.get(n * sector..(n + 1) * sector));
        let dirty = (0..len.div_ceil(sector))
            .filter(|&n| known_entries.is_none() || wanted(n) != held(n))
            .fold(0, |dirty, n| dirty | 1 << n);
        let emitted = self.header_sector(copy, header);
        let same = known_header.is_some_and(|held| held[..sector] == emitted[..sector]);
        let phase = Phase {
            place: header.place,
            table,
            full_sectors,
            partial,
            dirty,
            header: (!same).then_some(emitted),
        };
        (dirty != 0 || !same).then_some(phase)
    }

    /// The header in its sector; bytes behind the header are the copy's own where it has a good one.
    fn header_sector(&self, copy: &DiskCopy, header: &Header) -> HeaderSector {
        let mut sector = header.emit(self.raw);
        if copy.checked.is_some() {
            sector[header.header_size..].copy_from_slice(&copy.header[header.header_size..]);
        }
        sector
    }

    /// The last sector of a table that does not fill it; bytes behind the table are the copy's own where known.
    fn partial_sector(&self, copy: &DiskCopy, table: &Table, len: usize) -> [u8; MAX_SECTOR] {
        let sector = self.sector_size.len();
        let start = len - len % sector;
        let tail_of = if copy.entries_known {
            &copy.entries
        } else {
            table
        };
        let mut bytes = [0; MAX_SECTOR];
        bytes[..len - start].copy_from_slice(&table[start..len]);
        bytes[len - start..sector].copy_from_slice(&tail_of[len..start + sector]);
        bytes
    }

    /// Takes note that the disk now holds this table.
    fn settle(&mut self) -> Result<(), EditError> {
        let target = self.target()?;
        let primary_sector = self.header_sector(&self.primary, &target.primary);
        let backup_sector = self.header_sector(&self.backup, &target.backup);
        let len = self.header.table_len();
        for (copy, header, sector) in [
            (&mut self.primary, target.primary, primary_sector),
            (&mut self.backup, target.backup, backup_sector),
        ] {
            if !copy.entries_known {
                copy.entries = self.entries;
            }
            copy.entries[..len].copy_from_slice(&self.entries[..len]);
            copy.place = header.place;
            copy.header = sector;
            copy.checked = Some(header);
            (copy.header_known, copy.entries_known, copy.fault) = (true, true, None);
        }
        self.copies = Copies::Both;
        Ok(())
    }
}
