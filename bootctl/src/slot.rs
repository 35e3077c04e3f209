//! The two slots.

use core::fmt;
use core::str::FromStr;

/// One of the two copies of `/usr`, with whatever else a board boots together with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    A,
    B,
}

impl Slot {
    /// Both slots in table order, which is also the order that breaks a tie of priorities.
    pub const ALL: [Self; 2] = [Self::A, Self::B];

    /// The slot that is not this one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// `"a"` or `"b"`, as on command lines and in every format.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    /// GPT partition number, counted from 1: 3 (USR-A) or 4 (USR-B), as on Flatcar.
    #[must_use]
    pub const fn partition_number(self) -> u32 {
        match self {
            Self::A => 3,
            Self::B => 4,
        }
    }

    /// The slot whose USR partition has this GPT number.
    #[must_use]
    pub const fn from_partition_number(number: u32) -> Option<Self> {
        match number {
            3 => Some(Self::A),
            4 => Some(Self::B),
            _ => None,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is neither `a` nor `b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a slot is `a` or `b`")]
pub struct NotASlot;

impl FromStr for Slot {
    type Err = NotASlot;

    fn from_str(text: &str) -> Result<Self, NotASlot> {
        match text {
            "a" => Ok(Self::A),
            "b" => Ok(Self::B),
            _ => Err(NotASlot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_round_trip() {
        for slot in Slot::ALL {
            assert_eq!(slot.as_str().parse(), Ok(slot));
            assert_eq!(
                Slot::from_partition_number(slot.partition_number()),
                Some(slot)
            );
            assert_ne!(slot, slot.other());
        }
        assert_eq!("A".parse::<Slot>(), Err(NotASlot));
        assert_eq!(Slot::from_partition_number(5), None);
    }
}
