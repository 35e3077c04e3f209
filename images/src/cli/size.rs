//! Sizes on the command line: bytes, or with a unit.

use std::str::FromStr;

/// A number of bytes, written `4194304`, `4096K`, `4M` or `4MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let shift = match unit {
            "" => 0,
            "K" | "KiB" => 10,
            "M" | "MiB" => 20,
            "G" | "GiB" => 30,
            "T" | "TiB" => 40,
            _ => return Err(format!("unknown unit {unit:?}, known are K, M, G and T")),
        };
        let number: u64 = number.parse().map_err(|_| "not a number".to_owned())?;
        number
            .checked_mul(1 << shift)
            .map(Self)
            .ok_or_else(|| "more than 64 bits".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        assert_eq!("4096".parse(), Ok(Size(4096)));
        assert_eq!("4M".parse(), Ok(Size(4 << 20)));
        assert_eq!("2GiB".parse(), Ok(Size(2 << 30)));
        for bad in ["", "M", "-1", "4MB", "1.5G", "99999999999T"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
    }
}
