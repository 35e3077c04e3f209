//! Kernel modules, in the order of a list that the initramfs carries.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use super::say;

/// One absolute path a line, each after what it depends on, watchdog drivers first.
const LIST: &str = "/lib/tandem/modules";
const NO_PARAMETERS: &CStr = c"";

/// Loads what the list names. What can't be loaded is reported and may turn out not to be needed.
pub fn load_all() {
    let list = match fs::read_to_string(LIST) {
        Ok(list) => list,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return say(&format!("read {LIST}: {error}")),
    };
    for path in paths(&list) {
        if let Err(error) = load(path) {
            say(&format!("{error:#}"));
        }
    }
}

fn load(path: &str) -> Result<()> {
    let context = || format!("load {path}");
    let file = File::open(path).with_context(context)?;
    match finit_module(&file, NO_PARAMETERS, ModuleInitFlags::empty()) {
        // Built in, or listed twice.
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        // A driver whose hardware is not there.
        Err(Errno::ENODEV) => Ok(()),
        Err(error) => Err(error).with_context(context),
    }
}

/// Blank lines and lines that start with `#` do not count.
fn paths(list: &str) -> impl Iterator<Item = &str> {
    list.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_keeps_its_order() {
        let list = "# watchdog\n/lib/modules/i6300esb.ko\n\n  /lib/modules/ext4.ko \n";
        assert_eq!(
            paths(list).collect::<Vec<_>>(),
            ["/lib/modules/i6300esb.ko", "/lib/modules/ext4.ko"]
        );
    }

    #[test]
    fn a_missing_module_is_an_error_that_names_it() {
        let error = load("/nonexistent/x.ko").unwrap_err();
        assert!(format!("{error:#}").starts_with("load /nonexistent/x.ko: "));
    }
}
