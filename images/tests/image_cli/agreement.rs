//! sgdisk, cgpt, fsck, e2fsck, grub-editenv and openssl about our files.

use crate::bench::Bench;

#[test]
fn the_tools_find_nothing_wrong_with_a_disk() {
    let bench = Bench::new();
    bench.releases();
    bench.image("build --board x86_64-grub --usr v1.img --product demo --version 1.0.0 --key keys/release.pub.pem --slot-size 64M --root-size 32M --both --power-of-two --out disk.img");
    assert!(bench.size("disk.img").is_power_of_two());
    let problems = bench.tool("sgdisk -v disk.img");
    assert!(problems.contains("No problems found"), "{problems}");
    for (number, digits) in [(3, "201"), (4, "101")] {
        let found: String = ["-P", "-T", "-S"]
            .map(|flag| {
                bench
                    .tool(&format!("cgpt show -i {number} {flag} disk.img"))
                    .trim()
                    .to_owned()
            })
            .concat();
        assert_eq!(found, digits, "partition {number}");
    }
    let mut config = bench.part("disk.img", 7);
    config.truncate(15 << 20);
    for (name, bytes) in [("esp", bench.part("disk.img", 1)), ("config", config)] {
        bench.write(name, &bytes);
        bench.tool(&format!("fsck.vfat -n {name}"));
    }
    bench.tool("mcopy -n -i config ::grubenv grubenv");
    let mut listed: Vec<String> = bench
        .tool("grub-editenv grubenv list")
        .lines()
        .map(str::to_owned)
        .collect();
    listed.sort();
    let wanted = [
        "tandem_a_priority=2",
        "tandem_a_successful=1",
        "tandem_a_tries=0",
        "tandem_b_priority=1",
        "tandem_b_successful=1",
        "tandem_b_tries=0",
        "tandem_check=201101",
    ];
    assert_eq!(listed, wanted);
    assert_eq!(bench.size("grubenv"), 512);
    let listing = bench.tool("mdir -b -i config ::");
    assert_eq!(listing.trim(), "::/grubenv");
    let v1 = bench.read("v1.img");
    for number in [3, 4] {
        assert!(
            bench.part("disk.img", number)[..v1.len()] == v1[..],
            "slot {number}"
        );
    }
    for number in [6, 9] {
        bench.write("fs", &bench.part("disk.img", number));
        bench.tool("e2fsck -fn fs");
    }
    bench.write("fs", &bench.part("disk.img", 6));
    let oem = ext4_view::Ext4::load_from_path(bench.path("fs")).unwrap();
    let key = oem.read("/tandem/keys.d/release.pub.pem").unwrap();
    assert_eq!(key, bench.read("keys/release.pub.pem"));
}

#[test]
fn an_image_is_clean_and_holds_the_tree() {
    let bench = Bench::new();
    bench.releases();
    bench.tool("e2fsck -fn v1.img");
    let fs = ext4_view::Ext4::load_from_path(bench.path("v1.img")).unwrap();
    assert_eq!(fs.read("/share/text").unwrap(), bench.read("v1/share/text"));
    assert_eq!(fs.read("/share/same").unwrap(), bench.read("v1/share/text"));
    assert_eq!(fs.read("/lib/link").unwrap(), bench.read("v1/share/text"));
    assert_eq!(fs.read("/share/a \"name\"/empty").unwrap(), b"");
    let key = fs.read("/lib/tandem/keys.d/release.pub.pem").unwrap();
    assert_eq!(key, bench.read("keys/release.pub.pem"));
    // A third name for the same bytes would cost the space of a copy.
    assert!(bench.size("v1.img") < 2_000_000, "{}", bench.size("v1.img"));
}

#[test]
fn openssl_reads_our_keys_and_checks_our_signatures() {
    let bench = Bench::new();
    bench.releases();
    let public = bench.tool("openssl pkey -in keys/release.key.pem -pubout");
    assert_eq!(public.as_bytes(), bench.read("keys/release.pub.pem"));
    bench.image("payload --usr v2.img --product demo --board x86_64-grub --version 2.0.0 --rollback-index 2 --key keys/release.key.pem --out v2.payload");
    let manifest = bench.image("inspect v2.payload --manifest");
    bench.write("manifest", manifest.as_bytes());
    bench.write("sig", &bench.read("v2.payload")[48..112]);
    bench.tool("openssl pkeyutl -verify -rawin -pubin -inkey keys/release.pub.pem -in manifest -sigfile sig");
}

#[test]
fn a_key_of_openssl_signs_and_its_signature_can_be_attached() {
    let bench = Bench::new();
    bench.releases();
    for name in ["one", "two"] {
        bench.tool(&format!(
            "openssl genpkey -algorithm ed25519 -out {name}.key.pem"
        ));
        bench.tool(&format!(
            "openssl pkey -in {name}.key.pem -pubout -out {name}.pub.pem"
        ));
    }
    let pack = "payload --usr v2.img --product demo --board x86_64-grub --version 2.0.0 --rollback-index 2 --out";
    bench.image(&format!(
        "{pack} direct.payload --key one.key.pem --key two.key.pem"
    ));
    bench.image(&format!("{pack} draft.payload --unsigned"));
    bench.image_fails("inspect draft.payload --key one.pub.pem", 7);
    let manifest = bench.image("inspect draft.payload --manifest");
    bench.write("manifest", manifest.as_bytes());
    for name in ["one", "two"] {
        bench.tool(&format!(
            "openssl pkeyutl -sign -rawin -inkey {name}.key.pem -in manifest -out {name}.sig"
        ));
        bench.image(&format!(
            "attach draft.payload --signature {name}.sig --key {name}.pub.pem"
        ));
    }
    assert!(bench.read("draft.payload") == bench.read("direct.payload"));
    bench.image("inspect draft.payload --key one.pub.pem --key two.pub.pem");
    bench.image_fails(
        "attach draft.payload --signature one.sig --key two.pub.pem",
        7,
    );
    bench.image_fails(
        "attach draft.payload --signature one.sig --key one.pub.pem",
        6,
    );
}
