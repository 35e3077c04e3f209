//! Settings of a device: `update.conf`, `/etc` over `/usr`, key by key.
//!
//! Both files have lines `KEY=VALUE`; blank lines and lines that begin with `#` are skipped, a value may stand in
//! single or double quotes, and of several lines with one key the last one counts. A value that can't be used is
//! reported and leaves the one below it in force: the release's, then the default. Then the device no longer polls
//! or reboots by itself ([`Settings::may_act_alone`]), but whatever it is told to do still works.

#[cfg(feature = "std")]
mod load;
mod values;

use core::fmt;

use heapless::String;

#[cfg(feature = "std")]
pub use load::load;
pub use values::{RebootStrategy, Weekday, WindowStart};

use values::Invalid;

/// Largest `update.conf` that is read, in bytes.
pub const FILE_MAX: usize = 16 << 10;
/// Longest `SERVER`, in bytes.
pub const SERVER_MAX: usize = 512;
/// `SERVER` with this value turns polling off.
pub const SERVER_DISABLED: &str = "disabled";

/// Which of the two files a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// The release: `/usr/lib/tandem/update.conf`.
    Usr,
    /// The device: `/etc/tandem/update.conf`.
    Etc,
}

impl Layer {
    /// Where the file is, without the leading slash.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Usr => "usr/lib/tandem/update.conf",
            Self::Etc => "etc/tandem/update.conf",
        }
    }
}

/// What is wrong with one line of `update.conf`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Problem<'a> {
    pub layer: Layer,
    /// Counted from 1; 0 for the file as a whole.
    pub line: u32,
    /// The key, empty when the line has none.
    pub key: &'a str,
    pub kind: ProblemKind,
}

/// Kinds of [`Problem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProblemKind {
    #[error("the file has more than {FILE_MAX} bytes and is ignored")]
    TooLarge,
    #[error("the line is not UTF-8")]
    NotText,
    #[error("the line is not KEY=VALUE")]
    NoKey,
    #[error("the key is unknown and ignored")]
    UnknownKey,
    #[error("the value must be {0}")]
    Invalid(&'static str),
    #[error("the value may only raise the release's {0}")]
    Lowered(u8),
}

impl ProblemKind {
    /// Unknown keys may belong to another version; everything else stops what the device does by itself.
    const fn is_harmless(self) -> bool {
        matches!(self, Self::UnknownKey)
    }
}

impl fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read /{}", self.layer.path())?;
        if self.line > 0 {
            write!(f, ", line {}", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, ", {}", self.key)?;
        }
        write!(f, ": {}", self.kind)
    }
}

/// The settings in force. [`Settings::default`] is what holds without any file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Group of devices (`GROUP`); empty when none is set.
    pub group: String<64>,
    /// Address of the update server (`SERVER`); empty or [`SERVER_DISABLED`] means no polling.
    pub server: String<SERVER_MAX>,
    /// Whether the device reboots into a staged release by itself (`REBOOT_STRATEGY`).
    pub reboot_strategy: RebootStrategy,
    /// When it may do so (`LOCKSMITHD_REBOOT_WINDOW_START`); `None`: at any time.
    pub window_start: Option<WindowStart>,
    /// For how long, in seconds (`LOCKSMITHD_REBOOT_WINDOW_LENGTH`).
    pub window_length: Option<u32>,
    /// Boot tries of a new release, 1–9 (`TRIES`).
    pub tries: u8,
    /// Signatures by distinct keys that a payload needs, 1–4 (`SIGNATURES`).
    pub signatures: u8,
    /// Longest time for one health check, in seconds (`HEALTH_TIMEOUT`).
    pub health_timeout: u32,
    /// Longest time for all health checks together, in seconds (`HEALTH_DEADLINE`).
    pub health_deadline: u32,
    bad_values: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            group: String::new(),
            server: String::new(),
            reboot_strategy: RebootStrategy::Reboot,
            window_start: None,
            window_length: None,
            tries: 3,
            signatures: 1,
            health_timeout: 60,
            health_deadline: 240,
            bad_values: 0,
        }
    }
}

impl Settings {
    /// Reads the text of both files, an absent one being empty, and tells `report` what is wrong with them. Pure.
    #[must_use]
    pub fn parse(usr: &[u8], etc: &[u8], report: &mut dyn FnMut(Problem<'_>)) -> Self {
        let mut settings = Self::default();
        settings.apply_file(Layer::Usr, usr, report);
        settings.apply_file(Layer::Etc, etc, report);
        settings
    }

    /// Nothing in the files was wrong, so that the device may poll and reboot by itself.
    #[must_use]
    pub const fn may_act_alone(&self) -> bool {
        self.bad_values == 0
    }

    fn apply_file(&mut self, layer: Layer, text: &[u8], report: &mut dyn FnMut(Problem<'_>)) {
        let mut problem = |settings: &mut Self, line, key: &str, kind: ProblemKind| {
            if !kind.is_harmless() {
                settings.bad_values = settings.bad_values.saturating_add(1);
            }
            report(Problem {
                layer,
                line,
                key,
                kind,
            });
        };
        if text.len() > FILE_MAX {
            problem(self, 0, "", ProblemKind::TooLarge);
            return;
        }
        // What /etc may not lower is what /usr and the defaults say, not an earlier line of /etc.
        let floor = match layer {
            Layer::Usr => Floor {
                tries: 1,
                signatures: 1,
            },
            Layer::Etc => Floor {
                tries: self.tries,
                signatures: self.signatures,
            },
        };
        let mut number = 0_u32;
        for line in text.split(|b| *b == b'\n') {
            number = number.saturating_add(1);
            let Ok(line) = core::str::from_utf8(line) else {
                problem(self, number, "", ProblemKind::NotText);
                continue;
            };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                problem(self, number, "", ProblemKind::NoKey);
                continue;
            };
            let key = key.trim_end();
            if let Err(kind) = self.set(key, unquoted(value.trim_start()), floor) {
                problem(self, number, key, kind);
            }
        }
    }

    fn set(&mut self, key: &str, value: &str, floor: Floor) -> Result<(), ProblemKind> {
        match key {
            "GROUP" => self.group = values::name(value)?,
            "SERVER" => self.server = values::server(value)?,
            "REBOOT_STRATEGY" => self.reboot_strategy = value.parse()?,
            "LOCKSMITHD_REBOOT_WINDOW_START" => self.window_start = Some(value.parse()?),
            "LOCKSMITHD_REBOOT_WINDOW_LENGTH" => {
                self.window_length = Some(values::duration(value)?);
            }
            "TRIES" => {
                let tries = values::number(value, 1..=9, "a number from 1 to 9")?;
                self.tries = not_below(tries, floor.tries)?;
            }
            "SIGNATURES" => {
                let signatures = values::number(value, 1..=4, "a number from 1 to 4")?;
                self.signatures = not_below(signatures, floor.signatures)?;
            }
            "HEALTH_TIMEOUT" => self.health_timeout = values::seconds(value)?,
            "HEALTH_DEADLINE" => self.health_deadline = values::seconds(value)?,
            _ => return Err(ProblemKind::UnknownKey),
        }
        Ok(())
    }
}

/// The least that the file being read may ask for.
#[derive(Clone, Copy)]
struct Floor {
    tries: u8,
    signatures: u8,
}

const fn not_below(value: u8, floor: u8) -> Result<u8, ProblemKind> {
    if value < floor {
        return Err(ProblemKind::Lowered(floor));
    }
    Ok(value)
}

/// `value` without the quotes around it, if it has a pair of them.
fn unquoted(value: &str) -> &str {
    for quote in ['"', '\''] {
        let inner = value
            .strip_prefix(quote)
            .and_then(|v| v.strip_suffix(quote));
        if let Some(inner) = inner {
            return inner;
        }
    }
    value
}

impl From<Invalid> for ProblemKind {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid.0)
    }
}

#[cfg(test)]
mod tests;
