//! Output files that appear whole or not at all.

use std::ffi::OsString;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use tempfile::NamedTempFile;

use crate::failure::{Failure, refuse};

/// A file that gets its name when [`commit`](Self::commit) succeeds, and else goes away: also when this program is
/// killed, where the file system knows files without a name.
#[derive(Debug)]
#[must_use = "without commit the file goes away"]
pub struct Output {
    content: Content,
    target: PathBuf,
    overwrite: bool,
}

#[derive(Debug)]
enum Content {
    Unnamed(File),
    /// Under a temporary name beside its target.
    Named(NamedTempFile),
}

impl Output {
    /// Creates the file, replacing `target` on commit.
    ///
    /// # Errors
    /// The folder of `target` does not exist or can't be written; something else than a plain file has its name.
    pub fn create(target: &Path) -> Result<Self> {
        Self::with_mode(target, 0o644, true)
    }

    /// Like [`create`](Self::create), with permission bits of its own and a target that must not exist on commit.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_new(target: &Path, mode: u32) -> Result<Self> {
        Self::with_mode(target, mode, false)
    }

    fn with_mode(target: &Path, mode: u32, overwrite: bool) -> Result<Self> {
        let failed = || format!("create {}", target.display());
        target
            .file_name()
            .with_context(|| format!("{}: not a file name", failed()))?;
        // Its name is given to another file: a disk's node under /dev would be gone, and the disk not written.
        if let Ok(meta) = target.symlink_metadata()
            && !meta.is_file()
            && !meta.is_symlink()
        {
            refuse!("{}: not a plain file", failed());
        }
        let content = match unnamed(folder_of(target)) {
            Some(file) => Content::Unnamed(file),
            None => Content::Named(
                tempfile::Builder::new()
                    .prefix(&hidden(target))
                    .permissions(Permissions::from_mode(0o600))
                    .tempfile_in(folder_of(target))
                    .with_context(failed)?,
            ),
        };
        let output = Self {
            content,
            target: target.to_owned(),
            overwrite,
        };
        output
            .file()
            .set_permissions(Permissions::from_mode(mode))
            .with_context(failed)?;
        Ok(output)
    }

    /// The open file.
    #[must_use]
    pub fn file(&self) -> &File {
        match &self.content {
            Content::Unnamed(file) => file,
            Content::Named(file) => file.as_file(),
        }
    }

    /// Where the file is until then, for tools that want a name.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        match &self.content {
            Content::Unnamed(file) => descriptor(file),
            Content::Named(file) => file.path().to_owned(),
        }
    }

    /// An error of a tool that was given [`path`](Self::path), about the file that the user knows.
    #[must_use]
    pub fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let text = format!("{error:#}");
        let temporary = self.path().display().to_string();
        if error.chain().any(|cause| cause.is::<Failure>()) || !text.contains(&temporary) {
            return error;
        }
        anyhow::Error::msg(text.replace(&temporary, &self.target.display().to_string()))
    }

    /// Flushes the file, gives it its name and flushes the folder.
    ///
    /// # Errors
    /// The medium is full or fails, or the target exists and may not be replaced.
    pub fn commit(self) -> Result<()> {
        let target = &self.target;
        let name = target.display().to_string();
        self.file()
            .sync_all()
            .with_context(|| format!("flush {name}"))?;
        let named = match self.content {
            Content::Unnamed(file) => give_name(&file, target, self.overwrite),
            Content::Named(file) if self.overwrite => {
                file.persist(target).map(drop).map_err(|e| e.error)
            }
            Content::Named(file) => file
                .persist_noclobber(target)
                .map(drop)
                .map_err(|e| e.error),
        };
        named.map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => {
                anyhow::anyhow!("write {name}: it exists and is not replaced")
            }
            _ => anyhow::Error::new(e).context(format!("write {name}")),
        })?;
        File::open(folder_of(target))
            .and_then(|folder| folder.sync_all())
            .with_context(|| format!("flush the folder of {name}"))
    }
}

/// A file without a name; `None` where there are none, or the folder is no folder.
fn unnamed(folder: &Path) -> Option<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR).ok()?;
    let file = File::from(file);
    // Names and tools reach it through /proc alone.
    descriptor(&file).exists().then_some(file)
}

/// The name that the kernel has for an open file. It is good in the programs that we start, too.
fn descriptor(file: &File) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd()).into()
}

fn give_name(file: &File, target: &Path, overwrite: bool) -> io::Result<()> {
    let from = descriptor(file);
    let link = |to: &Path| {
        rustix::fs::linkat(CWD, &from, CWD, to, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from)
    };
    match link(target) {
        Err(e) if overwrite && e.kind() == io::ErrorKind::AlreadyExists => {
            // A link replaces nothing, a new name does.
            let linked = tempfile::Builder::new()
                .prefix(&hidden(target))
                .make_in(folder_of(target), link)?;
            linked.persist(target).map(drop).map_err(|e| e.error)
        }
        result => result,
    }
}

/// How temporary names of `target` begin.
fn hidden(target: &Path) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(target.file_name().unwrap_or_default());
    prefix.push(".");
    prefix
}

/// Makes sure that `target` is none of the files that it is made from.
///
/// # Errors
/// It is one of them, under this name or another.
pub fn is_no_input<'a>(target: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> Result<()> {
    let file = |path: &Path| std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    // Where nothing is yet nothing is lost.
    let Some(found) = file(target) else {
        return Ok(());
    };
    match inputs.into_iter().find(|input| file(input) == Some(found)) {
        None => Ok(()),
        Some(input) => {
            let (target, input) = (target.display(), input.display());
            let text = format!("write {target}: it is what is read as {input} (--out)");
            Err(Failure::Usage(text).into())
        }
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn nothing_is_left_behind_without_commit() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::create(&folder.path().join("x")).unwrap();
        output.file().write_all(b"half").unwrap();
        drop(output);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    /// A killed program left `.x.Ab3dE5` behind.
    #[test]
    fn nothing_is_there_to_be_left_behind_by_a_killed_program() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::create(&folder.path().join("x")).unwrap();
        output.file().write_all(b"half").unwrap();
        let named = matches!(output.content, Content::Named(_));
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            usize::from(named)
        );
        assert_eq!(std::fs::read(output.path()).unwrap(), b"half");
    }

    #[test]
    fn an_error_names_the_file_that_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("x.img");
        let output = Output::create(&target).unwrap();
        let given = anyhow::anyhow!("run mke2fs: {}: full", output.path().display());
        let text = format!("{:#}", output.explain(given.context("make image")));
        assert_eq!(
            text,
            format!("make image: run mke2fs: {}: full", target.display())
        );
        let refusal = Failure::Refused(output.path().display().to_string());
        assert!(output.explain(refusal.into()).is::<Failure>());
    }

    #[test]
    fn a_file_under_a_temporary_name_gets_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("x");
        for overwrite in [false, true] {
            let output = Output {
                content: Content::Named(NamedTempFile::new_in(folder.path()).unwrap()),
                target: target.clone(),
                overwrite,
            };
            output.commit().unwrap();
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_device_node_or_folder_does_not_lose_its_name_to_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("node");
        let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        for target in [&socket, folder.path()] {
            let error = Output::create(target).unwrap_err().to_string();
            assert!(error.contains("not a plain file"), "{error}");
        }
        assert!(!socket.symlink_metadata().unwrap().is_file());
    }

    #[test]
    fn commit_replaces_or_refuses() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("x");
        std::fs::write(&target, b"old").unwrap();
        let new = Output::create_new(&target, 0o600).unwrap();
        assert!(new.commit().is_err());
        assert_eq!(std::fs::read(&target).unwrap(), b"old");
        let replace = Output::create(&target).unwrap();
        replace.file().write_all(b"new").unwrap();
        replace.commit().unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
