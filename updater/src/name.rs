//! The one kind of string that signed formats carry.

use core::fmt;
use core::ops::Deref;
use core::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error as _};

/// 1–64 bytes of `[A-Za-z0-9._+-]`: a product, a board, a version, a group, an artifact.
///
/// `~` and `^`, which the version format knows, are not among them.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Name(heapless::String<{ Name::MAX }>);

impl Name {
    /// Longest name, in bytes.
    pub const MAX: usize = 64;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text can't be a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("it is {0} bytes long, not 1 to 64")]
    Length(usize),
    #[error("byte {0:#04x} is not one of A-Z a-z 0-9 . _ + -")]
    Byte(u8),
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"._+-".contains(b);
        if text.is_empty() {
            return Err(NameError::Length(0));
        }
        if let Some(byte) = text.bytes().find(|b| !allowed(b)) {
            return Err(NameError::Byte(byte));
        }
        heapless::String::try_from(text)
            .map(Self)
            .map_err(|_| NameError::Length(text.len()))
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&str>::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_and_alphabet() {
        assert_eq!("1.2.3+a_b-C".parse::<Name>().unwrap(), "1.2.3+a_b-C");
        assert_eq!("".parse::<Name>(), Err(NameError::Length(0)));
        assert!("x".repeat(64).parse::<Name>().is_ok());
        assert_eq!("x".repeat(65).parse::<Name>(), Err(NameError::Length(65)));
        assert_eq!("a b".parse::<Name>(), Err(NameError::Byte(b' ')));
        assert_eq!("1~rc1".parse::<Name>(), Err(NameError::Byte(b'~')));
        assert_eq!("ä".parse::<Name>(), Err(NameError::Byte(0xc3)));
    }
}
