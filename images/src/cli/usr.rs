//! `keygen` and `usr`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use super::{Size, image_time, warn_all};

/// Make a signing key: NAME.key.pem, to be kept secret, and NAME.pub.pem
#[derive(Args, Debug)]
pub struct Keygen {
    /// Folder for the two files; made if it does not exist
    #[arg(long, value_name = "DIR")]
    out_dir: PathBuf,
    /// First part of the files' names
    #[arg(long, default_value = "release")]
    name: String,
}

impl Keygen {
    pub fn run(self) -> Result<()> {
        let files = images::keygen::keygen(&self.out_dir, &self.name)?;
        say!("private key  {}\n", files.private.display());
        say!("public key   {}\n", files.public.display());
        Ok(())
    }
}

/// Make the image of a /usr tree: an ext4 file system that slots can hold
///
/// The same tree gives the same bytes. Files belong to root, and carry the time of SOURCE_DATE_EPOCH, or 2020-01-01.
#[derive(Args, Debug)]
pub struct Usr {
    /// Folder that becomes /usr
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Public key that the release accepts updates by; goes to lib/tandem/keys.d (may be given again)
    #[arg(long, value_name = "PUB")]
    key: Vec<PathBuf>,
    /// Size of the image in bytes (units K, M, G), a multiple of 4096 [default: as small as the tree allows]
    #[arg(long, value_name = "BYTES")]
    size: Option<Size>,
    /// Image file
    #[arg(long, value_name = "IMG")]
    out: PathBuf,
}

impl Usr {
    pub fn run(self) -> Result<()> {
        let keys: Vec<&Path> = self.key.iter().map(PathBuf::as_path).collect();
        let size = self.size.map(|size| size.0);
        let made = images::usr::make(&self.root, &keys, size, image_time()?, &self.out)?;
        warn_all(&made.warnings);
        say!("{}: {} bytes\n", self.out.display(), made.size);
        Ok(())
    }
}
