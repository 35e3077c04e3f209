//! Manifest, block table, whole payload.

use std::io::Cursor;
use std::num::NonZeroU8;

use ed25519_dalek::{Signer, SigningKey};
use updater::Digest;
use updater::engine::{Silent, check};
use updater::gates::{Device, admit};
use updater::incoming::Incoming;
use updater::manifest::{Artifact, Manifest};
use updater::payload::{HEADER_LEN, Header, MAX_MANIFEST, Prefix, SignatureRecord};
use updater::signature::{KeySet, key_id};
use updater::source::Source;
use updater::table::{ENTRY_LEN, Kind, Table};
use updater::version;

/// A manifest that is accepted is JSON, keeps its bounds and comes back from the bytes that the packer would write.
pub fn manifest(data: &[u8]) -> bool {
    let json = updater::json::check(data);
    if json.is_ok() {
        let value: Result<serde_json::Value, _> = serde_json::from_slice(data);
        // A number that no f64 holds is none to serde_json.
        let out_of_range = |error: &serde_json::Error| error.to_string().contains("out of range");
        assert!(value.as_ref().err().is_none_or(out_of_range), "{value:?}");
    }
    let Ok(manifest) = Manifest::parse(data) else {
        return false;
    };
    assert!(json.is_ok());
    assert!(!manifest.boards.is_empty() && !manifest.artifacts.is_empty());
    assert!(manifest.tables_len() <= updater::payload::MAX_TABLES as u64);
    let mut bytes = vec![0; MAX_MANIFEST];
    let len = manifest.emit(&mut bytes).unwrap();
    assert_eq!(Manifest::parse(&bytes[..len]).unwrap(), manifest);
    let _ = version::compare(&manifest.version, &manifest.product);
    true
}

/// Nine bytes that say how large image and blocks are, and a table. The blocks of one that is accepted cover the image.
pub fn table(data: &[u8]) -> bool {
    let Some((head, bytes)) = data.split_first_chunk::<9>() else {
        return false;
    };
    let [log, size @ ..] = *head;
    let artifact = Artifact {
        name: "usr".parse().unwrap(),
        size: u64::from_le_bytes(size),
        block_size: 1 << (log % 32),
        table: Digest::of(bytes),
        content: Digest::default(),
    };
    let Ok(table) = Table::parse(&artifact, bytes) else {
        return false;
    };
    let (mut end, mut again) = (0, Vec::new());
    for block in table.iter() {
        assert_eq!(block.offset, end);
        end += u64::from(block.len);
        assert!(block.entry.stored_len() <= block.len);
        again.extend(block.entry.to_bytes());
    }
    assert_eq!(
        (end, table.blocks()),
        (artifact.size, (bytes.len() / ENTRY_LEN) as u64)
    );
    assert_eq!(again, bytes);
    true
}

/// A payload as it stands is refused by somebody who knows none of its keys. With its hashes and its signature made
/// true it goes through everything that comes before the slot, or ends with an error.
pub fn whole_payload(data: &[u8]) -> bool {
    let key = SigningKey::from_bytes(&[1; 32]);
    let mut keys = KeySet::new();
    keys.insert(&SigningKey::from_bytes(&[2; 32]).verifying_key().to_bytes())
        .unwrap();
    assert!(!install(data.to_vec(), &keys));
    let Some(bytes) = made_true(data, &key) else {
        return false;
    };
    let mut keys = KeySet::new();
    keys.insert(&key.verifying_key().to_bytes()).unwrap();
    install(bytes, &keys)
}

fn install(bytes: Vec<u8>, keys: &KeySet) -> bool {
    let source = Source::stream(Cursor::new(bytes));
    let Ok((mut incoming, manifest)) = Incoming::read(source, keys, NonZeroU8::MIN) else {
        return false;
    };
    let (product, board) = (manifest.product.clone(), manifest.boards[0].clone());
    let group = manifest.group.clone().unwrap_or_default();
    let device = Device {
        product: &product,
        board: &board,
        group: &group,
        artifacts: &["usr"],
        features: &[],
        version: Some("0"),
        floor: 0,
        capacity: 64 << 20,
        active_confirmed: true,
        failure: None,
        staged: None,
    };
    let Ok(release) = admit(manifest, &device, &[]) else {
        return false;
    };
    if incoming.read_tables(&release).is_err() {
        return false;
    }
    let (source, tables) = incoming.into_parts();
    check(source, &tables, &release, &mut Silent).is_ok()
}

/// The same payload with true hashes of stored bytes, a true hash of its table, and one good signature.
fn made_true(data: &[u8], key: &SigningKey) -> Option<Vec<u8>> {
    let prefix = Prefix::parse_draft(data).ok()?;
    let text = std::str::from_utf8(prefix.manifest()).ok()?;
    let mut rest = data.get(prefix.header().prefix_len()..)?.to_vec();
    let mut text = text.to_owned();
    if let Ok(manifest) = Manifest::parse(text.as_bytes()) {
        let len = usize::try_from(manifest.tables_len()).ok()?;
        if let Some((table, stored)) = rest.split_at_mut_checked(len) {
            true_hashes(table, stored);
            let artifact = manifest.artifacts.first()?;
            let old = artifact.table.to_string();
            text = text.replace(&old, &Digest::of(table).to_string());
        }
    }
    let header = Header::new(text.len(), 1).ok()?;
    let record = SignatureRecord {
        key_id: key_id(&key.verifying_key().to_bytes()),
        signature: key.sign(text.as_bytes()).to_bytes(),
    };
    let mut bytes = header.to_bytes().to_vec();
    assert_eq!(bytes.len(), HEADER_LEN);
    bytes.extend(record.to_bytes());
    bytes.extend(text.as_bytes());
    bytes.append(&mut rest);
    Some(bytes)
}

fn true_hashes(table: &mut [u8], mut stored: &[u8]) {
    for entry in table.as_chunks_mut::<ENTRY_LEN>().0 {
        let len = u32::from_le_bytes([entry[68], entry[69], entry[70], entry[71]]);
        let Some((bytes, later)) = stored.split_at_checked(len as usize) else {
            return;
        };
        stored = later;
        let hash = Digest::of(bytes);
        entry[32..64].copy_from_slice(&hash.0);
        // Of an unpacked block only the packer knows the hash.
        if entry[64] == KIND_RAW {
            entry[..32].copy_from_slice(&hash.0);
        }
    }
}

/// As it stands in a table.
const KIND_RAW: u8 = Kind::Raw as u8;
