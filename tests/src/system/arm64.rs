//! Debian packages for arm64, unpacked by `images/arm64-package` into the cache folder.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::packages::only_entry;
use super::project_dir;

/// The folder of a package. `NAME+` is the package that `NAME` depends on.
pub(super) fn package(name: &str) -> Result<PathBuf> {
    let what = format!("download package {name} for arm64");
    folder("images/arm64-package", name.as_ref(), &what)
}

/// The folder that a script of the project prints.
fn folder(script: &str, argument: &OsStr, what: &str) -> Result<PathBuf> {
    let output = Command::new(project_dir().join(script))
        .arg(argument)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("start {script}"))?;
    ensure!(output.status.success(), "{what}: {}", output.status);
    Ok(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim_end(),
    ))
}

/// The package with the kernel.
pub(super) const KERNEL: &str = "linux-image-arm64+";

/// What a Raspberry Pi's card holds beside the slots.
#[derive(Clone, Debug)]
pub struct PiFiles {
    /// U-Boot for a Raspberry Pi 3.
    pub rpi_3: PathBuf,
    /// U-Boot for a Raspberry Pi 4.
    pub rpi_4: PathBuf,
    /// Device trees of all models.
    pub device_trees: PathBuf,
}

impl PiFiles {
    /// Downloads what the cache does not hold yet.
    ///
    /// # Errors
    /// `apt-get` or `dpkg` fails: no network, no space.
    pub fn fetch() -> Result<Self> {
        let folder = package(KERNEL)?.join("usr/lib");
        let uboot = package("u-boot-rpi")?.join("usr/lib/u-boot");
        Ok(Self {
            rpi_3: uboot.join("rpi_3/u-boot.bin"),
            rpi_4: uboot.join("rpi_4/u-boot.bin"),
            device_trees: folder.join(only_entry(&folder)?).join("broadcom"),
        })
    }

    /// What the firmware of a Raspberry Pi 3 would hand to U-Boot.
    #[must_use]
    pub fn pi3_device_tree(&self) -> PathBuf {
        self.device_trees.join("bcm2837-rpi-3-b.dtb")
    }

    /// The same for a Raspberry Pi 4.
    #[must_use]
    pub fn pi4_device_tree(&self) -> PathBuf {
        self.device_trees.join("bcm2711-rpi-4-b.dtb")
    }
}

/// The folder of a QEMU that has a Raspberry Pi 4, downloaded when it is first asked for, and of a device tree for it that is
/// made of `tree`.
///
/// # Errors
/// No network, or a tool fails.
pub fn qemu_raspi4b(tree: &Path) -> Result<PathBuf> {
    let what = "get a QEMU with a Raspberry Pi 4";
    folder("tests/qemu-raspi4b", tree.as_os_str(), what)
}
