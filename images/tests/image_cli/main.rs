//! `tandem-image` as its user runs it, and what the tools that people trust say about its files.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test ends where something is missing"
)]

mod agreement;
mod bench;
mod card;
mod refusals;

use bench::Bench;

/// The commands of the README, in their order.
#[test]
fn the_whole_way_from_a_key_to_a_payload() {
    let bench = Bench::new();
    bench.releases();
    bench.image("build --board x86_64-grub --usr v1.img --product demo --version 1.0.0 --key keys/release.pub.pem --out disk.img");
    bench.image("payload --usr v2.img --product demo --board x86_64-grub --version 2.0.0 --rollback-index 2 --key keys/release.key.pem --out v2.payload");
    let facts = bench.image("inspect v2.payload --key keys/release.pub.pem --json");
    let facts: serde_json::Value = serde_json::from_str(&facts).unwrap();
    assert_eq!(facts["signatures"][0]["standing"], "valid");
    assert_eq!(facts["manifest"]["version"], "2.0.0");
    assert_eq!(facts["size"], bench.size("v2.payload"));
    let blake3 = blake3::hash(&bench.read("v2.img")).to_string();
    assert_eq!(facts["manifest"]["artifacts"][0]["content"], blake3);
    let text = bench.image("inspect v2.payload");
    assert!(
        text.contains("unknown key") && text.contains("demo"),
        "{text}"
    );
    assert!(bench.leftovers().is_empty(), "{:?}", bench.leftovers());
}

/// mke2fs refused the size that a tree of a few bytes seemed to need.
#[test]
fn a_tree_of_one_small_file_becomes_an_image() {
    let bench = Bench::new();
    bench.write("tiny/lib/os-release", b"IMAGE_ID=demo\n");
    bench.image("usr --root tiny --out tiny.img");
    bench.write("empty/lib/tandem/keep", b"");
    bench.image("usr --root empty --out empty.img");
}

#[test]
fn the_same_input_gives_the_same_bytes_in_any_folder_umask_and_time_zone() {
    let (one, two) = (
        Bench::new(),
        Bench::with_shell("umask 077; export TZ=Asia/Tokyo; exec \"$@\""),
    );
    one.releases();
    for key in ["release.key.pem", "release.pub.pem"] {
        two.write(&format!("keys/{key}"), &one.read(&format!("keys/{key}")));
    }
    two.images();
    for bench in [&one, &two] {
        bench.image("build --board x86_64-grub --usr v1.img --product demo --version 1.0.0 --key keys/release.pub.pem --slot-size 64M --root-size 32M --out disk.img");
        bench.image("payload --usr v2.img --product demo --board x86_64-grub --version 2.0.0 --rollback-index 2 --key keys/release.key.pem --out v2.payload");
    }
    for file in ["v1.img", "v2.img", "v2.payload", "disk.img"] {
        assert!(one.read(file) == two.read(file), "{file} differs");
    }
    one.image("build --board x86_64-grub --usr v1.img --product demo --version 1.0.0 --key keys/release.pub.pem --slot-size 64M --root-size 32M --ids-from other --out other.img");
    assert!(one.read("disk.img") != one.read("other.img"));
}

#[test]
fn a_written_disk_has_uuids_of_its_own_and_a_table_to_its_end() {
    let bench = Bench::new();
    bench.releases();
    bench.image("build --board x86_64-grub --usr v1.img --product demo --version 1.0.0 --key keys/release.pub.pem --slot-size 64M --root-size 32M --out disk.img");
    let size = bench.size("disk.img");
    let larger = usize::try_from(size).unwrap() + (9 << 20);
    bench.write("card.img", &vec![0xA5; larger]);
    let refused = bench.image_fails("write disk.img card.img", 2);
    assert!(refused.contains("--yes"), "{refused}");
    assert!(bench.read("card.img").iter().all(|&b| b == 0xA5));
    bench.image("write disk.img card.img --yes");
    let problems = bench.tool("sgdisk -v card.img");
    assert!(problems.contains("No problems found"), "{problems}");
    let ids = |disk: &str| -> Vec<String> {
        let mut ids: Vec<_> = [1, 2, 3, 4, 6, 7, 9]
            .map(|n| bench.unique_guid(disk, n))
            .into();
        ids.sort();
        ids.dedup();
        ids
    };
    let (old, new) = (ids("disk.img"), ids("card.img"));
    assert_eq!((old.len(), new.len()), (7, 7));
    assert!(new.iter().all(|id| !old.contains(id)));
    let record = bench.part("card.img", 7);
    let record = &record[record.len() - (512 << 10)..][..512];
    let text = String::from_utf8_lossy(record).into_owned();
    for (name, number) in [("tandem_usr_a", 3), ("tandem_usr_b", 4), ("tandem_root", 9)] {
        let id = bench.unique_guid("card.img", number).to_lowercase();
        assert!(text.contains(&format!("{name}={id}\n")), "{text}");
    }
    let v1 = bench.read("v1.img");
    assert!(bench.part("card.img", 3)[..v1.len()] == v1[..]);
    for (number, what) in [(6, "OEM"), (9, "ROOT")] {
        assert!(
            bench.part("card.img", number) == bench.part("disk.img", number),
            "{what}"
        );
    }

    bench.write("small.img", &vec![0; 1 << 20]);
    let refused = bench.image_fails("write disk.img small.img --yes", 6);
    assert!(
        refused.contains("1048576") && refused.contains(&size.to_string()),
        "{refused}"
    );
}

/// The file was there, empty, before anybody had agreed.
#[test]
fn a_new_file_is_there_when_it_is_written_and_not_before() {
    let bench = Bench::new();
    bench.releases();
    bench.image("build --board x86_64-grub --usr v1.img --product demo --version 1.0.0 --key keys/release.pub.pem --slot-size 16M --root-size 32M --out disk.img");
    bench.image_fails("write disk.img new.img", 2);
    assert!(!bench.exists("new.img"));
    let said = bench.image("write disk.img new.img --yes");
    let size = bench.size("disk.img");
    assert!(said.contains(&format!("{size} bytes, ")), "{said}");
    assert_eq!(bench.size("new.img"), size);
    let problems = bench.tool("sgdisk -v new.img");
    assert!(problems.contains("No problems found"), "{problems}");
}

#[test]
fn an_image_is_not_written_onto_itself() {
    let bench = Bench::new();
    bench.releases();
    bench.image("build --board x86_64-grub --usr v1.img --product demo --version 1.0.0 --key keys/release.pub.pem --slot-size 16M --root-size 32M --out disk.img");
    let before = bench.read("disk.img");
    std::fs::hard_link(bench.path("disk.img"), bench.path("same.img")).unwrap();
    for name in ["disk.img", "./disk.img", "same.img"] {
        let refused = bench.image_fails(&format!("write disk.img {name} --yes"), 6);
        assert!(refused.contains("the image itself"), "{refused}");
    }
    assert!(bench.read("disk.img") == before);
}

#[test]
fn names_that_debugfs_reads_in_its_own_way_are_names() {
    let bench = Bench::new();
    for name in ["<2>/<11>", "<12>", "#x", "-w", "a\tb", "q\"", "back\\slash"] {
        bench.write(&format!("tree/{name}"), name.as_bytes());
    }
    std::fs::set_permissions(
        bench.path("tree/<12>"),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    bench.image("usr --root tree --out tree.img");
    bench.write("stat", b"stat /<12>\n");
    let listing = bench.tool("debugfs -f stat tree.img");
    assert!(listing.contains("0755"), "{listing}");
}
