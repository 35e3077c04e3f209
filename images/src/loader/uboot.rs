//! U-Boot: its script, and on a Raspberry Pi everything that comes before it.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use boards::Board;
use boards::raspberry_pi::{self, Card};
use boards::start::UBoot;
use boards::uboot::{self, Copies, Options, Store};
use bootctl::descriptor::UBOOT_ENV_FROM_END;

use super::{Loader, Sources, read};
use crate::disk::layout::Layout;
use crate::fw_env_config;

/// Makes the files of the first partition.
///
/// # Errors
/// A file of the firmware, a device tree or U-Boot is missing.
pub fn make(board: &Board, uboot: &UBoot, layout: &Layout, sources: &Sources) -> Result<Loader> {
    let own_environment = match &sources.fw_env_config {
        Some(path) => Some(fw_env_config::read(path, layout)?),
        None => None,
    };
    // The script counts in sectors of 512 bytes.
    let store = match own_environment {
        Some(own) => Store::Own(Copies {
            lbas: own.offsets.map(|offset| offset / 512),
            sectors: own.size / 512,
        }),
        None if uboot.environment => {
            let span = layout.oem_config;
            let lba = (span.start + span.len - UBOOT_ENV_FROM_END) / 512;
            Store::Environment { lba }
        }
        None => Store::Gpt,
    };
    let script = uboot::boot_script(&Options {
        board,
        store,
        scratch: sources.script_memory.unwrap_or(uboot.scratch),
        watchdog: uboot.watchdog.filter(|_| !sources.no_watchdog),
    })
    .context("make loader script (--script-memory)")?;
    let script = uboot::boot_scr(&script).context("make loader script")?;
    let mut files = match &uboot.card {
        None => Vec::new(),
        Some(card) => card_files(card, sources)?,
    };
    files.push((uboot::SCRIPT_PATH.to_owned(), script));
    Ok(Loader {
        bios: None,
        files,
        hybrid: uboot.card.is_some(),
        own_environment,
    })
}

/// Firmware, its settings, device trees and U-Boot, each by its name: nothing else of the folders gets on the card, above
/// all no update for a Pi's EEPROM.
fn card_files(card: &Card, sources: &Sources) -> Result<Vec<(String, Vec<u8>)>> {
    let firmware = sources.firmware.as_deref();
    let firmware = firmware.unwrap_or(Path::new(raspberry_pi::FIRMWARE_FOLDER));
    let mut files = Vec::new();
    for &name in card.firmware {
        let bytes = read(&firmware.join(name)).with_context(|| {
            format!(
                "install loader: {name} comes with the package raspi-firmware or from the maker (--firmware)"
            )
        })?;
        files.push((name.to_owned(), bytes));
    }
    let uboot = sources.uboot.as_deref().unwrap_or(Path::new(card.uboot));
    let bytes = read(uboot)
        .context("install loader: U-Boot comes with the package u-boot-rpi (--u-boot)")?;
    files.push((raspberry_pi::UBOOT.to_owned(), bytes));
    let config = match &sources.config_txt {
        None => raspberry_pi::CONFIG.as_bytes().to_vec(),
        Some(path) => read(path)?,
    };
    files.push((raspberry_pi::CONFIG_PATH.to_owned(), config));
    files.extend(device_trees(
        card,
        sources.device_trees.as_deref().unwrap_or(firmware),
    )?);
    Ok(files)
}

/// The device trees of all models that the card may be put into, by name.
fn device_trees(card: &Card, folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let failed = || {
        format!(
            "install loader: look for device trees in {} (--device-trees)",
            folder.display()
        )
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(failed)? {
        let name = entry.with_context(failed)?.file_name();
        let Some(name) = name.to_str() else { continue };
        let fits = card.device_trees.iter().any(|p| name.starts_with(p));
        if fits && name.ends_with(raspberry_pi::DEVICE_TREE) {
            names.push(name.to_owned());
        }
    }
    ensure!(
        !names.is_empty(),
        "install loader: no {}*{} in {}; they come with Linux, in usr/lib/linux-image-*/broadcom of Debian's \
         package (--device-trees)",
        card.device_trees.first().unwrap_or(&""),
        raspberry_pi::DEVICE_TREE,
        folder.display()
    );
    names.sort();
    names
        .into_iter()
        .map(|name| {
            let bytes = read(&folder.join(&name))?;
            is_device_tree(&bytes)
                .then_some(())
                .ok_or_else(|| anyhow!("install loader: {name} is no device tree"))?;
            Ok((name, bytes))
        })
        .collect()
}

/// By its first bytes (Devicetree Specification, 5.2).
fn is_device_tree(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0xd0, 0x0d, 0xfe, 0xed])
}
