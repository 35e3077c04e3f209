//! An installation as a chain of states, without I/O.
//!
//! Each state names what has to be done next, and only doing it (or saying so) gives the next state:
//!
//! precheck → invalidate → wipe the record → write the blocks → flush → read back → write the record → activate
//!
//! An [`Install`] starts from an [`Admitted`] release and a [`Verified`] table, so nothing unsigned gets in; a block is
//! accepted as written only as [`Unpacked`], which exists only for bytes with the right hash; and [`Activate`] can't be
//! reached without every block having come back from the medium and the whole image having the manifest's hash.

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
/// The blocks have to be written, in order.
#[derive(Debug)]
pub struct Write {
    next: u64,
}
/// The medium has to hold everything that was written.
#[derive(Debug)]
pub struct Flush(());
/// The blocks have to be read from the medium, in order.
#[derive(Debug)]
pub struct ReadBack {
    next: u64,
    content: blake3::Hasher,
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

/// A block with bytes that have its hash, ready to be written.
#[derive(Debug)]
pub struct Unpacked<B> {
    block: Verified<Block>,
    bytes: B,
}

impl<B: AsRef<[u8]>> Unpacked<B> {
    /// # Errors
    /// The bytes do not have the block's hash.
    pub fn new(block: Verified<Block>, bytes: B) -> Result<Self, BlockMismatch> {
        block.check_unpacked(bytes.as_ref())?;
        Ok(Self { block, bytes })
    }

    /// The block.
    pub fn block(&self) -> &Block {
        &self.block
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.as_ref()
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
    /// The slot has no record any more.
    pub fn wiped(self) -> Install<'a, Write> {
        self.with(Write { next: 0 })
    }
}

impl<'a> Install<'a, Write> {
    /// A block is in the slot, or was there already.
    ///
    /// # Errors
    /// It was not the next one.
    pub fn written<B: AsRef<[u8]>>(&mut self, block: &Unpacked<B>) -> Result<(), InstallError> {
        let (expected, found) = (self.state.next, block.block.index);
        if block.block.id() != self.table.id() {
            return Err(InstallError::ForeignTable);
        }
        if expected != found {
            return Err(InstallError::Order { expected, found });
        }
        self.state.next = expected.saturating_add(1);
        Ok(())
    }

    /// Every block is written.
    ///
    /// # Errors
    /// Not yet.
    pub fn complete(self) -> Result<Install<'a, Flush>, InstallError> {
        self.all_done(self.state.next)?;
        Ok(self.with(Flush(())))
    }
}

impl<'a> Install<'a, Flush> {
    /// The medium has acknowledged everything.
    pub fn flushed(self) -> Install<'a, ReadBack> {
        self.with(ReadBack {
            next: 0,
            content: blake3::Hasher::new(),
        })
    }
}

impl<'a> Install<'a, ReadBack> {
    /// The block that is to be read next; `None` after the last.
    pub fn block(&self) -> Option<Verified<Block>> {
        self.table.verified_block(self.state.next)
    }

    /// Compares what was read for [`block`](Self::block) and goes on to the next.
    ///
    /// # Errors
    /// It does not have the table's hash.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), InstallError> {
        let block = self.block().ok_or(InstallError::Unfinished { left: 0 })?;
        block.check_read_back(bytes)?;
        self.state.content.update(bytes);
        self.state.next = self.state.next.saturating_add(1);
        Ok(())
    }

    /// Every block came back, and together they are the image that the manifest names.
    ///
    /// # Errors
    /// Not yet, or they are not.
    pub fn compared(self) -> Result<Install<'a, WriteRecord>, InstallError> {
        self.all_done(self.state.next)?;
        let found = Digest::from(self.state.content.finalize());
        let expected = self.release.artifact().content;
        if found != expected {
            return Err(InstallError::Content { found, expected });
        }
        Ok(self.with(WriteRecord(())))
    }
}

impl<'a> Install<'a, WriteRecord> {
    /// The slot has the record of this release.
    pub fn recorded(self) -> Install<'a, Activate> {
        self.with(Activate(()))
    }
}
