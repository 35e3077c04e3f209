//! An installation as a chain of states, without I/O.
//!
//! Each state names what has to be done next, and only doing it (or saying so) gives the next state:
//!
//! precheck → invalidate → wipe the record → write, flush and read back → write the record → activate
//!
//! Writing and reading back overlap, so that state comes in two halves that may live on two threads: [`Write`] hands out
//! [`Flushed`] for what it has written and flushed, and [`ReadBack`] takes no block beyond that. Only both halves,
//! complete, give the next state.
//!
//! An [`Install`] starts from an [`Admitted`] release and a [`Verified`] table, so nothing unsigned gets in; blocks are
//! accepted as written only as [`Unpacked`], which exists only for bytes with the right hashes; and [`Activate`] can't be
//! reached without every block having come back from the medium after a flush and the whole image having the manifest's
//! hash.

mod unpacked;

pub use unpacked::{Run, Unpacked};

use crate::Digest;
use crate::gates::Admitted;
use crate::signature::{BlockMismatch, Verified};
use crate::table::{Block, Table};

/// Why an installation can't go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    #[error(transparent)]
    Block(#[from] BlockMismatch),
    #[error("block {found} came when block {expected} was next")]
    Order { expected: u64, found: u64 },
    #[error("block {block} was read back before it was flushed")]
    Unflushed { block: u64 },
    #[error("{left} blocks are still missing")]
    Unfinished { left: u64 },
    #[error("the image's hash is {found}, the manifest says {expected}")]
    Content { found: Digest, expected: Digest },
    #[error("the table is not the one of the payload's artifact")]
    ForeignTable,
}

/// The stored bytes of a seekable source are compared with the table before anything changes.
#[derive(Debug)]
pub struct Precheck {
    next: u64,
}
/// The passive slot has to be made unbootable in every store, durably.
#[derive(Debug)]
pub struct Invalidate(());
/// The old slot record has to be wiped, durably.
#[derive(Debug)]
pub struct WipeRecord(());
/// The blocks have to be written, in order, and flushed.
#[derive(Debug)]
pub struct Write {
    next: u64,
    content: blake3::Hasher,
}
/// Every block is written, and together they are the image that the manifest names.
#[derive(Debug)]
pub struct Written(());
/// The blocks have to be read from the medium, in order, each after it was flushed.
#[derive(Debug)]
pub struct ReadBack {
    next: u64,
    flushed: u64,
}
/// The slot record has to be written, durably.
#[derive(Debug)]
pub struct WriteRecord(());
/// The slot may be activated.
#[derive(Debug)]
pub struct Activate(());

/// One installation in one of its states.
#[derive(Debug)]
pub struct Install<'a, State> {
    release: &'a Admitted,
    table: Verified<Table<'a>>,
    state: State,
}

/// The blocks before this one were written and then flushed.
#[derive(Debug)]
pub struct Flushed {
    id: Digest,
    before: u64,
}

impl Flushed {
    /// How many blocks that are, counted from the first.
    pub fn blocks(&self) -> u64 {
        self.before
    }
}

impl<'a, State> Install<'a, State> {
    /// The release that is installed.
    pub fn release(&self) -> &'a Admitted {
        self.release
    }

    /// Its block table.
    pub fn table(&self) -> &Verified<Table<'a>> {
        &self.table
    }

    fn with<Next>(self, state: Next) -> Install<'a, Next> {
        Install {
            release: self.release,
            table: self.table,
            state,
        }
    }

    fn all_done(&self, next: u64) -> Result<(), InstallError> {
        match self.table.blocks().saturating_sub(next) {
            0 => Ok(()),
            left => Err(InstallError::Unfinished { left }),
        }
    }
}

impl<'a> Install<'a, Precheck> {
    /// # Errors
    /// The table belongs to another payload or artifact.
    pub fn new(release: &'a Admitted, table: Verified<Table<'a>>) -> Result<Self, InstallError> {
        let artifact = release.artifact();
        let same = table.id() == release.manifest().id()
            && table.size() == artifact.size
            && table.blocks() == artifact.blocks();
        if !same {
            return Err(InstallError::ForeignTable);
        }
        Ok(Self {
            release,
            table,
            state: Precheck { next: 0 },
        })
    }

    /// The block whose stored bytes are to be compared next; `None` after the last.
    pub fn block(&self) -> Option<Verified<Block>> {
        self.table.verified_block(self.state.next)
    }

    /// Compares the stored bytes of [`block`](Self::block) and goes on to the next.
    ///
    /// # Errors
    /// They do not have the table's hash.
    pub fn stored(&mut self, bytes: &[u8]) -> Result<(), InstallError> {
        let block = self.block().ok_or(InstallError::Unfinished { left: 0 })?;
        block.check_stored(bytes)?;
        self.state.next = self.state.next.saturating_add(1);
        Ok(())
    }

    /// Every block was compared.
    ///
    /// # Errors
    /// Not yet.
    pub fn checked(self) -> Result<Install<'a, Invalidate>, InstallError> {
        self.all_done(self.state.next)?;
        Ok(self.with(Invalidate(())))
    }

    /// The source is a stream, which can be read only once: its blocks are compared as they come.
    pub fn streamed(self) -> Install<'a, Invalidate> {
        self.with(Invalidate(()))
    }
}

impl<'a> Install<'a, Invalidate> {
    /// The slot is unbootable everywhere.
    pub fn invalidated(self) -> Install<'a, WipeRecord> {
        self.with(WipeRecord(()))
    }
}

impl<'a> Install<'a, WipeRecord> {
    /// The slot has no record any more; it can be written, and read back behind that.
    pub fn wiped(self) -> (Install<'a, Write>, Install<'a, ReadBack>) {
        let content = blake3::Hasher::new();
        let write = Write { next: 0, content };
        let read_back = ReadBack {
            next: 0,
            flushed: 0,
        };
        let other = Install {
            release: self.release,
            table: self.table,
            state: read_back,
        };
        (self.with(write), other)
    }
}

impl<'a> Install<'a, Write> {
    /// These blocks are in the slot, or were there already.
    ///
    /// # Errors
    /// They were not the next ones.
    pub fn written<R: Run>(&mut self, unpacked: &Unpacked<R>) -> Result<(), InstallError> {
        let run = unpacked.run();
        for block in run.blocks() {
            let (expected, found) = (self.state.next, block.index);
            if block.id() != self.table.id() {
                return Err(InstallError::ForeignTable);
            }
            if expected != found {
                return Err(InstallError::Order { expected, found });
            }
            self.state.next = expected.saturating_add(1);
        }
        self.state.content.update(run.bytes());
        Ok(())
    }

    /// An earlier attempt has left these blocks on the medium, from which they were read after a flush: there is nothing
    /// to write, and nothing to read back once more.
    ///
    /// # Errors
    /// They were not the next ones, here or of `read_back`.
    pub fn held<R: Run>(
        &mut self,
        unpacked: &Unpacked<R>,
        read_back: &mut Install<'a, ReadBack>,
    ) -> Result<(), InstallError> {
        if read_back.table.id() != self.table.id() {
            return Err(InstallError::ForeignTable);
        }
        let (expected, found) = (read_back.state.next, self.state.next);
        if expected != found {
            return Err(InstallError::Order { expected, found });
        }
        self.written(unpacked)?;
        read_back.state.next = self.state.next;
        read_back.state.flushed = read_back.state.flushed.max(self.state.next);
        Ok(())
    }

    /// The block that has to be written next.
    pub fn next(&self) -> u64 {
        self.state.next
    }

    /// The medium has acknowledged everything written so far.
    pub fn flushed(&self) -> Flushed {
        Flushed {
            id: self.table.id(),
            before: self.state.next,
        }
    }

    /// Every block is written.
    ///
    /// # Errors
    /// Not yet, or they are not the manifest's image.
    pub fn complete(self) -> Result<Install<'a, Written>, InstallError> {
        self.all_done(self.state.next)?;
        let found = Digest::from(self.state.content.finalize());
        let expected = self.release.artifact().content;
        if found != expected {
            return Err(InstallError::Content { found, expected });
        }
        Ok(self.with(Written(())))
    }
}

impl<'a> Install<'a, ReadBack> {
    /// More blocks may be read.
    ///
    /// # Errors
    /// They belong to another payload.
    pub fn flushed(&mut self, flushed: &Flushed) -> Result<(), InstallError> {
        if flushed.id != self.table.id() {
            return Err(InstallError::ForeignTable);
        }
        self.state.flushed = self.state.flushed.max(flushed.before);
        Ok(())
    }

    /// The blocks that are to be read next: the first of them, and the one after the last.
    pub fn readable(&self) -> core::ops::Range<u64> {
        self.state.next..self.state.flushed
    }

    /// Compares what was read for the next block and goes on to the one after it.
    ///
    /// # Errors
    /// It does not have the table's hash, or was not flushed before.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), InstallError> {
        let next = self.state.next;
        if next >= self.state.flushed {
            return Err(InstallError::Unflushed { block: next });
        }
        let block = self.table.verified_block(next);
        block
            .ok_or(InstallError::Unfinished { left: 0 })?
            .check_read_back(bytes)?;
        self.state.next = next.saturating_add(1);
        Ok(())
    }

    /// Every block came back as it was written.
    ///
    /// # Errors
    /// Not yet.
    pub fn compared(
        self,
        written: Install<'a, Written>,
    ) -> Result<Install<'a, WriteRecord>, InstallError> {
        if written.table.id() != self.table.id() {
            return Err(InstallError::ForeignTable);
        }
        self.all_done(self.state.next)?;
        Ok(written.with(WriteRecord(())))
    }
}

impl<'a> Install<'a, WriteRecord> {
    /// The slot has the record of this release.
    pub fn recorded(self) -> Install<'a, Activate> {
        self.with(Activate(()))
    }
}
