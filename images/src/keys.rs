//! Reading keys from PEM files of bounded length.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use ed25519_dalek::pkcs8::DecodePrivateKey;
use ed25519_dalek::pkcs8::spki::DecodePublicKey;
use ed25519_dalek::{SigningKey, VerifyingKey};

const MAX_PEM: u64 = 16 * 1024;

/// Reads a PKCS#8 private key.
///
/// # Errors
/// The file can't be read, is too long, or holds no Ed25519 private key.
pub fn read_private(path: &Path) -> Result<SigningKey> {
    SigningKey::from_pkcs8_pem(&read_pem(path)?).map_err(|e| {
        anyhow!(
            "read key {}: not an Ed25519 private key in PEM (PKCS#8): {e}",
            path.display()
        )
    })
}

/// Reads an SPKI public key and refuses the weak ones.
///
/// # Errors
/// The file can't be read, is too long, or holds no usable Ed25519 public key.
pub fn read_public(path: &Path) -> Result<VerifyingKey> {
    let key = VerifyingKey::from_public_key_pem(&read_pem(path)?).map_err(|e| {
        anyhow!(
            "read key {}: not an Ed25519 public key in PEM (SPKI): {e}",
            path.display()
        )
    })?;
    ensure!(
        !key.is_weak(),
        "read key {}: a weak key, any signature would pass",
        path.display()
    );
    Ok(key)
}

/// The name a public key has in a `keys.d` folder, where only `*.pub.pem` counts.
///
/// # Errors
/// The file's name does not end in `.pub.pem` or has bytes that are no part of a plain name.
pub fn installed_name(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
    ensure!(
        name.ends_with(".pub.pem")
            && name.len() > ".pub.pem".len()
            && !name.starts_with('.')
            && name.bytes().all(plain),
        "take key {}: devices read only files named *.pub.pem",
        path.display()
    );
    Ok(name.to_owned())
}

fn read_pem(path: &Path) -> Result<String> {
    let mut text = String::new();
    let name = || format!("read key {}", path.display());
    File::open(path)
        .with_context(name)?
        .take(MAX_PEM + 1)
        .read_to_string(&mut text)
        .with_context(name)?;
    ensure!(
        text.len() as u64 <= MAX_PEM,
        "read key {}: longer than {MAX_PEM} bytes",
        path.display()
    );
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_names_that_devices_read() {
        assert_eq!(
            installed_name(Path::new("a/release.pub.pem")).unwrap(),
            "release.pub.pem"
        );
        for bad in [
            "release.pem",
            ".pub.pem",
            "a/..",
            "a b.pub.pem",
            "x.key.pem",
        ] {
            assert!(installed_name(Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.pub.pem");
        std::fs::write(&path, "-----BEGIN PUBLIC KEY-----\nAAAA\n").unwrap();
        assert!(format!("{:#}", read_public(&path).unwrap_err()).contains("x.pub.pem"));
        std::fs::write(&path, vec![b'a'; 1 << 20]).unwrap();
        assert!(
            read_public(&path)
                .unwrap_err()
                .to_string()
                .contains("longer")
        );
    }
}
