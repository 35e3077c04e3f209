//! A board whose U-Boot keeps its own environment in two copies on the card: `tests/build-uboot` makes it.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::project_dir;

/// Where that build looks for the copies, in bytes from the start of the card, and how long each is.
pub const OWN_COPIES: [u64; 2] = [0x40_0000, 0x44_0000];
pub const OWN_COPY_LENGTH: usize = 0x4000;

/// The disk's name in [`Stock`](super::Stock).
pub const OWN_ENVIRONMENT: &str = "arm64-uboot-own";

/// Lines of `fw_env.config` for the copies on the device, or file, `path`.
#[must_use]
pub fn fw_env_config(path: &str) -> String {
    OWN_COPIES
        .map(|at| format!("{path} {at:#x} {OWN_COPY_LENGTH:#x}\n"))
        .concat()
}

/// The build, made when it is first asked for.
///
/// # Errors
/// No network, or a tool fails.
pub fn uboot() -> Result<PathBuf> {
    let script = project_dir().join("tests/build-uboot");
    let output = Command::new(&script)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {}", script.display()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = errors.lines().rev().take(5).collect();
    ensure!(
        output.status.success(),
        "build U-Boot: {} failed: {}: {last:?}",
        script.display(),
        output.status
    );
    Ok(PathBuf::from(
        String::from_utf8_lossy(&output.stdout).trim_end(),
    ))
}
