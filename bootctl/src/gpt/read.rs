//! Finding, checking and choosing between the two copies.

use super::entry::{self, Table};
use super::fault::{Fault, GptError};
use super::header::{self, Header, HeaderSector, Place, Role};
use super::{Copies, DiskCopy, Gpt, MAX_SECTOR, MAX_TABLE};
use crate::BlockIo;

impl Gpt {
    /// Reads both copies, checks them, and takes the primary, or the backup if only that one is good. Reads at most
    /// four headers and four tables of 16 KiB, writes nothing.
    ///
    /// The backup is looked for where a good primary header says; if there is none, in the last sector only, because
    /// an address from a header that failed its checks may lead to the table of a former life of the disk.
    ///
    /// # Errors
    /// Neither copy is valid, or the disk can't be read and the other copy is not valid.
    pub fn read<B: BlockIo>(io: &mut B) -> Result<Self, GptError<B::Error>> {
        let sector_count = io.sector_count();
        let last = sector_count.saturating_sub(1);
        let mut error = None;
        let primary = DiskCopy::read(io, Role::Primary, 1, &mut error);
        let claimed = primary.checked.map_or(last, |header| header.alternate_lba);
        let mut backup = DiskCopy::read(io, Role::Backup, claimed, &mut error);
        if primary.fault.is_some() && backup.fault.is_some() && claimed != last {
            backup = DiskCopy::read(io, Role::Backup, last, &mut error);
        }
        let (copies, header) = match (primary.good(), backup.good()) {
            (Some(header), Some(_)) if primary.same_content(&backup, &header) => {
                (Copies::Both, header)
            }
            (Some(header), Some(_)) => (Copies::Differ, header),
            (Some(header), None) => (Copies::PrimaryOnly, header),
            (None, Some(header)) => (Copies::BackupOnly, header),
            (None, None) => {
                return Err(error.map_or_else(
                    || GptError::NoValidCopy {
                        primary: primary.fault_or_unknown(),
                        backup: backup.fault_or_unknown(),
                    },
                    GptError::Io,
                ));
            }
        };
        let chosen = if copies == Copies::BackupOnly {
            &backup
        } else {
            &primary
        };
        Ok(Self {
            sector_size: io.sector_size(),
            sector_count,
            header,
            raw: chosen.header,
            entries: chosen.entries,
            primary,
            backup,
            copies,
            must_reread: false,
        })
    }
}

impl DiskCopy {
    /// Reads and checks the copy whose header should be at `lba`. The first error of the disk is left in `error`.
    fn read<B: BlockIo>(io: &mut B, role: Role, lba: u64, error: &mut Option<B::Error>) -> Self {
        let mut copy = Self {
            place: Place {
                header_lba: lba,
                entries_lba: 2,
            },
            header: [0; MAX_SECTOR],
            entries: [0; MAX_TABLE],
            checked: None,
            header_known: false,
            entries_known: false,
            fault: None,
        };
        copy.fault = copy.fill(io, role, error).err();
        copy
    }

    fn fill<B: BlockIo>(
        &mut self,
        io: &mut B,
        role: Role,
        error: &mut Option<B::Error>,
    ) -> Result<(), Fault> {
        let (sector_size, sectors) = (io.sector_size(), io.sector_count());
        let lba = self.place.header_lba;
        if sectors < 6 {
            return Err(Fault::DiskTooSmall { sectors });
        }
        if lba >= sectors {
            return Err(Fault::OutsideDisk { lba, sectors });
        }
        read(io, lba, &mut self.header[..sector_size.len()], error)?;
        self.header_known = true;
        let header = Header::check(&self.header, role, lba, sector_size, sectors)?;
        self.checked = Some(header);
        self.place = header.place;

        let len = header
            .table_len()
            .next_multiple_of(sector_size.len())
            .min(MAX_TABLE);
        read(
            io,
            header.place.entries_lba,
            &mut self.entries[..len],
            error,
        )?;
        self.entries_known = true;
        let computed = entry::crc(&self.entries, header.table_len());
        if computed != header.entries_crc {
            return Err(Fault::EntriesCrc {
                stored: header.entries_crc,
                computed,
            });
        }
        entry::check(&self.entries, header.table_len(), header.usable)
    }

    /// The header of a copy that counts.
    pub(super) fn good(&self) -> Option<Header> {
        if self.fault.is_none() {
            self.checked
        } else {
            None
        }
    }

    fn same_content(&self, other: &Self, header: &Header) -> bool {
        let table = |entries: &Table| entry::crc(entries, header.table_len());
        header::same_content(&self.header, &other.header, header.header_size)
            && table(&self.entries) == table(&other.entries)
            && self.entries[..header.table_len()] == other.entries[..header.table_len()]
    }

    fn fault_or_unknown(&self) -> Fault {
        self.fault.unwrap_or(Fault::Unreadable {
            lba: self.place.header_lba,
        })
    }

    /// The header sector, if that is what the disk holds at `place`.
    pub(super) fn known_header(&self, place: Place) -> Option<&HeaderSector> {
        (self.header_known && place.header_lba == self.place.header_lba).then_some(&self.header)
    }

    /// The entries, if that is what the disk holds at `place`.
    pub(super) fn known_entries(&self, place: Place) -> Option<&Table> {
        (self.entries_known && place.entries_lba == self.place.entries_lba).then_some(&self.entries)
    }
}

fn read<B: BlockIo>(
    io: &mut B,
    lba: u64,
    buf: &mut [u8],
    error: &mut Option<B::Error>,
) -> Result<(), Fault> {
    io.read_sectors(lba, buf).map_err(|e| {
        error.get_or_insert(e);
        Fault::Unreadable { lba }
    })
}
