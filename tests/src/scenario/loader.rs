//! What a loader's script says on the console before it boots a slot.

use anyhow::{Context, Result};

use super::Slot;

/// How the line begins. GRUB may print it after escape sequences.
pub const START: &str = "tandem: slot=";
/// Printed when a slot's kernel or initrd does not load; the next slot's line follows in the same boot.
const SKIPPED: &str = " does not load";

/// `tandem: slot=b tries=2 env=ok gpt=ok`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderLine {
    pub slot: Slot,
    /// Tries left. U-Boot prints one hexadecimal digit, which differs from GRUB's above 9 only.
    pub tries: u8,
    pub environment: String,
    pub table: String,
}

impl LoaderLine {
    /// Reads the rest of the line behind [`START`].
    ///
    /// # Errors
    /// The loader has printed something else.
    pub fn parse(rest: &str) -> Result<Self> {
        let read = || {
            let mut words = rest.split_whitespace();
            let slot = words.next()?.parse().ok()?;
            let tries = words.next()?.strip_prefix("tries=")?;
            let tries = u8::from_str_radix(tries, 16).ok()?;
            let environment = words.next()?.strip_prefix("env=")?.to_owned();
            let table = words.next()?.strip_prefix("gpt=")?.to_owned();
            Some(Self {
                slot,
                tries,
                environment,
                table,
            })
        };
        read().with_context(|| format!("read the loader's line {rest:?}"))
    }
}

/// All choices that `text` tells of.
///
/// # Errors
/// One of them is not of the loader's form.
pub fn loader_lines(text: &str) -> Result<Vec<LoaderLine>> {
    text.split(START)
        .skip(1)
        .map(|rest| LoaderLine::parse(rest.lines().next().unwrap_or_default()))
        .collect()
}

/// How many times the machine has booted according to its serial output.
pub fn boots(transcript: &str) -> usize {
    let tried = transcript.matches(START).count();
    tried.saturating_sub(transcript.matches(SKIPPED).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read() {
        let line = LoaderLine::parse("b tries=2 env=ok gpt=unusable").unwrap();
        assert_eq!((line.slot, line.tries), (Slot::B, 2));
        assert_eq!(
            (line.environment.as_str(), line.table.as_str()),
            ("ok", "unusable")
        );
        assert!(LoaderLine::parse("c tries=2 env=ok gpt=ok").is_err());
    }

    #[test]
    fn a_skipped_slot_is_no_boot_of_its_own() {
        let text = "tandem: slot=b tries=0 env=ok gpt=ok\ntandem: slot b does not load\n\
                    tandem: slot=a tries=0 env=ok gpt=ok\n";
        assert_eq!(boots(text), 1);
        let slots: Vec<_> = loader_lines(text).unwrap().iter().map(|l| l.slot).collect();
        assert_eq!(slots, [Slot::B, Slot::A]);
    }
}
