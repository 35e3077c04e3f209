//! `payload`, `attach` and `inspect`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use images::payload::inspect::{self, Facts, Standing};
use images::payload::{self, Spec};

use super::{date, source_date, warn_all};

/// Pack and sign a release
#[derive(Args, Debug)]
pub struct Payload {
    /// Image of /usr
    #[arg(long, value_name = "IMG")]
    usr: PathBuf,
    /// Name of the product
    #[arg(long)]
    product: String,
    /// Board that it runs on (may be given again)
    #[arg(long, required = true)]
    board: Vec<String>,
    /// Version of the release
    #[arg(long)]
    version: String,
    /// Number below which devices that run this release will not go again
    #[arg(long, value_name = "N")]
    rollback_index: u64,
    /// Private key that signs it (may be given again)
    #[arg(long, value_name = "PRIV", required_unless_present = "unsigned")]
    key: Vec<PathBuf>,
    /// Leave the signatures to `attach`
    #[arg(long, conflicts_with = "key")]
    unsigned: bool,
    /// Only devices of this group take it
    #[arg(long)]
    group: Option<String>,
    /// Lowest running version that can be updated to it
    #[arg(long, value_name = "VERSION")]
    min_version: Option<String>,
    /// What a device must be able to do, else it refuses; none is defined yet (may be given again)
    #[arg(long)]
    requires: Vec<String>,
    /// Date for people to read, such as 2026-11-21 [default: the day of SOURCE_DATE_EPOCH, or none]
    #[arg(long, value_name = "DATE")]
    created: Option<String>,
    /// zstd level
    #[arg(long, default_value_t = payload::DEFAULT_LEVEL, value_parser = clap::value_parser!(i32).range(1..=19))]
    level: i32,
    /// Payload file
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl Payload {
    pub fn run(self) -> Result<()> {
        let created = match self.created {
            Some(created) => Some(created),
            None => source_date()?.map(date),
        };
        let spec = Spec {
            usr: &self.usr,
            product: &self.product,
            version: &self.version,
            rollback_index: self.rollback_index,
            boards: &self.board,
            group: self.group.as_deref(),
            min_version: self.min_version.as_deref(),
            created: created.as_deref(),
            requires: &self.requires,
            level: self.level,
        };
        let packed = payload::pack(&spec, &self.key, &self.out)?;
        warn_all(&packed.warnings);
        say!(
            "{}: {} bytes for an image of {}, id {}\n",
            self.out.display(),
            packed.payload,
            packed.image,
            packed.id
        );
        Ok(())
    }
}

/// Add a signature that was made elsewhere, such as by a key in hardware
///
/// Sign what `inspect --manifest` prints: openssl pkeyutl -sign -rawin -inkey KEY -in MANIFEST -out SIG
#[derive(Args, Debug)]
pub struct Attach {
    /// Payload, with or without signatures
    file: PathBuf,
    /// The 64 bytes of the signature
    #[arg(long, value_name = "SIG")]
    signature: PathBuf,
    /// Public key that the signature is checked by
    #[arg(long, value_name = "PUB")]
    key: PathBuf,
    /// Payload file [default: the given one is replaced]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl Attach {
    pub fn run(self) -> Result<()> {
        let out = self.out.as_deref().unwrap_or(&self.file);
        payload::attach(&self.file, &self.signature, &self.key, out)?;
        say!("{}: signature added\n", out.display());
        Ok(())
    }
}

/// Check every hash and length of a payload and print what is in it
#[derive(Args, Debug)]
pub struct Inspect {
    /// Payload
    file: PathBuf,
    /// Public key whose signature must be there and valid (may be given again)
    #[arg(long, value_name = "PUB")]
    key: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print the manifest's bytes, which are what signatures cover, and check nothing
    #[arg(long, conflicts_with_all = ["json", "key"])]
    manifest: bool,
}

impl Inspect {
    pub fn run(self) -> Result<()> {
        if self.manifest {
            let bytes = inspect::manifest_bytes(&self.file)?;
            let mut out = std::io::stdout().lock();
            return out
                .write_all(&bytes)
                .and_then(|()| out.flush())
                .context("write to standard output");
        }
        let keys = self
            .key
            .iter()
            .map(|path| images::keys::read_public(path))
            .collect::<Result<Vec<_>>>()?;
        let facts = inspect::inspect(&self.file, &keys)?;
        if self.json {
            say!("{}\n", json(&facts)?);
        } else {
            say!("{}", text(&self.file, &facts));
        }
        Ok(())
    }
}

const fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Valid => "valid",
        Standing::Wrong => "wrong",
        Standing::UnknownKey => "unknown key",
    }
}

/// `{"format":1,"id":…,"size":…,"signatures":[{"key_id":…,"standing":…}],"manifest":{…},"artifacts":[{"name":…,
/// "blocks":…,"zero":…,"raw":…,"zstd":…,"stored":…}]}`, the manifest as it is signed.
fn json(facts: &Facts) -> Result<serde_json::Value> {
    let manifest: serde_json::Value =
        serde_json::from_slice(&facts.manifest_bytes).context("read manifest")?;
    let signatures: Vec<_> = facts
        .signatures
        .iter()
        .map(|s| {
            serde_json::json!({"key_id": s.key_id.to_string(), "standing": standing(s.standing)})
        })
        .collect();
    let artifacts: Vec<_> = facts
        .manifest
        .artifacts
        .iter()
        .zip(&facts.artifacts)
        .map(|(artifact, fact)| {
            serde_json::json!({
                "name": artifact.name.as_str(),
                "blocks": artifact.blocks(),
                "zero": fact.zero,
                "raw": fact.raw,
                "zstd": fact.zstd,
                "stored": fact.stored,
            })
        })
        .collect();
    Ok(serde_json::json!({
        "format": 1,
        "id": facts.id.to_string(),
        "size": facts.size,
        "signatures": signatures,
        "manifest": manifest,
        "artifacts": artifacts,
    }))
}

fn names(names: &[updater::Name]) -> String {
    let names: Vec<&str> = names.iter().map(updater::Name::as_str).collect();
    names.join(" ")
}

fn text(path: &Path, facts: &Facts) -> String {
    let manifest = &facts.manifest;
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        let _ = writeln!(text, "{key:<15} {value}");
    };
    line(
        "payload",
        format!("{}, {} bytes", path.display(), facts.size),
    );
    line("id", facts.id.to_string());
    line("product", manifest.product.to_string());
    line("version", manifest.version.to_string());
    line("rollback index", manifest.rollback_index.to_string());
    line("boards", names(&manifest.boards));
    for (key, value) in [
        ("min version", &manifest.min_version),
        ("group", &manifest.group),
        ("created", &manifest.created),
    ] {
        if let Some(value) = value {
            line(key, value.to_string());
        }
    }
    if !manifest.requires.is_empty() {
        line("requires", names(&manifest.requires));
    }
    for (artifact, fact) in manifest.artifacts.iter().zip(&facts.artifacts) {
        line(
            "artifact",
            format!(
                "{}: {} bytes, {} blocks of {}: {} zero, {} raw, {} zstd, {} bytes stored",
                artifact.name,
                artifact.size,
                artifact.blocks(),
                artifact.block_size,
                fact.zero,
                fact.raw,
                fact.zstd,
                fact.stored
            ),
        );
        line("content", artifact.content.to_string());
    }
    if facts.signatures.is_empty() {
        line(
            "signatures",
            "none: no device accepts it (attach)".to_owned(),
        );
    }
    for signature in &facts.signatures {
        line(
            "signature",
            format!("key {}: {}", signature.key_id, standing(signature.standing)),
        );
    }
    text
}
