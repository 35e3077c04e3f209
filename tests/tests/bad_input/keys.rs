//! Keys that are unknown, missing, or none at all.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use ed25519_dalek::SigningKey;

use crate::fixture::{Disk, Forged, How, Program, lab, record};

const GOOD: &str = "release.pub.pem";

fn folder(files: &[(&str, &[u8])]) -> PathBuf {
    let folder = lab().path("keys");
    fs::create_dir(&folder).unwrap();
    for (name, content) in files {
        fs::write(folder.join(name), content).unwrap();
    }
    folder
}

#[track_caller]
fn refused(folder: &Path, words: &str, what: &str) {
    let disk = Disk::both();
    let folder = folder.to_str().unwrap();
    for how in How::BOTH {
        let keys = ["--keys", folder];
        disk.refuses(how, &lab().good, &keys, (7, words), &(what, how));
    }
}

fn public_key() -> Vec<u8> {
    fs::read(lab().keys().join(GOOD)).unwrap()
}

#[test]
fn an_unknown_key() {
    let other = lab().path("other");
    let made = Program::Image.run(&["keygen", "--out-dir", other.to_str().unwrap()]);
    made.succeeds(&"keygen");
    refused(
        &other,
        "0 of 1 required signatures are valid (1 by unknown keys",
        "another key",
    );
}

#[test]
fn no_keys() {
    let words = "there is no *.pub.pem";
    refused(&folder(&[]), words, "an empty folder");
    let private = fs::read(lab().keys().join("release.key.pem")).unwrap();
    let named_otherwise = [
        ("README", b"".as_slice()),
        ("a.pem", &public_key()),
        ("b.key.pem", &private),
    ];
    refused(&folder(&named_otherwise), words, "no file named as a key");
    refused(Path::new("/nonexistent"), "/nonexistent", "no folder");
    refused(
        &lab().keys().join(GOOD),
        GOOD,
        "a file in place of the folder",
    );
}

#[test]
fn files_that_are_no_keys() {
    let private = fs::read(lab().keys().join("release.key.pem")).unwrap();
    let good = public_key();
    let openssl = |kind: &str| {
        let script = format!("openssl genpkey -quiet -algorithm {kind} | openssl pkey -pubout");
        let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert!(
            output.stdout.starts_with(b"-----BEGIN PUBLIC KEY"),
            "{output:?}"
        );
        output.stdout
    };
    let (x25519, rsa) = (openssl("x25519"), openssl("rsa"));
    for (what, content) in [
        ("an empty file", b"".as_slice()),
        ("zeros", &[0; 32]),
        ("no text", &[0xff; 100]),
        ("a private key", &private),
        ("a key of another kind", &x25519),
        ("a key of RSA", &rsa),
        ("a key cut short", &good[..good.len() / 2]),
        ("a long file", &b"x".repeat(100_000)),
    ] {
        // A good key beside it does not help: somebody meant the other to count.
        let folder = folder(&[(GOOD, &good), ("bad.pub.pem", content)]);
        refused(
            &folder,
            "bad.pub.pem: it is not an Ed25519 public key",
            what,
        );
    }
    let endless = folder(&[]);
    symlink("/dev/zero", endless.join("bad.pub.pem")).unwrap();
    refused(
        &endless,
        "it is not an Ed25519 public key",
        "an endless file",
    );
    let nested = folder(&[]);
    fs::create_dir(nested.join("bad.pub.pem")).unwrap();
    refused(&nested, "bad.pub.pem", "a folder");
    let dangling = folder(&[(GOOD, &good)]);
    symlink("/nonexistent", dangling.join("bad.pub.pem")).unwrap();
    refused(&dangling, "bad.pub.pem", "a link to nothing");
}

#[test]
fn a_fifo_in_place_of_a_key_does_not_hang() {
    let folder = folder(&[(GOOD, &public_key())]);
    let fifo = folder.join("bad.pub.pem");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    refused(&folder, "bad.pub.pem", "a fifo");
}

#[test]
fn a_key_for_which_anybody_can_sign() {
    // The neutral element of the curve as SPKI in PEM: 30 2a 30 05 06 03 2b 65 70 03 21 00, then 01 and zeros.
    let weak = b"-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\
        -----END PUBLIC KEY-----\n";
    refused(
        &folder(&[("weak.pub.pem", weak)]),
        "weak.pub.pem",
        "a weak key",
    );
}

#[test]
fn too_many_keys() {
    let many: Vec<PathBuf> = (0..33_u8).map(|_| lab().path("key")).collect();
    let all = folder(&[]);
    for (number, path) in many.iter().enumerate() {
        let path = path.to_str().unwrap();
        Program::Image
            .run(&["keygen", "--out-dir", path])
            .succeeds(&number);
        let from = Path::new(path).join(GOOD);
        fs::copy(from, all.join(format!("{number}.pub.pem"))).unwrap();
    }
    refused(&all, "more than 32 keys", "33 keys");
}

#[test]
fn signatures_that_do_not_count() {
    let disk = Disk::both();
    let forged = Forged::good();
    let stranger = SigningKey::from_bytes(&[7; 32]);
    let right = record(&lab().key, &forged.manifest);
    let foreign = record(&stranger, &forged.manifest);
    let elsewhere = record(&lab().key, b"{}");
    // The trusted key's id over a stranger's signature.
    let borrowed = [&right[..32], &foreign[32..]].concat();
    // A signature whose second half is not reduced: accepted by lax verifiers.
    let malleable = [&right[..64], &[0xff; 32]].concat();
    for (what, records) in [
        ("of a stranger", vec![foreign.clone()]),
        ("of another manifest", vec![elsewhere]),
        ("under a borrowed name", vec![borrowed]),
        ("not reduced", vec![malleable]),
        ("of nothing", vec![vec![0; 96]]),
        ("four of a stranger", vec![foreign.clone(); 4]),
    ] {
        let payload = forged.signed(&records);
        for how in How::BOTH {
            let words = "0 of 1 required signatures are valid";
            disk.refuses(how, &payload, &[], (7, words), &(what, how));
        }
    }
    let both = forged.signed(&[foreign, right]);
    disk.apply(How::File, &both, &[])
        .succeeds(&"a stranger's beside a good one");
}

#[test]
fn names_with_control_characters_in_them_stay_on_one_line() {
    let name = "a\nb\u{1b}[31m.pub.pem";
    let folder = folder(&[(name, b"no key")]);
    refused(&folder, r"a\nb\u{1b}[31m.pub.pem", "a key's name");
    let disk = Disk::both();
    let arguments = disk.apply_arguments("/no\nsuch\u{7f}payload", &[]);
    let mut command = Program::UpdateEngine.command();
    let outcome = Program::UpdateEngine.finish(command.args(arguments), b"");
    outcome.fails(1, r"/no\nsuch\u{7f}payload", &"a payload's name");
    for program in [Program::Bootctl, Program::Image] {
        let arguments = match program {
            Program::Bootctl => &["--disk", "/no\nsuch\u{9b}disk", "show"][..],
            _ => &["inspect", "/no\nsuch\u{9b}disk"],
        };
        program
            .run(arguments)
            .fails(1, r"/no\nsuch\u{9b}disk", &arguments);
    }
}
