//! `update_engine_client` on a disk image: in its own process, and against `update_engine run`; and that on a bus.
//!
//! The disk, the keys and the payload are those of the tests with bad input.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

#[expect(
    dead_code,
    unused_imports,
    reason = "shared with tests that need more of it"
)]
#[path = "../bad_input/fixture/mod.rs"]
mod fixture;

mod bus;
mod device;
mod download;
mod in_process;
mod killed;
mod policy;
mod service;
mod sources;
mod strangers;
mod web;
