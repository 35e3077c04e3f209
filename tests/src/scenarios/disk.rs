//! Damaged tables, another size, another disk with the same content.

use std::fs::OpenOptions;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::host_hash;
use crate::qemu::{Bus, Drive, copy_sparse};
use crate::scenario::{Rig, Scenario, Slot, damage, expect};
use crate::system;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "primary-header-destroyed",
        run: |rig| destroyed(rig, damage::HEADER_AT, vec![0; damage::SECTOR]),
    },
    Scenario {
        name: "primary-entries-destroyed",
        run: |rig| destroyed(rig, damage::ENTRIES_AT, vec![0; damage::ENTRIES_LENGTH]),
    },
    Scenario {
        // Of a write of all entries only the first sector, with the slots, is as it was.
        name: "entries-torn",
        run: |rig| {
            let rest = damage::ENTRIES_LENGTH - damage::SECTOR;
            destroyed(
                rig,
                damage::ENTRIES_AT + damage::SECTOR as u64,
                damage::random(rest)?,
            )
        },
    },
    Scenario {
        name: "larger-disk",
        run: larger,
    },
    Scenario {
        name: "usb-stick-beside-a-copy",
        run: usb_stick,
    },
];

/// The slot that runs is b, so that a table rebuilt from the build's defaults would show.
fn destroyed(rig: &mut Rig<'_>, place: u64, bytes: Vec<u8>) -> Result<()> {
    let (v1, v2) = (rig.stock.v1.clone(), rig.stock.v2()?);
    rig.power_on()?;
    rig.expect_confirmed(Slot::A, &v1)?;
    rig.install(&v2)?;
    rig.reboot()?;
    rig.expect_confirmed(Slot::B, &v2)?;
    rig.shut_down(Slot::B, &v2)?;
    damage::write(&rig.disk, place, &bytes)?;
    rig.power_on()?;
    // UEFI firmware may have mended the table before the loader reads it.
    let line = rig.loader_line()?;
    ensure!(
        line.slot == Slot::B,
        "expect the loader to choose slot b: it said {line:?}"
    );
    rig.expect_confirmed(Slot::B, &v2)?;
    rig.reboot()?;
    rig.expect_loader(Slot::B, 0, "ok")?;
    rig.expect_confirmed(Slot::B, &v2)?;
    rig.shut_down(Slot::B, &v2)?;
    rig.expect_content(Slot::A, &v1)?;
    check_table(rig)
}

fn check_table(rig: &Rig<'_>) -> Result<()> {
    let report = system::run(Command::new("sgdisk").arg("-v").arg(&rig.disk))?;
    ensure!(
        report.contains("No problems found"),
        "check the table with sgdisk: {report}"
    );
    Ok(())
}

fn larger(rig: &mut Rig<'_>) -> Result<()> {
    const MORE: u64 = 512 << 20;
    let v1 = rig.stock.v1.clone();
    let disk = OpenOptions::new()
        .write(true)
        .open(&rig.disk)
        .context("open the disk image")?;
    let size = disk.metadata().context("find the disk's size")?.len();
    disk.set_len(size + MORE)
        .context("enlarge the disk image")?;
    rig.power_on()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.expect_confirmed(Slot::A, &v1)?;
    let kib = rig.check("df -k / | tail -n 1 | awk '{ print $2 }'")?;
    let kib: u64 = kib
        .trim()
        .parse()
        .with_context(|| format!("read the size of ROOT: {kib:?}"))?;
    // ext4 keeps some of it for itself.
    ensure!(
        kib > MORE / 1024,
        "expect ROOT to have grown by 512 MiB: it has {kib} KiB"
    );
    rig.shut_down(Slot::A, &v1)?;
    check_table(rig)
}

/// A stick and a built-in disk written from the same image.
fn usb_stick(rig: &mut Rig<'_>) -> Result<()> {
    let (v1, v2) = (rig.stock.v1.clone(), rig.stock.v2()?);
    let inner = rig.dir.join("inner.img");
    copy_sparse(&rig.disk, &inner)?;
    rig.attach(Bus::UsbStick, false);
    let stick = rig.drives.clone();
    let both = [
        stick.clone(),
        vec![Drive {
            image: inner.clone(),
            bus: Bus::Ahci,
            read_only: false,
        }],
    ]
    .concat();

    // Neither has booted yet: which of the two is meant can't be told, and a guess could write to the wrong one.
    let untouched = host_hash::file_hash(&inner)?;
    rig.drives.clone_from(&both);
    rig.power_on()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.wait_for("tandem-init: reset in")?;
    rig.cut_power()?;
    ensure!(
        host_hash::file_hash(&inner)? == untouched,
        "compare the built-in disk: it was written"
    );

    // The first boot on its own gives the stick identifiers of its own.
    rig.drives = stick;
    rig.power_on()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.expect_confirmed(Slot::A, &v1)?;
    rig.shut_down(Slot::A, &v1)?;

    rig.drives = both;
    rig.power_on()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.expect_confirmed(Slot::A, &v1)?;
    rig.install(&v2)?;
    rig.reboot()?;
    rig.expect_loader(Slot::B, 0, "ok")?;
    let status = rig.expect_confirmed(Slot::B, &v2)?;
    let disk = status["disk"]
        .as_str()
        .context("find the disk in the status")?;
    let transport = rig.check(&format!("readlink -f /sys/block/$(basename {disk})"))?;
    ensure!(
        transport.contains("/usb"),
        "expect the stick to be the disk: {transport}"
    );
    expect(&status, "/active", &Value::from("b"))?;
    rig.shut_down(Slot::B, &v2)?;
    ensure!(
        host_hash::file_hash(&inner)? == untouched,
        "compare the built-in disk: it was written"
    );
    Ok(())
}
