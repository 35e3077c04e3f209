//! What the loaders read and write.

use bootctl::uboot_env::{self, Layout, UbootEnv};
use bootctl::{Attributes, BootState, Priority, Tries, grub_env as grub};

/// Where one of ours stands in a list of names.
fn is_ours(name: &[u8]) -> bool {
    name.starts_with(b"tandem_")
}

/// A state that is written by the first bytes.
fn state(data: &[u8]) -> BootState {
    let byte = |at: usize| data.get(at).copied().unwrap_or(3);
    let attributes = |at| Attributes {
        priority: Priority::new(byte(at) % 10).unwrap(),
        tries: Tries::new(byte(at + 1) % 10).unwrap(),
        successful: byte(at + 2) % 2 == 1,
    };
    BootState {
        a: attributes(0),
        b: attributes(3),
    }
}

/// A block of GRUB's, whatever its size. What is written is what is read, and nobody else's variable goes.
pub fn grub_env(data: &[u8]) -> bool {
    let foreign = |block: &[u8]| -> Vec<(Vec<u8>, Vec<u8>)> {
        let entries = grub::GrubEnv::new(block)
            .into_iter()
            .flat_map(|e| e.entries());
        entries
            .filter(|entry| !is_ours(entry.name))
            .map(|entry| (entry.name.to_vec(), entry.value().collect()))
            .collect()
    };
    let accepted = grub::decode(data).is_ok();
    let state = state(data.get(25..).unwrap_or_default());
    let mut block = data.to_vec();
    if grub::encode(&mut block, &state).is_err() {
        return accepted;
    }
    assert_eq!((grub::decode(&block), block.len()), (Ok(state), data.len()));
    assert!(grub::is_editable(&block));
    // Where there is no room for ours the block is made anew.
    let (before, after) = (foreign(data), foreign(&block));
    assert!(after == before || after.is_empty(), "{before:?} {after:?}");
    let mut again = block.clone();
    grub::encode(&mut again, &state).unwrap();
    assert_eq!(again, block);
    accepted
}

/// A copy of U-Boot's after a byte: bit 0 says that it has a serial number, bit 1 that its CRC stays as it is.
pub fn uboot_env(data: &[u8]) -> bool {
    let Some((&options, data)) = data.split_first() else {
        return false;
    };
    let layout = match options & 1 {
        0 => Layout::Single,
        _ => Layout::Redundant,
    };
    let header = layout.header_len();
    let mut copy = data.to_vec();
    if options & 2 == 0
        && let Some((crc, covered)) = data.split_first_chunk::<4>()
    {
        assert_eq!(crc.len() + covered.len(), data.len());
        let crc = super::crc32(data.get(header..).unwrap_or_default());
        copy[..4].copy_from_slice(&crc.to_le_bytes());
    }
    let foreign = |copy: &[u8]| -> Vec<(Vec<u8>, Vec<u8>)> {
        let entries = UbootEnv::new(copy, layout)
            .into_iter()
            .flat_map(|e| e.entries());
        entries
            .filter(|entry| !is_ours(entry.name))
            .map(|entry| (entry.name.to_vec(), entry.value().collect()))
            .collect()
    };
    let accepted = uboot_env::decode(&copy, layout).is_ok();
    let state = state(data.get(header..).unwrap_or_default());
    let mut written = copy.clone();
    if uboot_env::encode(&mut written, layout, options, &state).is_err() {
        return accepted;
    }
    assert_eq!(written.len(), copy.len());
    assert_eq!(uboot_env::decode(&written, layout), Ok(state));
    let crc = super::crc32(&written[header..]).to_le_bytes();
    assert_eq!(written[..4], crc);
    let (before, after) = (foreign(&copy), foreign(&written));
    assert!(after == before || after.is_empty(), "{before:?} {after:?}");
    accepted
}
