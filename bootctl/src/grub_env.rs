//! GRUB environment block: read as GRUB reads it, edited in place.
//!
//! Format (GRUB 2.06–2.14, any size): 25 bytes of signature, then lines. A line that starts with `#` is a comment,
//! which is also the padding at the end; every other is `name=value`, with backslash before a backslash or a newline
//! of the value. There is no checksum. The loader takes the last entry of a name and changes the first, and an entry's
//! name runs over line ends up to its `=`.
//!
//! An edit touches the bytes of one value where the length stays the same, so order, comments, escapes, unknown
//! variables and padding survive.

use crate::vars::{self, Lookup, LostReason, Values};
use crate::{BootState, vars::NotADigit};

/// The first bytes of every block.
pub const SIGNATURE: &[u8; 25] = b"# GRUB Environment Block\n";

/// Why a block can't be edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    #[error("no environment signature")]
    NoSignature,
    #[error("malformed at byte {0}")]
    Malformed(usize),
    #[error("{needed} bytes do not fit into a block of {size}")]
    NoSpace { needed: usize, size: usize },
    #[error("a name is [a-z0-9_] and a value [A-Za-z0-9._-], neither empty")]
    NotPlain,
    #[error("U-Boot's own environment is damaged, and what else belongs in it is not known")]
    NotOurs,
    #[error(transparent)]
    NotADigit(#[from] NotADigit),
}

/// A block that starts with the signature.
#[derive(Clone, Copy, Debug)]
pub struct GrubEnv<'a> {
    bytes: &'a [u8],
}

/// One variable as the loader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// May hold any byte but `=`, line ends too.
    pub name: &'a [u8],
    /// As it stands in the block, escapes included.
    pub raw: &'a [u8],
    /// Where `raw` starts, in bytes from the start of the block.
    at: usize,
}

impl<'a> Entry<'a> {
    /// The value without its escapes.
    pub fn value(&self) -> impl Iterator<Item = u8> + use<'a> {
        let mut bytes = self.raw.iter().copied();
        core::iter::from_fn(move || match bytes.next() {
            Some(b'\\') => bytes.next(),
            byte => byte,
        })
    }
}

impl<'a> GrubEnv<'a> {
    /// `None` without the signature: both GRUB and `grub-editenv` refuse such a block.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        bytes.starts_with(SIGNATURE).then_some(Self { bytes })
    }

    /// Variables in the order in which the loader sets them.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let bytes = self.bytes;
        let mut at = SIGNATURE.len();
        core::iter::from_fn(move || {
            loop {
                let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
                if rest.starts_with(b"#") {
                    at += line_length(rest)?;
                    continue;
                }
                let equals = rest.iter().position(|&byte| byte == b'=')?;
                let (name, value) = (rest.get(..equals)?, rest.get(equals + 1..)?);
                let end = line_length(value)?;
                let value_at = at + equals + 1;
                at = value_at + end;
                let raw = value.get(..end - 1)?;
                return Some(Entry {
                    name,
                    raw,
                    at: value_at,
                });
            }
        })
    }

    /// What the block holds under this name.
    #[must_use]
    pub fn lookup(&self, name: &str) -> Lookup<'a> {
        let mut found = self.entries().filter(|e| e.name == name.as_bytes());
        match (found.next(), found.next()) {
            (None, _) => Lookup::Missing,
            (Some(entry), None) => Lookup::One(entry.raw),
            _ => Lookup::Several,
        }
    }

    /// Where the padding starts, if every line is a comment or an entry with a name of its own line, and the last
    /// byte before the padding ends a line: the blocks that `grub-editenv set` and the loader's `save_env` can change.
    fn content_end(&self) -> Result<usize, EditError> {
        let padding = self.bytes.iter().rev().take_while(|&&b| b == b'#').count();
        let end = self.bytes.len() - padding;
        let mut at = SIGNATURE.len();
        while at < end {
            let line = self.bytes.get(at..end).unwrap_or_default();
            let length = line_length(line).ok_or(EditError::Malformed(at))?;
            let named = match line.iter().position(|&b| b == b'=' || b == b'\n') {
                Some(stop) => stop > 0 && line.get(stop) == Some(&b'='),
                None => false,
            };
            if !line.starts_with(b"#") && !named {
                return Err(EditError::Malformed(at));
            }
            at += length;
        }
        Ok(end)
    }
}

/// Length of the first line with its newline, which a backslash would have made part of the value.
fn line_length(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match bytes.get(at)? {
            b'\\' => at += 2,
            b'\n' => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// Makes `block` an empty environment of its own length.
///
/// # Errors
/// It is shorter than the signature.
pub fn create(block: &mut [u8]) -> Result<(), EditError> {
    let size = block.len();
    let needed = SIGNATURE.len();
    block.fill(b'#');
    block
        .get_mut(..needed)
        .ok_or(EditError::NoSpace { needed, size })?
        .copy_from_slice(SIGNATURE);
    Ok(())
}

/// Gives a variable this value and removes other entries of that name. A value of unchanged length is replaced in
/// place, a new variable goes to the end.
///
/// # Errors
/// The block is malformed or full, or name or value would need quoting; the block is unchanged then.
pub fn set(block: &mut [u8], name: &str, value: &str) -> Result<(), EditError> {
    if !is_plain(name, value) {
        return Err(EditError::NotPlain);
    }
    let size = block.len();
    let env = GrubEnv::new(block).ok_or(EditError::NoSignature)?;
    let end = env.content_end()?;
    let (mut first, mut others, mut freed) = (None, 0_usize, 0);
    for entry in env.entries().filter(|e| e.name == name.as_bytes()) {
        if first.is_none() {
            first = Some((entry.at, entry.raw.len()));
        } else {
            others += 1;
            freed += name.len() + entry.raw.len() + 2;
        }
    }
    let (at, old) = first.unwrap_or((end, 0));
    let added = match first {
        Some(_) => value.len(),
        None => name.len() + value.len() + 2,
    };
    let needed = end - freed - old + added;
    if needed > size {
        return Err(EditError::NoSpace { needed, size });
    }
    for _ in 0..others {
        remove_last(block, name);
    }
    let end = end - freed;
    match first {
        Some(_) => splice(block, at, old, end, &[value]),
        None => splice(block, at, 0, end, &[name, "=", value, "\n"]),
    }
    Ok(())
}

/// Removes the last entry of a name, newline included.
fn remove_last(block: &mut [u8], name: &str) {
    let Some(env) = GrubEnv::new(block) else {
        return;
    };
    let last = env.entries().filter(|e| e.name == name.as_bytes()).last();
    let (Some(entry), Ok(end)) = (last, env.content_end()) else {
        return;
    };
    let (at, length) = (entry.at - name.len() - 1, name.len() + entry.raw.len() + 2);
    splice(block, at, length, end, &[]);
}

/// Replaces `old` bytes at `at` by `new`, moves what follows up to `end`, and pads with `#` where it got shorter. The
/// caller has made sure that it fits.
fn splice(block: &mut [u8], at: usize, old: usize, end: usize, new: &[&str]) {
    let length: usize = new.iter().map(|part| part.len()).sum();
    let (tail, target) = (at + old, at + length);
    if tail > end || target + (end - tail) > block.len() {
        return;
    }
    block.copy_within(tail..end, target);
    let new_end = target + (end - tail);
    if let Some(padding) = block.get_mut(new_end..end.max(new_end)) {
        padding.fill(b'#');
    }
    let bytes = new.iter().flat_map(|part| part.bytes());
    for (place, byte) in block.iter_mut().skip(at).zip(bytes) {
        *place = byte;
    }
}

/// Names and values that mean the same to every loader and tool, without escapes.
pub(crate) fn is_plain(name: &str, value: &str) -> bool {
    let name_ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let value_ok = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    !name.is_empty()
        && !value.is_empty()
        && name.bytes().all(name_ok)
        && value.bytes().all(value_ok)
}

/// The boot state in a block.
///
/// # Errors
/// No signature, or the variables do not describe a state.
pub fn decode(block: &[u8]) -> Result<BootState, LostReason> {
    let env = GrubEnv::new(block).ok_or(LostReason::NoSignature)?;
    vars::decode(|name| env.lookup(name))
}

/// Whether `grub-editenv set` and the loader's `save_env` can change this block.
#[must_use]
pub fn is_editable(block: &[u8]) -> bool {
    GrubEnv::new(block).is_some_and(|env| env.content_end().is_ok())
}

/// Puts the boot state into a block: into what is there if that can be edited and has room, else into a new one.
///
/// # Errors
/// A number of more than one digit, or a block too small for the seven variables alone.
pub fn encode(block: &mut [u8], state: &BootState) -> Result<(), EditError> {
    let values = Values::of(state)?;
    let set_all = |block: &mut [u8]| values.iter().try_for_each(|(n, v)| set(block, n, v));
    if is_editable(block) && set_all(block).is_ok() {
        return Ok(());
    }
    create(block)?;
    set_all(block)
}

#[cfg(test)]
mod tests;
