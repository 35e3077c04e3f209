use proptest::prelude::*;

use super::*;

const OEM_CONFIG: u64 = 16 * 1024 * 1024;
const TEXT: &str = r#"{"format":1,"board":"x86_64-grub","product":"demo","slot_record":4194304,"store":{"kind":"grub-block","offset":1069056,"size":512}}"#;

fn record(text: &str) -> [u8; DESCRIPTOR_BYTES] {
    let mut record = [0; DESCRIPTOR_BYTES];
    record[..text.len()].copy_from_slice(text.as_bytes());
    record[text.len()] = b'\n';
    record
}

fn decode(text: &str) -> Result<Descriptor, DescriptorError> {
    Descriptor::decode(&record(text), OEM_CONFIG)
}

#[test]
fn literal_record() {
    let descriptor = decode(TEXT).unwrap();
    assert_eq!(descriptor.board.as_str(), "x86_64-grub");
    assert_eq!(descriptor.product.as_str(), "demo");
    let store = Store::GrubBlock {
        offset: 1_069_056,
        size: 512,
    };
    assert_eq!(descriptor.store, store);
    assert_eq!(descriptor.encode(OEM_CONFIG), Ok(record(TEXT)));
}

#[test]
fn every_kind_round_trips() {
    let (offset, offset2, size) = (0, 4096, 512);
    for store in [
        Store::Gpt,
        Store::GrubBlock { offset, size },
        Store::UbootEnv { offset, size },
        Store::UbootEnvRedundant {
            offset,
            offset2,
            size,
        },
    ] {
        let descriptor = Descriptor {
            board: "b".parse().unwrap(),
            product: "x".repeat(64).parse().unwrap(),
            store,
        };
        let bytes = descriptor.encode(OEM_CONFIG).unwrap();
        assert_eq!(Descriptor::decode(&bytes, OEM_CONFIG), Ok(descriptor));
    }
}

#[test]
fn unknown_keys_are_ignored() {
    let text = TEXT.replace(r#""format":1"#, r#""new":{"x":[1,{}]},"format":1"#);
    assert_eq!(decode(&text), decode(TEXT));
}

#[test]
fn refusals() {
    let with = |old: &str, new: &str| {
        assert!(TEXT.contains(old), "{old}");
        decode(&TEXT.replace(old, new)).unwrap_err()
    };
    let absent = Descriptor::decode(&[0; DESCRIPTOR_BYTES], OEM_CONFIG);
    assert_eq!(absent, Err(DescriptorError::Absent));
    assert_eq!(
        with("\"format\":1", "\"format\":2"),
        DescriptorError::Format(2)
    );
    assert_eq!(with("4194304", "4096"), DescriptorError::SlotRecord(4096));
    assert_eq!(with("demo", "de mo"), DescriptorError::Name("product"));
    assert_eq!(with("demo", ""), DescriptorError::Name("product"));
    assert_eq!(with("grub-block", "lilo"), DescriptorError::StoreKind);
    assert_eq!(
        with("grub-block", "uboot-env-redundant"),
        DescriptorError::Malformed
    );
    for size in [0, 513, 32768] {
        assert_eq!(
            with("\"size\":512", &format!("\"size\":{size}")),
            DescriptorError::StoreSize {
                size,
                most: MAX_ENV_BYTES
            }
        );
    }
    // The last four lie on the descriptor or the confirmed record.
    for offset in [
        "1069057",
        "16777216",
        "18446744073709551104",
        "15728640",
        "15732224",
        "16252928",
        "16256512",
    ] {
        let offset: u64 = offset.parse().unwrap();
        let error = with("1069056", &offset.to_string());
        let oem_config = OEM_CONFIG;
        assert_eq!(error, DescriptorError::StoreOffset { offset, oem_config });
    }
    assert_eq!(with("1069056", "1e6"), DescriptorError::Malformed);
    assert_eq!(with("}}", "}"), DescriptorError::Malformed);
    assert_eq!(
        with("\"board\":\"x86_64-grub\",", ""),
        DescriptorError::Malformed
    );
    let mut trailing = record(TEXT);
    trailing[511] = 1;
    let refused = Descriptor::decode(&trailing, OEM_CONFIG);
    assert_eq!(refused, Err(DescriptorError::Malformed));
    // No newline: a record cut short.
    let mut cut = record(TEXT);
    cut[TEXT.len()] = 0;
    assert_eq!(
        Descriptor::decode(&cut, OEM_CONFIG),
        Err(DescriptorError::Malformed)
    );
}

/// What is in U-Boot's own environment lies outside every partition, and the copies apart from each other.
#[test]
fn copies_of_u_boots_own_environment_are_bounded() {
    let with = |offset, offset2, size| Descriptor {
        board: "b".parse().unwrap(),
        product: "p".parse().unwrap(),
        store: Store::UbootEnvRedundant {
            offset,
            offset2,
            size,
        },
    };
    let encode = |offset, offset2, size| with(offset, offset2, size).encode(OEM_CONFIG).err();
    let largest = MAX_OWN_ENV_BYTES as u64;
    assert_eq!(encode(1 << 22, (1 << 22) + largest, largest), None);
    let misplaced = |offset| Some(DescriptorError::CopyOffset { offset });
    assert_eq!(encode(512, 1024, 1024), misplaced(1024));
    assert_eq!(encode(1024, 512, 1024), misplaced(512));
    assert_eq!(encode(512, 4097, 1024), misplaced(4097));
    let last = u64::MAX - 511;
    assert_eq!(encode(512, last, 512), misplaced(last));
    for size in [0, 1000, largest + 512] {
        let most = MAX_OWN_ENV_BYTES;
        let refused = Some(DescriptorError::StoreSize { size, most });
        assert_eq!(encode(1 << 22, 1 << 23, size), refused);
    }

    let (from, to) = (34 * 512, 8 << 20);
    let placed = |offset, offset2| {
        let store = with(offset, offset2, 16384).store;
        store.check_place(from, to).err()
    };
    assert_eq!(placed(from, to - 16384), None);
    for offset in [0, from - 512, to - 512, to] {
        let wrong = Some(DescriptorError::CopyPlace {
            offset,
            size: 16384,
            from,
            to,
        });
        assert_eq!(placed(offset, 1 << 22), wrong);
        assert_eq!(placed(1 << 22, offset), wrong);
    }
}

proptest! {
    #[test]
    fn hostile_records_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), DESCRIPTOR_BYTES), brace: bool) {
        let mut record = [0; DESCRIPTOR_BYTES];
        record.copy_from_slice(&bytes);
        if brace {
            record[0] = b'{';
        }
        prop_assert!(Descriptor::decode(&record, OEM_CONFIG).is_err());
    }

    #[test]
    fn a_changed_byte_is_noticed_or_harmless(at in 0..TEXT.len(), byte: u8) {
        let mut bytes = record(TEXT);
        bytes[at] = byte;
        if let Ok(descriptor) = Descriptor::decode(&bytes, OEM_CONFIG) {
            prop_assert!(descriptor.encode(OEM_CONFIG).is_ok());
        }
    }

    #[test]
    fn deep_nesting_ends(depth in 1..200_usize, open in prop_oneof![Just("["), Just("{\"a\":")]) {
        let text = format!("{{\"a\":{}", open.repeat(depth.min(95)));
        prop_assert!(decode(&text).is_err());
    }
}
