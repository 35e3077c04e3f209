//! What must hold for any bytes, one function for each format that comes from outside.
//!
//! Each returns whether the bytes were accepted, and panics where a promise does not hold. The fuzz targets in
//! `tests/fuzz` and the property tests in `tests/tests/fuzzing.rs` call the same functions. Where a checksum would turn
//! everything away a function makes it true first, unless the bytes ask it not to.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a promise that does not hold is a panic here"
)]

mod disk;
mod environment;
mod memory;
mod payload;
mod record;

pub use disk::{ext4, gpt};
pub use environment::{grub_env, uboot_env};
pub use payload::{manifest, table, whole_payload};
pub use record::{descriptor, settings, slot_record};

/// A function of this module.
pub type Target = fn(&[u8]) -> bool;

/// All of them, by the name of their seeds' folder.
pub const TARGETS: [(&str, Target); 10] = [
    ("manifest", manifest),
    ("table", table),
    ("payload", whole_payload),
    ("gpt", gpt),
    ("grub_env", grub_env),
    ("uboot_env", uboot_env),
    ("descriptor", descriptor),
    ("slot_record", slot_record),
    ("settings", settings),
    ("ext4", ext4),
];

/// CRC-32 as zip and GPT have it, from its polynomial, independent of the one under test.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    })
}
