//! Files of a partition that nobody has mounted: keys and settings of a disk that is not running.

use std::error::Error;

use bootctl::BlockIo;
use bootctl::disk::{DiskError, PartitionIo};
use ext4_view::{Ext4, Ext4Error, Ext4Read};

/// Why the files of a partition can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineError {
    #[error("read file system of {partition}: {source} (--keys names a folder of keys instead)")]
    FileSystem {
        partition: String,
        source: Ext4Error,
    },
    #[error("read {path} in {partition}: {source}")]
    File {
        partition: String,
        path: String,
        source: Ext4Error,
    },
    #[error("read {path} in {partition}: it has {found} bytes, more than {limit}")]
    TooLong {
        partition: String,
        path: String,
        found: u64,
        limit: u64,
    },
    #[error("read {path} in {partition}: it has more than {limit} entries")]
    TooManyEntries {
        partition: String,
        path: String,
        limit: usize,
    },
}

/// The file system of one partition, ext4, read past the kernel.
#[derive(Debug)]
pub struct OfflineFiles {
    fs: Ext4,
    partition: String,
}

impl OfflineFiles {
    /// Reads the superblock. `partition` is its name in errors.
    ///
    /// # Errors
    /// It is no ext4, or can't be read.
    pub fn open(io: PartitionIo, partition: &str) -> Result<Self, OfflineError> {
        let partition = partition.to_owned();
        match Ext4::load(Box::new(Bytes {
            io,
            sector: Vec::new(),
        })) {
            Ok(fs) => Ok(Self { fs, partition }),
            Err(source) => Err(OfflineError::FileSystem { partition, source }),
        }
    }

    /// A file of at most `limit` bytes; `None` if there is none.
    ///
    /// # Errors
    /// It is longer, or can't be read.
    pub fn file(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, OfflineError> {
        let found = match self.fs.metadata(path) {
            Ok(metadata) => metadata.len(),
            Err(Ext4Error::NotFound) => return Ok(None),
            Err(source) => return Err(self.failed(path, source)),
        };
        if found > limit {
            let (partition, path) = (self.partition.clone(), path.to_owned());
            return Err(OfflineError::TooLong {
                partition,
                path,
                found,
                limit,
            });
        }
        let text = self
            .fs
            .read(path)
            .map_err(|source| self.failed(path, source))?;
        Ok(Some(text))
    }

    /// Names and contents of the files in a folder whose names end with `suffix`, sorted by name; none if there is no
    /// such folder.
    ///
    /// # Errors
    /// There are more than `entries` names, a file has more than `limit` bytes, or something can't be read.
    pub fn folder(
        &self,
        folder: &str,
        suffix: &str,
        entries: usize,
        limit: u64,
    ) -> Result<Vec<(String, Vec<u8>)>, OfflineError> {
        let listing = match self.fs.read_dir(folder) {
            Ok(listing) => listing,
            Err(Ext4Error::NotFound) => return Ok(Vec::new()),
            Err(source) => return Err(self.failed(folder, source)),
        };
        let mut names = Vec::new();
        for (count, entry) in listing.enumerate() {
            let entry = entry.map_err(|source| self.failed(folder, source))?;
            // `.` and `..` are listed too.
            if count >= entries.saturating_add(2) {
                let (partition, path) = (self.partition.clone(), folder.to_owned());
                return Err(OfflineError::TooManyEntries {
                    partition,
                    path,
                    limit: entries,
                });
            }
            if let Ok(name) = entry.file_name().as_str()
                && name.ends_with(suffix)
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        let mut files = Vec::new();
        for name in names {
            if let Some(text) = self.file(&format!("{folder}/{name}"), limit)? {
                files.push((name, text));
            }
        }
        Ok(files)
    }

    fn failed(&self, path: &str, source: Ext4Error) -> OfflineError {
        let (partition, path) = (self.partition.clone(), path.to_owned());
        OfflineError::File {
            partition,
            path,
            source,
        }
    }
}

/// Any bytes of a partition, by whole sectors.
struct Bytes {
    io: PartitionIo,
    sector: Vec<u8>,
}

impl Ext4Read for Bytes {
    fn read(
        &mut self,
        start_byte: u64,
        dst: &mut [u8],
    ) -> Result<(), Box<dyn Error + Send + Sync + 'static>> {
        let size = self.io.sector_size();
        self.sector.resize(size.len(), 0);
        let mut at = start_byte;
        let mut rest = dst;
        while !rest.is_empty() {
            let skip = usize::try_from(at % size.bytes())?;
            self.io
                .read_sectors(at / size.bytes(), &mut self.sector)
                .map_err(|error: DiskError| error.to_string())?;
            let held = self.sector.get(skip..).unwrap_or_default();
            let take = held.len().min(rest.len());
            let (now, later) = rest.split_at_mut(take);
            now.copy_from_slice(held.get(..take).unwrap_or_default());
            at = at.saturating_add(take as u64);
            rest = later;
        }
        Ok(())
    }
}
