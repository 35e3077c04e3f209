//! Reading the two files.

use std::io::{self, ErrorKind, Read};
use std::path::Path;

use crate::files;

use super::{FILE_MAX, Layer, Problem, Settings};

/// The settings of the system whose root is at `root` (`/` for the running one). What is wrong with them is logged
/// and never an error; a file that can't be read counts as a bad value.
#[must_use]
pub fn load(root: &Path) -> Settings {
    let (usr, usr_error) = read(root, Layer::Usr);
    let (etc, etc_error) = read(root, Layer::Etc);
    let mut settings = Settings::parse(&usr, &etc, &mut |problem: Problem<'_>| {
        log::warn!("{problem}");
    });
    for (layer, error) in [(Layer::Usr, usr_error), (Layer::Etc, etc_error)] {
        if let Some(error) = error {
            log::warn!("read /{}: {error}", layer.path());
            settings.bad_values = settings.bad_values.saturating_add(1);
        }
    }
    settings
}

fn read(root: &Path, layer: Layer) -> (Vec<u8>, Option<io::Error>) {
    let mut text = Vec::new();
    let file = match files::open(&root.join(layer.path())) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return (text, None),
        Err(error) => return (text, Some(error)),
    };
    // One byte more than allowed, so that the parser sees that it is too much.
    let limit = FILE_MAX as u64 + 1;
    match file.take(limit).read_to_end(&mut text) {
        Ok(_) => (text, None),
        Err(error) => (Vec::new(), Some(error)),
    }
}
