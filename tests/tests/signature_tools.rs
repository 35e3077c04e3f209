//! `openssl` and we agree on keys and signatures, in both directions.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::num::NonZeroU8;
use std::path::Path;
use std::process::{Command, Output};

use ed25519_dalek::{Signer, SigningKey, pkcs8::DecodePrivateKey};
use updater::keys;
use updater::payload::{Header, SignatureRecord};
use updater::signature::{KeySet, verify};

/// Distinct manifests, some of them as short and as long as the format allows.
fn manifests() -> Vec<String> {
    let hash = "ab".repeat(32);
    (0..50_usize)
        .map(|n| {
            let filler = "x".repeat(n * 320);
            format!(
                r#"{{"format":1,"product":"demo","boards":["b{n}"],"version":"{n}.0","rollback_index":{n},"artifacts":[{{"name":"usr","size":4096,"block_size":4096,"table":"{hash}","content":"{hash}"}}],"filler":"{filler}"}}"#
            )
        })
        .collect()
}

fn openssl(folder: &Path, args: &[&str]) -> Output {
    let output = Command::new("openssl")
        .args(args)
        .current_dir(folder)
        .output();
    output.expect("openssl is installed")
}

fn succeed(folder: &Path, args: &[&str]) {
    let output = openssl(folder, args);
    assert!(output.status.success(), "{args:?}: {output:?}");
}

fn payload(manifest: &str, key_id: updater::Digest, signature: [u8; 64]) -> Vec<u8> {
    let mut bytes = Header::new(manifest.len(), 1).unwrap().to_bytes().to_vec();
    bytes.extend(SignatureRecord { key_id, signature }.to_bytes());
    bytes.extend(manifest.as_bytes());
    bytes
}

fn accepted(manifest: &str, keys: &KeySet, signature: [u8; 64]) -> bool {
    let id = keys.ids().next().unwrap();
    verify(&payload(manifest, id, signature), keys, NonZeroU8::MIN).is_ok()
}

const SIGN: &[&str] = &[
    "pkeyutl", "-sign", "-rawin", "-inkey", "k.pem", "-in", "m", "-out", "s",
];
const VERIFY: &[&str] = &[
    "pkeyutl",
    "-verify",
    "-rawin",
    "-pubin",
    "-inkey",
    "keys/k.pub.pem",
    "-in",
    "m",
    "-sigfile",
    "s",
];

#[test]
fn openssl_signs_and_verifies_as_we_do() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::create_dir(at.join("keys")).unwrap();
    succeed(at, &["genpkey", "-algorithm", "ed25519", "-out", "k.pem"]);
    succeed(
        at,
        &["pkey", "-in", "k.pem", "-pubout", "-out", "keys/k.pub.pem"],
    );
    let keys = keys::load(&at.join("keys")).unwrap();
    assert_eq!(keys.len(), 1);
    let private = fs::read_to_string(at.join("k.pem")).unwrap();
    let private = SigningKey::from_pkcs8_pem(&private).unwrap();
    for manifest in manifests() {
        fs::write(at.join("m"), &manifest).unwrap();
        succeed(at, SIGN);
        let theirs: [u8; 64] = fs::read(at.join("s")).unwrap().try_into().unwrap();
        assert!(accepted(&manifest, &keys, theirs), "{manifest}");

        // Ed25519 is deterministic.
        let ours = private.sign(manifest.as_bytes()).to_bytes();
        assert_eq!(ours, theirs);
        fs::write(at.join("s"), ours).unwrap();
        succeed(at, VERIFY);

        let mut wrong = ours;
        wrong[manifest.len() % 64] ^= 1;
        fs::write(at.join("s"), wrong).unwrap();
        assert!(!openssl(at, VERIFY).status.success());
        assert!(!accepted(&manifest, &keys, wrong));
    }
}

#[test]
fn keys_of_tandem_image_are_openssls() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    images::keygen::keygen(&at.join("keys"), "k").unwrap();
    fs::copy(at.join("keys/k.key.pem"), at.join("k.pem")).unwrap();
    let manifest = &manifests()[1];
    fs::write(at.join("m"), manifest).unwrap();
    succeed(at, SIGN);
    succeed(at, VERIFY);
    let keys = keys::load(&at.join("keys")).unwrap();
    let signature = fs::read(at.join("s")).unwrap().try_into().unwrap();
    assert!(accepted(manifest, &keys, signature));
}

#[test]
fn keys_of_other_algorithms_are_no_keys() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::create_dir(at.join("keys")).unwrap();
    for algorithm in ["x25519", "ed448"] {
        succeed(at, &["genpkey", "-algorithm", algorithm, "-out", "k.pem"]);
        succeed(
            at,
            &["pkey", "-in", "k.pem", "-pubout", "-out", "keys/k.pub.pem"],
        );
        assert!(keys::load(&at.join("keys")).is_err(), "{algorithm}");
    }
}
