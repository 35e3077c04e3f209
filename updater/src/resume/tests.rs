use std::os::unix::fs::PermissionsExt;

use tempfile::TempDir;

use super::*;
use crate::payload::Header;

/// The first bytes of some payload; nobody looks at its signature here.
fn prefix(manifest: &[u8]) -> (Vec<u8>, Digest) {
    let mut bytes = Header::new(manifest.len(), 1).unwrap().to_bytes().to_vec();
    bytes.extend([7; 96]);
    bytes.extend(manifest);
    bytes.extend(b"tables");
    (bytes, Digest::of(manifest))
}

fn mark(id: Digest) -> Mark {
    Mark {
        id,
        slot: Slot::B,
        blocks: 0,
        origin: Some(Origin {
            url: "https://example.org/a.payload".into(),
            validator: Some("\"etag\"".into()),
        }),
    }
}

#[test]
fn a_mark_is_what_was_written() {
    let folder = TempDir::new().unwrap();
    let dir = folder.path().join("made/when/needed");
    assert_eq!(load(&dir), None);
    let (bytes, id) = prefix(b"{}");
    let mut keeper = Keeper::begin(&dir, mark(id), &bytes).unwrap();
    keeper.moved(12).unwrap();
    let expected = Mark {
        blocks: 12,
        ..mark(id)
    };
    let saved = load(&dir).unwrap();
    assert_eq!((&saved.mark, &saved.prefix), (&expected, &bytes));
    // It may go back where the medium has lost something.
    keeper.moved(3).unwrap();
    assert_eq!(load_mark(&dir).unwrap().blocks, 3);
    let text = fs::read_to_string(dir.join(RECORD)).unwrap();
    let shape = format!(
        "{{\"format\":1,\"id\":\"{id}\",\"slot\":\"b\",\"blocks\":3,\"source\":\"https://example.org/a.payload\",\"validator\":\"\\\"etag\\\"\"}}\n"
    );
    assert_eq!(text, shape);
    // The address may hold a password.
    let mode = fs::metadata(dir.join(RECORD)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    keeper.end().unwrap();
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    remove(&dir).unwrap();
}

#[test]
fn garbage_is_no_mark() {
    let folder = TempDir::new().unwrap();
    let dir = folder.path();
    let (bytes, id) = prefix(b"{}");
    Keeper::begin(dir, mark(id), &bytes).unwrap();
    let good = fs::read(dir.join(RECORD)).unwrap();
    let long = [good.as_slice(), &[b' '; 17 << 10]].concat();
    let other = |from: &str, to: &str| {
        let text = String::from_utf8(good.clone()).unwrap();
        assert!(text.contains(from));
        text.replace(from, to).into_bytes()
    };
    for text in [
        Vec::new(),
        b"{".to_vec(),
        b"null".to_vec(),
        vec![0; 300],
        good[..good.len() / 2].to_vec(),
        long,
        other("\"format\":1", "\"format\":2"),
        other("\"slot\":\"b\"", "\"slot\":\"c\""),
        other("\"blocks\":0", "\"blocks\":-1"),
        other("\"blocks\":0", "\"blocks\":1e3"),
        other(&id.to_string(), "abc"),
    ] {
        fs::write(dir.join(RECORD), &text).unwrap();
        assert_eq!(load(dir), None, "{}", String::from_utf8_lossy(&text));
    }
    fs::write(dir.join(RECORD), &good).unwrap();
    assert!(load(dir).is_some());

    let (others, _) = prefix(b"{\"of\":\"another\"}");
    for prefix in [b"".as_slice(), &bytes[..100], &others, &[0; 5000]] {
        fs::write(dir.join(PREFIX), prefix).unwrap();
        assert_eq!(load(dir), None);
    }
    fs::write(dir.join(PREFIX), vec![0; MAX_RECORD_BODY + 1]).unwrap();
    assert_eq!(load(dir), None);
    fs::remove_file(dir.join(PREFIX)).unwrap();
    assert_eq!(load(dir), None);
    fs::create_dir(dir.join(PREFIX)).unwrap();
    assert_eq!(load(dir), None);
}

#[test]
fn only_the_very_same_mark_is_continued() {
    let folder = TempDir::new().unwrap();
    let dir = folder.path();
    let (bytes, id) = prefix(b"{}");
    let own = mark(id);
    let mut keeper = Keeper::begin(dir, own.clone(), &bytes).unwrap();
    keeper.moved(9).unwrap();
    let continued = Keeper::continued(dir, &own).unwrap();
    assert_eq!(continued.mark.blocks, 9);
    let foreign = [
        Mark {
            id: Digest::default(),
            ..own.clone()
        },
        Mark {
            slot: Slot::A,
            ..own.clone()
        },
        Mark {
            origin: None,
            ..own.clone()
        },
    ];
    for foreign in foreign {
        assert!(Keeper::continued(dir, &foreign).is_none());
    }
    // Beginning another one leaves nothing of this one.
    let (others, id) = prefix(b"{\"of\":\"another\"}");
    Keeper::begin(dir, mark(id), &others).unwrap();
    assert!(Keeper::continued(dir, &own).is_none());
    assert_eq!(load(dir).unwrap().mark, mark(id));
}

#[test]
fn an_address_that_is_too_long_is_left_out() {
    let folder = TempDir::new().unwrap();
    let (bytes, id) = prefix(b"{}");
    let mut long = mark(id);
    long.origin.as_mut().unwrap().url = "x".repeat(17 << 10);
    Keeper::begin(folder.path(), long, &bytes).unwrap();
    assert_eq!(load(folder.path()).unwrap().mark.origin, None);
}
