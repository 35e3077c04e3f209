//! Priority, tries and successful: the boot attributes of one slot.
//!
//! In a GPT entry they are bits 48–51, 52–55 and 56 of the 64-bit attribute field (ChromeOS's and Flatcar's layout,
//! defined for the USR type only); every other bit belongs to somebody else and is kept.

use core::fmt;

/// Lowest bit of the priority in a GPT attribute word.
pub const PRIORITY_SHIFT: u32 = 48;
/// Lowest bit of the tries in a GPT attribute word.
pub const TRIES_SHIFT: u32 = 52;
/// Bit of "successful" in a GPT attribute word.
pub const SUCCESSFUL_SHIFT: u32 = 56;
/// The bits of a GPT attribute word that are ours.
pub const GPT_MASK: u64 = 0x01ff << PRIORITY_SHIFT;

/// Boot priority, 0–15. 0 means never, 15 is the highest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// Never boots.
    pub const NEVER: Self = Self(0);
    /// What the slot that should not be preferred gets.
    pub const LOW: Self = Self(1);
    /// What the slot that should be preferred gets; the highest that Tandem itself writes.
    pub const HIGH: Self = Self(2);

    /// `None` above 15.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        if value <= 15 { Some(Self(value)) } else { None }
    }

    /// 0–15.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// Boot tries left, 0–15.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tries(u8);

impl Tries {
    /// No try left, which is also what a confirmed slot has.
    pub const NONE: Self = Self(0);
    /// What a new release gets when nobody says otherwise.
    pub const DEFAULT: Self = Self(3);

    /// `None` above 15.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        if value <= 15 { Some(Self(value)) } else { None }
    }

    /// 0–15.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// One try less; 0 stays 0.
    #[must_use]
    pub const fn spent(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// The boot attributes of one slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes {
    pub priority: Priority,
    pub tries: Tries,
    pub successful: bool,
}

impl Attributes {
    /// P0 T0 S0: no loader boots it.
    pub const UNBOOTABLE: Self = Self {
        priority: Priority(0),
        tries: Tries(0),
        successful: false,
    };

    /// Decodes our nine bits of a GPT attribute word and ignores the others.
    #[must_use]
    pub const fn from_gpt(word: u64) -> Self {
        Self {
            priority: Priority((word >> PRIORITY_SHIFT & 0xf) as u8),
            tries: Tries((word >> TRIES_SHIFT & 0xf) as u8),
            successful: word >> SUCCESSFUL_SHIFT & 1 == 1,
        }
    }

    /// `word` with our nine bits replaced and every other bit kept.
    #[must_use]
    pub const fn into_gpt(self, word: u64) -> u64 {
        let ours = (self.priority.0 as u64) << PRIORITY_SHIFT
            | (self.tries.0 as u64) << TRIES_SHIFT
            | (self.successful as u64) << SUCCESSFUL_SHIFT;
        word & !GPT_MASK | ours
    }

    /// A loader may boot it: P > 0 and (T > 0 or S = 1).
    #[must_use]
    pub const fn is_candidate(self) -> bool {
        self.priority.0 > 0 && (self.tries.0 > 0 || self.successful)
    }

    /// A candidate that has proven itself.
    #[must_use]
    pub const fn is_confirmed(self) -> bool {
        self.priority.0 > 0 && self.successful
    }
}

impl fmt::Display for Attributes {
    /// `P2 T3 S0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p, t, s) = (self.priority.0, self.tries.0, u8::from(self.successful));
        write!(f, "P{p} T{t} S{s}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_words() {
        let flatcar_fresh = Attributes::from_gpt(0x0101_0000_0000_0000);
        assert_eq!(flatcar_fresh.priority, Priority::LOW);
        assert_eq!(flatcar_fresh.tries, Tries::NONE);
        assert!(flatcar_fresh.successful);
        let staged = Attributes {
            priority: Priority::HIGH,
            tries: Tries::DEFAULT,
            successful: false,
        };
        assert_eq!(staged.into_gpt(0), 0x0032_0000_0000_0000);
    }

    #[test]
    fn foreign_bits_survive() {
        let foreign = 0xfe00_1234_5678_9abf;
        for bits in 0..512_u64 {
            let attributes = Attributes::from_gpt(bits << PRIORITY_SHIFT);
            let word = attributes.into_gpt(foreign | GPT_MASK);
            assert_eq!(word & !GPT_MASK, foreign);
            assert_eq!(word & GPT_MASK, bits << PRIORITY_SHIFT);
        }
    }

    #[test]
    fn newtypes_hold_four_bits() {
        assert_eq!(Priority::new(16), None);
        assert_eq!(Tries::new(16), None);
        assert_eq!(Tries::NONE.spent(), Tries::NONE);
    }
}
