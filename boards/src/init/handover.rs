//! From the initramfs to the system.

use std::convert::Infallible;
use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot};

use super::failure::Progress;
use super::mounts::KERNEL_FILESYSTEMS;
use super::say;

/// Tried in this order when `init=` names none.
const INITS: [&str; 3] = ["/usr/sbin/init", "/usr/lib/systemd/systemd", "/sbin/init"];

/// Makes `sysroot` the root of everything and becomes the system's init.
///
/// # Errors
/// The root can't be moved, or no init can be started; `/` may then be the new root already.
pub fn switch_root(
    sysroot: &Path,
    init: Option<&Path>,
    progress: &mut Progress,
) -> Result<Infallible> {
    for (_, mounted) in KERNEL_FILESYSTEMS {
        let target = sysroot.join(mounted.trim_start_matches('/'));
        mount(
            Some(mounted),
            &target,
            None::<&str>,
            MsFlags::MS_MOVE,
            None::<&str>,
        )
        .with_context(|| format!("move {mounted} to {}", target.display()))?;
    }
    let run = sysroot.join("run");
    mount(
        Some("tmpfs"),
        &run,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("mode=0755"),
    )
    .with_context(|| format!("mount {}", run.display()))?;
    free_initramfs(sysroot);

    let context = || format!("make {} the root", sysroot.display());
    chdir(sysroot).with_context(context)?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).with_context(context)?;
    chroot(".").with_context(context)?;
    progress.root = progress.root.take().map(|_| PathBuf::from("/"));
    chdir("/").with_context(context)?;
    become_init(init)
}

fn become_init(init: Option<&Path>) -> Result<Infallible> {
    let candidates = init.map_or_else(
        || INITS.map(PathBuf::from).to_vec(),
        |named| vec![named.to_owned()],
    );
    for candidate in &candidates {
        // What the kernel did not understand it passed on as arguments, for init.
        let error = Command::new(candidate).args(env::args_os().skip(1)).exec();
        if error.kind() != io::ErrorKind::NotFound || init.is_some() {
            say(&format!("start {}: {error}", candidate.display()));
        }
    }
    let names: Vec<_> = candidates.iter().map(|c| c.display().to_string()).collect();
    bail!("start init: none of [{}] can be started", names.join(" "))
}

/// The files of the initramfs occupy memory as long as they exist. Whatever is mounted below it is left alone.
fn free_initramfs(sysroot: &Path) {
    let Ok(device) = fs::metadata("/").map(|m| m.dev()) else {
        return;
    };
    remove_below(Path::new("/"), device, sysroot);
}

fn remove_below(folder: &Path, device: u64, keep: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(metadata) = path.symlink_metadata() else {
            continue;
        };
        if metadata.dev() != device || path == keep {
            continue;
        }
        // What can't be removed only occupies memory.
        if metadata.is_dir() {
            remove_below(&path, device, keep);
            fs::remove_dir(&path).ok();
        } else {
            fs::remove_file(&path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_the_new_root_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("lib/modules")).unwrap();
        fs::write(at("lib/modules/x.ko"), "x").unwrap();
        fs::write(at("init"), "x").unwrap();
        std::os::unix::fs::symlink("sysroot", at("link")).unwrap();
        fs::create_dir(at("sysroot")).unwrap();
        fs::write(at("sysroot/kept"), "x").unwrap();
        let device = fs::metadata(folder.path()).unwrap().dev();

        remove_below(folder.path(), device + 1, &at("sysroot"));
        assert!(at("init").exists(), "another filesystem was touched");
        remove_below(folder.path(), device, &at("sysroot"));
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
        assert_eq!(left.len(), 1);
        assert!(at("sysroot/kept").exists());
    }
}
