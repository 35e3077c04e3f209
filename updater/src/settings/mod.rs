//! Settings of a device: `update.conf`, `/etc` over `/usr`, key by key.
//!
//! Both files have lines `KEY=VALUE`; blank lines and lines that begin with `#` are skipped, a value may stand in
//! single or double quotes, and of several lines with one key the last one counts. A value that can't be used is
//! reported and leaves the one below it in force: the release's, then the default. Then the device no longer polls
//! or reboots by itself ([`Settings::may_act_alone`]), but whatever it is told to do still works.
//!
//! Only `SIGNATURES` is read the other way round, because what nobody can read must not weaken trust: then every key
//! that the device trusts, up to four, has to sign ([`Settings::required_signatures`]).

#[cfg(feature = "std")]
mod load;
mod values;

use core::fmt;
use core::num::NonZeroU8;

use heapless::String;

#[cfg(feature = "std")]
pub use load::{load, load_with};
pub use values::{RebootStrategy, Weekday, WindowStart};

use values::Invalid;

/// Largest `update.conf` that is read, in bytes.
pub const FILE_MAX: usize = 16 << 10;
/// Longest `SERVER`, in bytes.
pub const SERVER_MAX: usize = 512;
/// `SERVER` with this value turns polling off.
pub const SERVER_DISABLED: &str = "disabled";
/// Longest path, in bytes.
pub const PATH_MAX: usize = 255;
/// Most signatures that a payload can carry.
const SIGNATURES_MAX: u8 = 4;

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
    #[error(
        "the file has more than {FILE_MAX} bytes and is ignored; as it may set SIGNATURES, every trusted key has to sign"
    )]
    TooLarge,
    #[error("the line is not UTF-8")]
    NotText,
    #[error("the line is not KEY=VALUE")]
    NoKey,
    #[error("the key is unknown and ignored")]
    UnknownKey,
    #[error("the value must be {0}")]
    Invalid(&'static str),
    #[error(
        "the value must be a number from 1 to 4; as long as it is not, every trusted key has to sign"
    )]
    Signatures,
    #[error("the value may only raise the release's {0}")]
    Lowered(u8),
    #[error("the key needs {0} beside it")]
    Alone(&'static str),
}

impl ProblemKind {
    /// Unknown keys may belong to another version, and what a release asks for more of is in force: such a release must not
    /// end what the device does by itself. Everything else does.
    const fn is_harmless(self) -> bool {
        matches!(self, Self::UnknownKey | Self::Lowered(_))
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
    /// Signatures by distinct keys that a payload needs, as far as the files say it (`SIGNATURES`).
    signatures: Signatures,
    /// The same of the release alone.
    release_signatures: Signatures,
    /// Time between two looks for an update, in seconds, on average (`POLL_INTERVAL`).
    pub poll_interval: u32,
    /// Most bytes per second of a download (`RATE_LIMIT`).
    pub rate_limit: Option<u64>,
    /// Certificates of the authorities that the server's must come from, PEM (`CA_FILE`).
    pub ca_file: Option<String<PATH_MAX>>,
    /// Certificate that the device shows to the server, PEM (`CLIENT_CERT_FILE`); never without its key.
    pub client_cert_file: Option<String<PATH_MAX>>,
    /// The private key of that certificate, PEM (`CLIENT_KEY_FILE`).
    pub client_key_file: Option<String<PATH_MAX>>,
    /// Folder in which payloads on a USB stick show up (`PAYLOAD_DIR`).
    pub payload_dir: Option<String<PATH_MAX>>,
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
            signatures: Signatures::DEFAULT,
            release_signatures: Signatures::DEFAULT,
            poll_interval: 45 * 60,
            rate_limit: None,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            payload_dir: None,
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
        Self::parse_readable(Some(usr), Some(etc), report)
    }

    /// What holds where the files are out of reach.
    #[must_use]
    pub fn unreadable() -> Self {
        Self::parse_readable(None, None, &mut |_| ())
    }

    /// As [`parse`](Self::parse), `None` standing for a file that is there and can't be read.
    fn parse_readable(
        usr: Option<&[u8]>,
        etc: Option<&[u8]>,
        report: &mut dyn FnMut(Problem<'_>),
    ) -> Self {
        let mut settings = Self::default();
        settings.apply_layer(Layer::Usr, usr, report);
        settings.release_signatures = settings.signatures;
        settings.apply_layer(Layer::Etc, etc, report);
        settings.check_pairs(report);
        settings
    }

    /// Signatures by distinct keys that a payload needs on a device that trusts this many keys.
    #[must_use]
    pub fn required_signatures(&self, keys: usize) -> NonZeroU8 {
        self.signatures.of(keys)
    }

    /// Signatures that a release on trial has to show for the manifest that staged it, by the `keys` that it trusts
    /// itself. What can't be read in `/etc` is no fault of the release.
    #[must_use]
    pub fn trial_signatures(&self, keys: usize) -> NonZeroU8 {
        let own = self.release_signatures.of(keys);
        match self.signatures.unreadable {
            true => own,
            false => own.max(self.signatures.of(keys)),
        }
    }

    /// There is somewhere to look for updates.
    #[must_use]
    pub fn has_source(&self) -> bool {
        self.polled_server().is_some() || self.payload_dir.is_some()
    }

    /// The server that is asked for updates; `None` when polling is turned off.
    #[must_use]
    pub fn polled_server(&self) -> Option<&str> {
        let server = self.server.as_str();
        (!server.is_empty() && server != SERVER_DISABLED).then_some(server)
    }

    /// Nothing in the files was wrong, so that the device may poll and reboot by itself.
    #[must_use]
    pub const fn may_act_alone(&self) -> bool {
        self.bad_values == 0
    }

    fn apply_layer(
        &mut self,
        layer: Layer,
        text: Option<&[u8]>,
        report: &mut dyn FnMut(Problem<'_>),
    ) {
        match text {
            Some(text) => self.apply_file(layer, text, report),
            // Whoever read it says what is wrong with it.
            None => {
                self.bad_values = self.bad_values.saturating_add(1);
                self.signatures.unreadable = true;
            }
        }
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
            self.signatures.unreadable = true;
            problem(self, 0, "", ProblemKind::TooLarge);
            return;
        }
        let below = Below {
            tries: match layer {
                Layer::Usr => 1,
                Layer::Etc => self.tries,
            },
            signatures: self.signatures,
        };
        let mut number = 0_u32;
        // What some editors put before the first line.
        let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
        for line in text.split(|b| *b == b'\n') {
            number = number.saturating_add(1);
            let Ok(line) = core::str::from_utf8(line) else {
                self.signatures.unreadable |= names_signatures(line);
                problem(self, number, "", ProblemKind::NotText);
                continue;
            };
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((key, value)) = line.split_once('=') else {
                self.signatures.unreadable |= names_signatures(line.as_bytes());
                problem(self, number, "", ProblemKind::NoKey);
                continue;
            };
            let key = key.trim_end();
            if key != SIGNATURES && looks_like_signatures(key) {
                self.signatures.unreadable = true;
                problem(self, number, "", ProblemKind::NoKey);
                continue;
            }
            if let Err(kind) = self.set(key, unquoted(value.trim_start()), below) {
                problem(self, number, key, kind);
            }
        }
    }

    fn set(&mut self, key: &str, value: &str, below: Below) -> Result<(), ProblemKind> {
        match key {
            "GROUP" => self.group = values::name(value)?,
            "SERVER" => self.server = values::server(value)?,
            "REBOOT_STRATEGY" => self.reboot_strategy = value.parse()?,
            "LOCKSMITHD_REBOOT_WINDOW_START" => self.window_start = Some(value.parse()?),
            "LOCKSMITHD_REBOOT_WINDOW_LENGTH" => self.window_length = Some(values::length(value)?),
            "TRIES" => {
                let tries = values::number(value, 1..=9, "a number from 1 to 9")?;
                if tries < below.tries {
                    return Err(ProblemKind::Lowered(below.tries));
                }
                self.tries = tries;
            }
            SIGNATURES => match below.signatures.raised_to(value) {
                Ok(signatures) => self.signatures = signatures,
                Err(kind) => {
                    self.signatures.unreadable |= kind == ProblemKind::Signatures;
                    return Err(kind);
                }
            },
            "POLL_INTERVAL" => self.poll_interval = values::interval(value)?,
            "RATE_LIMIT" => self.rate_limit = values::rate(value)?,
            "CA_FILE" => self.ca_file = Some(values::path(value)?),
            "CLIENT_CERT_FILE" => self.client_cert_file = Some(values::path(value)?),
            "CLIENT_KEY_FILE" => self.client_key_file = Some(values::path(value)?),
            "PAYLOAD_DIR" => self.payload_dir = Some(values::path(value)?),
            "HEALTH_TIMEOUT" => self.health_timeout = values::seconds(value)?,
            "HEALTH_DEADLINE" => self.health_deadline = values::seconds(value)?,
            _ => return Err(ProblemKind::UnknownKey),
        }
        Ok(())
    }

    /// Half a window would be none, and half an identity nobody's.
    fn check_pairs(&mut self, report: &mut dyn FnMut(Problem<'_>)) {
        const START: &str = "LOCKSMITHD_REBOOT_WINDOW_START";
        const LENGTH: &str = "LOCKSMITHD_REBOOT_WINDOW_LENGTH";
        const CERT: &str = "CLIENT_CERT_FILE";
        const KEY: &str = "CLIENT_KEY_FILE";
        let pairs = [
            (
                START,
                self.window_start.is_some(),
                LENGTH,
                self.window_length.is_some(),
            ),
            (
                CERT,
                self.client_cert_file.is_some(),
                KEY,
                self.client_key_file.is_some(),
            ),
        ];
        for (first, has_first, second, has_second) in pairs {
            let (key, missing) = match (has_first, has_second) {
                (true, false) => (first, second),
                (false, true) => (second, first),
                _ => continue,
            };
            self.bad_values = self.bad_values.saturating_add(1);
            report(Problem {
                layer: Layer::Etc,
                line: 0,
                key,
                kind: ProblemKind::Alone(missing),
            });
        }
    }
}

/// How many signatures are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Signatures {
    /// What could be read.
    count: NonZeroU8,
    /// Something else stands there, which nobody can read: it may ask for more.
    unreadable: bool,
}

impl Signatures {
    const DEFAULT: Self = Self {
        count: NonZeroU8::MIN,
        unreadable: false,
    };

    /// What this asks for where so many keys are trusted. More signatures than keys can't be had, so that all of the
    /// keys is the most that something unreadable can have meant.
    fn of(self, keys: usize) -> NonZeroU8 {
        let all = u8::try_from(keys).unwrap_or(u8::MAX).min(SIGNATURES_MAX);
        match NonZeroU8::new(all) {
            Some(all) if self.unreadable => self.count.max(all),
            _ => self.count,
        }
    }

    /// With the value of a layer above this one.
    fn raised_to(self, value: &str) -> Result<Self, ProblemKind> {
        let count = values::number(value, 1..=SIGNATURES_MAX, "")
            .ok()
            .and_then(NonZeroU8::new);
        match count {
            None => Err(ProblemKind::Signatures),
            Some(count) if count < self.count => Err(ProblemKind::Lowered(self.count.get())),
            Some(count) => Ok(Self { count, ..self }),
        }
    }
}

const SIGNATURES: &str = "SIGNATURES";

/// A line that can't be read is about `SIGNATURES`.
fn names_signatures(line: &[u8]) -> bool {
    line.trim_ascii_start().starts_with(SIGNATURES.as_bytes())
}

/// Somebody may have meant that, with something beside it, something in it that can't be seen, or a letter that looks like
/// one of its own.
fn looks_like_signatures(key: &str) -> bool {
    let mut wanted = SIGNATURES.chars();
    let mut seen = key.chars().filter(char::is_ascii_graphic);
    // What can be seen holds all of it somewhere.
    let holds = (0..key.len()).any(|_| {
        let rest = seen.clone();
        seen.next().is_some() && SIGNATURES.chars().eq(rest.take(SIGNATURES.len()))
    });
    let alike = key
        .chars()
        .all(|c| wanted.next().is_some_and(|own| c == own || !c.is_ascii()));
    holds || (alike && wanted.next().is_none())
}

/// What the layers below the file that is being read say. It may ask for more, and an earlier line of it does not count.
#[derive(Clone, Copy)]
struct Below {
    tries: u8,
    signatures: Signatures,
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
