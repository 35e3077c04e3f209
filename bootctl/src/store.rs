//! Slot stores: where a loader keeps the boot state, behind one trait.

mod span;

use core::fmt::{Debug, Display};

pub use self::span::ByteSpan;
pub(crate) use self::span::{read_span, read_span_or_zeros, write_span};
use crate::descriptor::{MAX_ENV_BYTES, MAX_OWN_ENV_BYTES};
use crate::gpt::{Gpt, GptError};
use crate::grub_env::{self, EditError};
use crate::uboot_env::{self, Layout, UbootEnv, current};
use crate::vars::{self, LostReason};
use crate::{Attributes, BlockIo, BootState};

/// What a store holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The state, or why there is none that the loader could use.
    pub state: Result<BootState, LostReason>,
    /// The loader can use it, but a copy of it is damaged or the loader could not change it; a write mends that.
    pub degraded: bool,
}

/// Why a store can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError<E: Debug + Display> {
    #[error("{0}")]
    Io(E),
    #[error("{0}")]
    Gpt(GptError<E>),
    #[error("environment: {0}")]
    Env(#[from] EditError),
}

/// A state that can't be read is lost like one that is damaged: writing it again mends both.
fn decoded(
    readable: bool,
    decode: impl FnOnce() -> Result<BootState, LostReason>,
) -> Result<BootState, LostReason> {
    match readable {
        true => decode(),
        false => Err(LostReason::Unreadable),
    }
}

/// Where a loader keeps the boot state.
pub trait SlotStore<B: BlockIo> {
    /// Reads the state. Touches the disk.
    ///
    /// # Errors
    /// The state has no form outside this store; a store without a usable state, or one that can't be read, is no error.
    fn read(&mut self, io: &mut B) -> Result<Reading, StoreError<B::Error>>;

    /// Makes every copy of the store hold `state`, and flushes. `false` when they did: nothing is written then.
    ///
    /// # Errors
    /// The medium can't be written, or the state has no form in this store. After a failed write the store
    /// holds the old state, the new one or none.
    fn write(&mut self, io: &mut B, state: &BootState) -> Result<bool, StoreError<B::Error>>;
}

/// The boot attributes of the USR entries, in both copies of the table.
#[derive(Debug)]
pub struct GptStore<'a> {
    pub gpt: &'a mut Gpt,
}

impl<B: BlockIo> SlotStore<B> for GptStore<'_> {
    fn read(&mut self, _: &mut B) -> Result<Reading, StoreError<B::Error>> {
        let state = self.gpt.boot_state().map_err(GptError::Edit);
        Ok(Reading {
            state: Ok(state.map_err(StoreError::Gpt)?),
            degraded: self.gpt.needs_repair(),
        })
    }

    fn write(&mut self, io: &mut B, state: &BootState) -> Result<bool, StoreError<B::Error>> {
        let set = self.gpt.set_boot_state(*state).map_err(GptError::Edit);
        set.map_err(StoreError::Gpt)?;
        self.gpt.commit(io).map_err(StoreError::Gpt)
    }
}

/// A GRUB environment block.
#[derive(Clone, Copy, Debug)]
pub struct GrubBlockStore {
    pub block: ByteSpan,
}

impl<B: BlockIo> SlotStore<B> for GrubBlockStore {
    fn read(&mut self, io: &mut B) -> Result<Reading, StoreError<B::Error>> {
        let mut buffer = [0; MAX_ENV_BYTES];
        let (block, readable) = read_span_or_zeros(io, self.block, &mut buffer);
        Ok(Reading {
            state: decoded(readable, || grub_env::decode(block)),
            degraded: !grub_env::is_editable(block),
        })
    }

    fn write(&mut self, io: &mut B, state: &BootState) -> Result<bool, StoreError<B::Error>> {
        let mut buffer = [0; MAX_ENV_BYTES];
        let (block, readable) = read_span_or_zeros(io, self.block, &mut buffer);
        if readable && grub_env::decode(block) == Ok(*state) && grub_env::is_editable(block) {
            return Ok(false);
        }
        grub_env::encode(block, state)?;
        write_span(io, self.block, block).map_err(StoreError::Io)?;
        Ok(true)
    }
}

/// One U-Boot environment.
#[derive(Clone, Copy, Debug)]
pub struct UbootEnvStore {
    pub copy: ByteSpan,
}

impl<B: BlockIo> SlotStore<B> for UbootEnvStore {
    fn read(&mut self, io: &mut B) -> Result<Reading, StoreError<B::Error>> {
        let mut buffer = [0; MAX_ENV_BYTES];
        let (copy, readable) = read_span_or_zeros(io, self.copy, &mut buffer);
        Ok(Reading {
            state: decoded(readable, || uboot_env::decode(copy, Layout::Single)),
            degraded: false,
        })
    }

    fn write(&mut self, io: &mut B, state: &BootState) -> Result<bool, StoreError<B::Error>> {
        let mut buffer = [0; MAX_ENV_BYTES];
        let (copy, readable) = read_span_or_zeros(io, self.copy, &mut buffer);
        if readable && uboot_env::decode(copy, Layout::Single) == Ok(*state) {
            return Ok(false);
        }
        uboot_env::encode(copy, Layout::Single, 0, state)?;
        write_span(io, self.copy, copy).map_err(StoreError::Io)?;
        Ok(true)
    }
}

/// The two copies of U-Boot's own environment. What else is in there stays; when no copy is good, only U-Boot can write it.
#[derive(Clone, Copy, Debug)]
pub struct RedundantEnvStore {
    pub copies: [ByteSpan; 2],
}

impl RedundantEnvStore {
    fn places(&self) -> heapless::String<64> {
        let [first, second] = self.copies;
        vars::places([first.at, second.at], first.length as u64)
    }

    /// State and serial number of both copies; `None` where the CRC differs or there is nothing to read.
    fn copies<B: BlockIo>(&self, io: &mut B) -> [Option<EnvCopy>; 2] {
        let mut found = [None; 2];
        let mut buffer = [0; MAX_OWN_ENV_BYTES];
        let places = self.places();
        for (place, span) in found.iter_mut().zip(self.copies) {
            let (bytes, readable) = read_span_or_zeros(io, span, &mut buffer);
            // The zeros may be what the padding was: the CRC does not tell.
            let env = UbootEnv::new(bytes, Layout::Redundant).filter(|_| readable);
            *place = env.map(|env| EnvCopy {
                serial: env.serial(),
                state: uboot_env::decode_own(bytes, &places),
            });
        }
        found
    }
}

#[derive(Clone, Copy)]
struct EnvCopy {
    serial: u8,
    state: Result<BootState, LostReason>,
}

/// U-Boot has spent tries in the newer copy alone: that is no difference.
fn levelled(copies: &[Option<EnvCopy>; 2]) -> bool {
    let without_tries = |copy: &Option<EnvCopy>| {
        let state = copy.and_then(|copy| copy.state.ok())?;
        let rest = |slot: Attributes| (slot.priority, slot.successful, slot.is_candidate());
        Some((rest(state.a), rest(state.b)))
    };
    let [first, second] = copies.each_ref().map(without_tries);
    first.is_some() && first == second
}

fn current_copy(copies: &[Option<EnvCopy>; 2]) -> Option<(usize, EnvCopy)> {
    let index = current(copies.map(|copy| copy.map(|c| c.serial)))?;
    copies.get(index).copied().flatten().map(|c| (index, c))
}

impl<B: BlockIo> SlotStore<B> for RedundantEnvStore {
    fn read(&mut self, io: &mut B) -> Result<Reading, StoreError<B::Error>> {
        let copies = self.copies(io);
        Ok(Reading {
            state: current_copy(&copies).map_or(Err(LostReason::BadCrc), |(_, c)| c.state),
            degraded: !levelled(&copies),
        })
    }

    /// Writes the copy that is not current, then the other, so that no later damage to one of them brings an older
    /// state back.
    fn write(&mut self, io: &mut B, state: &BootState) -> Result<bool, StoreError<B::Error>> {
        let copies = self.copies(io);
        let holds = |copy: &Option<EnvCopy>| copy.is_some_and(|c| c.state == Ok(*state));
        if copies.iter().all(holds) {
            return Ok(false);
        }
        let (index, serial) = match current_copy(&copies) {
            None => return Err(EditError::NotOurs.into()),
            Some((_, copy)) if copy.state == Err(LostReason::NotProven) => {
                return Err(EditError::NotOurs.into());
            }
            Some((index, copy)) => (index, copy.serial),
        };
        let [first, second] = self.copies;
        let (now, older) = if index == 0 {
            (first, second)
        } else {
            (second, first)
        };
        let mut buffer = [0; MAX_OWN_ENV_BYTES];
        let (bytes, _) = read_span_or_zeros(io, now, &mut buffer);
        for (span, serial) in [
            (older, serial.wrapping_add(1)),
            (now, serial.wrapping_add(2)),
        ] {
            uboot_env::encode(bytes, Layout::Redundant, serial, state)?;
            write_span(io, span, bytes).map_err(StoreError::Io)?;
        }
        Ok(true)
    }
}
