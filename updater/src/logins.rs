//! Who is logged in, as far as a reboot has to care, and telling them.
//!
//! `utmp` is gone from some distributions and was never there on small systems; asking logind needs a bus. So the kernel
//! is asked: somebody is logged in where a terminal has a process other than those that wait for a login. Sessions
//! without a terminal (a desktop, a copy over SSH) are known only to systemd, whose folder is looked at too where there is
//! one. Whatever can't be read counts as somebody: the price of that mistake is ten minutes, that of the other one is
//! somebody's work.

mod process;
mod terminal;

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use crate::files;
use crate::reboot_policy::People;

pub use terminal::{Terminal, TerminalError};

/// Where systemd keeps its sessions, without the leading slash.
const SESSIONS: &str = "run/systemd/sessions";
/// Most processes and sessions that are looked at; more of them are somebody.
const ENTRIES_MAX: usize = 1 << 16;
/// Most terminals that are told something.
const TERMINALS_MAX: usize = 256;
/// Most bytes that are read of a file.
const READ_MAX: u64 = 16 << 10;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logins {
    /// Terminals that somebody uses, in order.
    pub terminals: Vec<Terminal>,
    /// Sessions of systemd that belong to a person.
    pub sessions: usize,
    /// Why more may be there than was found.
    pub unknown: Option<String>,
}

impl Logins {
    /// Looks at the system whose root is at `root`. Reads only.
    #[must_use]
    pub fn look(root: &Path) -> Self {
        let mut logins = Self::default();
        let result = logins
            .find_terminals(&root.join("proc"))
            .and_then(|()| logins.count_sessions(&root.join(SESSIONS)));
        if let Err(cause) = result {
            log::warn!("{cause}; somebody may be logged in");
            logins.unknown = Some(cause);
        }
        logins
    }

    /// What a reboot has to know.
    #[must_use]
    pub const fn people(&self) -> People {
        match self.terminals.is_empty() && self.sessions == 0 && self.unknown.is_none() {
            true => People::Nobody,
            false => People::Somebody,
        }
    }

    /// Writes one line to each terminal of the running system; none of them can make it wait. How many took it.
    pub fn tell(&self, line: &str) -> usize {
        let told = |terminal: &&Terminal| match terminal.write(Path::new("/"), line) {
            Ok(()) => true,
            Err(error) => {
                log::info!("{error}");
                false
            }
        };
        self.terminals.iter().filter(told).count()
    }

    fn find_terminals(&mut self, proc: &Path) -> Result<(), String> {
        let failed = |error: io::Error| format!("read {}: {error}", proc.display());
        // Where /proc shows only one's own processes, not even this one is there.
        read(&proc.join("1/stat")).map_err(failed)?;
        for (count, entry) in fs::read_dir(proc).map_err(failed)?.enumerate() {
            if count >= ENTRIES_MAX || self.terminals.len() >= TERMINALS_MAX {
                return Err(format!(
                    "read {}: it has too many processes",
                    proc.display()
                ));
            }
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            if !name.as_encoded_bytes().iter().all(u8::is_ascii_digit) {
                continue;
            }
            let Some(stat) = gone(read(&entry.path().join("stat"))).map_err(failed)? else {
                continue;
            };
            let terminal = process::terminal_in_use(&stat);
            if let Some(terminal) = terminal.map(Terminal::new)
                && let Err(place) = self.terminals.binary_search(&terminal)
            {
                self.terminals.insert(place, terminal);
            }
        }
        Ok(())
    }

    fn count_sessions(&mut self, sessions: &Path) -> Result<(), String> {
        let failed = |error: io::Error| format!("read {}: {error}", sessions.display());
        let Some(entries) = gone(fs::read_dir(sessions)).map_err(failed)? else {
            return Ok(());
        };
        for (count, entry) in entries.enumerate() {
            if count >= ENTRIES_MAX {
                return Err(format!("read {}: it has too many", sessions.display()));
            }
            let entry = entry.map_err(failed)?;
            // Beside each session lies a pipe by which it is kept.
            if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
                continue;
            }
            if let Some(text) = gone(read(&entry.path())).map_err(failed)?
                && is_a_persons(&text)
            {
                self.sessions = self.sessions.saturating_add(1);
            }
        }
        Ok(())
    }
}

/// A session of somebody who is there, not of a greeter or of a service, and not about to end.
fn is_a_persons(session: &str) -> bool {
    let value = |key: &str| {
        let line = session.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.strip_prefix('='))
    };
    value("CLASS").is_none_or(|class| {
        matches!(
            class,
            "user" | "user-early" | "user-light" | "user-early-light"
        )
    }) && value("STATE").is_none_or(|state| state != "closing")
}

/// A process or session may end while it is looked at.
fn gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        // What the kernel says of a process that ends between opening its file and reading it.
        Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = Vec::new();
    files::open(path)?.take(READ_MAX).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests;
