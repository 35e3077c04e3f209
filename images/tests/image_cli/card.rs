//! Cards for a Raspberry Pi and disks for U-Boot, and what other tools say about them.

use std::os::unix::fs::FileExt;

use bootctl::control::Control;
use bootctl::descriptor::Store;
use bootctl::disk::{Access, Disk};
use bootctl::{BootState, Slot};

use crate::bench::Bench;

const SMALL: &str =
    "--product demo --version 1.0.0 --key keys/release.pub.pem --slot-size 16M --root-size 32M";
/// What a folder of the maker's holds, with what must never get on a card.
const FIRMWARE: [&str; 10] = [
    "bootcode.bin",
    "start.elf",
    "fixup.dat",
    "start4.elf",
    "fixup4.dat",
    "start_x.elf",
    "pieeprom.bin",
    "pieeprom.upd",
    "recovery.bin",
    "vl805.bin",
];
const TREES: [&str; 5] = [
    "bcm2837-rpi-3-b.dtb",
    "bcm2837-rpi-zero-2-w.dtb",
    "bcm2711-rpi-4-b.dtb",
    "bcm2711-rpi-400.dtb",
    "bcm2836-rpi-2-b.dtb",
];

fn bench() -> Bench {
    let bench = Bench::new();
    bench.releases();
    parts(&bench);
    bench
}

fn parts(bench: &Bench) {
    for name in FIRMWARE {
        bench.write(&format!("firmware/{name}"), name.repeat(70_000).as_bytes());
    }
    for name in TREES {
        let tree = [b"\xd0\x0d\xfe\xed", name.as_bytes()].concat();
        bench.write(&format!("trees/{name}"), &tree);
    }
    bench.write("u-boot.bin", &[7; 600_000]);
}

fn build(board: &str) -> String {
    let card = "--firmware firmware --device-trees trees --u-boot u-boot.bin";
    let card = if board.starts_with("rpi") { card } else { "" };
    let line = format!("build --board {board} --usr v1.img {SMALL} {card} --out {board}.img");
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn state(bench: &Bench, disk: &str) -> (Store, Option<BootState>) {
    let disk = Disk::open(bench.path(disk), Access::Read).unwrap();
    let mut control = Control::open(disk).unwrap();
    let record = control.read_slot_record(Slot::A).unwrap();
    assert_eq!(record.version.as_str(), "1.0.0");
    let store = control.descriptor().store;
    (store, control.state().unwrap().state)
}

fn no_problems(bench: &Bench, disk: &str) {
    let problems = bench.tool(&format!("sgdisk -v {disk}"));
    assert!(problems.contains("No problems found"), "{problems}");
    let attributes = ["-P", "-T", "-S"].map(|flag| {
        let found = bench.tool(&format!("cgpt show -i 3 {flag} {disk}"));
        found.trim().to_owned()
    });
    assert_eq!(attributes, ["1", "0", "1"]);
    bench.write("fat", &bench.part(disk, 1));
    bench.tool("fsck.vfat -n fat");
    for number in [6, 9] {
        bench.write("fs", &bench.part(disk, number));
        bench.tool("e2fsck -fn fs");
    }
}

#[test]
fn a_card_for_a_pi_has_the_fat_first_and_nothing_that_updates_an_eeprom() {
    let bench = bench();
    for (board, firmware, trees) in [
        (
            "rpi3-uboot",
            ["bootcode.bin", "fixup.dat", "start.elf"].as_slice(),
            &TREES[..2],
        ),
        ("rpi4-uboot", &["fixup4.dat", "start4.elf"], &TREES[2..4]),
    ] {
        let disk = format!("{board}.img");
        bench.image(&format!("{} --power-of-two", build(board)));
        assert!(bench.size(&disk).is_power_of_two());
        no_problems(&bench, &disk);
        let (store, found) = state(&bench, &disk);
        assert_eq!(store, Store::Gpt);
        assert!(found.unwrap().get(Slot::A).is_confirmed());

        // FAT at 8 MiB with 64 MiB, then the table's protection from LBA 1, and nothing else.
        let mut mbr = [0; 66];
        let file = std::fs::File::open(bench.path(&disk)).unwrap();
        file.read_exact_at(&mut mbr, 446).unwrap();
        let entry = |at: usize| {
            let number = |at: usize| u32::from_le_bytes(mbr[at..at + 4].try_into().unwrap());
            (mbr[at + 4], number(at + 8), number(at + 12))
        };
        assert_eq!(entry(0), (0x0C, 16384, 131_072));
        assert_eq!(entry(16), (0xEE, 1, 16383));
        assert!(mbr[32..64].iter().all(|&b| b == 0));
        assert_eq!(mbr[64..], [0x55, 0xAA]);
        let dos = bench.tool(&format!("fdisk -l -t dos {disk}"));
        assert!(dos.contains("W95 FAT32 (LBA)"), "{dos}");

        let listing = bench.tool("mdir -b -i fat ::");
        let mut found: Vec<&str> = listing
            .lines()
            .filter_map(|l| l.strip_prefix("::/"))
            .collect();
        found.sort_unstable();
        let mut wanted = vec!["boot.scr", "config.txt", "u-boot.bin"];
        wanted.extend(firmware);
        wanted.extend(trees);
        wanted.sort_unstable();
        assert_eq!(found, wanted);
        // The chip's ROM knows no long names.
        let listing = bench.tool("mdir -i fat ::");
        for name in firmware {
            let short = name.replace('.', " ").to_uppercase();
            let (stem, end) = short.split_once(' ').unwrap();
            let line = format!("{stem:<8} {end}");
            assert!(
                listing.to_uppercase().contains(&line),
                "{line} in {listing}"
            );
        }
        for name in wanted {
            bench.tool(&format!("mcopy -n -o -i fat ::{name} copied"));
            let original = match name {
                "boot.scr" | "config.txt" => continue,
                "u-boot.bin" => name.to_owned(),
                tree if tree.ends_with(".dtb") => format!("trees/{tree}"),
                firmware => format!("firmware/{firmware}"),
            };
            assert!(bench.read("copied") == bench.read(&original), "{name}");
        }
        bench.tool("mcopy -n -o -i fat ::boot.scr boot.scr");
        let script = bench.tool("mkimage -l boot.scr");
        assert!(script.contains("AArch64 Linux Script"), "{script}");
        bench.tool("mcopy -n -o -i fat ::config.txt config.txt");
        let config = String::from_utf8(bench.read("config.txt")).unwrap();
        assert!(config.contains("\nkernel=u-boot.bin\n"), "{config}");
        // Nothing is in OEM-CONFIG but the two records.
        assert!(bench.part(&disk, 7)[..15 << 20].iter().all(|&b| b == 0));
    }
}

#[test]
fn the_watchdog_is_in_the_script_unless_it_is_left_out() {
    let bench = bench();
    let script = |options: &str, address: &str, board: &str| {
        bench.image(&format!("{}{options}", build(board)));
        bench.write("fat", &bench.part(&format!("{board}.img"), 1));
        bench.tool("mcopy -n -o -i fat ::boot.scr boot.scr");
        String::from_utf8_lossy(&bench.read("boot.scr")).contains(address)
    };
    assert!(script("", "mw.l 3f100024", "rpi3-uboot"));
    assert!(script("", "mw.l fe100024", "rpi4-uboot"));
    assert!(!script(
        " --no-loader-watchdog",
        "mw.l 3f1000",
        "rpi3-uboot"
    ));
}

#[test]
fn an_environment_sector_is_read_by_fw_printenv() {
    let bench = bench();
    let disk = "arm64-uboot-env.img";
    bench.image(&build("arm64-uboot-env"));
    no_problems(&bench, disk);
    let listing = bench.tool("mdir -b -i fat ::");
    assert_eq!(listing.trim(), "::/boot.scr");
    let (store, found) = state(&bench, disk);
    let Store::UbootEnv { offset, size } = store else {
        panic!("{store:?}");
    };
    assert_eq!((offset, size), ((16 << 20) - (256 << 10), 512));
    assert!(found.unwrap().get(Slot::A).is_confirmed());
    let env = &bench.part(disk, 7)[usize::try_from(offset).unwrap()..][..512];
    bench.write("env", env);
    bench.write(
        "fw_env.config",
        format!("{} 0x0 0x200\n", bench.path("env").display()).as_bytes(),
    );
    let mut listed: Vec<String> = bench
        .tool("fw_printenv -c fw_env.config")
        .lines()
        .map(str::to_owned)
        .collect();
    listed.sort();
    let wanted = [
        "tandem_a_priority=1",
        "tandem_a_successful=1",
        "tandem_a_tries=0",
        "tandem_b_priority=0",
        "tandem_b_successful=0",
        "tandem_b_tries=0",
        "tandem_check=101000",
    ];
    assert_eq!(listed, wanted);
    // The script reads the sector where the descriptor says it is.
    let file = std::fs::File::open(bench.path(disk)).unwrap();
    let config = bench.part(disk, 7);
    bench.tool("mcopy -n -o -i fat ::boot.scr boot.scr");
    let script = String::from_utf8_lossy(&bench.read("boot.scr")).into_owned();
    let (_, rest) = script.split_once("${devtype} read 40320000 ").unwrap();
    let (lba, _) = rest.split_once(' ').unwrap();
    let lba = u64::from_str_radix(lba, 16).unwrap();
    let mut sector = [0; 512];
    file.read_exact_at(&mut sector, lba * 512).unwrap();
    assert!(sector == config[usize::try_from(offset).unwrap()..][..512]);
}

/// Only U-Boot knows what belongs in its environment: it is left empty, and the boot script asks for it.
#[test]
fn u_boots_own_environment_is_where_fw_env_config_says() {
    let bench = bench();
    let disk = "arm64-uboot-env.img";
    let with = |lines: &str, more: &str| {
        bench.write("own.config", lines.as_bytes());
        format!(
            "{} --fw-env-config own.config{more}",
            build("arm64-uboot-env")
        )
    };
    let lines =
        "# where U-Boot looks\n/dev/mmcblk0 0x400000 0x4000\n/dev/mmcblk0 0x440000 0x4000\n";
    bench.image(&with(lines, " --script-memory 0x2500000"));
    no_problems(&bench, disk);
    let (store, found) = state(&bench, disk);
    let wanted = Store::UbootEnvRedundant {
        offset: 0x40_0000,
        offset2: 0x44_0000,
        size: 0x4000,
    };
    assert_eq!((store, found), (wanted, None));
    bench.write("fat", &bench.part(disk, 1));
    bench.tool("mcopy -n -o -i fat ::boot.scr boot.scr");
    let script = String::from_utf8_lossy(&bench.read("boot.scr")).into_owned();
    for text in [
        "setenv t_places 2000.2200.20",
        " 2520000 ${t_copy} 20 &&",
        "if saveenv; then",
    ] {
        assert!(script.contains(text), "{text}");
    }

    for (lines, code, cause) in [
        ("/dev/mmcblk0 0x400000 0x4000\n", 2, "names 1 copies"),
        (
            "/dev/mmcblk0p1 0 200\n/dev/mmcblk0p1 200 200\n",
            2,
            "is a partition",
        ),
        (
            "/dev/mmcblk0 0 200\n/dev/mmcblk0 0x400000 200\n",
            2,
            "partition table",
        ),
        (
            "/dev/mmcblk0 0x400000 200\n/dev/mmcblk0 0x800000 200\n",
            2,
            "first partition",
        ),
        (
            "/dev/mmcblk0 0x400000 200\n/dev/mmcblk0 0x400100 200\n",
            2,
            "multiple of 512",
        ),
        (
            "/dev/mmcblk0 0x400000 21000\n/dev/mmcblk0 0x440000 21000\n",
            2,
            "multiples of 512 from 512 to 131072",
        ),
    ] {
        let error = bench.image_fails(&with(lines, ""), code);
        assert!(error.contains(cause), "{error}");
        assert!(error.contains("--fw-env-config"), "{error}");
    }
    for (board, option) in [
        ("rpi3-uboot", "--fw-env-config own.config"),
        ("x86_64-grub", "--script-memory 0"),
    ] {
        let error = bench.image_fails(&format!("{} {option}", build(board)), 2);
        assert!(error.contains("has nothing of that kind"), "{error}");
    }
}

#[test]
fn the_same_parts_give_the_same_card_and_a_written_card_keeps_the_hybrid_mbr() {
    let (one, two) = (bench(), Bench::with_shell("umask 077; exec \"$@\""));
    for key in ["release.key.pem", "release.pub.pem"] {
        two.write(&format!("keys/{key}"), &one.read(&format!("keys/{key}")));
    }
    two.images();
    parts(&two);
    for board in ["rpi3-uboot", "arm64-uboot-env"] {
        for bench in [&one, &two] {
            bench.image(&build(board));
        }
        for file in [format!("{board}.img"), format!("{board}.img.bmap")] {
            assert!(one.read(&file) == two.read(&file), "{file}");
        }
    }
    let size = usize::try_from(one.size("rpi3-uboot.img")).unwrap();
    one.write("card", &vec![0xA5; size + (9 << 20)]);
    one.image("write rpi3-uboot.img card --yes");
    no_problems(&one, "card");
    assert!(one.read("card")[440..512] == one.read("rpi3-uboot.img")[440..512]);
    assert_eq!(state(&one, "card").0, Store::Gpt);
}

#[test]
fn a_block_map_is_taken_by_bmaptool_and_leaves_out_nothing_that_is_read() {
    let bench = bench();
    bench.image(&build("rpi3-uboot"));
    bench.tool("bmaptool -q copy --bmap rpi3-uboot.img.bmap rpi3-uboot.img flashed");
    let image = bench.read("rpi3-uboot.img");
    // What is not mapped is what was on the card before.
    let mut card = vec![0xA5; image.len()];
    let map = String::from_utf8(bench.read("rpi3-uboot.img.bmap")).unwrap();
    let mut mapped = 0;
    for line in map.lines().filter(|l| l.contains("<Range")) {
        let (_, range) = line.split_once("\">").unwrap();
        let (range, _) = range.split_once('<').unwrap();
        let (first, last) = range.split_once('-').unwrap();
        let [first, last] = [first, last].map(|n| n.parse::<usize>().unwrap() * 4096);
        card[first..last + 4096].copy_from_slice(&image[first..last + 4096]);
        mapped += last + 4096 - first;
    }
    assert!(mapped < image.len() - (20 << 20), "{mapped}");
    bench.write("card", &card);
    no_problems(&bench, "card");
    assert_eq!(state(&bench, "card").0, Store::Gpt);
    let disk = Disk::open(bench.path("card"), Access::Read).unwrap();
    assert!(
        Control::open(disk)
            .unwrap()
            .read_slot_record(Slot::B)
            .is_err()
    );
    let v1 = bench.read("v1.img");
    assert!(bench.part("card", 3)[..v1.len()] == v1[..]);
}

#[test]
fn what_a_card_lacks_is_named_with_its_package() {
    let bench = bench();
    for (missing, package) in [
        ("firmware/start.elf", "raspi-firmware"),
        ("u-boot.bin", "u-boot-rpi"),
        ("trees", "--device-trees"),
    ] {
        bench.tool(&format!("mv {missing} away"));
        let error = bench.image_fails(&build("rpi3-uboot"), 1);
        assert!(error.contains(package), "{error}");
        bench.tool(&format!("mv away {missing}"));
    }
    bench.write("trees/bcm2837-rpi-3-b.dtb", b"<html>");
    let error = bench.image_fails(&build("rpi3-uboot"), 1);
    assert!(
        error.contains("bcm2837-rpi-3-b.dtb is no device tree"),
        "{error}"
    );
    assert!(!bench.exists("rpi3-uboot.img") && !bench.exists("rpi3-uboot.img.bmap"));
}

#[test]
fn an_option_for_another_kind_of_board_is_not_ignored() {
    let bench = bench();
    for (board, option) in [
        ("x86_64-grub", "--firmware firmware"),
        ("x86_64-grub", "--no-loader-watchdog"),
        ("rpi3-uboot", "--grub-dir firmware"),
        ("arm64-uboot-env", "--u-boot u-boot.bin"),
        ("arm64-uboot-env", "--config-txt u-boot.bin"),
    ] {
        let error = bench.image_fails(&format!("{} {option}", build(board)), 2);
        let (option, _) = option.split_once(' ').unwrap_or((option, ""));
        assert!(error.contains(option) && error.contains(board), "{error}");
    }
    let error = bench.image_fails(&format!("{} --sector-size 4096", build("rpi3-uboot")), 6);
    assert!(error.contains("4096"), "{error}");
    bench.write("own.txt", b"enable_uart=0\n");
    bench.image(&format!("{} --config-txt own.txt", build("rpi3-uboot")));
    bench.write("fat", &bench.part("rpi3-uboot.img", 1));
    bench.tool("mcopy -n -o -i fat ::config.txt copied");
    assert_eq!(bench.read("copied"), b"enable_uart=0\n");
}
