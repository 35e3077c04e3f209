//! GUIDs as they stand on a GPT disk.

use core::fmt;
use core::str::FromStr;

/// A GUID in on-disk byte order: the first three fields little-endian, the rest as written (UEFI 2.10, appendix A).
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guid(pub [u8; 16]);

/// For each pair of digits of the text form, the byte that it stands for.
const TEXT_ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];

impl Guid {
    /// All zeros: the type of an unused entry.
    pub const ZERO: Self = Self([0; 16]);

    /// From the number that the text form spells, so that constants read like the text.
    #[must_use]
    pub const fn from_u128(value: u128) -> Self {
        let text = value.to_be_bytes();
        let mut bytes = [0; 16];
        let mut at = 0;
        while at < 16 {
            bytes[TEXT_ORDER[at]] = text[at];
            at += 1;
        }
        Self(bytes)
    }

    /// A random (version 4) GUID made of 16 bytes of entropy, of which six bits are overwritten.
    #[must_use]
    pub const fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[7] = bytes[7] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Self(bytes)
    }
}

impl fmt::Display for Guid {
    /// Lower case, with hyphens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, at) in TEXT_ORDER.into_iter().enumerate() {
            if matches!(position, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{:02x}", self.0[at])?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 32 hexadecimal digits in the 8-4-4-4-12 form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a GUID is 32 hexadecimal digits as 8-4-4-4-12")]
pub struct NotAGuid;

impl FromStr for Guid {
    type Err = NotAGuid;

    fn from_str(text: &str) -> Result<Self, NotAGuid> {
        if text.len() != 36 {
            return Err(NotAGuid);
        }
        let mut digits = 0_usize;
        let mut value = 0_u128;
        for (position, character) in text.char_indices() {
            if matches!(position, 8 | 13 | 18 | 23) {
                if character != '-' {
                    return Err(NotAGuid);
                }
                continue;
            }
            let digit = character.to_digit(16).ok_or(NotAGuid)?;
            value = value << 4 | u128::from(digit);
            digits += 1;
        }
        if digits == 32 {
            Ok(Self::from_u128(value))
        } else {
            Err(NotAGuid)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ESP_ON_DISK: [u8; 16] = [
        0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9,
        0x3b,
    ];

    #[test]
    fn text_and_bytes_agree_with_a_known_guid() {
        let text = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
        assert_eq!(text.parse(), Ok(Guid(ESP_ON_DISK)));
        assert_eq!(Guid(ESP_ON_DISK).to_string(), text);
        assert_eq!(text.to_uppercase().parse(), Ok(Guid(ESP_ON_DISK)));
    }

    #[test]
    fn malformed_text_is_refused() {
        for text in [
            "",
            "c12a7328",
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93",
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93bb",
            "c12a7328f-81f-11d2-ba4b-00a0c93ec93b",
            "c12a7328-f81f-11d2-ba4b-00a0c93ec93g",
            "c12a7328-f81f-11d2-ba4b-00a0c93ec9\u{fc}",
            "+12a7328-f81f-11d2-ba4b-00a0c93ec93b",
        ] {
            assert_eq!(text.parse::<Guid>(), Err(NotAGuid), "{text}");
        }
    }

    #[test]
    fn random_ones_are_version_4() {
        let text = Guid::from_random([0xff; 16]).to_string();
        assert_eq!(text, "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
