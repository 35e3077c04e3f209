//! What must not work, with its exit code and the numbers.

use crate::bench::Bench;

const BUILD: &str = "build --board x86_64-grub --product demo --version 1.0.0 --key keys/release.pub.pem --out disk.img";
const PACK: &str = "payload --product demo --board x86_64-grub --version 2.0.0 --rollback-index 2 --key keys/release.key.pem --out x.payload";

#[test]
fn what_does_not_fit_is_refused_with_the_numbers() {
    let bench = Bench::new();
    bench.releases();
    let size = bench.size("v1.img").to_string();
    let error = bench.image_fails(&format!("{BUILD} --usr v1.img --slot-size 4M"), 6);
    assert!(
        error.contains(&size) && error.contains("8388608") && error.contains("--slot-size"),
        "{error}"
    );
    let error = bench.image_fails("usr --root v1 --size 512K --out small.img", 6);
    assert!(
        error.contains("524288") && error.contains("--size"),
        "{error}"
    );
    bench.image_fails(&format!("{BUILD} --usr v1.img --root-size 4M"), 6);
    assert!(!bench.exists("disk.img") && !bench.exists("small.img"));
}

#[test]
fn what_an_image_cannot_hold_is_refused_before_anything_is_made() {
    let bench = Bench::new();
    bench.tree("v1", "1.0.0", 1);
    for (name, cause) in [
        ("line\nbreak", "line\\nbreak"),
        ("return\r", "line break in the name"),
    ] {
        bench.write(&format!("v1/{name}"), b"");
        let error = bench.image_fails("usr --root v1 --out x.img", 6);
        assert!(
            error.contains(cause) && error.lines().count() == 1,
            "{error}"
        );
        std::fs::remove_file(bench.path(&format!("v1/{name}"))).unwrap();
    }
    for target in ["carriage\rreturn", "line\nfeed", &"x".repeat(256)] {
        std::os::unix::fs::symlink(target, bench.path("v1/link")).unwrap();
        let error = bench.image_fails("usr --root v1 --out x.img", 6);
        assert!(error.contains("in the target"), "{error}");
        std::fs::remove_file(bench.path("v1/link")).unwrap();
    }
    bench.image_fails("usr --root v1 --size 5000000 --out x.img", 6);
    let error = bench.image_fails("usr --root v1 --out v1", 6);
    assert!(error.contains("not a plain file"), "{error}");
    assert!(!bench.exists("x.img"));
}

#[test]
fn an_image_that_says_it_is_another_release_is_refused() {
    let bench = Bench::new();
    bench.releases();
    let error = bench.image_fails(&format!("{PACK} --usr v1.img"), 6);
    assert!(error.contains("IMAGE_VERSION=1.0.0, not 2.0.0"), "{error}");
    let error = bench.image_fails(&format!("{BUILD} --usr v2.img"), 6);
    assert!(error.contains("--version"), "{error}");
    assert!(!bench.exists("x.payload"));
}

#[test]
fn only_file_systems_that_the_loader_reads_are_taken() {
    let bench = Bench::new();
    bench.releases();
    bench.write("noise.img", &[7; 65536]);
    assert!(
        bench
            .image_fails(&format!("{PACK} --usr noise.img"), 6)
            .contains("neither ext4")
    );
    bench.write("odd.img", &bench.read("v2.img")[..70_000]);
    assert!(
        bench
            .image_fails(&format!("{PACK} --usr odd.img"), 6)
            .contains("70000")
    );
    bench.write("short.img", &bench.read("v2.img")[..65536]);
    bench.image_fails(&format!("{PACK} --usr short.img"), 6);
    bench.tool("mke2fs -q -F -t ext4 -b 4096 journal.img 8M");
    assert!(
        bench
            .image_fails(&format!("{PACK} --usr journal.img"), 6)
            .contains("journal")
    );
    bench.tool("mke2fs -q -F -t ext4 -b 4096 -O ^has_journal,inline_data inline.img 8M");
    assert!(
        bench
            .image_fails(&format!("{PACK} --usr inline.img"), 6)
            .contains("inline_data")
    );
    bench.tool("mke2fs -q -F -t ext4 -b 1024 -O ^has_journal block.img 8M");
    assert!(
        bench
            .image_fails(&format!("{PACK} --usr block.img"), 6)
            .contains("1024")
    );
    bench.tool("mksquashfs v2 zstd.sqfs -comp zstd -quiet -no-progress");
    assert!(
        bench
            .image_fails(&format!("{PACK} --usr zstd.sqfs"), 6)
            .contains("zstd")
    );
    bench.tool("mksquashfs v2 gzip.sqfs -comp gzip -quiet -no-progress");
    bench.image(&format!("{PACK} --usr gzip.sqfs"));
    bench.image("inspect x.payload --key keys/release.pub.pem");
}

#[test]
fn mistakes_on_the_command_line_are_named() {
    let bench = Bench::new();
    bench.releases();
    let pack = |rest: &str, code| bench.image_fails(&format!("{PACK} --usr v2.img {rest}"), code);
    assert!(pack("--board toaster", 2).contains("known are"));
    assert!(pack("--group a/b", 2).contains("--group"));
    assert!(pack("--key keys/release.key.pem", 2).contains("twice"));
    pack("--key keys/release.pub.pem", 1);
    pack("--unsigned", 2);
    pack("--level 99", 2);
    let build = |rest: &str, code| bench.image_fails(&format!("{BUILD} --usr v1.img {rest}"), code);
    assert!(build("--sector-size 1024", 2).contains("4096"));
    build("--key keys/release.key.pem", 1);
    assert!(build("--grub-dir /nowhere", 1).contains("--grub-dir"));
    bench.image_fails("keygen --out-dir keys", 1);
    bench.image_fails("usr --root missing --out x.img", 1);
    bench.image_fails("inspect missing", 1);
}

#[test]
fn a_damaged_payload_is_found_wherever_the_damage_is() {
    let bench = Bench::new();
    bench.releases();
    bench.image(&format!("{PACK} --usr v2.img"));
    let good = bench.read("x.payload");
    let check = |bytes: &[u8], what: String| {
        bench.write("bad.payload", bytes);
        let error = bench.image_fails("inspect bad.payload --key keys/release.pub.pem", 7);
        assert!(
            error.starts_with("tandem-image: inspect bad.payload: "),
            "{what}: {error}"
        );
    };
    let middle = good.len() / 2;
    for at in [
        0,
        7,
        8,
        12,
        14,
        16,
        60,
        120,
        400,
        900,
        middle,
        good.len() - 1,
    ] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        check(&bad, format!("bit flipped at {at}"));
    }
    for len in [0, 1, 15, 16, 111, 112, 500, middle, good.len() - 1] {
        check(&good[..len], format!("cut to {len}"));
    }
    check(
        &[good.as_slice(), b"x"].concat(),
        "one byte more".to_owned(),
    );
    bench.image("inspect x.payload --key keys/release.pub.pem");
}

#[test]
fn large_sectors_start_from_uefi_only_and_are_laid_out_in_them() {
    let bench = Bench::new();
    bench.releases();
    bench.image(&format!(
        "{BUILD} --usr v1.img --sector-size 4096 --slot-size 64M --root-size 32M"
    ));
    let disk = bench.read("disk.img");
    assert_eq!(disk[4096..4104], *b"EFI PART");
    assert!(
        disk[..440].iter().all(|&b| b == 0),
        "boot code where no BIOS reads it"
    );
    let v1 = bench.read("v1.img");
    assert!(disk[72 << 20..][..v1.len()] == v1[..]);
}

#[test]
fn an_output_that_is_an_input_keeps_its_bytes() {
    let bench = Bench::new();
    bench.releases();
    let build = "build --board x86_64-grub --product demo --version 1.0.0 --usr v1.img --key keys/release.pub.pem";
    let pack = "payload --product demo --board x86_64-grub --version 2.0.0 --rollback-index 2 --usr v2.img --key keys/release.key.pem";
    for (line, input) in [
        (build, "v1.img"),
        (build, "keys/release.pub.pem"),
        (pack, "v2.img"),
        (pack, "keys/../keys/release.key.pem"),
    ] {
        let before = std::fs::read(bench.path(input)).unwrap();
        let error = bench.image_fails(&format!("{line} --out {input}"), 2);
        assert!(error.contains("--out"), "{error}");
        assert!(std::fs::read(bench.path(input)).unwrap() == before);
    }
}
