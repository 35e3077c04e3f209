use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

use ed25519_dalek::{Signer, SigningKey};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;
use crate::payload::{Header, SignatureRecord};
use crate::signature::key_id;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn keys() -> KeySet {
    let mut keys = KeySet::new();
    keys.insert(key(1).verifying_key().as_bytes()).unwrap();
    keys
}

/// The first part of a payload.
fn payload(version: &str, index: u64, seed: u8) -> Vec<u8> {
    let hash = "ab".repeat(32);
    let manifest = format!(
        r#"{{"format":1,"product":"demo","boards":["b"],"version":"{version}","rollback_index":{index},"artifacts":[{{"name":"usr","size":4096,"block_size":4096,"table":"{hash}","content":"{hash}"}}]}}"#
    );
    let mut bytes = Header::new(manifest.len(), 1).unwrap().to_bytes().to_vec();
    let record = SignatureRecord {
        key_id: key_id(key(seed).verifying_key().as_bytes()),
        signature: key(seed).sign(manifest.as_bytes()).to_bytes(),
    };
    bytes.extend(record.to_bytes());
    bytes.extend(manifest.as_bytes());
    bytes
}

/// The name of the best and those of the others with the reasons.
fn look(folder: &Path) -> (Option<String>, Vec<String>) {
    let running = "2.0.0";
    let mut judge = |manifest: &Verified<Manifest>| {
        let newer = version::compare(&manifest.version, running).is_gt();
        let refusal = || Refusal::NoUpdate(manifest.version.clone());
        newer.then_some(()).ok_or_else(refusal)
    };
    let look = newest(folder, &keys(), NonZeroU8::MIN, &mut judge).unwrap();
    let others = look.others.iter();
    let others = others.map(|(path, why)| format!("{}: {why}", Name(path)));
    let best = look.best.map(|found| Name(&found.path).to_string());
    (best, others.collect())
}

#[test]
fn the_newest_signed_and_newer_one_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    assert_eq!(look(folder.path()), (None, vec![]));
    put("a.payload", &payload("2.9.0", 3, 1));
    put("b.payload", &payload("2.10.0", 3, 1));
    put("c.payload", &payload("2.10.0", 4, 1));
    put("d.payload", &payload("2.10.0", 4, 1));
    put("e.payload", &payload("3.0.0", 9, 2));
    put("f.payload", &payload("2.0.0", 3, 1));
    let mut forged = payload("4.0.0", 3, 1);
    *forged.last_mut().unwrap() ^= 1;
    put("g.payload", &forged);
    put("h.payload", b"");
    put("i.payload.part", &payload("5.0.0", 3, 1));
    let (best, others) = look(folder.path());
    assert_eq!(best.as_deref(), Some("c.payload"));
    let starts = [
        "a.payload: accept payload: b.payload beside it is newer",
        "b.payload: accept payload: c.payload beside it is newer",
        "d.payload: accept payload: c.payload beside it is newer",
        "e.payload: verify payload: 0 of 1 required signatures are valid (1 by unknown keys, 0 wrong)",
        "f.payload: accept payload: payload's version 2.0.0 runs already",
        "g.payload: verify payload: 0 of 1",
        "h.payload: read payload: it ends at byte 0",
    ];
    assert_eq!(others.len(), starts.len(), "{others:#?}");
    for (other, start) in others.iter().zip(starts) {
        assert!(other.starts_with(start), "{other}");
    }
}

#[test]
fn only_plain_files_are_read_and_nothing_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    mkfifo(&path("fifo.payload"), Mode::S_IRUSR).unwrap();
    fs::create_dir(path("folder.payload")).unwrap();
    symlink("/dev/zero", path("endless.payload")).unwrap();
    symlink("/nonexistent", path("gone.payload")).unwrap();
    fs::write(path("\u{1b}[2J.payload"), "x").unwrap();
    // To open one is an error of its own.
    let _socket = UnixListener::bind(path("socket.payload")).unwrap();
    let (best, others) = look(folder.path());
    assert_eq!((best, others.len()), (None, 6), "{others:?}");
    let not_opened = format!("socket.payload: {}", NotTaken::NotAFile);
    assert!(others.contains(&not_opened), "{others:?}");
    assert!(others.iter().all(|text| !text.contains('\u{1b}')));
}

#[test]
fn the_file_is_at_its_start() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.payload"), payload("3", 1, 1)).unwrap();
    let look = newest(folder.path(), &keys(), NonZeroU8::MIN, &mut |_| Ok(())).unwrap();
    let mut found = look.best.unwrap();
    assert_eq!(found.file.stream_position().unwrap(), 0);
    assert_eq!(found.manifest.version, *"3");
}

#[test]
fn a_folder_that_is_absent_is_empty_and_one_that_overflows_an_error() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(look(&folder.path().join("absent")), (None, vec![]));
    for n in 0..=PAYLOADS_MAX {
        fs::write(folder.path().join(format!("{n}.payload")), "").unwrap();
    }
    let result = newest(folder.path(), &keys(), NonZeroU8::MIN, &mut |_| Ok(()));
    assert!(matches!(result, Err(StickError::TooMany { .. })));
}

#[test]
fn a_stick_is_noticed_once_and_not_while_something_is_still_copied_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.payload");
    let mut watch = Watch::default();
    let mut look = || watch.look(folder.path());
    assert_eq!(look(), News::Nothing);
    fs::write(&file, "x").unwrap();
    assert_eq!(look(), News::Growing);
    fs::write(&file, "xy").unwrap();
    assert_eq!(look(), News::Growing);
    assert_eq!((look(), look()), (News::Here, News::Nothing));
    fs::write(&file, "xyz").unwrap();
    assert_eq!(
        [look(), look(), look()],
        [News::Growing, News::Here, News::Nothing]
    );
    // Pulled out, and put in again.
    fs::remove_file(&file).unwrap();
    assert_eq!(look(), News::Nothing);
    fs::write(&file, "xyz").unwrap();
    assert_eq!([look(), look()], [News::Growing, News::Here]);
}
