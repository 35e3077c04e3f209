//! Tandem's programs as they go onto a device: release builds, statically linked.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{Arch, project_dir};

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
    /// Builds them for devices of `arch`, and `tandem-image` for the host, or finds that they are up to date.
    ///
    /// # Errors
    /// The build fails.
    pub fn build(arch: Arch) -> Result<Self> {
        let host = host()?;
        let device = match arch {
            Arch::X86_64 => host.clone(),
            Arch::Aarch64 => arm64()?,
        };
        Ok(Self {
            update_engine: device.join("update_engine"),
            update_engine_client: device.join("update_engine_client"),
            tandem_bootctl: device.join("tandem-bootctl"),
            tandem_init: device.join("tandem-init"),
            tandem_image: host.join("tandem-image"),
        })
    }
}

/// The folder of the programs for x86_64.
fn host() -> Result<PathBuf> {
    let project = project_dir();
    let target_dir = project.join("target/static");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = alone(cargo)
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
    Ok(target_dir.join(TARGET).join("release"))
}

/// A command that does not see which package of ours runs: build scripts (ring's) take that for a change, and everything
/// that was built before would be built again.
fn alone(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// The folder of the programs for aarch64.
fn arm64() -> Result<PathBuf> {
    let project = project_dir();
    let script = project.join("images/build-arm64");
    let output = alone(&script)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("start {}", script.display()))?;
    ensure!(
        output.status.success(),
        "build the programs for aarch64: {}",
        output.status
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let folder = text
        .lines()
        .last()
        .context("find the programs for aarch64: no folder said")?;
    Ok(project.join(Path::new(folder)))
}
