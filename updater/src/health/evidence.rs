//! What a boot that did not get as far as health left behind: the loader's word on the kernel command line, init's
//! note, the kernel's last messages, the watchdog's memory.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use bootctl::Slot;

use crate::files;
use crate::journal::{Cause, Reason};

/// One line that init leaves when it can't go on with a slot: `slot=b mount /usr: …`, or `slot=unknown …`.
pub const NOTE: &str = "var/lib/tandem/boot-failure";
const COMMAND_LINE: &str = "proc/cmdline";
const BOOT_ID: &str = "proc/sys/kernel/random/boot_id";
const PSTORE: &str = "sys/fs/pstore";
const WATCHDOGS: &str = "sys/class/watchdog";
/// Most watchdogs that are looked at; a machine has one or two.
const WATCHDOGS_MAX: usize = 16;
/// `WDIOF_CARDRESET` of `linux/watchdog.h`: the watchdog caused the last reset.
const CARD_RESET: u32 = 0x20;
/// How init's note begins when it was the deadline that ended the boot.
const DEADLINE: &str = "not confirmed within ";
/// Most bytes that are read of any of them.
const READ_MAX: u64 = 64 << 10;
/// Most entries of pstore that are looked at.
const PSTORE_MAX: usize = 256;

/// The traces found in one boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// A better slot that the loader could not load in this boot (`tandem.skipped=`).
    pub skipped: Option<Slot>,
    /// What the loader says about its environment (`tandem.env=`): `lost` or `readonly`.
    pub environment: Option<String>,
    /// Init's note.
    pub note: Option<Note>,
    /// The kernel's last words, if it panicked since the release was staged.
    pub panic: Option<String>,
    /// The hardware watchdog that reset the machine before this boot, by its name in `/sys/class/watchdog`.
    pub watchdog: Option<String>,
    /// The kernel's id of this boot; empty where it has none.
    pub boot_id: String,
}

/// A note of init.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The slot that it is about, where it says so.
    pub slot: Option<Slot>,
    pub text: String,
}

impl Note {
    fn parse(text: &str) -> Self {
        let line = text.lines().next().unwrap_or_default().trim();
        let named = line
            .strip_prefix("slot=")
            .and_then(|rest| rest.split_once(' '));
        let (slot, text) = match named {
            Some((slot, rest)) => (slot.parse().ok(), rest),
            None => (None, line),
        };
        Self {
            slot,
            text: text.to_owned(),
        }
    }
}

impl Evidence {
    /// Looks at the system whose root is at `root`; panics before `since` (seconds since 1970) are old stories. Reads
    /// only, and what can't be read is not there.
    #[must_use]
    pub fn gather(root: &Path, since: u64) -> Self {
        let command_line = read(&root.join(COMMAND_LINE)).unwrap_or_default();
        Self {
            skipped: parameter(&command_line, "tandem.skipped").and_then(|s| s.parse().ok()),
            environment: parameter(&command_line, "tandem.env").map(str::to_owned),
            note: read(&root.join(NOTE)).ok().map(|text| Note::parse(&text)),
            panic: panic_since(&root.join(PSTORE), since),
            watchdog: resetting_watchdog(&root.join(WATCHDOGS)),
            boot_id: read(&root.join(BOOT_ID))
                .unwrap_or_default()
                .trim()
                .to_owned(),
        }
    }

    /// Why `slot` was given up, as far as these traces tell.
    #[must_use]
    pub fn explain(&self, slot: Slot) -> Reason {
        if self.skipped == Some(slot) {
            let text = "the loader could not load its kernel or initrd";
            return Reason::new(Cause::Load, text);
        }
        if let Some(note) = &self.note
            && note.slot.is_none_or(|s| s == slot)
        {
            let cause = match note.text.starts_with(DEADLINE) {
                true => Cause::Watchdog,
                false => Cause::Init,
            };
            return Reason::new(cause, &note.text);
        }
        if let Some(text) = &self.panic {
            return Reason::new(Cause::Panic, text);
        }
        if let Some(name) = &self.watchdog {
            let text = format!("{name} reset the machine, which had stopped answering");
            return Reason::new(Cause::Watchdog, &text);
        }
        Reason::new(
            Cause::Unexplained,
            "all boot tries were spent and none of them left a trace",
        )
    }
}

/// Removes init's note once it has been recorded.
///
/// # Errors
/// It is there but can't be removed.
pub fn remove_note(root: &Path) -> io::Result<()> {
    match fs::remove_file(root.join(NOTE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The value of a kernel parameter; the last one counts.
fn parameter<'a>(command_line: &'a str, name: &str) -> Option<&'a str> {
    command_line
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .next_back()
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = Vec::new();
    files::open(path)?.take(READ_MAX).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The first watchdog, by name, whose driver says that it caused the last reset.
fn resetting_watchdog(watchdogs: &Path) -> Option<String> {
    let mut names: Vec<String> = fs::read_dir(watchdogs)
        .ok()?
        .take(WATCHDOGS_MAX)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names.into_iter().find(|name| {
        let status = read(&watchdogs.join(name).join("bootstatus")).unwrap_or_default();
        let status: u32 = status.trim().parse().unwrap_or(0);
        status & CARD_RESET != 0
    })
}

/// What the newest kernel log of a panic in pstore says.
fn panic_since(pstore: &Path, since: u64) -> Option<String> {
    let mut logs: Vec<(u64, PathBuf)> = fs::read_dir(pstore)
        .ok()?
        .take(PSTORE_MAX)
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let is_log = entry.file_name().to_string_lossy().starts_with("dmesg-");
            let modified = entry.metadata().ok()?.modified().ok()?;
            let time = modified.duration_since(UNIX_EPOCH).ok()?.as_secs();
            (is_log && time >= since).then(|| (time, entry.path()))
        })
        .collect();
    logs.sort();
    let panics: Vec<(PathBuf, Option<String>)> = logs
        .into_iter()
        .rev()
        .filter_map(|(_, path)| panic_line(&path).map(|line| (path, line)))
        .collect();
    // Firmware with little room gets a log in several parts, and only one of them has the line.
    let line = panics.iter().find_map(|(_, line)| line.clone());
    line.or_else(|| {
        let name = panics.first()?.0.file_name()?.to_string_lossy();
        Some(format!("the kernel left {name} in pstore"))
    })
}

/// The line of a kernel log that names the panic, if this part has it; `None` for a log of an oops that was survived.
fn panic_line(path: &Path) -> Option<Option<String>> {
    const MARK: &str = "Kernel panic";
    let text = read(path).ok()?;
    let line = text
        .lines()
        .find_map(|line| Some(line.split_at(line.find(MARK)?).1.to_owned()));
    (!text.starts_with("Oops#")).then_some(line)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn nothing_left_is_unexplained() {
        let root = TempDir::new().unwrap();
        let evidence = Evidence::gather(root.path(), 0);
        assert_eq!(evidence, Evidence::default());
        assert_eq!(evidence.explain(Slot::B).cause, Cause::Unexplained);
    }

    #[test]
    fn the_loaders_word_comes_first_and_only_for_its_slot() {
        let root = TempDir::new().unwrap();
        let root = root.path();
        put(
            root,
            COMMAND_LINE,
            "tandem.slot=a xtandem.skipped=a tandem.skipped=b tandem.env=readonly quiet\n",
        );
        put(root, NOTE, "slot=a mount /usr: no such device\nmore\n");
        put(root, BOOT_ID, "1234\n");
        let evidence = Evidence::gather(root, 0);
        assert_eq!(evidence.environment.as_deref(), Some("readonly"));
        assert_eq!(evidence.boot_id, "1234");
        assert_eq!(evidence.explain(Slot::B).cause, Cause::Load);
        let reason = evidence.explain(Slot::A);
        assert_eq!(reason.to_string(), "init: mount /usr: no such device");
        remove_note(root).unwrap();
        remove_note(root).unwrap();
        assert_eq!(Evidence::gather(root, 0).note, None);
    }

    #[test]
    fn the_deadline_of_init_is_a_watchdog() {
        let root = TempDir::new().unwrap();
        let text = "slot=b not confirmed within 300 s: slot b is not confirmed\n";
        put(root.path(), NOTE, text);
        let reason = Evidence::gather(root.path(), 0).explain(Slot::B);
        assert_eq!(
            reason.to_string(),
            "watchdog: not confirmed within 300 s: slot b is not confirmed"
        );
    }

    #[test]
    fn a_watchdog_counts_only_if_it_caused_the_reset_and_nobody_knows_better() {
        let root = TempDir::new().unwrap();
        let root = root.path();
        let cause = || Evidence::gather(root, 0).explain(Slot::B).cause;
        put(root, "sys/class/watchdog/watchdog0/bootstatus", "0\n");
        put(root, "sys/class/watchdog/watchdog1/identity", "softdog\n");
        put(root, "sys/class/watchdog/watchdog2/bootstatus", "x\n");
        assert_eq!(cause(), Cause::Unexplained);
        // Overheated; and reset by it as well.
        put(root, "sys/class/watchdog/watchdog3/bootstatus", "1\n");
        assert_eq!(cause(), Cause::Unexplained);
        put(root, "sys/class/watchdog/watchdog3/bootstatus", "33\n");
        let reason = Evidence::gather(root, 0).explain(Slot::B);
        assert_eq!(
            reason.to_string(),
            "watchdog: watchdog3 reset the machine, which had stopped answering"
        );
        put(
            root,
            "sys/fs/pstore/dmesg-erst-2",
            "Panic#1\nKernel panic - x\n",
        );
        assert_eq!(cause(), Cause::Panic);
    }

    #[test]
    fn a_note_without_a_slot_is_about_the_one_that_failed() {
        for line in [
            "mount /usr: wrong type\n",
            "slot=unknown mount /usr: wrong type\n",
        ] {
            let note = Note::parse(line);
            assert_eq!(
                (note.slot, note.text.as_str()),
                (None, "mount /usr: wrong type")
            );
        }
    }

    #[test]
    fn a_panic_is_quoted_unless_it_is_old_or_only_an_oops() {
        let root = TempDir::new().unwrap();
        let root = root.path();
        put(root, "sys/fs/pstore/console-ramoops-0", "Kernel panic");
        put(root, "sys/fs/pstore/dmesg-erst-1", "Oops#1 Part1\n");
        assert_eq!(Evidence::gather(root, 0).panic, None);
        put(
            root,
            "sys/fs/pstore/dmesg-erst-2",
            "Panic#2 Part1\n<0>[    1.2] Kernel panic - not syncing: no init\n<0> end\n",
        );
        let reason = Evidence::gather(root, 0).explain(Slot::B);
        assert_eq!(
            reason.to_string(),
            "panic: Kernel panic - not syncing: no init"
        );
        // UEFI firmware gets the log in parts.
        put(
            root,
            "sys/fs/pstore/dmesg-erst-3",
            "Panic#2 Part2\n<4>[    1.1] Call Trace:\n",
        );
        let again = Evidence::gather(root, 0).explain(Slot::B);
        assert_eq!(again, reason);
        assert_eq!(Evidence::gather(root, u64::MAX).panic, None);
    }
}
