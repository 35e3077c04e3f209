//! A folder to work in, with two small releases.

use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub struct Bench {
    folder: tempfile::TempDir,
    shell: Option<String>,
}

impl Bench {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            folder,
            shell: None,
        }
    }

    /// Every command runs inside this script, as its arguments.
    pub fn with_shell(script: &str) -> Self {
        Self {
            shell: Some(script.to_owned()),
            ..Self::new()
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A key, two trees and their images.
    pub fn releases(&self) {
        self.image("keygen --out-dir keys");
        self.images();
    }

    /// Two trees and their images; the key is there.
    pub fn images(&self) {
        for (tree, version, index) in [("v1", "1.0.0", 1), ("v2", "2.0.0", 2)] {
            self.tree(tree, version, index);
            self.image(&format!(
                "usr --root {tree} --key keys/release.pub.pem --out {tree}.img"
            ));
        }
    }

    pub fn tree(&self, tree: &str, version: &str, index: u32) {
        let at = |name: &str| format!("{tree}/{name}");
        let text =
            format!("IMAGE_ID=demo\nIMAGE_VERSION=\"{version}\"\nTANDEM_ROLLBACK_INDEX={index}\n");
        self.write(&at("lib/os-release"), text.as_bytes());
        self.write(&at("lib/tandem/boot/vmlinuz"), &noise(version, 900_000));
        self.write(&at("lib/tandem/boot/initrd"), &[0; 300_000]);
        self.write(&at("share/a \"name\"/empty"), b"");
        self.write(&at("share/text"), version.repeat(40_000).as_bytes());
        std::fs::hard_link(self.path(&at("share/text")), self.path(&at("share/same"))).unwrap();
        symlink("../share/text", self.path(&at("lib/link"))).unwrap();
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        let folder = path.parent().unwrap().to_owned();
        self.run("mkdir", &["-p", folder.to_str().unwrap()]);
        std::fs::write(path, bytes).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    pub fn size(&self, name: &str) -> u64 {
        self.path(name).metadata().unwrap().len()
    }

    /// Files that no command was asked for.
    pub fn leftovers(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        entries
            .map(|e| e.unwrap().path())
            .filter(|p| p.file_name().unwrap().to_string_lossy().starts_with('.'))
            .collect()
    }

    /// Runs `tandem-image` with arguments split at spaces; its standard output.
    pub fn image(&self, arguments: &str) -> String {
        let output = self.run_image(arguments);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "tandem-image {arguments}: {complaint}"
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs `tandem-image`, which must end with this code after one line that is no panic; that line.
    pub fn image_fails(&self, arguments: &str, code: i32) -> String {
        let output = self.run_image(arguments);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(
            output.status.code(),
            Some(code),
            "tandem-image {arguments}: {complaint}"
        );
        let lines: Vec<_> = complaint
            .lines()
            .filter(|l| !l.starts_with("[WARN"))
            .collect();
        assert!(
            !complaint.contains("panicked") && !lines.is_empty(),
            "{complaint}"
        );
        assert!(self.leftovers().is_empty(), "{:?}", self.leftovers());
        complaint
    }

    fn run_image(&self, arguments: &str) -> Output {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        self.run(env!("CARGO_BIN_EXE_tandem-image"), &arguments)
    }

    /// Runs a tool that must succeed, with arguments split at spaces; its standard output.
    pub fn tool(&self, line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let output = self.run(words[0], &words[1..]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "{line}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = match &self.shell {
            None => Command::new(program),
            Some(script) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", script, "sh", program]);
                shell
            }
        };
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .env_remove("SOURCE_DATE_EPOCH")
            .env_remove("RUST_LOG")
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap_or_else(|e| panic!("run {program}: {e}"))
    }

    /// One line of `sgdisk -i`, behind its colon.
    fn sgdisk(&self, disk: &str, number: u32, key: &str) -> String {
        let text = self.tool(&format!("sgdisk -i {number} {disk}"));
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(key))
            .unwrap_or_else(|| panic!("{text}"));
        line.trim_start_matches(':')
            .split_whitespace()
            .next()
            .unwrap()
            .to_owned()
    }

    pub fn unique_guid(&self, disk: &str, number: u32) -> String {
        self.sgdisk(disk, number, "Partition unique GUID")
    }

    /// The bytes of a partition, by sgdisk's account of where it lies.
    pub fn part(&self, disk: &str, number: u32) -> Vec<u8> {
        let lba = |key| self.sgdisk(disk, number, key).parse::<u64>().unwrap();
        let (first, last) = (lba("First sector"), lba("Last sector"));
        let mut bytes = vec![0; usize::try_from((last - first + 1) * 512).unwrap()];
        let file = std::fs::File::open(self.path(disk)).unwrap();
        file.read_exact_at(&mut bytes, first * 512).unwrap();
        bytes
    }

    pub fn exists(&self, name: &str) -> bool {
        Path::exists(&self.path(name))
    }
}

/// Bytes that don't compress.
fn noise(seed: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(seed.as_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}
