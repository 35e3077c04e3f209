//! Confirmed record: the slot that is known to be good, kept outside every slot store.
//!
//! A GRUB environment block of 512 bytes, 512 KiB before the end of OEM-CONFIG: `tandem_confirmed=a|b`, the PARTUUIDs
//! of both slots and of ROOT in lower case (`tandem_usr_a`, `tandem_usr_b`, `tandem_root`), and `tandem_fresh=1` until
//! the first boot has given the disk UUIDs of its own. The loader boots its slot when the environment is lost.

use core::fmt::Write;
use core::str;

use heapless::String;

use crate::gpt::Guid;
use crate::grub_env::{self, GrubEnv};
use crate::vars::Lookup;
use crate::{Slot, grub_env::EditError};

/// Length of the record in bytes.
pub const CONFIRMED_BYTES: usize = 512;
/// How far before the end of OEM-CONFIG the record starts, in bytes.
pub const CONFIRMED_FROM_END: u64 = 512 * 1024;

/// Variable that names the slot.
pub const SLOT: &str = "tandem_confirmed";
/// Variable with the PARTUUID of USR-A.
pub const USR_A: &str = "tandem_usr_a";
/// Variable with the PARTUUID of USR-B.
pub const USR_B: &str = "tandem_usr_b";
/// Variable with the PARTUUID of ROOT.
pub const ROOT: &str = "tandem_root";
/// Variable that is 1 until the disk has UUIDs of its own.
pub const FRESH: &str = "tandem_fresh";

/// What the confirmed record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfirmedRecord {
    pub slot: Slot,
    /// PARTUUID of USR-A.
    pub usr_a: Guid,
    /// PARTUUID of USR-B.
    pub usr_b: Guid,
    /// PARTUUID of ROOT.
    pub root: Guid,
    /// The disk still has the UUIDs of the image that it was written from.
    pub fresh: bool,
}

/// Why a block is no confirmed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfirmedError {
    #[error("the confirmed record has no environment signature")]
    NoSignature,
    #[error("{0} of the confirmed record is missing or malformed")]
    Variable(&'static str),
    #[error("the medium does not give the confirmed record")]
    Unreadable,
}

impl ConfirmedRecord {
    /// Decodes a record. Does not touch the disk.
    ///
    /// # Errors
    /// See [`ConfirmedError`].
    pub fn decode(block: &[u8; CONFIRMED_BYTES]) -> Result<Self, ConfirmedError> {
        let env = GrubEnv::new(block).ok_or(ConfirmedError::NoSignature)?;
        Ok(Self {
            slot: parse(&env, SLOT, |text| text.parse().ok())?,
            usr_a: parse(&env, USR_A, guid)?,
            usr_b: parse(&env, USR_B, guid)?,
            root: parse(&env, ROOT, guid)?,
            fresh: parse(&env, FRESH, |text| match text {
                "0" => Some(false),
                "1" => Some(true),
                _ => None,
            })?,
        })
    }

    /// Puts the record into a block: into what is there if that can be edited and has room, else into a new one.
    ///
    /// # Errors
    /// Never for a block of this length; the type is that of the edits.
    pub fn encode(&self, block: &mut [u8; CONFIRMED_BYTES]) -> Result<(), EditError> {
        if grub_env::is_editable(block) && self.set_all(block).is_ok() {
            return Ok(());
        }
        grub_env::create(block)?;
        self.set_all(block)
    }

    fn set_all(&self, block: &mut [u8]) -> Result<(), EditError> {
        grub_env::set(block, SLOT, self.slot.as_str())?;
        for (name, value) in [(USR_A, self.usr_a), (USR_B, self.usr_b), (ROOT, self.root)] {
            let mut text = String::<36>::new();
            write!(text, "{value}").map_err(|_| EditError::NotPlain)?;
            grub_env::set(block, name, &text)?;
        }
        grub_env::set(block, FRESH, if self.fresh { "1" } else { "0" })
    }
}

/// Upper case would name no partition to the loader and to the kernel's `PARTUUID=`.
fn guid(text: &str) -> Option<Guid> {
    let upper = text.bytes().any(|byte| byte.is_ascii_uppercase());
    text.parse().ok().filter(|_| !upper)
}

fn parse<T>(
    env: &GrubEnv<'_>,
    name: &'static str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<T, ConfirmedError> {
    let Lookup::One(raw) = env.lookup(name) else {
        return Err(ConfirmedError::Variable(name));
    };
    let text = str::from_utf8(raw).ok();
    text.and_then(read).ok_or(ConfirmedError::Variable(name))
}

#[cfg(test)]
mod tests;
