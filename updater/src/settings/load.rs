//! Reading the two files.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::files;

use super::{FILE_MAX, Layer, Problem, Settings};

/// The settings of the system whose root is at `root` (`/` for the running one). What is wrong with them is logged
/// and never an error; a file that can't be read counts as a bad value.
#[must_use]
pub fn load(root: &Path) -> Settings {
    load_with(root, &mut |problem| log::warn!("{problem}"))
}

/// The same, for whoever asks again and again and logs only what is new.
#[must_use]
pub fn load_with(root: &Path, report: &mut dyn FnMut(&str)) -> Settings {
    let usr = read(root, Layer::Usr, report);
    let etc = read(root, Layer::Etc, report);
    let mut report = |problem: Problem<'_>| report(&problem.to_string());
    Settings::parse_readable(usr.as_deref(), etc.as_deref(), &mut report)
}

/// The text of a file, empty where there is none; `None` for one that can't be read.
fn read(root: &Path, layer: Layer, report: &mut dyn FnMut(&str)) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    // One byte more than allowed, so that the parser sees that it is too much.
    let limit = FILE_MAX as u64 + 1;
    let path = root.join(layer.path());
    let read = files::open(&path).and_then(|file| file.take(limit).read_to_end(&mut text));
    match read {
        Ok(_) => Some(text),
        // A link that leads nowhere is something that can't be read.
        Err(error)
            if error.kind() == ErrorKind::NotFound && fs::symlink_metadata(&path).is_err() =>
        {
            Some(Vec::new())
        }
        Err(error) => {
            report(&format!(
                "read /{}: {error}; as it may set SIGNATURES, every trusted key has to sign",
                layer.path()
            ));
            None
        }
    }
}
