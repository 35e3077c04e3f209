use super::*;

use crate::payload::{Header, MAX_MANIFEST, SignatureRecord};
use crate::signature::{KeySet, key_id, verify};
use core::num::NonZeroU8;
use ed25519_dalek::{Signer, SigningKey};

/// What the signed manifest of a payload with these changes becomes.
fn verified(edit: impl FnOnce(&mut Manifest)) -> Verified<Manifest> {
    let mut manifest = Manifest::new(name("demo"), name("2.0"), 5);
    manifest.boards.push(name("pc")).unwrap();
    manifest
        .artifacts
        .push(Artifact {
            name: name("usr"),
            size: 8192,
            block_size: 4096,
            table: Digest::default(),
            content: Digest::default(),
        })
        .unwrap();
    edit(&mut manifest);
    let mut text = [0; MAX_MANIFEST];
    let len = manifest.emit(&mut text).unwrap();
    let key = SigningKey::from_bytes(&[1; 32]);
    let public = key.verifying_key();
    let record = SignatureRecord {
        key_id: key_id(public.as_bytes()),
        signature: key.sign(&text[..len]).to_bytes(),
    };
    let header = Header::new(len, 1).unwrap().to_bytes();
    let bytes = [&header[..], &record.to_bytes(), &text[..len]].concat();
    let mut keys = KeySet::new();
    keys.insert(public.as_bytes()).unwrap();
    verify(&bytes, &keys, NonZeroU8::MIN).unwrap()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

const DEVICE: Device<'static> = Device {
    product: "demo",
    board: "pc",
    group: "stable",
    artifacts: &["usr"],
    features: &["known"],
    version: Some("1.0"),
    floor: 5,
    capacity: 8192,
    active_confirmed: true,
    failure: None,
    staged: None,
};

/// Refused for this reason, with that exit code, and admitted with exactly the reasons that override it.
fn refuses(
    edit: impl Fn(&mut Manifest),
    device: Device<'_>,
    exit: Exit,
    overrides: &[Reason],
    expected: impl Fn(&Refusal) -> bool,
) {
    let refusal = admit(verified(&edit), &device, &[]).unwrap_err();
    assert!(expected(&refusal), "{refusal:?}");
    assert_eq!(refusal.exit(), exit, "{refusal}");
    for reason in Reason::ALL {
        let admitted = admit(verified(&edit), &device, &[reason]).is_ok();
        assert_eq!(
            admitted,
            overrides.contains(&reason),
            "{refusal} with --force={reason}"
        );
    }
}

macro_rules! is {
    ($pattern:pat) => {
        |refusal: &Refusal| matches!(refusal, $pattern)
    };
}

#[test]
fn a_release_that_breaks_no_rule_is_admitted() {
    let admitted = admit(verified(|_| ()), &DEVICE, &[]).unwrap();
    assert_eq!(admitted.artifact().name, "usr");
    let edit = |m: &mut Manifest| {
        m.boards.push(name("other")).unwrap();
        m.group = Some(name("stable"));
        m.min_version = Some(name("1.0"));
        m.requires.push(name("known")).unwrap();
    };
    assert!(admit(verified(edit), &DEVICE, &[]).is_ok());
}

#[test]
fn product_group_requires_artifacts_and_size_can_not_be_overridden() {
    let no: &[Reason] = &[];
    let refused = Exit::Refused;
    refuses(
        |m| m.product = name("x"),
        DEVICE,
        refused,
        no,
        is!(Refusal::Product(_)),
    );
    refuses(
        |m| m.group = Some(name("beta")),
        DEVICE,
        refused,
        no,
        is!(Refusal::Group(_)),
    );
    let none = Device {
        group: "",
        ..DEVICE
    };
    refuses(
        |m| m.group = Some(name("beta")),
        none,
        refused,
        no,
        is!(Refusal::Group(_)),
    );
    let requires = |m: &mut Manifest| m.requires.push(name("unknown")).unwrap();
    refuses(requires, DEVICE, refused, no, is!(Refusal::Requires(_)));
    let boot = |m: &mut Manifest| {
        let mut boot = m.artifacts[0].clone();
        boot.name = name("boot");
        m.artifacts.push(boot).unwrap();
    };
    refuses(boot, DEVICE, refused, no, is!(Refusal::ForeignArtifact(_)));
    let two = Device {
        artifacts: &["usr", "boot"],
        ..DEVICE
    };
    refuses(|_| (), two, refused, no, is!(Refusal::MissingArtifact(_)));
    let small = Device {
        capacity: 8191,
        ..DEVICE
    };
    let size = is!(Refusal::Size {
        size: 8192,
        capacity: 8191
    });
    refuses(|_| (), small, refused, no, size);
}

#[test]
fn what_can_be_overridden_has_one_name() {
    use Reason::*;
    let refused = Exit::Refused;
    let board = Device {
        board: "mac",
        ..DEVICE
    };
    refuses(|_| (), board, refused, &[Board], is!(Refusal::Board(_)));
    refuses(
        |m| m.version = name("0.9"),
        DEVICE,
        refused,
        &[Downgrade],
        is!(Refusal::Older(_)),
    );
    let unknown = Device {
        version: None,
        ..DEVICE
    };
    refuses(
        |_| (),
        unknown,
        refused,
        &[Downgrade],
        is!(Refusal::UnknownVersion(_)),
    );
    let same = is!(Refusal::NoUpdate(_));
    refuses(
        |m| m.version = name("1.0"),
        DEVICE,
        Exit::NoUpdate,
        &[Same],
        same,
    );
    let index = is!(Refusal::RollbackIndex { index: 4, floor: 5 });
    refuses(
        |m| m.rollback_index = 4,
        DEVICE,
        refused,
        &[Downgrade],
        index,
    );
    let min = |m: &mut Manifest| m.min_version = Some(name("1.1"));
    refuses(
        min,
        DEVICE,
        refused,
        &[Downgrade],
        is!(Refusal::MinVersion(_)),
    );
    let trial = Device {
        active_confirmed: false,
        ..DEVICE
    };
    refuses(|_| (), trial, refused, &[OnTrial], is!(Refusal::OnTrial));
    let failed = Device {
        failure: Some("panic"),
        ..DEVICE
    };
    refuses(
        |_| (),
        failed,
        refused,
        &[RolledBack],
        is!(Refusal::RolledBack),
    );
    let staged = Device {
        staged: Some(verified(|_| ()).id()),
        ..DEVICE
    };
    refuses(
        |_| (),
        staged,
        Exit::AlreadyStaged,
        &[Same],
        is!(Refusal::AlreadyStaged),
    );
}

#[test]
fn another_payload_replaces_a_staged_one() {
    let device = Device {
        staged: Some(Digest::default()),
        ..DEVICE
    };
    assert!(admit(verified(|_| ()), &device, &[]).is_ok());
}

#[test]
fn reasons_are_spelled_as_documented() {
    for reason in Reason::ALL {
        assert_eq!(reason.as_str().parse(), Ok(reason));
    }
    assert_eq!("everything".parse::<Reason>(), Err(NotAReason));
}
