//! `cgpt` and `sgdisk` agree with us on the same disks, in both directions.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::path::Path;
use std::process::Command;

use bootctl::disk::{Access, Disk};
use bootctl::gpt::{Copies, Gpt, Guid, OEM_CONFIG, ROOT, TYPE_USR, USR_A};
use bootctl::{Attributes, BlockIo, BootState, Slot};
use tempfile::NamedTempFile;

const SECTORS: u64 = 8192;
/// "No block I/O" and "no automount": bits of the GPT that are not ours.
const FOREIGN: [&str; 2] = ["3:set:1", "4:set:63"];

/// Runs a tool on a disk; it must exist and succeed.
fn tool(program: &str, arguments: &[&str], disk: &Path) -> String {
    let mut command = Command::new(program);
    let output = command.args(arguments).arg(disk).output();
    let output = output.unwrap_or_else(|error| panic!("run {program}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {text}{errors}"
    );
    text
}

/// A disk that sgdisk made: USR-A, USR-B, OEM-CONFIG and ROOT.
fn disk() -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(SECTORS * 512).unwrap();
    let usr = TYPE_USR.to_string();
    let mut arguments = vec!["-a", "8"];
    let types = [format!("3:{usr}"), format!("4:{usr}")];
    arguments.extend(["-n", "3:2048:3071", "-t", &types[0], "-c", "3:USR-A"]);
    arguments.extend(["-n", "4:3072:4095", "-t", &types[1], "-c", "4:USR-B"]);
    arguments.extend([
        "-n",
        "7:4096:5119",
        "-c",
        "7:OEM-CONFIG",
        "-n",
        "9:5120:6143",
        "-c",
        "9:ROOT",
    ]);
    for bit in FOREIGN {
        arguments.extend(["-A", bit]);
    }
    tool("sgdisk", &arguments, file.path());
    file
}

fn sgdisk_is_content(disk: &Path) {
    let text = tool("sgdisk", &["-v"], disk);
    assert!(text.contains("No problems found"), "{text}");
}

fn read(disk: &Path) -> Gpt {
    Gpt::read(&mut Disk::open(disk, Access::Read).unwrap()).unwrap()
}

/// Reads, edits, commits.
fn change(disk: &Path, edit: impl FnOnce(&mut Gpt)) {
    let mut io = Disk::open(disk, Access::Write).unwrap();
    let mut gpt = Gpt::read(&mut io).unwrap();
    edit(&mut gpt);
    gpt.commit(&mut io).unwrap();
}

fn attributes(bits: u64) -> Attributes {
    Attributes::from_gpt((bits & 0x1ff) << 48)
}

fn cgpt_add(disk: &Path, slot: Slot, attributes: Attributes) {
    let number = slot.partition_number().to_string();
    let priority = attributes.priority.get().to_string();
    let tries = attributes.tries.get().to_string();
    let successful = u8::from(attributes.successful).to_string();
    let flags = [
        "add",
        "-i",
        &number,
        "-P",
        &priority,
        "-T",
        &tries,
        "-S",
        &successful,
    ];
    tool("cgpt", &flags, disk);
}

fn cgpt_shows(disk: &Path, slot: Slot) -> [u8; 3] {
    let number = slot.partition_number().to_string();
    ["-P", "-T", "-S"].map(|flag| {
        let text = tool("cgpt", &["show", "-i", &number, flag], disk);
        text.trim()
            .parse()
            .unwrap_or_else(|_| panic!("cgpt shows {text:?} for {flag}"))
    })
}

/// Strides through all 512 × 512 pairs of attributes.
fn states(count: u64) -> impl Iterator<Item = BootState> {
    (0..count).map(|n| BootState {
        a: attributes(n * 37 + 5),
        b: attributes(n * 211 + n / 7),
    })
}

#[test]
fn boot_states_mean_the_same_to_cgpt() {
    let file = disk();
    let path = file.path();
    let mut previous = None;
    for (n, state) in states(240).enumerate() {
        if n % 2 == 0 {
            cgpt_add(path, Slot::A, state.a);
            cgpt_add(path, Slot::B, state.b);
            assert_eq!(read(path).copies(), Copies::Both);
        } else {
            change(path, |gpt| gpt.set_boot_state(state).unwrap());
            sgdisk_is_content(path);
            for slot in Slot::ALL {
                let Attributes {
                    priority,
                    tries,
                    successful,
                } = state.get(slot);
                let expected = [priority.get(), tries.get(), u8::from(successful)];
                assert_eq!(cgpt_shows(path, slot), expected, "state {n} of slot {slot}");
            }
        }
        assert_eq!(read(path).boot_state(), Ok(state), "state {n}");
        assert_ne!(previous.replace(state), Some(state), "states differ");
    }
    for bit in FOREIGN {
        let (number, bit) = bit.split_once(":set:").unwrap();
        let text = tool("sgdisk", &["-A", &format!("{number}:get:{bit}")], path);
        assert_eq!(
            text.trim(),
            format!("{number}:{bit}:1"),
            "a foreign bit was lost"
        );
    }
}

#[test]
fn sgdisk_reads_the_same_partitions() {
    let file = disk();
    let unique: Guid = "00112233-4455-6677-8899-aabbccddeeff".parse().unwrap();
    let whole: Guid = "fedcba98-7654-3210-0123-456789abcdef".parse().unwrap();
    change(file.path(), |gpt| {
        gpt.set_unique_guid(USR_A, unique).unwrap();
        gpt.set_disk_guid(whole);
        gpt.grow_last(ROOT, gpt.usable().last).unwrap();
    });
    sgdisk_is_content(file.path());
    let info = tool("sgdisk", &["-i", "3"], file.path()).to_lowercase();
    assert!(
        info.contains(&format!("partition unique guid: {unique}")),
        "{info}"
    );
    assert!(
        info.contains(&format!("partition guid code: {TYPE_USR}")),
        "{info}"
    );
    let table = tool("sgdisk", &["-p"], file.path()).to_lowercase();
    assert!(table.contains(&whole.to_string()), "{table}");
    for partition in read(file.path()).partitions() {
        let info = tool(
            "sgdisk",
            &["-i", &partition.number.to_string()],
            file.path(),
        );
        assert!(
            info.contains(&format!("First sector: {} ", partition.first_lba)),
            "{info}"
        );
        assert!(
            info.contains(&format!("Last sector: {} ", partition.last_lba)),
            "{info}"
        );
        assert!(
            info.contains(&format!("Partition name: '{}'", partition.name)),
            "{info}"
        );
        assert!(
            info.contains(&format!("Attribute flags: {:016X}", partition.attributes)),
            "{info}"
        );
    }
}

#[test]
fn what_we_repair_is_whole_to_sgdisk_and_cgpt() {
    for lost in [1, 2, 5, SECTORS - 33, SECTORS - 1] {
        for grown in [0, 1, 40, 10_000] {
            // A primary header is the only pointer to the backup of a disk that has grown.
            if grown > 0 && lost == 1 {
                continue;
            }
            let file = disk();
            let mut io = Disk::open(file.path(), Access::Write).unwrap();
            io.write_sectors(lost, &[0xa5; 512]).unwrap();
            drop(io);
            file.as_file().set_len((SECTORS + grown) * 512).unwrap();
            assert!(read(file.path()).needs_repair(), "sector {lost}");
            change(file.path(), |_| ());
            sgdisk_is_content(file.path());
            let table = tool("cgpt", &["show", "-n", "-v"], file.path());
            assert!(!table.contains("INVALID"), "{table}");
            assert_eq!(read(file.path()).partitions().count(), 4);
        }
    }
}

#[test]
fn what_they_repair_is_whole_to_us() {
    for lost in [1, 2, SECTORS - 33, SECTORS - 1] {
        let file = disk();
        let mut io = Disk::open(file.path(), Access::Write).unwrap();
        io.write_sectors(lost, &[0xa5; 512]).unwrap();
        drop(io);
        assert_ne!(read(file.path()).copies(), Copies::Both);
        tool("cgpt", &["repair"], file.path());
        assert_eq!(read(file.path()).copies(), Copies::Both, "sector {lost}");
    }
    let file = disk();
    file.as_file().set_len((SECTORS + 500) * 512).unwrap();
    assert!(!read(file.path()).backup_at_end());
    tool("sgdisk", &["-e"], file.path());
    let gpt = read(file.path());
    assert_eq!((gpt.copies(), gpt.backup_at_end()), (Copies::Both, true));
    assert_eq!(
        gpt.partition(OEM_CONFIG).unwrap().name.to_string(),
        "OEM-CONFIG"
    );
}
