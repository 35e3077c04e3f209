//! Debian packages for arm64, wherever the tests run: with apt's ordinary sources, but lists and a cache of their own, so
//! that the host's list of architectures stays as it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::packages::{cache_folder, only_entry, unpack};
use super::run;

/// Unpacked packages.
#[derive(Clone, Debug)]
pub struct Arm64Packages {
    /// U-Boot for a Raspberry Pi 3.
    pub rpi_3: PathBuf,
    /// What the Pi's firmware would hand to it.
    pub pi3_device_tree: PathBuf,
}

impl Arm64Packages {
    /// Downloads what the cache does not hold yet.
    ///
    /// # Errors
    /// `apt-get` or `dpkg` fails: no network, no package lists, no space.
    pub fn fetch() -> Result<Self> {
        let apt = Apt::new(&cache_folder()?.join("arm64"));
        let uboot = apt.unpacked("u-boot-rpi", || Ok("u-boot-rpi".to_owned()))?;
        let kernel = apt.unpacked("kernel", || apt.kernel_package())?;
        let folder = kernel.join("usr/lib");
        let trees = folder.join(only_entry(&folder)?).join("broadcom");
        Ok(Self {
            rpi_3: uboot.join("usr/lib/u-boot/rpi_3/u-boot.bin"),
            pi3_device_tree: trees.join("bcm2837-rpi-3-b.dtb"),
        })
    }
}

/// apt for another architecture.
struct Apt {
    cache: PathBuf,
}

impl Apt {
    fn new(cache: &Path) -> Self {
        Self {
            cache: cache.to_owned(),
        }
    }

    fn command(&self, program: &str) -> Command {
        let state = self.cache.join("apt");
        let mut command = Command::new(program);
        for option in [
            "APT::Architecture=arm64".to_owned(),
            "APT::Architectures=arm64".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
            format!("Dir::State={}", state.display()),
            format!("Dir::State::status={}", state.join("status").display()),
            format!("Dir::Cache={}", state.join("cache").display()),
        ] {
            command.args(["-o", &option]);
        }
        command
    }

    /// The folder of that name, filled from the package that `package` names unless it is there already.
    fn unpacked(&self, name: &str, package: impl FnOnce() -> Result<String>) -> Result<PathBuf> {
        let target = self.cache.join(name);
        if target.exists() {
            return Ok(target);
        }
        self.update()?;
        let package = package()?;
        let mut download = self.command("apt-get");
        download.args(["-q", "download", &package]);
        unpack(&self.cache, &target, download)
            .with_context(|| format!("download package {package} for arm64"))?;
        Ok(target)
    }

    /// Reads the package lists, once.
    fn update(&self) -> Result<()> {
        let state = self.cache.join("apt");
        if state.join("updated").exists() {
            return Ok(());
        }
        for folder in ["lists/partial", "cache/archives/partial"] {
            let folder = state.join(folder);
            fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        }
        let mark = |name: &str| {
            let file = state.join(name);
            fs::write(&file, "").with_context(|| format!("create {}", file.display()))
        };
        mark("status")?;
        run(self.command("apt-get").args(["-q", "update"]))
            .context("read the package lists of arm64")?;
        mark("updated")
    }

    /// The real package behind `linux-image-arm64`.
    fn kernel_package(&self) -> Result<String> {
        let depends = run(self
            .command("apt-cache")
            .args(["depends", "linux-image-arm64"]))?;
        let name = depends
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: "));
        name.map(str::to_owned)
            .context("find the kernel's package: apt-cache knows no linux-image-arm64")
    }
}
