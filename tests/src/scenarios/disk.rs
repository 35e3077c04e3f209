//! Damaged tables, another size, another disk with the same content.

use std::fs::{self, OpenOptions};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::host_hash;
use crate::qemu::{Bus, Drive, copy_sparse};
use crate::scenario::{Platform, Rig, Scenario, Slot, damage, expect};
use crate::system;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "primary-header-destroyed",
        on: Platform::WITH_TABLE,
        run: |rig| destroyed(rig, &[(damage::HEADER_AT, damage::SECTOR, Fill::Zeros)]),
    },
    Scenario {
        name: "primary-entries-destroyed",
        on: Platform::PC,
        run: |rig| {
            let all = (damage::ENTRIES_AT, damage::ENTRIES_LENGTH, Fill::Zeros);
            destroyed(rig, &[all])
        },
    },
    Scenario {
        // Of a write of all entries only the first sector, with the slots, has reached the disk; then that one alone is bad.
        name: "entries-torn",
        on: Platform::WITH_TABLE,
        run: |rig| {
            let behind = damage::ENTRIES_AT + damage::SECTOR as u64;
            let rest = damage::ENTRIES_LENGTH - damage::SECTOR;
            destroyed(
                rig,
                &[
                    (behind, rest, Fill::Random),
                    (damage::ENTRIES_AT, damage::SECTOR, Fill::Random),
                ],
            )
        },
    },
    Scenario {
        name: "root-torn",
        on: &[Platform::BIOS],
        run: root_torn,
    },
    Scenario {
        name: "larger-disk",
        on: Platform::BOARDS,
        run: larger,
    },
    Scenario {
        name: "usb-stick-beside-a-copy",
        on: Platform::PC,
        run: usb_stick,
    },
    Scenario {
        name: "write-stick",
        on: &[Platform::BIOS],
        run: write_stick,
    },
];

#[derive(Clone, Copy, Debug)]
enum Fill {
    Zeros,
    Random,
}

/// These damages (place, length, what stands there then), one after the other. The slot that runs is b, so that
/// a table rebuilt from the build's defaults would show.
fn destroyed(rig: &mut Rig<'_>, damages: &[(u64, usize, Fill)]) -> Result<()> {
    let (v1, v2) = (rig.stock.v1.clone(), rig.stock.v2()?);
    rig.confirm_v2()?;
    for &(place, length, fill) in damages {
        let good = damage::read(&rig.disk, place, length)?;
        let bytes = match fill {
            Fill::Zeros => vec![0; length],
            Fill::Random => damage::random(length)?,
        };
        damage::write(&rig.disk, place, &bytes)?;
        rig.power_on()?;
        let line = rig.loader_line()?;
        // UEFI firmware mends the table before the loader reads it.
        let (environment, table) = match rig.platform {
            Platform::BIOS => ("lost", "unusable"),
            Platform::UEFI => ("ok", "ok"),
            _ => ("ok", "backup"),
        };
        ensure!(
            (line.slot, line.environment.as_str(), line.table.as_str())
                == (Slot::B, environment, table),
            "expect the loader to choose slot b with env={environment} gpt={table}: it said {line:?}"
        );
        let status = rig.expect_confirmed(Slot::B, &v2)?;
        expect(&status, "/environment/boot", &Value::from(environment))?;
        expect(&status, "/slots/a/attributes/confirmed", &Value::from(true))?;
        rig.shut_down(Slot::B, &v2)?;
        check_table(rig)?;
        ensure!(
            damage::read(&rig.disk, place, length)? == good,
            "compare {length} bytes at {place}: the table is not what it was before the damage"
        );
    }
    rig.power_on()?;
    rig.expect_loader(Slot::B, 0, "ok")?;
    rig.expect_confirmed(Slot::B, &v2)?;
    rig.shut_down(Slot::B, &v2)?;
    rig.expect_content(Slot::A, &v1)?;
    Ok(())
}

fn check_table(rig: &Rig<'_>) -> Result<()> {
    let report = system::run(Command::new("sgdisk").arg("-v").arg(&rig.disk))?;
    ensure!(
        report.contains("No problems found"),
        "check the table with sgdisk: {report}"
    );
    Ok(())
}

/// The second sector of ROOT's superblock did not reach the disk, so that its checksum is wrong and ROOT does not mount;
/// then one of a folder.
fn root_torn(rig: &mut Rig<'_>) -> Result<()> {
    let v1 = rig.stock.v1.clone();
    rig.power_on()?;
    rig.expect_confirmed(Slot::A, &v1)?;
    rig.check("echo kept >/etc/kept && sync")?;
    rig.shut_down(Slot::A, &v1)?;
    let (root, _) = host_hash::partition(&rig.disk, 9)?;
    damage::write(&rig.disk, root + 1536, &damage::random(damage::SECTOR)?)?;
    rig.power_on()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.wait_for("e2fsck mends it")?;
    rig.expect_confirmed(Slot::A, &v1)?;
    expect_kept(rig)?;
    rig.shut_down(Slot::A, &v1)?;

    // A folder in it, so that ROOT mounts all the same.
    let folder = folder_block(rig, root, "/var/lib")?;
    damage::write(&rig.disk, folder, &damage::random(damage::SECTOR)?)?;
    rig.power_on()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.wait_for("e2fsck mends ROOT")?;
    rig.expect_confirmed(Slot::A, &v1)?;
    expect_kept(rig)?;
    rig.shut_down(Slot::A, &v1)
}

fn expect_kept(rig: &mut Rig<'_>) -> Result<()> {
    let kept = rig.check("cat /etc/kept")?;
    ensure!(kept.trim() == "kept", "expect a file in ROOT: {kept:?}");
    Ok(())
}

/// Where the first block of a folder of ROOT lies on the disk, in bytes.
fn folder_block(rig: &Rig<'_>, root: u64, folder: &str) -> Result<u64> {
    let context = || format!("find {folder} in ROOT");
    let log = damage::read(&rig.disk, root + 1024 + 0x18, 4)?;
    let log: [u8; 4] = log.try_into().ok().with_context(context)?;
    let size = 1024_u64.checked_shl(u32::from_le_bytes(log));
    // /usr/sbin is not in every user's PATH.
    let path = std::env::var("PATH").unwrap_or_default();
    let blocks = system::run(
        Command::new("debugfs")
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            // Without a look at what the journal has yet to bring in order.
            .args(["-c", "-R", &format!("blocks {folder}")])
            .arg(format!("{}?offset={root}", rig.disk.display())),
    )?;
    let first = blocks
        .split_whitespace()
        .next()
        .and_then(|b| b.parse().ok());
    let (size, first): (u64, u64) = size.zip(first).with_context(context)?;
    Ok(root + first * size)
}

fn larger(rig: &mut Rig<'_>) -> Result<()> {
    let v1 = rig.stock.v1.clone();
    let disk = OpenOptions::new()
        .write(true)
        .open(&rig.disk)
        .context("open the disk image")?;
    let size = disk.metadata().context("find the disk's size")?.len();
    // A card's size is a power of two.
    let more = match rig.platform {
        Platform::PI3 => size,
        _ => 512 << 20,
    };
    disk.set_len(size + more)
        .context("enlarge the disk image")?;
    rig.power_on()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    let said = rig.wait_for(STARTED)?;
    ensure!(said.contains(GROWN), "expect init to say {GROWN:?}: {said}");
    rig.expect_confirmed(Slot::A, &v1)?;
    let kib = rig.check("df -k / | tail -n 1 | awk '{ print $2 }'")?;
    let kib: u64 = kib
        .trim()
        .parse()
        .with_context(|| format!("read the size of ROOT: {kib:?}"))?;
    // ext4 keeps some of it for itself.
    ensure!(
        kib > more / 1024,
        "expect ROOT to have grown by {more} bytes: it has {kib} KiB"
    );
    rig.shut_down(Slot::A, &v1)?;
    check_table(rig)?;

    // From then on a boot leaves the table alone.
    let table = both_copies(rig, size + more)?;
    rig.power_on()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    let said = rig.wait_for(STARTED)?;
    ensure!(
        !said.contains(GROWN),
        "expect no change of the table: {said}"
    );
    rig.expect_confirmed(Slot::A, &v1)?;
    rig.shut_down(Slot::A, &v1)?;
    ensure!(
        both_copies(rig, size + more)? == table,
        "compare the table before and after the second boot: it was written"
    );
    Ok(())
}

fn both_copies(rig: &Rig<'_>, size: u64) -> Result<(Vec<u8>, Vec<u8>)> {
    let length = damage::SECTOR + damage::ENTRIES_LENGTH;
    let primary = damage::read(&rig.disk, damage::HEADER_AT, length)?;
    let backup = damage::read(&rig.disk, size - length as u64, length)?;
    Ok((primary, backup))
}

/// What init says when it has changed the table, and the system after that.
const GROWN: &str = "ROOT grown";
const STARTED: &str = "is starting";

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
            record: None,
        }],
    ]
    .concat();

    // Neither has booted yet: which of the two is meant can't be told, and a guess could write to the wrong one.
    let untouched = host_hash::file_hash(&inner)?;
    rig.drives.clone_from(&both);
    rig.power_on()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.wait_for("both have it; remove one of the disks")?;
    rig.wait_for("tandem-init: reset in")?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.cut_power()?;
    for disk in [&inner, &rig.disk] {
        ensure!(
            host_hash::file_hash(disk)? == untouched,
            "compare {}: it was written",
            disk.display()
        );
    }

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

/// More than the image has.
const STICK: u64 = 640 << 20;
/// To write it and to read it back.
const WRITE: Duration = Duration::from_secs(600);

/// A stick that is written on the device is a device of its own; what the device runs from is not written, nor what is in use.
fn write_stick(rig: &mut Rig<'_>) -> Result<()> {
    let v1 = rig.stock.v1.clone();
    let image = rig.stock.disk(rig.platform.board())?;
    rig.put(&rig.stock.binaries().tandem_image, "tandem-image")?;
    rig.put(&image, "disk.img")?;
    let stick = Drive {
        image: rig.dir.join("stick.img"),
        bus: Bus::UsbStick,
        read_only: false,
        record: None,
    };
    fs::File::create(&stick.image)
        .and_then(|file| file.set_len(STICK))
        .with_context(|| format!("create {}", stick.image.display()))?;
    rig.drives.push(stick.clone());
    rig.power_on()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.expect_confirmed(Slot::A, &v1)?;
    let write = "/tandem-image write /disk.img";
    rig.check("chmod 755 /tandem-image && mkswap /dev/sda && swapon /dev/sda")?;
    for (command, code, reason) in [
        (format!("{write} --yes /dev/vda"), 6, "vda9 is mounted at /"),
        (format!("{write} --yes /dev/vda9"), 6, "it is a partition"),
        (format!("{write} --yes /dev/sda"), 6, "it is in use: swap"),
        (
            format!("swapoff /dev/sda; {write} /dev/sda < /dev/null"),
            2,
            "not confirmed (--yes)",
        ),
    ] {
        let output = rig.again()?.run(&format!("{command} 2>&1"), WRITE)?;
        ensure!(
            output.code == code && output.text.contains(reason),
            "expect {command} to end with {code}, for {reason:?}: {output:?}"
        );
    }
    let said = rig
        .again()?
        .check(&format!("{write} --yes /dev/sda 2>&1"), WRITE)?;
    ensure!(
        said.contains("(QEMU HARDDISK") && said.contains("/dev/sda: written and compared"),
        "expect the stick's model, and an end: {said}"
    );
    rig.shut_down(Slot::A, &v1)?;

    rig.disk.clone_from(&stick.image);
    rig.drives = vec![stick];
    rig.power_on()?;
    rig.expect_loader(Slot::A, 0, "ok")?;
    rig.expect_confirmed(Slot::A, &v1)?;
    rig.shut_down(Slot::A, &v1)?;
    check_table(rig)
}
