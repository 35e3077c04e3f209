//! Files of a partition that nobody has mounted: keys and settings of a disk that is not running.

use bootctl::BlockIo;

use crate::ext4::{Ext4, Ext4Error};

/// Why the files of a partition can't be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OfflineError {
    #[error("read file system of {partition}: {cause} (--keys names a folder of keys instead)")]
    FileSystem { partition: String, cause: Ext4Error },
    #[error("read {path} in {partition}: {cause}")]
    File {
        partition: String,
        path: String,
        cause: Ext4Error,
    },
}

/// The file system of one partition, ext4, read past the kernel.
#[derive(Debug)]
pub struct OfflineFiles<B> {
    fs: Ext4<B>,
    partition: String,
}

impl<B: BlockIo> OfflineFiles<B> {
    /// Reads the superblock. `partition` is its name in errors.
    ///
    /// # Errors
    /// It is no ext4, or can't be read.
    pub fn open(io: B, partition: &str) -> Result<Self, OfflineError> {
        let partition = partition.to_owned();
        match Ext4::open(io) {
            Ok(fs) => Ok(Self { fs, partition }),
            Err(cause) => Err(OfflineError::FileSystem { partition, cause }),
        }
    }

    /// A file of at most `limit` bytes; `None` if there is none.
    ///
    /// # Errors
    /// It is longer, or can't be read.
    pub fn file(&mut self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, OfflineError> {
        match self.fs.read(path, limit) {
            Ok(text) => Ok(Some(text)),
            Err(Ext4Error::NotFound) => Ok(None),
            Err(cause) => Err(self.failed(path, cause)),
        }
    }

    /// Names and contents of the files in a folder whose names end with `suffix`, sorted by name; none if there is no
    /// such folder.
    ///
    /// # Errors
    /// There are more than `entries` names, a file has more than `limit` bytes, or something can't be read.
    pub fn folder(
        &mut self,
        folder: &str,
        suffix: &str,
        entries: usize,
        limit: u64,
    ) -> Result<Vec<(String, Vec<u8>)>, OfflineError> {
        let names = match self.fs.names(folder, entries) {
            Ok(names) => names,
            Err(Ext4Error::NotFound) => return Ok(Vec::new()),
            Err(cause) => return Err(self.failed(folder, cause)),
        };
        let mut names: Vec<String> = names
            .into_iter()
            .filter_map(|name| String::from_utf8(name).ok())
            .filter(|name| name.ends_with(suffix))
            .collect();
        names.sort();
        let mut files = Vec::new();
        for name in names {
            if let Some(text) = self.file(&format!("{folder}/{name}"), limit)? {
                files.push((name, text));
            }
        }
        Ok(files)
    }

    fn failed(&self, path: &str, cause: Ext4Error) -> OfflineError {
        let partition = self.partition.clone();
        // Names in it are anybody's, and go to a terminal.
        let path = path.escape_debug().to_string();
        OfflineError::File {
            partition,
            path,
            cause,
        }
    }
}
