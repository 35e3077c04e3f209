//! Kernel modules in the order in which they must be loaded.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::run;

/// What the demo system needs before it has a root: disks on virtio, AHCI, NVMe and USB, ext4; the virtual machine's network
/// and watchdog; the place where UEFI firmware keeps the last words of a kernel.
/// `crc32c_generic` is what ext4 asks the crypto layer for by an alias, so no dependency names it.
pub(super) const X86_64: &[&str] = &[
    "i6300esb",
    "crc32c_generic",
    "ext4",
    "virtio_pci",
    "virtio_blk",
    "ahci",
    "nvme",
    "sd_mod",
    "xhci-pci",
    "ehci-pci",
    "usb-storage",
    "uas",
    "virtio_net",
    "efi-pstore",
];

/// The same on a virtual machine without PCI and on a Raspberry Pi. There the driver of the watchdog comes first: nothing
/// else resets the board, after a panic too. A Pi 4's card waits for its regulators.
pub(super) const AARCH64: &[&str] = &[
    "bcm2835_wdt",
    "i6300esb",
    "fixed",
    "gpio-regulator",
    "reset-raspberrypi",
    "crc32c_generic",
    "ext4",
    "virtio_mmio",
    "virtio_blk",
    "bcm2835",
    "sdhci-iproc",
    "phy-generic",
    "dwc2",
    "xhci-pci",
    "sd_mod",
    "usb-storage",
    "uas",
    "virtio_net",
];

/// Makes `modules.dep` under `root`; Debian's packages come without it.
///
/// # Errors
/// `depmod` (package `kmod`) is missing or fails.
pub(super) fn index(root: &Path, version: &str) -> Result<()> {
    // /usr/sbin is not in every user's PATH.
    let path = format!(
        "{}:/usr/sbin:/sbin",
        std::env::var("PATH").unwrap_or_default()
    );
    run(Command::new("depmod")
        .env("PATH", path)
        .arg("-b")
        .arg(root)
        .arg(version))
    .map(drop)
}

/// Paths, relative to `lib/modules/VERSION`, of `wanted` and all they depend on, each after what it depends on.
///
/// # Errors
/// `modules.dep` can't be read or lacks one of them.
pub(super) fn load_order(root: &Path, version: &str, wanted: &[&str]) -> Result<Vec<PathBuf>> {
    let file = root.join(format!("lib/modules/{version}/modules.dep"));
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    resolve(&text, wanted).with_context(|| format!("resolve {}", file.display()))
}

fn resolve(modules_dep: &str, wanted: &[&str]) -> Result<Vec<PathBuf>> {
    let mut dependencies = BTreeMap::new();
    for line in modules_dep.lines() {
        let (module, needs) = line
            .split_once(':')
            .with_context(|| format!("read line {line:?}: no colon"))?;
        dependencies.insert(name(module), (module, needs));
    }
    let mut order: Vec<PathBuf> = Vec::new();
    for module in wanted {
        let Some((path, needs)) = dependencies.get(&name(module)) else {
            bail!("find module {module}: not listed");
        };
        // A line lists everything that is needed, what must be loaded first last.
        for path in needs.split_whitespace().rev().chain([*path]) {
            if !order.iter().any(|known| known == Path::new(path)) {
                order.push(PathBuf::from(path));
            }
        }
    }
    Ok(order)
}

/// The kernel takes `-` and `_` in module names for the same.
fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULES_DEP: &str = "\
kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko kernel/fs/mbcache.ko kernel/fs/jbd2/jbd2.ko
kernel/lib/crc16.ko:
kernel/fs/mbcache.ko:
kernel/fs/jbd2/jbd2.ko:
kernel/drivers/usb/storage/usb-storage.ko: kernel/drivers/scsi/scsi_mod.ko kernel/drivers/scsi/scsi_common.ko
kernel/drivers/usb/storage/uas.ko: kernel/drivers/usb/storage/usb-storage.ko kernel/drivers/scsi/scsi_mod.ko kernel/drivers/scsi/scsi_common.ko
";

    fn names(wanted: &[&str]) -> Vec<String> {
        let order = resolve(MODULES_DEP, wanted).unwrap();
        order
            .iter()
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn dependencies_come_first() {
        assert_eq!(names(&["ext4"]), ["jbd2", "mbcache", "crc16", "ext4"]);
    }

    #[test]
    fn shared_dependencies_come_once() {
        assert_eq!(
            names(&["usb_storage", "uas"]),
            ["scsi_common", "scsi_mod", "usb-storage", "uas"]
        );
    }

    #[test]
    fn a_module_that_is_not_listed_is_an_error() {
        assert!(resolve(MODULES_DEP, &["ext3"]).is_err());
    }
}
