//! New signing keys: PKCS#8 and SPKI in PEM, as `openssl genpkey -algorithm ed25519` makes them.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use ed25519_dalek::SigningKey;
use ed25519_dalek::pkcs8::spki::EncodePublicKey;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{EncodePrivateKey, KeypairBytes};

use crate::output::Output;

/// The two files of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFiles {
    /// PKCS#8, mode 0600.
    pub private: PathBuf,
    /// SPKI, mode 0644.
    pub public: PathBuf,
}

/// Makes `folder/NAME.key.pem` and `folder/NAME.pub.pem` from the system's random numbers. Makes the folder.
///
/// # Errors
/// One of the files exists (nothing is replaced), or the folder can't be written.
pub fn keygen(folder: &Path, name: &str) -> Result<KeyFiles> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
    ensure!(
        (1..=64).contains(&name.len()) && name.bytes().all(plain) && !name.starts_with('.'),
        "make key: {name:?} is not a name of 1 to 64 letters, digits and ._+- (--name)"
    );
    let files = KeyFiles {
        private: folder.join(format!("{name}.key.pem")),
        public: folder.join(format!("{name}.pub.pem")),
    };
    for file in [&files.private, &files.public] {
        if file.symlink_metadata().is_ok() {
            bail!(
                "make key: {} exists and is not replaced (--name or --out-dir)",
                file.display()
            );
        }
    }
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;

    let mut seed = [0_u8; 32];
    getrandom::fill(&mut seed).map_err(|e| anyhow!("read random numbers: {e}"))?;
    let key = SigningKey::from_bytes(&seed);
    // Version 1, without the public key inside: OpenSSL before 3.5 reads nothing else.
    let private = KeypairBytes {
        secret_key: seed,
        public_key: None,
    }
    .to_pkcs8_pem(LineEnding::LF)
    .map_err(|e| anyhow!("encode key: {e}"))?;
    let public = key
        .verifying_key()
        .to_public_key_pem(LineEnding::LF)
        .map_err(|e| anyhow!("encode key: {e}"))?;

    write_new(&files.private, private.as_bytes(), 0o600)?;
    write_new(&files.public, public.as_bytes(), 0o644)?;
    Ok(files)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let output = Output::create_new(path, mode)?;
    output
        .file()
        .write_all(bytes)
        .with_context(|| format!("write {}", path.display()))?;
    output.commit()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::keys;

    #[test]
    fn the_two_files_belong_together_and_only_the_owner_reads_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let files = keygen(&folder.path().join("new/keys"), "release").unwrap();
        let private = keys::read_private(&files.private).unwrap();
        let public = keys::read_public(&files.public).unwrap();
        assert_eq!(private.verifying_key(), public);
        let mode = files.private.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn an_existing_key_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let files = keygen(folder.path(), "release").unwrap();
        let before = std::fs::read(&files.private).unwrap();
        std::fs::remove_file(&files.public).unwrap();
        assert!(keygen(folder.path(), "release").is_err());
        assert_eq!(std::fs::read(&files.private).unwrap(), before);
        assert!(keygen(folder.path(), "../x").is_err());
    }
}
