//! Tandem's programs as they go onto a device: release builds, statically linked.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::project_dir;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Paths of the programs, up to date with the source.
#[derive(Clone, Debug)]
pub struct Binaries {
    pub update_engine: PathBuf,
    pub update_engine_client: PathBuf,
    pub tandem_bootctl: PathBuf,
    pub tandem_init: PathBuf,
    pub tandem_image: PathBuf,
}

impl Binaries {
    /// Builds them, or finds that they are up to date.
    ///
    /// # Errors
    /// The build fails.
    pub fn build() -> Result<Self> {
        let project = project_dir();
        let target_dir = project.join("target/static");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .current_dir(&project)
            .args([
                "build",
                "--release",
                "--locked",
                "--bins",
                "--target",
                TARGET,
                "--target-dir",
            ])
            .arg(&target_dir)
            .args([
                "-p", "bootctl", "-p", "updater", "-p", "boards", "-p", "images",
            ])
            // With a target of its own the flag does not reach build scripts and procedural macros.
            .env("RUSTFLAGS", "-C target-feature=+crt-static")
            .stdin(Stdio::null())
            .status()
            .context("build the static programs: start cargo")?;
        ensure!(status.success(), "build the static programs: {status}");
        let bin = target_dir.join(TARGET).join("release");
        Ok(Self {
            update_engine: bin.join("update_engine"),
            update_engine_client: bin.join("update_engine_client"),
            tandem_bootctl: bin.join("tandem-bootctl"),
            tandem_init: bin.join("tandem-init"),
            tandem_image: bin.join("tandem-image"),
        })
    }
}
