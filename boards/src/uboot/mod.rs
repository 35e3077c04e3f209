//! What the boards with stock U-Boot (2023.01 or later, 64 bits) have in common: a boot script, generated from
//! `bootctl`'s constants, and the image format that U-Boot runs it from.
//!
//! The script uses what the usual builds have: at most 16 arguments to a command, short lines, hexadecimal arithmetic by
//! `setexpr`. It does without `gpt`, `bootcount` and the watchdog's own command, and without `saveenv` where the boot state is
//! not in U-Boot's own environment.

mod image;
mod script;

pub use image::{ImageError, boot_scr};
pub use script::{Copies, Options, SCRATCH_BYTES, ScriptError, Store, Watchdog, boot_script};

/// What U-Boot looks for on the first partition.
pub const SCRIPT_PATH: &str = "boot.scr";

#[cfg(test)]
mod tests;
