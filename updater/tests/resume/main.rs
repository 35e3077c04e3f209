//! Downloads that were cut off and go on, on a disk in a file.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that can't go on fails"
)]

mod bench;
mod child;
#[path = "../device/mod.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod device;
mod kill;
mod marks;
mod payload;
