use super::*;
use proptest::prelude::*;
use std::string::String;
use std::{format, vec};

const LITERAL: &str = concat!(
    r#"{"format":1,"product":"demo","boards":["x86_64-grub","rpi4-uboot"],"version":"2.0.0","rollback_index":2,"#,
    r#""min_version":"1.0.0","group":"stable","created":"2026-11-21","requires":["loader-1"],"artifacts":[{"name":"usr","#,
    r#""size":1052672,"block_size":262144,"table":"af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262","#,
    r#""content":"0000000000000000000000000000000000000000000000000000000000000001"}]}"#
);

fn literal() -> Manifest {
    let mut manifest = Manifest::new("demo".parse().unwrap(), "2.0.0".parse().unwrap(), 2);
    manifest
        .boards
        .push("x86_64-grub".parse().unwrap())
        .unwrap();
    manifest.boards.push("rpi4-uboot".parse().unwrap()).unwrap();
    manifest.min_version = Some("1.0.0".parse().unwrap());
    manifest.group = Some("stable".parse().unwrap());
    manifest.created = Some("2026-11-21".parse().unwrap());
    manifest.requires.push("loader-1".parse().unwrap()).unwrap();
    let mut content = Digest::default();
    content.0[31] = 1;
    manifest
        .artifacts
        .push(Artifact {
            name: "usr".parse().unwrap(),
            size: 1_052_672,
            block_size: 262_144,
            table: Digest::of(b""),
            content,
        })
        .unwrap();
    manifest
}

fn parse(text: &str) -> Result<Manifest, ManifestError> {
    Manifest::parse(text.as_bytes())
}

#[test]
fn literal_manifest_both_ways() {
    assert_eq!(parse(LITERAL), Ok(literal()));
    let mut buf = [0; MAX_MANIFEST];
    let len = literal().emit(&mut buf).unwrap();
    assert_eq!(core::str::from_utf8(&buf[..len]), Ok(LITERAL));
}

#[test]
fn blocks_of_an_image_that_ends_within_one() {
    let manifest = literal();
    let usr = manifest.artifact("usr").unwrap();
    assert_eq!((usr.blocks(), usr.table_len()), (5, 400));
    assert_eq!(
        (usr.block_len(0), usr.block_len(4), usr.block_len(5)),
        (262_144, 4096, 0)
    );
    assert_eq!(manifest.artifact("boot"), None);
}

#[test]
fn unknown_keys_are_ignored_wherever_they_stand() {
    for extra in [
        r#""x":[1,{"y":"}],"}]"#,
        r#""note":"grüß ]}""#,
        r#""z":-1.5e3"#,
        r#""z":null"#,
    ] {
        let text = LITERAL.replacen('{', &format!("{{{extra},"), 1);
        assert_eq!(parse(&text), Ok(literal()), "{text}");
        let text = LITERAL.replacen(r#"{"name""#, &format!(r#"{{{extra},"name""#), 1);
        assert_eq!(parse(&text), Ok(literal()), "{text}");
    }
}

#[test]
fn optional_keys_may_be_absent_but_not_null() {
    let text = LITERAL.replace(
        r#""min_version":"1.0.0","group":"stable","created":"2026-11-21","requires":["loader-1"],"#,
        "",
    );
    let manifest = parse(&text).unwrap();
    assert_eq!((&manifest.min_version, &manifest.group), (&None, &None));
    assert!(manifest.requires.is_empty());
    assert!(parse(&LITERAL.replace(r#""stable""#, "null")).is_err());
    for key in [
        "format",
        "product",
        "boards",
        "version",
        "rollback_index",
        "artifacts",
        "name",
        "size",
        "table",
    ] {
        let text = LITERAL.replace(&format!("\"{key}\":"), &format!("\"no{key}\":"));
        assert!(
            matches!(parse(&text), Err(ManifestError::Value(_))),
            "{text}"
        );
    }
}

#[test]
fn rules_of_the_values() {
    let with = |from: &str, to: &str| parse(&LITERAL.replace(from, to));
    assert_eq!(
        with(r#""format":1"#, r#""format":2"#),
        Err(ManifestError::Format(2))
    );
    assert_eq!(
        with(r#"["x86_64-grub","rpi4-uboot"]"#, "[]"),
        Err(ManifestError::NoBoard)
    );
    assert!(matches!(
        with("1052672", "1052671"),
        Err(ManifestError::Size { .. })
    ));
    assert!(matches!(
        with("1052672", "0"),
        Err(ManifestError::Size { .. })
    ));
    for bad in ["0", "2048", "4097", "2097152", "262145"] {
        let result = with("262144", bad);
        assert!(
            matches!(result, Err(ManifestError::BlockSize { .. })),
            "{bad}"
        );
    }
    for bad in [r#""2""#, "-1", "2.0", "2e0", "18446744073709551616", "true"] {
        let result = with(
            r#""rollback_index":2"#,
            &format!(r#""rollback_index":{bad}"#),
        );
        assert!(
            matches!(result, Err(ManifestError::Value(_))),
            "{bad}: {result:?}"
        );
    }
    for bad in [r#""""#, r#""de mo""#, r#""~""#, "7"] {
        assert!(with(r#""demo""#, bad).is_err(), "{bad}");
    }
    assert!(with(r#""demo""#, &format!("\"{}\"", "x".repeat(65))).is_err());
    assert!(with("af1349", "AF1349").is_err());
    assert!(with("af1349", "f1349").is_err());
}

#[test]
fn sizes_near_the_end_of_the_number_range_are_refused_before_use() {
    for size in [
        "18446744073709547520",
        "9223372036854775808",
        "18446744073709551615",
    ] {
        let text = LITERAL.replace("1052672", size);
        let error = parse(&text).unwrap_err();
        assert!(
            matches!(
                error,
                ManifestError::Tables { .. } | ManifestError::Size { .. }
            ),
            "{error:?}"
        );
    }
}

#[test]
fn tables_fit_a_slot_record() {
    let mut manifest = literal();
    let most = (MAX_TABLES / ENTRY_LEN) as u64;
    manifest.artifacts[0].block_size = 4096;
    manifest.artifacts[0].size = most * 4096;
    assert!(manifest.emit(&mut [0; MAX_MANIFEST]).is_ok());
    manifest.artifacts[0].size += 4096;
    let error = manifest.emit(&mut [0; MAX_MANIFEST]).unwrap_err();
    assert_eq!(
        error,
        ManifestError::Tables {
            bytes: (most + 1) * 80
        }
    );
}

#[test]
fn counts_are_bounded_and_artifacts_are_distinct() {
    let boards = |n: usize| {
        let names: vec::Vec<_> = (0..n).map(|i| format!("\"b{i}\"")).collect();
        parse(&LITERAL.replace(r#""x86_64-grub","rpi4-uboot""#, &names.join(",")))
    };
    assert_eq!(boards(16).unwrap().boards.len(), 16);
    assert!(boards(17).is_err());
    let mut manifest = literal();
    let usr = manifest.artifacts[0].clone();
    manifest.artifacts.push(usr).unwrap();
    let error = manifest.emit(&mut [0; MAX_MANIFEST]).unwrap_err();
    assert_eq!(
        error,
        ManifestError::DuplicateArtifact("usr".parse().unwrap())
    );
    manifest.artifacts.clear();
    assert_eq!(
        manifest.emit(&mut [0; MAX_MANIFEST]),
        Err(ManifestError::NoArtifact)
    );
}

#[test]
fn hostile_json_is_refused() {
    let body = &LITERAL[1..];
    for text in [
        format!("{{\"\\u0070roduct\":\"x\",{body}"),
        format!("{{\"product\":\"x\",{body}"),
        format!("{{\"x\":{}1{},{body}", "[".repeat(8), "]".repeat(8)),
        format!("{{\"x\":\"\t\",{body}"),
        format!("{{\"x\":junk,{body}"),
        format!("{LITERAL}x"),
        format!("{LITERAL}{LITERAL}"),
        format!("[{LITERAL}]"),
    ] {
        assert!(
            matches!(parse(&text), Err(ManifestError::Json(_))),
            "{text}"
        );
    }
    assert_eq!(parse(&" ".repeat(16385)), Err(ManifestError::TooLong));
}

fn name() -> impl Strategy<Value = Name> {
    "[A-Za-z0-9._+-]{1,64}".prop_map(|text| text.parse().unwrap())
}

prop_compose! {
    fn artifact(letter: char)(size in 1..100_u64, shift in 12..=20_u32, table: [u8; 32], content: [u8; 32]) -> Artifact {
        Artifact {
            name: String::from(letter).parse().unwrap(),
            size: size * SIZE_UNIT,
            block_size: 1 << shift,
            table: Digest(table),
            content: Digest(content),
        }
    }
}

prop_compose! {
    fn manifest()(
        product in name(), version in name(), index: u64,
        boards in proptest::collection::vec(name(), 1..=16),
        requires in proptest::collection::vec(name(), 0..=16),
        optional in proptest::array::uniform3(proptest::option::of(name())),
        artifacts in (artifact('a'), artifact('b')),
    ) -> Manifest {
        let mut manifest = Manifest::new(product, version, index);
        manifest.boards.extend(boards);
        manifest.requires.extend(requires);
        [manifest.min_version, manifest.group, manifest.created] = optional;
        manifest.artifacts.extend([artifacts.0, artifacts.1]);
        manifest
    }
}

proptest! {
    #[test]
    fn manifests_round_trip(manifest in manifest()) {
        let mut buf = [0; MAX_MANIFEST];
        let len = manifest.emit(&mut buf).unwrap();
        prop_assert_eq!(Manifest::parse(&buf[..len]), Ok(manifest));
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&buf[..len]).is_ok());
    }

    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Manifest::parse(&bytes);
    }

    #[test]
    fn damaged_manifests_never_panic(at in 0..LITERAL.len(), byte: u8, cut in 0..LITERAL.len()) {
        let mut bytes = LITERAL.as_bytes().to_vec();
        bytes[at] = byte;
        let _ = Manifest::parse(&bytes);
        prop_assert!(Manifest::parse(&bytes[..cut]).is_err());
    }
}
