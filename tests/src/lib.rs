//! Tests that need more than one crate: differential tests, fault injection, QEMU scenarios and benchmarks.

pub mod folder;
pub mod fuzzing;
pub mod guest;
pub mod host_hash;
pub mod http;
pub mod powercut;
pub mod programs;
pub mod qemu;
pub mod replay;
pub mod scenario;
pub mod scenarios;
pub mod system;
pub mod uboot;
