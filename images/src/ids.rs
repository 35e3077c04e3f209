//! UUIDs that follow from a seed, so that the same input gives the same bytes.

use std::fmt;

/// A UUID as the number that its text form spells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uuid(u128);

impl Uuid {
    /// The UUID of `role` (such as a partition's name) under `seed`: 122 bits of a BLAKE3 hash, marked as version 8
    /// (RFC 9562: what the bits mean is ours).
    #[must_use]
    pub fn derive(seed: &[u8], role: &str) -> Self {
        let hash = blake3::Hasher::new_derive_key("tandem uuid, format 1")
            .update(&(role.len() as u64).to_le_bytes())
            .update(role.as_bytes())
            .update(seed)
            .finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.as_bytes()[..16]);
        Self::marked(bytes, 8)
    }

    /// A UUID that nobody has: version 4.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn random() -> anyhow::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|e| anyhow::anyhow!("read random numbers: {e}"))?;
        Ok(Self::marked(bytes, 4))
    }

    const fn marked(bytes: [u8; 16], version: u128) -> Self {
        let clear = !(0xF << 76) & !(0b11 << 62);
        Self(u128::from_be_bytes(bytes) & clear | version << 76 | 0b10 << 62)
    }

    /// The number.
    #[must_use]
    pub const fn number(self) -> u128 {
        self.0
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let n = self.0;
        let field = |shift: u32, digits: u32| n >> shift & ((1 << (4 * digits)) - 1);
        write!(
            f,
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            field(96, 8),
            field(80, 4),
            field(64, 4),
            field(48, 4),
            field(0, 12)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seed_and_role_decide() {
        let id = Uuid::derive(b"seed", "usr");
        assert_eq!(id, Uuid::derive(b"seed", "usr"));
        assert_ne!(id, Uuid::derive(b"seed", "root"));
        assert_ne!(id, Uuid::derive(b"seee", "usr"));
        assert_ne!(Uuid::random().unwrap(), Uuid::random().unwrap());
    }

    #[test]
    fn version_and_variant_are_marked() {
        let (zeros, ones) = (Uuid::marked([0; 16], 8), Uuid::marked([0xFF; 16], 4));
        assert_eq!(zeros.to_string(), "00000000-0000-8000-8000-000000000000");
        assert_eq!(ones.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
