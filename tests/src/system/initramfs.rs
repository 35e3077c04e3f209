//! The initramfs of a slot: `tandem-init`, modules, the list in which order to load them.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::cpio::Archive;
use super::{Packages, modules};

const LEVEL: i32 = 12;

/// Builds the archive, zstd-compressed, with the kernel modules `wanted` and what they need.
///
/// # Errors
/// The kernel lacks a module; I/O.
pub(super) fn build(packages: &Packages, init: &Path, wanted: &[&str]) -> Result<Vec<u8>> {
    let order = modules::load_order(&packages.kernel_root, &packages.kernel_version, wanted)?;
    let source = packages
        .kernel_root
        .join("lib/modules")
        .join(&packages.kernel_version);
    let mut archive = Archive::default();
    archive.directory("dev")?;
    // The kernel opens it for init before anything can have mounted /dev.
    archive.character_device("dev/console", 0o600, (5, 1))?;
    for folder in [
        "proc",
        "sys",
        "run",
        "sbin",
        "sysroot",
        "lib",
        "lib/tandem",
        "lib/modules",
    ] {
        archive.directory(folder)?;
    }
    archive.file("init", 0o755, &read(init)?)?;
    archive.file("sbin/e2fsck", 0o755, &read(&packages.e2fsck)?)?;
    let mut list = String::new();
    for module in order {
        let name = module
            .file_name()
            .context("archive a module: no name")?
            .to_string_lossy();
        let path = format!("lib/modules/{name}");
        archive.file(&path, 0o644, &read(&source.join(&module))?)?;
        list.push_str(&format!("/{path}\n"));
    }
    archive.file("lib/tandem/modules", 0o644, list.as_bytes())?;
    zstd::encode_all(archive.finish()?.as_slice(), LEVEL).context("compress the initramfs")
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("read {}", path.display()))
}
