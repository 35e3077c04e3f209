//! The boot state as environment variables: one decimal digit each and a check that joins them.
//!
//! Both loaders that keep variables (GRUB and U-Boot) use these names. GRUB's block has no checksum, so the seventh
//! variable repeats the other six; a block in which they disagree is lost. Every value has a fixed width, so a block
//! never changes its length.

use core::fmt::Write;
use core::str;

use heapless::String;

use crate::{Attributes, BootState, Priority, Tries};

/// Variables of slot A, then of slot B, in the order in which [`CHECK`] joins them.
pub const NAMES: [&str; 6] = [
    "tandem_a_priority",
    "tandem_a_tries",
    "tandem_a_successful",
    "tandem_b_priority",
    "tandem_b_tries",
    "tandem_b_successful",
];

/// The six digits joined.
pub const CHECK: &str = "tandem_check";

/// In U-Boot's own environment: where its copies lie, as [`places`] writes it. The boot script puts it there when it has seen
/// U-Boot save to both places; without it they are somebody else's.
pub const PLACES: &str = "tandem_places";

/// The value of [`PLACES`]: first sectors of both copies and their length, in units of 512 bytes, hexadecimal.
#[must_use]
pub fn places(offsets: [u64; 2], size: u64) -> String<64> {
    let [first, second] = offsets.map(|offset| offset / 512);
    let mut text = String::new();
    // Three numbers of at most 16 digits fit.
    let _ = write!(text, "{first:x}.{second:x}.{:x}", size / 512);
    text
}

/// Why an environment can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LostReason {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0} is not a digit in its range")]
    BadValue(&'static str),
    #[error("{0} stands there twice")]
    Duplicate(&'static str),
    #[error("tandem_check differs from the values")]
    CheckDiffers,
    #[error("the block has no environment signature")]
    NoSignature,
    #[error("the block is malformed at byte {0}")]
    Malformed(usize),
    #[error("its CRC differs")]
    BadCrc,
    #[error("the medium does not give it")]
    Unreadable,
    #[error("nothing in it shows that U-Boot keeps its own environment there")]
    NotProven,
}

/// The state holds a number that is not one decimal digit, which only a foreign GPT edit can bring about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} is {value}, more than one digit")]
pub struct NotADigit {
    pub name: &'static str,
    pub value: u8,
}

/// What one variable of a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    Missing,
    /// A value as it stands in the block.
    One(&'a [u8]),
    /// Several entries of that name: the loader changes the first and reads the last.
    Several,
}

/// The seven values of a state, as digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Values {
    digits: [u8; 6],
}

impl Values {
    /// # Errors
    /// A priority or a number of tries above 9.
    pub fn of(state: &BootState) -> Result<Self, NotADigit> {
        let mut digits = [0; 6];
        for ((digit, number), name) in digits.iter_mut().zip(numbers(state)).zip(NAMES) {
            if number > 9 {
                return Err(NotADigit {
                    name,
                    value: number,
                });
            }
            *digit = b'0' + number;
        }
        Ok(Self { digits })
    }

    /// Name and value of all seven variables, the check last.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let six = NAMES.into_iter().zip(self.digits.chunks(1));
        six.chain([(CHECK, self.digits.as_slice())])
            .map(|(name, digits)| (name, str::from_utf8(digits).unwrap_or("0")))
    }
}

/// The state that the variables of a block describe, by a function that looks one up.
///
/// # Errors
/// One is missing, doubled or no digit in its range, or the check differs.
pub fn decode<'a>(lookup: impl Fn(&str) -> Lookup<'a>) -> Result<BootState, LostReason> {
    let mut digits = [0; 6];
    for (digit, name) in digits.iter_mut().zip(NAMES) {
        *digit = match value_of(&lookup, name)? {
            [byte @ b'0'..=b'9'] => *byte,
            _ => return Err(LostReason::BadValue(name)),
        };
    }
    if value_of(&lookup, CHECK)? != digits {
        return Err(LostReason::CheckDiffers);
    }
    let [ap, at, a_ok, bp, bt, b_ok] = digits;
    Ok(BootState {
        a: attributes([ap, at, a_ok], NAMES[2])?,
        b: attributes([bp, bt, b_ok], NAMES[5])?,
    })
}

fn value_of<'a>(
    lookup: &impl Fn(&str) -> Lookup<'a>,
    name: &'static str,
) -> Result<&'a [u8], LostReason> {
    match lookup(name) {
        Lookup::Missing => Err(LostReason::Missing(name)),
        Lookup::Several => Err(LostReason::Duplicate(name)),
        Lookup::One(value) => Ok(value),
    }
}

fn attributes(digits: [u8; 3], successful: &'static str) -> Result<Attributes, LostReason> {
    let [priority, tries, ok] = digits.map(|digit| digit.wrapping_sub(b'0'));
    Ok(Attributes {
        priority: Priority::new(priority).ok_or(LostReason::BadValue(successful))?,
        tries: Tries::new(tries).ok_or(LostReason::BadValue(successful))?,
        successful: match ok {
            0 => false,
            1 => true,
            _ => return Err(LostReason::BadValue(successful)),
        },
    })
}

fn numbers(state: &BootState) -> [u8; 6] {
    let [a, b] = [state.a, state.b];
    [
        a.priority.get(),
        a.tries.get(),
        a.successful.into(),
        b.priority.get(),
        b.tries.get(),
        b.successful.into(),
    ]
}
