//! Bad input to the real programs: the documented exit code, one clear line, no panic, and a disk that is as it was.
//!
//! What is found wrong before the first block leaves every byte of the disk alone. What is found later leaves nothing
//! changed but the passive slot, which is unbootable and has no record then, and the next good payload installs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod fixture;

mod blocks;
mod busy;
mod cuts;
mod flips;
mod gates;
mod inspect;
mod json;
mod keys;
mod lengths;
mod media;
mod outputs;
mod partition_tables;
mod slots;
