//! `update_engine health` on a disk image and the folders of a system.

#![expect(clippy::unwrap_used, reason = "a test that can't go on fails")]

mod device;

use std::fs;
use std::path::Path;

use bootctl::Slot;
use bootctl::disk::{Access, Disk};
use bootctl::transaction::TransactionLock;
use device::{Device, GOOD, SPENT, TRIAL, attributes, manifest};
use updater::journal::{Cause, history};

type Change = fn(&Device);

#[test]
fn a_slot_that_passes_is_confirmed_and_the_floor_rises() {
    let device = Device::new();
    let release = device.stage(Slot::B);
    device.put_check("required.d/10-ok", "test $TANDEM_SLOT = b");
    device.put_check("wanted.d/10-bad", "echo no sound; exit 1");
    let (code, text) = device.health(Slot::B);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("wanted.d/10-bad: exit status: 1: no sound"),
        "{text}"
    );
    let report = device.control().state().unwrap();
    assert_eq!(report.state.unwrap().b, attributes(2, 0, true));
    assert_eq!(report.mirror, report.state);
    assert_eq!(report.confirmed, Some(Slot::B));
    let journal = device.journal();
    assert_eq!((journal.floor(), journal.staged_release()), (2, None));
    assert_eq!(journal.refusal(&release.id), None);
    let events: Vec<_> = history::read(&device.journal_folder()).unwrap();
    let names: Vec<_> = events.iter().map(|e| e.event.as_str()).collect();
    assert_eq!(names, ["staged", "trial-boot", "confirmed"]);
    // From here on it costs nothing.
    let before = device.snapshot();
    assert_eq!(device.health(Slot::B).0, 0);
    assert_eq!(device.snapshot(), before);
}

#[test]
fn mere_warnings_are_looked_for_once_the_slot_is_confirmed() {
    let device = Device::new();
    device.stage(Slot::B);
    let (disk, copy) = (device.disk(), device.root().join("copy"));
    let script = format!("cp {} {}", disk.display(), copy.display());
    device.put_check("wanted.d/10-look", &script);
    let (code, text) = device.health(Slot::B);
    assert_eq!(code, 0, "{text}");
    fs::rename(&copy, &disk).unwrap();
    assert_eq!(device.state().b, attributes(2, 0, true));
}

#[test]
fn what_another_program_is_busy_with_costs_no_good_release_its_trial() {
    let device = Device::new();
    device.stage(Slot::B);
    let disk = Disk::open(device.disk(), Access::Write).unwrap();
    let _operation = TransactionLock::acquire(&disk).unwrap();
    let (code, text) = device.health(Slot::B);
    assert_eq!(code, 0, "{text}");
    assert_eq!(device.state().b, attributes(2, 0, true));
}

#[test]
fn a_root_that_is_a_relative_path_is_still_found_by_its_checks() {
    let device = Device::new();
    device.stage(Slot::B);
    device.put_check("required.d/10-ok", "exit 0");
    let root = device.root();
    let (code, text) = device.health_below(Path::new(root.file_name().unwrap()), Slot::B);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn a_confirmed_slot_costs_no_write() {
    let device = Device::new();
    device.set_state(GOOD, attributes(0, 0, false));
    device.put_check("required.d/10-bad", "exit 1");
    let before = device.snapshot();
    let (code, text) = device.health(Slot::A);
    assert_eq!((code, text.as_str()), (0, "slot a is confirmed\n"));
    assert_eq!(device.snapshot(), before);
    // Neither with an update that waits for the reboot.
    device.set_state(GOOD, TRIAL);
    device.stage(Slot::B);
    let before = device.snapshot();
    assert_eq!(device.health(Slot::A).0, 0);
    assert_eq!(device.snapshot(), before);
}

#[test]
fn a_failed_check_is_told_once_by_the_slot_that_the_loader_falls_back_to() {
    let device = Device::new();
    let release = device.stage(Slot::B);
    device.put_check("required.d/10-ok", "exit 0");
    device.put_check("required.d/50-net", "echo no route; exit 3");
    device.put_check("required.d/90-never", "touch \"$0.ran\"");
    let (code, text) = device.health(Slot::B);
    assert_eq!(code, 6, "{text}");
    assert!(
        text.contains("health: required.d/50-net: exit status: 3: no route"),
        "{text}"
    );
    assert!(
        !device
            .root()
            .join("usr/lib/tandem/health.d/required.d/90-never.ran")
            .exists()
    );
    assert_eq!(device.state().b, TRIAL);
    assert_eq!(device.control().state().unwrap().confirmed, Some(Slot::A));
    assert_eq!(device.journal().refusal(&release.id), None);

    device.set_state(GOOD, SPENT);
    let (code, text) = device.health(Slot::A);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains("the loader came back from 2.0.0: health: required.d/50-net"),
        "{text}"
    );
    let journal = device.journal();
    let refusal = journal.refusal(&release.id).unwrap();
    assert_eq!(refusal.reason.cause, Cause::Health);
    assert!(refusal.reason.detail.ends_with("no route"));
    assert_eq!((journal.floor(), journal.staged_release()), (0, None));

    let before = device.snapshot();
    assert_eq!(device.health(Slot::A), (0, "slot a is confirmed\n".into()));
    assert_eq!(device.snapshot(), before);
}

#[test]
fn a_check_that_hangs_fails_in_its_time() {
    let device = Device::new();
    device.put("etc/tandem/update.conf", "HEALTH_TIMEOUT=1\n");
    device.put_check("required.d/10-hang", "echo waiting; sleep 100000");
    let (code, text) = device.health(Slot::B);
    assert_eq!(code, 6, "{text}");
    assert!(
        text.contains("required.d/10-hang: no result within 1 s: waiting"),
        "{text}"
    );
    let staged = device.journal().staged_release().unwrap().clone();
    assert_eq!(staged.failure.unwrap().cause, Cause::Health);
}

#[test]
fn all_checks_together_have_a_deadline() {
    let device = Device::new();
    device.put("etc/tandem/update.conf", "HEALTH_DEADLINE=1\n");
    device.put_check("wanted.d/10-hang", "exit 0");
    device.put_check("required.d/10-slow", "sleep 0.6");
    device.put_check("required.d/20-hang", "sleep 100000");
    let (code, text) = device.health(Slot::B);
    assert_eq!(code, 6, "{text}");
    assert!(text.contains("required.d/20-hang: n"), "{text}");
}

#[test]
fn a_slot_that_is_not_what_was_announced_is_not_confirmed() {
    let cases: [(&str, i32, Change); 8] = [
        ("IMAGE_VERSION=2.0.1, announced was 2.0.0", 6, |d| {
            d.put_os_release("demo", "2.0.1", "2")
        }),
        ("IMAGE_ID=other, announced was demo", 6, |d| {
            d.put_os_release("other", "2.0.0", "2")
        }),
        ("TANDEM_ROLLBACK_INDEX=1, announced was 2", 6, |d| {
            d.put_os_release("demo", "2.0.0", "1")
        }),
        ("usr/lib/os-release has no IMAGE_ID", 6, |d| {
            d.put("usr/lib/os-release", "")
        }),
        ("not for this board, x86_64-grub", 6, |d| {
            let mut manifest = manifest("demo", "2.0.0", 2);
            manifest.boards.clear();
            manifest.boards.push("rpi4-uboot".parse().unwrap()).unwrap();
            d.put_record(Slot::B, &manifest, 1);
        }),
        (
            "0 of 1 required signatures are valid (1 by unknown keys, 0 wrong)",
            7,
            |d| {
                d.put_record(Slot::B, &manifest("demo", "2.0.0", 2), 2);
            },
        ),
        ("no key is trusted", 7, |d| {
            fs::remove_dir_all(d.root().join("usr/lib/tandem/keys.d")).unwrap();
        }),
        ("it is not an Ed25519 public key", 7, |d| {
            d.put("usr/lib/tandem/keys.d/x.pub.pem", "x");
        }),
    ];
    for (message, exit, spoil) in cases {
        let device = Device::new();
        spoil(&device);
        device.put_check("required.d/10-never", "touch \"$0.ran\"");
        let (code, text) = device.health(Slot::B);
        assert!(text.contains(message), "{message}: {text}");
        assert_eq!(code, exit, "{text}");
        assert!(
            !device
                .root()
                .join("usr/lib/tandem/health.d/required.d/10-never.ran")
                .exists()
        );
        assert_eq!(device.state().b, TRIAL);
        let staged = device.journal().staged_release().unwrap().clone();
        assert_eq!(staged.failure.unwrap().cause, Cause::Announcement);
    }
}

#[test]
fn a_damaged_slot_record_is_the_mediums_fault_and_refuses_nothing() {
    let device = Device::new();
    let release = device.stage(Slot::B);
    // One byte in the body.
    device.put_bytes((16 << 20) + 512, &[0; 512]);
    let (code, text) = device.health(Slot::B);
    assert_eq!(code, 1, "{text}");
    device.set_state(GOOD, SPENT);
    assert!(device.health(Slot::A).1.contains("medium"));
    assert_eq!(device.journal().refusal(&release.id), None);
}

#[test]
fn unexplained_twice_is_refused() {
    let device = Device::new();
    device.set_state(GOOD, SPENT);
    let release = device.stage(Slot::B);
    assert!(device.health(Slot::A).1.contains("unexplained"));
    assert_eq!(device.journal().refusal(&release.id), None);
    // Told once only, whatever the number of boots.
    assert_eq!(device.health(Slot::A).1, "slot a is confirmed\n");
    assert_eq!(device.journal().failed(&release.id).unwrap().unexplained, 1);
    device.stage(Slot::B);
    assert!(device.health(Slot::A).1.contains("unexplained"));
    assert_eq!(
        device.journal().refusal(&release.id).unwrap().unexplained,
        2
    );
}

#[test]
fn what_the_failed_boot_left_behind_is_the_reason() {
    let cases: [(Cause, Change); 3] = [
        (Cause::Load, |d| {
            d.put("proc/cmdline", "tandem.slot=a tandem.skipped=b\n")
        }),
        (Cause::Init, |d| {
            d.put("var/lib/tandem/boot-failure", "slot=b mount /usr: bad\n")
        }),
        (Cause::Panic, |d| {
            d.put("sys/fs/pstore/dmesg-erst-1", "Panic#1\nKernel panic - x\n")
        }),
    ];
    for (cause, leave) in cases {
        let device = Device::new();
        device.set_state(GOOD, SPENT);
        let release = device.stage(Slot::B);
        leave(&device);
        let (code, text) = device.health(Slot::A);
        assert!(text.contains(cause.as_str()), "{text}");
        assert_eq!(code, 0);
        assert_eq!(
            device.journal().refusal(&release.id).unwrap().reason.cause,
            cause
        );
        let before = device.snapshot();
        assert_eq!(device.health(Slot::A).1, "slot a is confirmed\n");
        assert_eq!(device.snapshot(), before);
    }
}

#[test]
fn a_release_that_does_not_load_is_refused_while_it_has_tries_left_and_forgiven_when_it_proves_itself()
 {
    let device = Device::new();
    let release = device.stage(Slot::B);
    device.put("proc/cmdline", "tandem.slot=a tandem.skipped=b\n");
    assert!(device.health(Slot::A).1.contains("load"));
    assert!(device.journal().refusal(&release.id).is_some());
    assert_eq!(device.state().b, TRIAL);
    assert_eq!(device.health(Slot::B).0, 0);
    assert_eq!(device.journal().refusal(&release.id), None);
    assert_eq!(device.journal().floor(), 2);
}

#[test]
fn a_cut_between_boot_state_and_journal_is_made_good() {
    let device = Device::new();
    device.stage(Slot::B);
    device.control().mark_successful(Slot::B).unwrap();
    assert_eq!(device.journal().floor(), 0);
    assert_eq!(device.health(Slot::B).0, 0);
    assert_eq!(device.journal().floor(), 2);
    assert_eq!(device.journal().staged_release(), None);
}

#[test]
fn a_corrupt_journal_stops_nothing() {
    let device = Device::new();
    device.put("var/lib/tandem/journal.json", "{\"format\":1,\"floor\":");
    let (code, text) = device.health(Slot::B);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("journal.json.corrupt"), "{text}");
    assert_eq!(device.journal().floor(), 2);
    // Nor does a place where none can be.
    let device = Device::new();
    device.put("var/lib/tandem", "a file");
    let (code, text) = device.health(Slot::B);
    assert_eq!(code, 0, "{text}");
    assert!(device.state().b.is_confirmed());
}

#[test]
fn a_lost_environment_is_rebuilt_and_not_taken_for_a_fallback() {
    let device = Device::new();
    let release = device.stage(Slot::B);
    device.put_bytes((20 << 20) + (64 << 10), &[0; 512]);
    let (code, text) = device.health(Slot::A);
    assert_eq!(code, 0, "{text}");
    assert_eq!(device.state().b, bootctl::Attributes::UNBOOTABLE);
    assert!(device.state().a.is_confirmed());
    assert_eq!(device.journal().failed(&release.id), None);
}

#[test]
fn a_disk_needs_its_slot_and_its_folders() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_update_engine"))
        .args(["health", "--disk", "/nonexistent"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}
