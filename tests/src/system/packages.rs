//! Debian packages, downloaded and unpacked into a cache folder without being installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{Arch, arm64, modules, project_dir, run};

/// Unpacked packages. The cache folder is `$TANDEM_CACHE`, else `target/cache`.
#[derive(Clone, Debug)]
pub struct Packages {
    pub arch: Arch,
    pub kernel_version: String,
    pub vmlinuz: PathBuf,
    /// The folder that holds `lib/modules/VERSION`.
    pub kernel_root: PathBuf,
    pub busybox: PathBuf,
    /// Statically linked.
    pub e2fsck: PathBuf,
    /// The commands in it.
    pub applets: Vec<String>,
}

impl Packages {
    /// Downloads what the cache does not hold yet.
    ///
    /// # Errors
    /// `apt-get` or `dpkg` fails: no network, no package lists (`apt-get update`), no space.
    pub fn fetch(arch: Arch) -> Result<Self> {
        let cache = cache_folder()?;
        let host_busybox =
            unpacked(&cache, "busybox", &|| Ok("busybox-static".to_owned()))?.join("bin/busybox");
        // Debian builds both from one configuration; the other architecture's does not run here.
        let applets = run(Command::new(&host_busybox).arg("--list"))?;
        let applets = applets.lines().map(str::to_owned).collect();
        let (kernel_root, busybox, e2fsck) = match arch {
            Arch::X86_64 => (
                unpacked(&cache, "kernel", &kernel_package)?,
                host_busybox,
                unpacked(&cache, "e2fsck", &|| Ok("e2fsck-static".to_owned()))?,
            ),
            Arch::Aarch64 => (
                arm64::package(arm64::KERNEL)?,
                arm64::package("busybox-static")?.join("bin/busybox"),
                arm64::package("e2fsck-static")?,
            ),
        };
        let e2fsck = e2fsck.join("sbin/e2fsck.static");
        let kernel_version = only_entry(&kernel_root.join("lib/modules"))?;
        let vmlinuz = kernel_root.join(format!("boot/vmlinuz-{kernel_version}"));
        if !kernel_root
            .join(format!("lib/modules/{kernel_version}/modules.dep"))
            .exists()
        {
            modules::index(&kernel_root, &kernel_version)?;
        }
        Ok(Self {
            arch,
            kernel_version,
            vmlinuz,
            kernel_root,
            busybox,
            e2fsck,
            applets,
        })
    }
}

/// `$TANDEM_CACHE`, else `target/cache`; created if it does not exist.
fn cache_folder() -> Result<PathBuf> {
    let cache = std::env::var_os("TANDEM_CACHE")
        .map_or_else(|| project_dir().join("target/cache"), PathBuf::from);
    fs::create_dir_all(&cache)
        .with_context(|| format!("create cache folder {}", cache.display()))?;
    Ok(cache)
}

/// The real package behind `linux-image-amd64`.
fn kernel_package() -> Result<String> {
    let depends = run(Command::new("apt-cache").args(["depends", "linux-image-amd64"]))?;
    let name = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let name = name.context(
        "find the kernel's package: apt-cache knows no linux-image-amd64, run apt-get update",
    )?;
    Ok(format!("linux-image-{name}"))
}

/// The folder `cache/name`, filled from the package that `package` names unless it is there already.
fn unpacked(cache: &Path, name: &str, package: &dyn Fn() -> Result<String>) -> Result<PathBuf> {
    let target = cache.join(name);
    if target.exists() {
        return Ok(target);
    }
    let package = package()?;
    let mut download = Command::new("apt-get");
    // apt's own sandbox user can't write into a folder of ours; as another user the option changes nothing.
    download.args(["-q", "-o", "APT::Sandbox::User=root", "download", &package]);
    unpack(cache, &target, download).with_context(|| format!("download package {package}"))?;
    Ok(target)
}

/// Runs `download`, which leaves one package in its working folder, and unpacks that into the folder `target`.
fn unpack(cache: &Path, target: &Path, mut download: Command) -> Result<()> {
    let folder = tempfile::tempdir_in(cache).context("create a download folder")?;
    run(download.current_dir(folder.path()))?;
    let archive = folder.path().join(only_entry(folder.path())?);
    let files = folder.path().join("files");
    run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&files))
        .with_context(|| format!("unpack {}", archive.display()))?;
    fs::rename(&files, target).with_context(|| format!("rename to {}", target.display()))
}

pub(super) fn only_entry(folder: &Path) -> Result<String> {
    let context = || format!("read folder {}", folder.display());
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        names.push(
            entry
                .with_context(context)?
                .file_name()
                .to_string_lossy()
                .into_owned(),
        );
    }
    anyhow::ensure!(
        names.len() == 1,
        "{}: one entry expected, found {names:?}",
        context()
    );
    names.pop().with_context(context)
}
