//! The release that was waiting already when the machine started.
//!
//! The loader should have started it, and has not: its medium can't be written, say. To reboot for it once more would lead
//! here again, and so on without end. Which one it was is kept until the next start of the machine, so that a service
//! that is started again takes nothing for it that was staged since.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::files;
use crate::journal::{Journal, Staged, boot_id};

const NAME: &str = "inherited";
/// Longest file, in bytes: two short words.
const LENGTH_MAX: u64 = 256;

/// The version of that release, if there is one; `waiting` is the one that waits now. `run` is the folder of the service.
/// The journal may know that it was staged after the machine had started, by somebody who was there before the service.
pub(super) fn inherited(
    run: &Path,
    waiting: Option<&str>,
    journal: Option<&Journal>,
) -> Option<String> {
    let boot = boot_id();
    let staged = journal.and_then(Journal::staged_release);
    let since = |staged: &Staged| !boot.is_empty() && staged.staged_in == boot;
    let new = staged.filter(|staged| since(staged));
    let waiting = waiting.filter(|waiting| new.is_none_or(|new| new.release.version != *waiting));
    of_boot(run, &boot, waiting)
}

fn of_boot(run: &Path, boot: &str, waiting: Option<&str>) -> Option<String> {
    let path = run.join(NAME);
    let mut text = String::new();
    let read = files::open(&path).and_then(|file| file.take(LENGTH_MAX).read_to_string(&mut text));
    if let Err(error) = read
        && error.kind() != ErrorKind::NotFound
    {
        log::info!("read {}: {error}", path.display());
    }
    if let Some((known, version)) = text.split_once(' ')
        && known == boot
        && !boot.is_empty()
    {
        return Some(version.to_owned()).filter(|version| !version.is_empty());
    }
    // Whoever starts next in this boot would take what is staged from now on for inherited, and not reboot for it.
    if let Err(error) = fs::write(&path, format!("{boot} {}", waiting.unwrap_or_default())) {
        log::info!("write {}: {error}", path.display());
    }
    waiting.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use bootctl::Slot;

    use super::*;
    use crate::journal::Release;

    #[test]
    fn what_waited_at_the_start_of_the_machine_is_known_until_the_next_one() {
        let run = tempfile::tempdir().unwrap();
        let ask = |boot: &str, waiting| of_boot(run.path(), boot, waiting);
        let two = Some("2.0.0".to_owned());
        assert_eq!(ask("one", None), None);
        // Staged since.
        assert_eq!(ask("one", Some("2.0.0")), None);
        assert_eq!(ask("two", Some("2.0.0")), two);
        assert_eq!(ask("two", None), two);
        assert_eq!(ask("two", Some("3.0.0")), two);
        assert_eq!(ask("three", None), None);
        // Without an id each start counts.
        assert_eq!(ask("", Some("2.0.0")), two);
        assert_eq!(ask("", None), None);
        assert_eq!(boot_id().len(), 36);
    }

    #[test]
    fn what_was_staged_before_the_service_came_up_is_not_inherited() {
        let run = tempfile::tempdir().unwrap();
        let mut journal = Journal::load(run.path());
        let release = Release {
            id: [2; 32],
            version: "2.0.0".into(),
            rollback_index: 2,
        };
        journal.staged(&release, Slot::B).unwrap();
        let journal = Journal::load(run.path());
        assert_eq!(inherited(run.path(), Some("2.0.0"), Some(&journal)), None);
        fs::remove_file(run.path().join(NAME)).unwrap();
        let two = Some("2.0.0".to_owned());
        assert_eq!(inherited(run.path(), Some("2.0.0"), None), two);
    }
}
