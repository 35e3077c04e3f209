//! The demo system: Debian's kernel, busybox and Tandem's own static binaries, as `/usr` trees that
//! `tandem-image usr` turns into slot images.
//!
//! Nothing of Debian's is kept in the repository: packages come through `apt-get download` into a cache folder.

mod arch;
mod arm64;
mod binaries;
mod cpio;
mod initramfs;
mod modules;
mod own;
mod packages;
mod release;
mod stock;
mod tree;

pub use arch::Arch;
pub use arm64::PiFiles;
pub(crate) use arm64::qemu_raspi4b;
pub use binaries::Binaries;
pub(crate) use own::uboot as own_uboot;
pub use own::{OWN_COPIES, OWN_COPY_LENGTH, OWN_ENVIRONMENT, fw_env_config};
pub use packages::Packages;
pub use release::{Fault, LOADER_WATCHDOG, Recipe, Release, Workshop};
pub use stock::Stock;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The top folder of the source tree.
#[must_use]
pub fn project_dir() -> PathBuf {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    tests.parent().map(PathBuf::from).unwrap_or(tests)
}

/// Runs `command` to its end and returns its standard output.
///
/// # Errors
/// The program is missing or fails; the message holds what it said.
pub fn run(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("run {program}: is it installed?"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("run {command:?}: {}: {}", output.status, errors.trim_end());
    }
    String::from_utf8(output.stdout).with_context(|| format!("read the output of {program}"))
}
