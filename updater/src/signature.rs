//! Who vouches for a payload: strict Ed25519 over the manifest bytes, by distinct keys of a bounded set.

use core::num::NonZeroU8;
use core::ops::Deref;

use ed25519_dalek::{Signature, VerifyingKey};

use crate::Digest;
use crate::manifest::{Artifact, Manifest, ManifestError};
use crate::payload::{HeaderError, Prefix};
use crate::table::{Block, Table, TableError};

/// Most keys that a device trusts at once.
pub const MAX_KEYS: usize = 32;

/// The id of a key: BLAKE3 of the raw public key.
#[must_use]
pub fn key_id(raw: &[u8; 32]) -> Digest {
    Digest::of(raw)
}

/// Why a key can't join a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("it is not a point on the curve")]
    NotAPoint,
    #[error("it is a weak key, for which anybody can make signatures")]
    Weak,
    #[error("there are more than 32 keys")]
    TooMany,
}

/// The keys that a device trusts, each of them once.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: heapless::Vec<(Digest, VerifyingKey), MAX_KEYS>,
}

impl KeySet {
    /// No key, by which nothing verifies.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            keys: heapless::Vec::new(),
        }
    }

    /// Adds a raw public key; one that is there already is not counted twice.
    ///
    /// # Errors
    /// The bytes are no key that can be trusted, or the set is full.
    pub fn insert(&mut self, raw: &[u8; 32]) -> Result<(), KeyError> {
        let key = VerifyingKey::from_bytes(raw).map_err(|_| KeyError::NotAPoint)?;
        if key.is_weak() {
            return Err(KeyError::Weak);
        }
        let id = key_id(raw);
        if self.get(id).is_some() {
            return Ok(());
        }
        self.keys.push((id, key)).map_err(|_| KeyError::TooMany)
    }

    /// Number of distinct keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether nothing can be verified.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The ids of the keys.
    pub fn ids(&self) -> impl Iterator<Item = Digest> {
        self.keys.iter().map(|(id, _)| *id)
    }

    fn get(&self, id: Digest) -> Option<&VerifyingKey> {
        self.keys
            .iter()
            .find_map(|(known, key)| (*known == id).then_some(key))
    }
}

/// Why a payload is not vouched for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("no key is trusted, so no signature can be checked")]
    NoKeys,
    #[error(
        "{valid} of {required} required signatures are valid ({unknown} by unknown keys, {wrong} wrong)"
    )]
    Signatures {
        valid: u8,
        required: u8,
        unknown: u8,
        wrong: u8,
    },
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Something that the required signatures vouch for. Only this module makes one.
#[derive(Clone, Copy, Debug)]
pub struct Verified<T> {
    value: T,
    id: Digest,
}

impl<T> Verified<T> {
    /// Id of the payload that it comes from: BLAKE3 of the manifest bytes.
    #[must_use]
    pub fn id(&self) -> Digest {
        self.id
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Checks the signatures over the manifest bytes and reads the manifest only then. `bytes` start with the header; what
/// follows the manifest is ignored.
///
/// # Errors
/// A bound of the header, fewer valid signatures by distinct keys than `required`, or a manifest that breaks a rule.
pub fn verify(
    bytes: &[u8],
    keys: &KeySet,
    required: NonZeroU8,
) -> Result<Verified<Manifest>, VerifyError> {
    let prefix = Prefix::parse(bytes)?;
    if keys.is_empty() {
        return Err(VerifyError::NoKeys);
    }
    let mut valid = heapless::Vec::<Digest, { crate::payload::MAX_SIGNATURES }>::new();
    let (mut unknown, mut wrong) = (0_u8, 0_u8);
    for record in prefix.signatures() {
        let Some(key) = keys.get(record.key_id) else {
            unknown = unknown.saturating_add(1);
            continue;
        };
        let signature = Signature::from_bytes(&record.signature);
        if key.verify_strict(prefix.manifest(), &signature).is_err() {
            wrong = wrong.saturating_add(1);
        } else if !valid.contains(&record.key_id) {
            // There are no more signatures than places.
            let _ = valid.push(record.key_id);
        }
    }
    let count = u8::try_from(valid.len()).unwrap_or(0);
    if count < required.get() {
        return Err(VerifyError::Signatures {
            valid: count,
            required: required.get(),
            unknown,
            wrong,
        });
    }
    Ok(Verified {
        value: Manifest::parse(prefix.manifest())?,
        id: prefix.id(),
    })
}

impl Verified<Manifest> {
    /// The block table of one of this manifest's artifacts.
    ///
    /// # Errors
    /// `bytes` are not the table whose hash the manifest holds, or an entry breaks a rule.
    pub fn table<'a>(
        &self,
        artifact: &Artifact,
        bytes: &'a [u8],
    ) -> Result<Verified<Table<'a>>, TableError> {
        Ok(Verified {
            value: Table::parse(artifact, bytes)?,
            id: self.id,
        })
    }
}

/// A block's bytes do not have the hash that the table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("block {block} at byte {offset} of the image: {what} do not match their hash")]
pub struct BlockMismatch {
    pub block: u64,
    pub offset: u64,
    pub what: What,
}

/// Which of a block's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// As they stand in the payload.
    Stored,
    /// As they go to the slot.
    Unpacked,
    /// As they came back from the medium.
    ReadBack,
}

impl core::fmt::Display for What {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Stored => "the stored bytes",
            Self::Unpacked => "the unpacked bytes",
            Self::ReadBack => "the bytes read back from the medium",
        })
    }
}

impl Verified<Table<'_>> {
    /// Block `index` with the assurance that goes with it.
    #[must_use]
    pub fn verified_block(&self, index: u64) -> Option<Verified<Block>> {
        Some(Verified {
            value: self.block(index)?,
            id: self.id,
        })
    }
}

impl Verified<Block> {
    /// Whether these are the stored bytes of the block. To be asked before they are decompressed.
    ///
    /// # Errors
    /// They are not.
    pub fn check_stored(&self, bytes: &[u8]) -> Result<(), BlockMismatch> {
        self.check(Digest::of(bytes) == self.entry.stored(), What::Stored)
    }

    /// Whether these bytes are the block. Only they may be written.
    ///
    /// # Errors
    /// They are not.
    pub fn check_unpacked(&self, bytes: &[u8]) -> Result<(), BlockMismatch> {
        let good = bytes.len() as u64 == u64::from(self.len) && self.is(bytes);
        self.check(good, What::Unpacked)
    }

    /// Whether these bytes, which were read from the medium, are the block.
    ///
    /// # Errors
    /// They are not.
    pub fn check_read_back(&self, bytes: &[u8]) -> Result<(), BlockMismatch> {
        let good = bytes.len() as u64 == u64::from(self.len) && self.is(bytes);
        self.check(good, What::ReadBack)
    }

    fn is(&self, bytes: &[u8]) -> bool {
        Digest::of(bytes) == self.entry.block()
    }

    fn check(&self, good: bool, what: What) -> Result<(), BlockMismatch> {
        match good {
            true => Ok(()),
            false => Err(BlockMismatch {
                block: self.index,
                offset: self.offset,
                what,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::{Header, SignatureRecord};
    use ed25519_dalek::{Signer, SigningKey};
    use std::vec::Vec;

    const ONE: NonZeroU8 = NonZeroU8::MIN;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_bytes(&[seed; 32])
    }

    fn keys(seeds: &[u8]) -> KeySet {
        let mut set = KeySet::new();
        for seed in seeds {
            set.insert(key(*seed).verifying_key().as_bytes()).unwrap();
        }
        set
    }

    fn manifest() -> Vec<u8> {
        let hash = Digest::of(b"");
        std::format!(
            r#"{{"format":1,"product":"p","boards":["b"],"version":"1","rollback_index":0,"artifacts":[{{"name":"usr","size":4096,"block_size":4096,"table":"{hash}","content":"{hash}"}}]}}"#
        )
        .into_bytes()
    }

    fn payload(manifest: &[u8], seeds: &[u8]) -> Vec<u8> {
        let mut bytes = Header::new(manifest.len(), seeds.len())
            .unwrap()
            .to_bytes()
            .to_vec();
        for seed in seeds {
            let key = key(*seed);
            let record = SignatureRecord {
                key_id: key_id(key.verifying_key().as_bytes()),
                signature: key.sign(manifest).to_bytes(),
            };
            bytes.extend(record.to_bytes());
        }
        bytes.extend(manifest);
        bytes
    }

    fn counts(result: Result<Verified<Manifest>, VerifyError>) -> (u8, u8, u8) {
        match result {
            Err(VerifyError::Signatures {
                valid,
                unknown,
                wrong,
                ..
            }) => (valid, unknown, wrong),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_trusted_signature_is_enough_unless_more_are_required() {
        let bytes = payload(&manifest(), &[1, 2]);
        let verified = verify(&bytes, &keys(&[2]), ONE).unwrap();
        assert_eq!(verified.id(), Digest::of(&manifest()));
        assert_eq!(verified.product, "p");
        let two = NonZeroU8::new(2).unwrap();
        assert_eq!(counts(verify(&bytes, &keys(&[2]), two)), (1, 1, 0));
        assert!(verify(&bytes, &keys(&[1, 2]), two).is_ok());
        assert!(verify(&bytes, &keys(&[1, 2]), NonZeroU8::new(3).unwrap()).is_err());
    }

    #[test]
    fn the_same_key_twice_counts_once() {
        let bytes = payload(&manifest(), &[1, 1]);
        let two = NonZeroU8::new(2).unwrap();
        assert_eq!(counts(verify(&bytes, &keys(&[1]), two)), (1, 0, 0));
    }

    #[test]
    fn foreign_and_wrong_signatures_are_told_apart() {
        let bytes = payload(&manifest(), &[1]);
        assert_eq!(counts(verify(&bytes, &keys(&[9]), ONE)), (0, 1, 0));
        assert_eq!(
            verify(&bytes, &KeySet::new(), ONE).unwrap_err(),
            VerifyError::NoKeys
        );
        for at in [48, 111, 112, bytes.len() - 1] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert_eq!(counts(verify(&bytes, &keys(&[1]), ONE)), (0, 0, 1));
        }
    }

    #[test]
    fn the_signature_is_checked_before_the_json() {
        let bytes = payload(b"not json", &[1]);
        assert_eq!(counts(verify(&bytes, &keys(&[2]), ONE)), (0, 1, 0));
        assert!(matches!(
            verify(&bytes, &keys(&[1]), ONE),
            Err(VerifyError::Manifest(ManifestError::Json(_)))
        ));
    }

    #[test]
    fn weak_keys_and_non_points_are_refused() {
        // The identity and the point of order two.
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut order_two = [0xff; 32];
        order_two[0] = 0xec;
        order_two[31] = 0x7f;
        let mut set = KeySet::new();
        assert_eq!(set.insert(&identity), Err(KeyError::Weak));
        assert_eq!(set.insert(&order_two), Err(KeyError::Weak));
        let mut not_a_point = [0; 32];
        not_a_point[0] = 2;
        assert_eq!(set.insert(&not_a_point), Err(KeyError::NotAPoint));
        assert!(set.is_empty());
    }

    #[test]
    fn a_set_is_bounded_and_counts_each_key_once() {
        let mut set = keys(&[1, 1, 2]);
        assert_eq!(set.len(), 2);
        for seed in 3..=32 {
            set.insert(key(seed).verifying_key().as_bytes()).unwrap();
        }
        assert_eq!(
            set.insert(key(33).verifying_key().as_bytes()),
            Err(KeyError::TooMany)
        );
        assert!(set.insert(key(32).verifying_key().as_bytes()).is_ok());
    }

    #[test]
    fn a_signature_with_a_non_canonical_s_is_refused() {
        // Adding the group order to S gives a second valid pair to careless verifiers.
        const ORDER: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9,
            0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let mut bytes = payload(&manifest(), &[1]);
        let mut carry = 0;
        for (byte, add) in bytes[80..112].iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = (sum & 0xff) as u8;
            carry = sum >> 8;
        }
        assert_eq!(counts(verify(&bytes, &keys(&[1]), ONE)), (0, 0, 1));
    }
}
