//! Why the running system was started anew, as far as the kernel knows: the watchdog's memory and its own last words.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use super::json::Reset;

const WATCHDOGS: &str = "sys/class/watchdog";
const PSTORE: &str = "sys/fs/pstore";
/// `WDIOF_CARDRESET` of `linux/watchdog.h`: the watchdog caused the last reset.
const CARD_RESET: u32 = 0x20;
/// How the kernel's own logs begin, those of a panic among them.
const LOG: &str = "dmesg-";
/// Most entries of a folder that are looked at.
const MOST: usize = 256;

/// What is found below `root`, `/` for the running system. What can't be read is not there.
pub fn last(root: &Path) -> Reset {
    let watchdogs = root.join(WATCHDOGS);
    Reset {
        watchdog: names(&watchdogs).into_iter().find(|name| {
            let status = number(&watchdogs.join(name).join("bootstatus"));
            status.is_some_and(|status| status & CARD_RESET != 0)
        }),
        kernel_logs: names(&root.join(PSTORE))
            .iter()
            .filter(|name| name.starts_with(LOG))
            .count(),
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().take(MOST);
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

fn number(file: &Path) -> Option<u32> {
    let mut text = String::new();
    File::open(file)
        .ok()?
        .take(32)
        .read_to_string(&mut text)
        .ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_watchdog_that_fired_and_the_logs_of_the_kernel_are_found() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let found = || {
            let reset = last(root.path());
            (reset.watchdog, reset.kernel_logs)
        };
        assert_eq!(found(), (None, 0));
        put("sys/class/watchdog/watchdog0/bootstatus", "0\n");
        put("sys/class/watchdog/watchdog1/bootstatus", "x\n");
        put("sys/fs/pstore/console-ramoops-0", "");
        assert_eq!(found(), (None, 0));
        // Reset by it, and too hot.
        put("sys/class/watchdog/watchdog2/bootstatus", "33\n");
        put("sys/fs/pstore/dmesg-efi-1", "Panic#1");
        assert_eq!(found(), (Some("watchdog2".to_owned()), 1));
    }
}
