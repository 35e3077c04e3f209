//! Disks that can't be written, that are none, and whose own records are damaged.

use std::fs;
use std::process::Command;

use crate::fixture::{Content, Disk, How, Map, Outcome, Program, lab};

/// Applies the good payload where no file may grow or be written past byte `limit`: the disk is full from there on.
fn apply_with_room(disk: &Disk, limit: u64) -> Outcome {
    let setup = format!("trap '' XFSZ; ulimit -f {}", limit / 512);
    let mut command = Program::UpdateEngine.command_after(&setup);
    let path = lab().path("payload");
    // Written before the limit counts.
    fs::write(&path, &lab().good).unwrap();
    command.args(disk.apply_arguments(path.to_str().unwrap(), &[]));
    Program::UpdateEngine.finish(&mut command, b"")
}

#[test]
fn a_disk_whose_backup_table_can_not_be_written_keeps_its_slots() {
    let disk = Disk::both();
    let usr_b = Map::of(disk.before()).usr_b;
    for limit in [
        512,
        usr_b.start,
        usr_b.start + 5000,
        disk.before().len - 512,
    ] {
        apply_with_room(&disk, limit).fails(1, "", &limit);
        // Its attributes may have gone from a store that was written before the one that failed.
        let after = Content::read(disk.path().as_ref());
        let different = disk.before().differences(&after);
        assert!(
            !different.iter().any(|at| usr_b.contains(at)),
            "{limit}: slot B was written"
        );
        disk.restore();
    }
}

#[test]
fn a_disk_that_is_full_in_the_middle_of_the_slot() {
    let disk = Disk::single();
    let usr_b = Map::of(disk.before()).usr_b;
    // At a block, inside of one, and where the record would go.
    for limit in [
        0,
        512,
        1 << 20,
        1_500_160,
        2 << 20,
        usr_b.end - usr_b.start - (4 << 20),
    ] {
        apply_with_room(&disk, usr_b.start + limit).fails(1, "", &limit);
        disk.is_unchanged_but_for_passive(&limit);
        disk.takes_good(&limit);
        disk.restore();
    }
}

#[test]
fn things_that_are_no_disk() {
    let empty = lab().path("empty");
    fs::write(&empty, b"").unwrap();
    let small = lab().path("small");
    fs::write(&small, vec![0; 1000]).unwrap();
    let zeros = lab().path("zeros");
    fs::File::create(&zeros).unwrap().set_len(64 << 20).unwrap();
    let odd = lab().path("odd");
    fs::write(&odd, &lab().good).unwrap();
    let folder = lab().path("folder");
    fs::create_dir(&folder).unwrap();
    let fifo = lab().path("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let keys = lab().keys();
    let missing = lab().path("missing");
    for path in [
        &empty,
        &small,
        &zeros,
        &odd,
        &folder,
        &fifo,
        &missing,
        &"/dev/null".into(),
        &"/dev/zero".into(),
    ] {
        let path = path.to_str().unwrap();
        let keys = keys.to_str().unwrap();
        for more in [&[][..], &["--check"]] {
            let mut arguments = vec!["apply", "--disk", path, "--payload", "-", "--keys", keys];
            arguments.extend(more);
            let mut command = Program::UpdateEngine.command();
            let outcome = Program::UpdateEngine.finish(command.args(&arguments), &lab().good);
            outcome.fails(1, path, &arguments);
        }
        for verb in [
            &["status"][..],
            &["show"],
            &["next"],
            &["verify"],
            &["activate", "b"],
            &["repair"],
            &["sync"],
        ] {
            let mut arguments = vec!["--disk", path];
            arguments.extend(verb);
            Program::Bootctl.run(&arguments).fails(1, "", &arguments);
        }
    }
}

#[test]
fn payloads_that_can_not_be_read() {
    let disk = Disk::both();
    let folder = lab().path("folder");
    fs::create_dir(&folder).unwrap();
    // Reading this file fails with EIO at address 0.
    for path in ["/nonexistent", folder.to_str().unwrap(), "/proc/self/mem"] {
        let arguments = disk.apply_arguments(path, &[]);
        let mut command = Program::UpdateEngine.command();
        let outcome = Program::UpdateEngine.finish(command.args(arguments), b"");
        outcome.fails(1, "payload", &path);
        disk.is_unchanged(&path);
    }
}

#[test]
fn descriptors_that_are_none() {
    let store = |store: &str| {
        format!(
            r#"{{"format":1,"board":"x86_64-grub","product":"demo","slot_record":4194304,"store":{store}}}"#
        )
    };
    let grub = |offset: &str, size: &str| {
        store(&format!(
            r#"{{"kind":"grub-block","offset":{offset},"size":{size}}}"#
        ))
    };
    let texts = [
        String::new(),
        "{}".to_owned(),
        "[".repeat(500),
        "\u{7f}ELF".to_owned(),
        store("{}"),
        store("null"),
        store(r#"{"kind":"floppy"}"#),
        grub("18446744073709551615", "512"),
        grub("18446744073709551104", "512"),
        grub("16777216", "512"),
        grub("16776705", "512"),
        grub("0", "18446744073709551615"),
        grub("0", "4294967808"),
        grub("0", "0"),
        grub("513", "512"),
        grub("-512", "512"),
        grub("4096", "512").replace(":1,", ":2,"),
        grub("4096", "512").replace("4194304", "0"),
        grub("4096", "512").replace("demo", "../demo"),
        grub("4096", "512").replace("demo", &"d".repeat(65)),
        store(r#"{"kind":"uboot-env","offset":0,"size":4}"#),
        store(r#"{"kind":"uboot-env-redundant","offset":4096,"offset2":4096,"size":4096}"#),
        store(
            r#"{"kind":"uboot-env-redundant","offset":4096,"offset2":18446744073709551104,"size":4096}"#,
        ),
    ];
    let mut disk = Disk::both();
    let at = Map::of(disk.before()).descriptor_at();
    for text in texts {
        let mut sector = text.clone().into_bytes();
        sector.push(b'\n');
        sector.resize(512, 0);
        disk.edit(at, &sector);
        for how in How::BOTH {
            disk.refuses(how, &lab().good, &[], (1, ""), &(&text, how));
        }
        for verb in [
            &["status"][..],
            &["next"],
            &["mark-unbootable", "b"],
            &["rollback"],
            &["repair"],
            &["sync"],
        ] {
            let mut arguments = vec!["--disk", disk.path()];
            arguments.extend(verb);
            Program::Bootctl
                .run(&arguments)
                .fails(1, "", &(&text, verb));
            disk.is_unchanged(&(&text, verb));
        }
    }
}

#[test]
fn an_environment_that_is_lost() {
    for (what, bytes) in [
        ("zeros", vec![0; 512]),
        ("ones", vec![0xff; 512]),
        (
            "another check",
            b"# GRUB Environment Block\ntandem_a_priority=9\n".to_vec(),
        ),
        (
            "no check",
            b"# GRUB Environment Block\n###########".to_vec(),
        ),
    ] {
        let mut disk = Disk::both();
        let at = Map::of(disk.before()).environment_at();
        disk.edit(at, &bytes);
        for more in [&[][..], &["--active", "a"], &["--active", "b"]] {
            disk.refuses(How::File, &lab().good, more, (6, ""), &(what, more));
        }
        let repair = ["--disk", disk.path(), "repair"];
        assert_eq!(Program::Bootctl.run(&repair).code, Some(0), "{what}");
        disk.takes_good(&what);
    }
}

#[test]
fn a_confirmed_record_that_is_damaged_names_the_active_slot_again() {
    for bytes in [vec![0; 512], vec![0xff; 512]] {
        let mut disk = Disk::both();
        let at = Map::of(disk.before()).confirmed_at();
        let good = disk.before().bytes(at, 512);
        disk.edit(at, &bytes);
        disk.takes_good(&bytes[0]);
        let after = Content::read(disk.path().as_ref());
        assert_eq!(after.bytes(at, 512)[..64], good[..64], "{:#x}", bytes[0]);
    }
}

#[test]
fn records_of_slots_that_lie() {
    let mut disk = Disk::both();
    let usr_b = Map::of(disk.before()).usr_b;
    let slot_len = usr_b.end - usr_b.start;
    let record_a = usr_b.start - (4 << 20);
    assert_eq!(
        disk.before().bytes(record_a, 8),
        b"TANDEMSR",
        "slot A ends where B begins"
    );
    let good = disk.before().bytes(record_a, 512);
    for (at, bytes) in [
        (0, vec![0; 512]),
        (0, vec![0xff; 512]),
        (16, u64::MAX.to_le_bytes().to_vec()),
        (16, (slot_len - 4096).to_le_bytes().to_vec()),
        (88, u32::MAX.to_le_bytes().to_vec()),
        (112, vec![255]),
        (177, vec![65]),
    ] {
        // One bad sector is not the end of all updates: the slot has words of its own.
        disk.edit(record_a, &good);
        disk.edit(record_a + at, &bytes);
        let looked = disk.apply(How::File, &lab().good, &["--check"]);
        assert_eq!(looked.code, Some(0), "{at}: {looked:#?}");
        let words = "by its own words it holds 1.0.0";
        assert!(looked.stderr.contains(words), "{at}: {looked:#?}");
        let status = Program::Bootctl.run(&["--disk", disk.path(), "status", "--json"]);
        assert_eq!(status.code, Some(0), "{at}: {status:#?}");
        disk.is_unchanged(&at);
        let verify = Program::Bootctl.run(&["--disk", disk.path(), "verify", "a"]);
        assert!(matches!(verify.code, Some(1 | 7)), "{at}: {verify:#?}");
    }
}
