//! Which pins of a board have a light or a button.
//!
//! Boards differ, and so do the boxes that they are built into. So this is plain data on the kernel command line, best in
//! `tandem/cmdline` on OEM, which belongs to the device:
//!
//! ```text
//! tandem.led=gpiochip0/17 tandem.button=gpiochip0/5/low
//! ```
//!
//! chip and line as in `gpioinfo`; `/low` for a light that is on, or a button that is pressed, when the pin is low.

use core::fmt;
use core::str::FromStr;

/// The word for the light.
pub const LED: &str = "tandem.led=";
/// The word for the recovery button.
pub const BUTTON: &str = "tandem.button=";

/// A line of a GPIO chip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The number in `/dev/gpiochipN`.
    pub chip: u8,
    pub line: u32,
    /// Low means on, or pressed.
    pub active_low: bool,
}

/// The text is not `gpiochipN/LINE` or `gpiochipN/LINE/low`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pin is gpiochipN/LINE, with /low behind it if low means on")]
pub struct NotAPin;

impl Pin {
    /// The last `name` of a kernel command line (as for every word that OEM may add); `None` if there is none.
    ///
    /// # Errors
    /// What it says is no pin.
    pub fn of(cmdline: &str, name: &str) -> Result<Option<Self>, NotAPin> {
        let words = cmdline.split_ascii_whitespace();
        let value = words.filter_map(|word| word.strip_prefix(name)).next_back();
        value.map(str::parse).transpose()
    }
}

impl FromStr for Pin {
    type Err = NotAPin;

    fn from_str(text: &str) -> Result<Self, NotAPin> {
        let mut parts = text.split('/');
        let chip = parts.next().and_then(|c| c.strip_prefix("gpiochip"));
        let (Some(chip), Some(line)) = (chip, parts.next()) else {
            return Err(NotAPin);
        };
        let active_low = match (parts.next(), parts.next()) {
            (None, _) => false,
            (Some("low"), None) => true,
            _ => return Err(NotAPin),
        };
        Ok(Self {
            chip: number(chip)?,
            line: number(line)?,
            active_low,
        })
    }
}

/// Digits alone: `parse` takes a sign.
fn number<T: FromStr>(text: &str) -> Result<T, NotAPin> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(NotAPin)
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let low = if self.active_low { "/low" } else { "" };
        write!(f, "gpiochip{}/{}{low}", self.chip, self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_a_line_of_a_chip() {
        let pin = Pin {
            chip: 0,
            line: 17,
            active_low: false,
        };
        assert_eq!("gpiochip0/17".parse(), Ok(pin));
        let low = Pin {
            active_low: true,
            ..pin
        };
        assert_eq!("gpiochip0/17/low".parse(), Ok(low));
        for text in ["gpiochip0/17", "gpiochip3/4/low"] {
            let pin: Pin = text.parse().unwrap();
            assert_eq!(std::format!("{pin}"), text);
        }
    }

    #[test]
    fn anything_else_is_none() {
        for text in [
            "",
            "17",
            "gpiochip/17",
            "gpiochip0",
            "gpiochip0/",
            "gpiochip0/+7",
            "gpiochip256/1",
            "gpiochip0/17/high",
            "gpiochip0/17/low/low",
            "../gpiochip0/17",
            "gpiochip0/99999999999",
        ] {
            assert_eq!(text.parse::<Pin>(), Err(NotAPin), "{text}");
        }
    }

    #[test]
    fn the_last_word_of_a_command_line_counts() {
        let line = "tandem.slot=a tandem.led=gpiochip0/1 x.tandem.led=no tandem.led=gpiochip1/2\n";
        assert_eq!(Pin::of(line, LED).unwrap().unwrap().line, 2);
        assert_eq!(Pin::of(line, BUTTON), Ok(None));
        assert_eq!(Pin::of("tandem.button=5", BUTTON), Err(NotAPin));
    }
}
