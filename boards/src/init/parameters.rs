//! What the loader and the slot say on the kernel command line.

use std::path::PathBuf;
use std::time::Duration;

use bootctl::Slot;
use bootctl::gpt::Guid;

/// How long a slot on trial has to be confirmed when `tandem.deadline=` doesn't say otherwise.
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(300);
/// No deadline is longer, so that a slip of the keyboard doesn't switch it off.
const LONGEST_DEADLINE: u64 = 24 * 60 * 60;

/// The command line, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameters {
    pub slot: Slot,
    /// `mount.usr=PARTUUID=`
    pub usr: Guid,
    /// `root=PARTUUID=`
    pub root: Guid,
    /// `init=`
    pub init: Option<PathBuf>,
    /// `tandem.env=lost`
    pub environment_lost: bool,
}

/// The command line can't have come from one of our loaders.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{name}{value} is not understood")]
    Malformed { name: &'static str, value: String },
}

impl Parameters {
    /// Reads the loader's words. The loader puts them first, so the first of each counts: what a release or OEM appends
    /// can't change the slot. Of `init=` the last one counts, as for the kernel.
    ///
    /// # Errors
    /// A word of the loader's is missing or malformed.
    pub fn parse(cmdline: &str) -> Result<Self, ParameterError> {
        let slot = required(cmdline, "tandem.slot=", |v| v.parse().ok())?;
        let partuuid = |v: &str| v.strip_prefix("PARTUUID=")?.parse().ok();
        Ok(Self {
            slot,
            usr: required(cmdline, "mount.usr=", partuuid)?,
            root: required(cmdline, "root=", partuuid)?,
            init: values(cmdline, "init=").last().map(PathBuf::from),
            environment_lost: values(cmdline, "tandem.env=").next().as_deref() == Some("lost"),
        })
    }
}

/// `tandem.deadline=SECONDS`; the last one counts, and one that is no number of seconds within a day doesn't.
pub fn deadline(cmdline: &str) -> Duration {
    values(cmdline, "tandem.deadline=")
        .filter_map(|v| v.parse().ok())
        .filter(|seconds| (1..=LONGEST_DEADLINE).contains(seconds))
        .last()
        .map_or(DEFAULT_DEADLINE, Duration::from_secs)
}

fn required<T>(
    cmdline: &str,
    name: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, ParameterError> {
    let value = values(cmdline, name)
        .next()
        .ok_or(ParameterError::Missing(name))?;
    parse(&value).ok_or(ParameterError::Malformed { name, value })
}

fn values<'a>(cmdline: &'a str, name: &'a str) -> impl Iterator<Item = String> + 'a {
    words(cmdline).filter_map(move |word| word.strip_prefix(name).map(str::to_owned))
}

/// Words as the kernel splits them: at white space that is not within double quotes, which it drops.
fn words(cmdline: &str) -> impl Iterator<Item = String> + '_ {
    let mut quoted = false;
    cmdline
        .split(move |c: char| {
            quoted ^= c == '"';
            c.is_whitespace() && !quoted
        })
        .filter(|word| !word.is_empty())
        .map(|word| word.replace('"', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USR: &str = "c45b916d-a08c-5848-acf6-8d349ba47649";
    const ROOT: &str = "7037d783-1b2b-5faf-a647-3fe194be8ea7";

    fn line(rest: &str) -> String {
        format!(
            "BOOT_IMAGE=(hd0,gpt4)/lib/tandem/boot/vmlinuz tandem.slot=b tandem.loader=1 mount.usr=PARTUUID={USR} root=PARTUUID={ROOT} gpt panic=10 {rest}\n"
        )
    }

    #[test]
    fn a_loader_s_line_is_read() {
        let parameters = Parameters::parse(&line("console=ttyS0")).unwrap();
        assert_eq!(
            parameters,
            Parameters {
                slot: Slot::B,
                usr: USR.parse().unwrap(),
                root: ROOT.parse().unwrap(),
                init: None,
                environment_lost: false,
            }
        );
    }

    #[test]
    fn appended_words_change_init_but_not_the_slot() {
        let appended = format!(
            "tandem.slot=a mount.usr=PARTUUID={ROOT} root=/dev/sda1 init=/a init=/b rdinit=/c tandem.env=lost"
        );
        let parameters = Parameters::parse(&line(&appended)).unwrap();
        assert_eq!(parameters.slot, Slot::B);
        assert_eq!(parameters.usr, USR.parse().unwrap());
        assert_eq!(parameters.init, Some("/b".into()));
        assert!(parameters.environment_lost);
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        assert_eq!(
            Parameters::parse("quiet"),
            Err(ParameterError::Missing("tandem.slot="))
        );
        let error = Parameters::parse("tandem.slot=c").unwrap_err();
        assert_eq!(error.to_string(), "tandem.slot=c is not understood");
        assert_eq!(
            Parameters::parse("tandem.slot=a mount.usr=/dev/sda3"),
            Err(ParameterError::Malformed {
                name: "mount.usr=",
                value: "/dev/sda3".into()
            })
        );
    }

    #[test]
    fn quotes_keep_a_word_together() {
        let quoted: Vec<_> = words("a \"b c=d\" e=\"f g\"  h\n").collect();
        assert_eq!(quoted, ["a", "b c=d", "e=f g", "h"]);
    }

    #[test]
    fn a_deadline_is_within_a_day() {
        for (text, seconds) in [
            ("", 300),
            ("tandem.deadline=60", 60),
            ("tandem.deadline=60 tandem.deadline=90", 90),
            ("tandem.deadline=60 tandem.deadline=0", 60),
            ("tandem.deadline=86400", 86400),
            ("tandem.deadline=86401", 300),
            ("tandem.deadline=-1", 300),
            ("tandem.deadline=99999999999999999999", 300),
        ] {
            assert_eq!(deadline(text), Duration::from_secs(seconds), "{text}");
        }
    }
}
