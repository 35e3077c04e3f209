use bootctl::{BlockIo, SectorSize};
use proptest::prelude::*;

use super::*;

/// A file system in memory.
struct Memory(Vec<u8>);

impl BlockIo for Memory {
    type Error = &'static str;

    fn sector_size(&self) -> SectorSize {
        SectorSize::B512
    }

    fn sector_count(&self) -> u64 {
        self.0.len() as u64 / 512
    }

    fn read_sectors(&mut self, lba: u64, buf: &mut [u8]) -> Result<(), &'static str> {
        let start = usize::try_from(lba * 512).map_err(|_| "far away")?;
        let bytes = self.0.get(start..start + buf.len()).ok_or("past the end")?;
        buf.copy_from_slice(bytes);
        Ok(())
    }

    fn write_sectors(&mut self, _: u64, _: &[u8]) -> Result<(), &'static str> {
        Err("read only")
    }

    fn flush(&mut self) -> Result<(), &'static str> {
        Ok(())
    }
}

fn put(fs: &mut [u8], at: usize, bytes: &[u8]) {
    fs[at..at + bytes.len()].copy_from_slice(bytes);
}

fn entry(inode: u32, length: u16, name: &str) -> Vec<u8> {
    let mut entry = inode.to_le_bytes().to_vec();
    entry.extend(length.to_le_bytes());
    entry.extend([u8::try_from(name.len()).unwrap(), 0]);
    entry.extend(name.bytes());
    entry.resize(entry.len().next_multiple_of(4), 0);
    entry
}

/// Blocks of 1 KiB: 1 superblock, 2 descriptors, 3 inodes of 128 bytes, 4 the root folder, 5 the file `f`, which says
/// `hello`, with a block number instead of extents.
fn literal() -> Vec<u8> {
    let mut fs = vec![0; 16 * 1024];
    for (at, number) in [(0x0, 8_u32), (0x4, 16), (0x14, 1), (0x28, 8), (0x60, 2)] {
        put(&mut fs, 1024 + at, &number.to_le_bytes());
    }
    put(&mut fs, 1024 + 0x38, &[0x53, 0xef]);
    put(&mut fs, 2048 + 8, &[3]);
    let root = 3072 + 128;
    put(&mut fs, root, &[0xed, 0x41]);
    put(&mut fs, root + 4, &1024_u32.to_le_bytes());
    put(&mut fs, root + 0x28, &[4]);
    let file = 3072 + 2 * 128;
    put(&mut fs, file, &[0xa4, 0x81]);
    put(&mut fs, file + 4, &[5]);
    put(&mut fs, file + 0x28, &[5]);
    put(&mut fs, 4096, &entry(2, 12, "."));
    put(&mut fs, 4096 + 12, &entry(2, 12, ".."));
    put(&mut fs, 4096 + 24, &entry(3, 1000, "f"));
    put(&mut fs, 5120, b"hello");
    fs
}

#[test]
fn a_literal_file_system() {
    let mut fs = Ext4::open(Memory(literal())).unwrap();
    assert_eq!(fs.read("/f", 5).unwrap(), b"hello");
    assert_eq!(fs.read("../f/", 5).unwrap(), b"hello");
    assert_eq!(fs.names("/", 1).unwrap(), [b"f"]);
    assert_eq!(fs.read("/g", 5), Err(Ext4Error::NotFound));
    assert_eq!(fs.read("/f", 4), Err(Ext4Error::TooLong { limit: 4 }));
    assert_eq!(fs.read("/", 5), Err(Ext4Error::NotAFile));
}

#[test]
fn what_is_read_altogether_is_bounded() {
    let mut fs = Ext4::open(Memory(literal())).unwrap();
    let ends = (0..MAX_READS).find_map(|_| fs.read("/f", 5).err());
    assert_eq!(ends, Some(Ext4Error::TooMuch));
}

proptest! {
    #[test]
    fn hostile_file_systems_never_panic(
        changes in proptest::collection::vec((1024_usize..5200, any::<u8>()), 0..12),
    ) {
        let mut bytes = literal();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        if let Ok(mut fs) = Ext4::open(Memory(bytes)) {
            prop_assert!(fs.read("/f", 4096).map_or(0, |text| text.len()) <= 4096);
            let _ = fs.names("/", 16);
        }
    }
}
