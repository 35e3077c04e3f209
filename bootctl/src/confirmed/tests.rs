use super::*;

const TEXT: &str = "# GRUB Environment Block\n\
    tandem_confirmed=b\n\
    tandem_usr_a=7130c94a-213a-4e5a-8e26-6cce9662f132\n\
    tandem_usr_b=e03dd35c-7c2d-4a47-b3fe-27f15780a57c\n\
    tandem_root=00000000-0000-0000-0000-000000000001\n\
    tandem_fresh=1\n";

fn block(text: &str) -> [u8; CONFIRMED_BYTES] {
    let mut block = [b'#'; CONFIRMED_BYTES];
    block[..text.len()].copy_from_slice(text.as_bytes());
    block
}

fn record() -> ConfirmedRecord {
    ConfirmedRecord {
        slot: Slot::B,
        usr_a: "7130c94a-213a-4e5a-8e26-6cce9662f132".parse().unwrap(),
        usr_b: "e03dd35c-7c2d-4a47-b3fe-27f15780a57c".parse().unwrap(),
        root: "00000000-0000-0000-0000-000000000001".parse().unwrap(),
        fresh: true,
    }
}

#[test]
fn literal_block() {
    assert_eq!(ConfirmedRecord::decode(&block(TEXT)), Ok(record()));
    for before in [[0; CONFIRMED_BYTES], [0xff; CONFIRMED_BYTES]] {
        let mut made = before;
        record().encode(&mut made).unwrap();
        assert_eq!(made, block(TEXT));
    }
}

#[test]
fn naming_the_other_slot_changes_one_byte() {
    let before = block(&format!("{TEXT}foreign=x\n"));
    let mut after = before;
    let other = ConfirmedRecord {
        slot: Slot::A,
        ..record()
    };
    other.encode(&mut after).unwrap();
    let changed: Vec<_> = (0..512).filter(|&n| before[n] != after[n]).collect();
    assert_eq!(changed, [TEXT.find("=b\n").unwrap() + 1]);
    assert_eq!(ConfirmedRecord::decode(&after), Ok(other));
}

#[test]
fn damage_is_named() {
    let decode = |old: &str, new: &str| {
        ConfirmedRecord::decode(&block(&TEXT.replace(old, new))).unwrap_err()
    };
    let zeros = ConfirmedRecord::decode(&[0; 512]);
    assert_eq!(zeros, Err(ConfirmedError::NoSignature));
    assert_eq!(decode("=b\n", "=c\n"), ConfirmedError::Variable(SLOT));
    assert_eq!(
        decode("7130c94a", "7130C94A"),
        ConfirmedError::Variable(USR_A)
    );
    assert_eq!(
        decode("e03dd35c-", "e03dd35c"),
        ConfirmedError::Variable(USR_B)
    );
    assert_eq!(
        decode("tandem_root", "tandem_boot"),
        ConfirmedError::Variable(ROOT)
    );
    assert_eq!(
        decode("fresh=1", "fresh=2"),
        ConfirmedError::Variable(FRESH)
    );
    assert_eq!(
        decode("fresh=1\n", "fresh=1\ntandem_fresh=1\n"),
        ConfirmedError::Variable(FRESH)
    );
}
