//! Filling an empty file system through `debugfs`, entry by entry in sorted order.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::{bytes_of, split};
use crate::tools;
use crate::tree::{Kind, Node, Tree};

/// How a run of `debugfs` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Filled,
    /// No free block or inode was left.
    Full,
}

/// Longest line that `debugfs` reads, with room to spare.
const MAX_LINE: usize = 8000;

/// Puts every node of `tree` into the file system in `image`.
pub fn fill(tree: &Tree, image: &Path, time: u32, work: &Path) -> Result<Outcome> {
    let script = work.join("fill");
    std::fs::write(&script, lines(tree, work)?).context("write debugfs script")?;
    let mut command = tools::command("debugfs");
    command
        .env("E2FSPROGS_FAKE_TIME", time.to_string())
        .args(["-w", "-f"])
        .arg(&script)
        .arg(image);
    let output = tools::run(&mut command, "e2fsprogs").context("fill file system")?;
    // debugfs ends with 0 whatever happens: all that it says beyond its banner is a complaint.
    let complaints = String::from_utf8_lossy(&output.stderr);
    let mut complaints = complaints.lines().filter(|l| !l.starts_with("debugfs "));
    match complaints.next() {
        None => Ok(Outcome::Filled),
        Some(line) if is_full(line) => Ok(Outcome::Full),
        Some(line) => bail!("fill file system: debugfs: {}", line.trim()),
    }
}

fn is_full(line: &str) -> bool {
    line.contains("Could not allocate") || line.contains("No free space")
}

fn lines(tree: &Tree, work: &Path) -> Result<Vec<u8>> {
    let mut link_counts = BTreeMap::<&[u8], u32>::new();
    for (_, node) in tree.nodes() {
        if let Kind::HardLink(first) = &node.kind {
            *link_counts.entry(first).or_insert(1) += 1;
        }
    }
    let mut script = Script::default();
    let mut attribute_files = 0_u32;
    for (path, node) in tree.nodes() {
        let (folder, name) = split(path);
        // `debugfs` takes `<2>` for the inode of that number, unless it is part of a path.
        let here = [b"./", name].concat();
        script.enter(folder)?;
        match &node.kind {
            Kind::Folder => script.line(&[b"mkdir", name])?,
            Kind::File(source, _) => script.line(&[b"write", bytes_of(source), name])?,
            Kind::Symlink(target) => script.line(&[b"symlink", name, target])?,
            Kind::HardLink(first) => {
                script.line(&[b"ln", &[b"/", first.as_slice()].concat(), name])?;
                continue;
            }
        }
        if let Some(count) = link_counts.get(path) {
            let count = count.to_string();
            script.line(&[b"set_inode_field", &here, b"links_count", count.as_bytes()])?;
        }
        let mode = format!("0{:o}", type_bits(node) | u32::from(node.mode));
        script.line(&[b"set_inode_field", &here, b"mode", mode.as_bytes()])?;
        for (attribute, value) in &node.attributes {
            let file: PathBuf = work.join(format!("attribute{attribute_files}"));
            attribute_files += 1;
            std::fs::write(&file, value).context("write attribute")?;
            script.line(&[b"ea_set", b"-f", bytes_of(&file), &here, attribute])?;
        }
    }
    Ok(script.text)
}

const fn type_bits(node: &Node) -> u32 {
    match node.kind {
        Kind::Folder => 0o040_000,
        Kind::File(..) | Kind::HardLink(_) => 0o100_000,
        Kind::Symlink(_) => 0o120_000,
    }
}

#[derive(Debug, Default)]
struct Script {
    text: Vec<u8>,
    folder: Vec<u8>,
}

impl Script {
    /// `write` takes a name, not a path: we go to the folder first.
    fn enter(&mut self, folder: &[u8]) -> Result<()> {
        if self.folder != folder {
            self.line(&[b"cd", &[b"/", folder].concat()])?;
            self.folder = folder.to_vec();
        }
        Ok(())
    }

    fn line(&mut self, words: &[&[u8]]) -> Result<()> {
        let start = self.text.len();
        for word in words {
            ensure!(
                !word.contains(&b'\n') && !word.contains(&b'\r'),
                "fill file system: a line break in {:?}",
                String::from_utf8_lossy(word)
            );
            self.text.push(b'"');
            for &byte in *word {
                self.text.push(byte);
                if byte == b'"' {
                    self.text.push(b'"');
                }
            }
            self.text.extend_from_slice(b"\" ");
        }
        ensure!(
            self.text.len() - start <= MAX_LINE,
            "fill file system: names of {} bytes are too long together",
            self.text.len() - start
        );
        self.text.push(b'\n');
        Ok(())
    }
}
