//! Disk images, loader installation, payload packing and signing: what a developer's machine does.
//!
//! Nothing here needs root or a loop device except writing to a real disk. The same input gives the same bytes.
#![deny(unsafe_code)]

pub mod disk;
pub mod ext4;
mod failure;
pub mod fat;
pub mod fw_env_config;
pub mod ids;
pub mod image;
pub mod image_io;
mod kernel;
pub mod keygen;
pub mod keys;
pub mod loader;
pub mod os_release;
pub mod output;
pub mod payload;
pub mod region;
pub mod tools;
pub mod tree;
pub mod usr;
pub mod write;

pub use failure::Failure;

/// Files, file systems and timestamps that we make carry this time unless `SOURCE_DATE_EPOCH` says otherwise:
/// 2020-01-01 00:00:00 UTC, in seconds since 1970.
pub const DEFAULT_TIME: u32 = 1_577_836_800;
