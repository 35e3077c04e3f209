//! Manifests that are signed and still no manifest: what a signer's broken program could make.

use serde_json::{Value, json};

use crate::fixture::{BOARD, Disk, Forged, How, PRODUCT};

#[track_caller]
fn refused(disk: &Disk, what: &str, forged: &Forged) {
    let payload = forged.bytes();
    for how in How::BOTH {
        disk.refuses(how, &payload, &[], (7, "verify payload: "), &(what, how));
    }
}

#[test]
fn text_that_readers_could_take_for_different_things() {
    let disk = Disk::both();
    let good = Forged::good();
    let product = format!(r#""product":"{PRODUCT}""#);
    let escaped = br#""product":"d\u0065mo""#;
    refused(
        &disk,
        "escape in a value",
        &good.clone().replace(&product, escaped),
    );
    let escaped = br#""pr\u006fduct":"demo""#;
    refused(
        &disk,
        "escape in a key",
        &good.clone().replace(&product, escaped),
    );
    let twice = br#""product":"demo","product":"other""#;
    refused(&disk, "a key twice", &good.clone().replace(&product, twice));
    let twice = br#""product":"demo","unknown":{"a":1,"a":2}"#;
    refused(
        &disk,
        "an unknown key's key twice",
        &good.clone().replace(&product, twice),
    );
    for byte in [0, 1, 8, b'\t', b'\n', b'\r', 0x1b, 0x7f, 0x80, 0xff] {
        let inside = [b"\"product\":\"de".as_slice(), &[byte], b"mo\""].concat();
        refused(
            &disk,
            "byte in a value",
            &good.clone().replace(&product, &inside),
        );
        let between = [b"\"product\":".as_slice(), &[byte], b"\"demo\""].concat();
        refused(
            &disk,
            "byte between tokens",
            &good.clone().replace(&product, &between),
        );
    }
}

#[test]
fn text_that_is_no_object() {
    let disk = Disk::both();
    let good = Forged::good();
    let text = good.manifest.clone();
    let joined = |parts: &[&[u8]]| good.clone().manifest(&parts.concat());
    refused(
        &disk,
        "mark of byte order",
        &joined(&[b"\xef\xbb\xbf", &text]),
    );
    refused(&disk, "two objects", &joined(&[&text, b"{}"]));
    refused(&disk, "a byte too many", &joined(&[&text, b"}"]));
    refused(&disk, "a zero at the end", &joined(&[&text, b"\0"]));
    refused(&disk, "a line end", &joined(&[&text, b"\n"]));
    refused(&disk, "a byte too few", &joined(&[&text[..text.len() - 1]]));
    refused(&disk, "in an array", &joined(&[b"[", &text, b"]"]));
    for other in ["{}", "[]", "null", "1", "\"\"", " ", "{", "\0"] {
        refused(&disk, other, &good.clone().manifest(other.as_bytes()));
    }
}

#[test]
fn nesting_that_would_exhaust_a_stack() {
    let disk = Disk::both();
    let good = Forged::good();
    for open in ["[", "{\"a\":"] {
        let deep = format!("{{\"unknown\":{}", open.repeat(16_000 / open.len()));
        refused(&disk, "unclosed", &good.clone().manifest(deep.as_bytes()));
    }
    let deep = format!(
        "\"unknown\":{}{},\"product\"",
        "[".repeat(5000),
        "]".repeat(5000)
    );
    refused(
        &disk,
        "closed",
        &good.replace("\"product\"", deep.as_bytes()),
    );
}

#[test]
fn values_that_their_keys_can_not_take() {
    let disk = Disk::both();
    let good = Forged::good();
    let cases: &[(&str, Value)] = &[
        ("/format", json!(2)),
        ("/format", json!(0)),
        ("/format", json!("1")),
        ("/product", json!("")),
        ("/product", json!("x".repeat(65))),
        ("/product", json!("de mo")),
        ("/product", json!("d\u{e9}mo")),
        ("/product", json!("../demo")),
        ("/product", json!("demo\"")),
        ("/product", Value::Null),
        ("/product", json!(1)),
        ("/product", json!([PRODUCT])),
        ("/boards", json!([])),
        ("/boards", json!(BOARD)),
        ("/boards", json!([BOARD, ""])),
        ("/boards", json!([1])),
        ("/boards", json!(vec![BOARD; 17])),
        ("/version", json!("")),
        ("/version", json!("2~~;rm")),
        ("/rollback_index", json!(-1)),
        ("/rollback_index", json!(1.5)),
        ("/rollback_index", json!(1e3)),
        ("/rollback_index", json!("2")),
        ("/rollback_index", json!(true)),
        ("/min_version", Value::Null),
        ("/min_version", json!("")),
        ("/group", json!("")),
        ("/group", json!(["a"])),
        ("/created", json!("yesterday evening")),
        ("/requires", json!("a")),
        ("/requires", json!([""])),
        ("/requires", json!(vec!["a"; 17])),
        ("/artifacts", json!([])),
        ("/artifacts", json!({})),
        ("/artifacts", json!([null])),
        ("/artifacts/0/name", json!("")),
        ("/artifacts/0/name", json!("usr/../boot")),
        ("/artifacts/0/table", json!("")),
        ("/artifacts/0/table", json!("0".repeat(63))),
        ("/artifacts/0/table", json!("0".repeat(65))),
        ("/artifacts/0/table", json!("g".repeat(64))),
        ("/artifacts/0/content", json!("0".repeat(66))),
        ("/artifacts/0/content", json!("\u{e9}".repeat(32))),
        ("/artifacts/0/content", Value::Null),
    ];
    for (path, value) in cases {
        let what = format!("{path} = {value}");
        refused(&disk, &what, &good.clone().set(path, value.clone()));
    }
    let index = |text: &str| {
        good.clone()
            .replace("\"rollback_index\":2", text.as_bytes())
    };
    refused(
        &disk,
        "2^64",
        &index("\"rollback_index\":18446744073709551616"),
    );
    refused(&disk, "leading zero", &index("\"rollback_index\":02"));
    refused(
        &disk,
        "a number of 9000 digits",
        &index(&format!("\"rollback_index\":{}", "9".repeat(9000))),
    );
}

#[test]
fn keys_that_are_missing() {
    let disk = Disk::both();
    let manifest: Value = serde_json::from_slice(&Forged::good().manifest).unwrap();
    let without = |path: &str, key: &str| {
        let mut manifest = manifest.clone();
        let parent = manifest.pointer_mut(path).unwrap().as_object_mut().unwrap();
        parent.remove(key).unwrap();
        Forged::good().manifest(manifest.to_string().as_bytes())
    };
    for key in [
        "format",
        "product",
        "boards",
        "version",
        "rollback_index",
        "artifacts",
    ] {
        refused(&disk, key, &without("", key));
    }
    for key in ["name", "size", "block_size", "table", "content"] {
        refused(&disk, key, &without("/artifacts/0", key));
    }
}

#[test]
fn artifacts_that_contradict_each_other() {
    let disk = Disk::both();
    let good = Forged::good();
    let manifest: Value = serde_json::from_slice(&good.manifest).unwrap();
    let artifact = &manifest["artifacts"][0];
    let twice = json!([artifact, artifact]);
    refused(&disk, "twice", &good.clone().set("/artifacts", twice));
    let many: Vec<Value> = (0..9)
        .map(|number| {
            let mut artifact = artifact.clone();
            artifact["name"] = json!(format!("usr{number}"));
            artifact
        })
        .collect();
    refused(&disk, "nine", &good.set("/artifacts", json!(many)));
}

#[test]
fn keys_from_the_future_are_ignored() {
    let disk = Disk::both();
    let good = Forged::good();
    let future = good.set("/future", json!({"a": [1, {"b": null}], "c": "d"}));
    let outcome = disk.apply(How::File, &future.bytes(), &["--check"]);
    outcome.succeeds(&"check");
    disk.is_unchanged(&"check");
    disk.apply(How::Stdin, &future.bytes(), &[])
        .succeeds(&"apply");
}
