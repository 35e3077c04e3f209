//! The project's own programs, built as the tests are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());

/// Path of a program of ours; built by cargo if it is not up to date, once a process.
///
/// # Errors
/// Cargo can't be run, or can't build it.
pub fn program(package: &str, name: &str) -> Result<PathBuf> {
    let mut built = BUILT
        .lock()
        .map_err(|_| anyhow::anyhow!("a build panicked"))?;
    if let Some(path) = built.get(name) {
        return Ok(path.clone());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
    let output = Command::new(cargo)
        .args([
            "build",
            "--message-format=json",
            "--quiet",
            "--manifest-path",
        ])
        .arg(&manifest)
        .args(["--package", package, "--bin", name])
        .output()
        .context("run cargo")?;
    if !output.status.success() {
        bail!("build {name}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let path = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back()
        .with_context(|| format!("cargo built no {name}"))?;
    built.insert(name.to_owned(), path.clone());
    Ok(path)
}
