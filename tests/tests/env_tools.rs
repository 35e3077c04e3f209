//! `grub-editenv` and `fw_printenv`/`fw_setenv` agree with us on the same bytes, in both directions.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bootctl::grub_env::{self, GrubEnv};
use bootctl::uboot_env::{self, Layout, UbootEnv};
use bootctl::vars::{CHECK, NAMES};
use bootctl::{Attributes, BootState};
use proptest::prelude::*;
use tempfile::TempDir;

const CASES: u32 = 150;

fn tool(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    output.unwrap_or_else(|error| panic!("run {program}: {error}"))
}

fn succeed(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = tool(program, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {errors}");
    output.stdout
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// States that an environment can hold: single digits.
fn states() -> impl Strategy<Value = BootState> {
    let slot = || {
        (0..10_u64, 0..10_u64, 0..2_u64)
            .prop_map(|(p, t, s)| Attributes::from_gpt(p << 48 | t << 52 | s << 56))
    };
    (slot(), slot()).prop_map(|(a, b)| BootState { a, b })
}

fn digits(state: &BootState) -> [(String, String); 7] {
    let number = |a: Attributes| [a.priority.get(), a.tries.get(), a.successful.into()];
    let six = [number(state.a), number(state.b)].concat();
    let check: String = six.iter().map(ToString::to_string).collect();
    std::array::from_fn(|n| match NAMES.get(n) {
        Some(name) => ((*name).to_owned(), six[n].to_string()),
        None => (CHECK.to_owned(), check.clone()),
    })
}

struct GrubFile {
    _folder: TempDir,
    path: PathBuf,
}

impl GrubFile {
    fn new(bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("grubenv");
        fs::write(&path, bytes).unwrap();
        Self {
            _folder: folder,
            path,
        }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    fn list(&self) -> Vec<u8> {
        succeed("grub-editenv", &[self.path(), "list"])
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }
}

fn grub_block(content: &[u8], size: usize) -> Vec<u8> {
    let mut block = vec![b'#'; size];
    block[..25].copy_from_slice(grub_env::SIGNATURE);
    let length = content.len().min(size - 25);
    block[25..25 + length].copy_from_slice(&content[..length]);
    block
}

/// What `grub-editenv list` would print of a block.
fn our_list(block: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for entry in GrubEnv::new(block).unwrap().entries() {
        text.extend_from_slice(entry.name);
        text.push(b'=');
        text.extend(entry.value());
        text.push(b'\n');
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn grub_lists_what_we_encode_and_we_read_what_it_sets(old in states(), new in states()) {
        let mut block = vec![0; 512];
        grub_env::encode(&mut block, &old).unwrap();
        let file = GrubFile::new(&block);
        let expected: String = digits(&old).iter().map(|(n, v)| format!("{n}={v}\n")).collect();
        prop_assert_eq!(String::from_utf8(file.list()).unwrap(), expected);
        let set: Vec<String> = digits(&new).iter().map(|(n, v)| format!("{n}={v}")).collect();
        let mut arguments = vec![file.path(), "set"];
        arguments.extend(set.iter().map(String::as_str));
        succeed("grub-editenv", &arguments);
        prop_assert_eq!(grub_env::decode(&file.bytes()), Ok(new));
        grub_env::encode(&mut block, &new).unwrap();
        prop_assert_eq!(file.bytes(), block);
    }

    #[test]
    fn grub_reads_odd_blocks_as_we_do(
        content in "((#|[a-z]{0,2}=?|)([a-z=# ]|\\\\|\\\\\\\\|\\\\\n){0,5}\n){0,12}[a-z=\\\\]{0,3}",
        size in prop_oneof![Just(96_usize), Just(512)],
    ) {
        let block = grub_block(content.as_bytes(), size);
        let file = GrubFile::new(&block);
        prop_assert_eq!(
            text(&file.list()),
            text(&our_list(&block))
        );
    }

    #[test]
    fn grub_edits_as_we_do(
        lines in proptest::collection::vec("(#[a-z ]{0,5}|[a-d]=([a-z# =]|\\\\\\\\|\\\\\n){0,5})", 0..8),
        name in "[a-e]",
        value in "[a-z0-9]{1,30}",
    ) {
        let content: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let mut block = grub_block(content.as_bytes(), 128);
        let file = GrubFile::new(&block);
        let done = grub_env::set(&mut block, &name, &value).is_ok();
        let output = tool("grub-editenv", &[file.path(), "set", &format!("{name}={value}")]);
        let doubled = lines.iter().filter(|line| line.starts_with(&format!("{name}="))).count() > 1;
        if doubled {
            // We leave one entry where the tool changes the first of several.
            return Ok(());
        }
        prop_assert_eq!(done, output.status.success());
        if done {
            prop_assert_eq!(text(&file.bytes()), text(&block));
        }
    }
}

#[test]
fn grub_refuses_the_blocks_that_we_call_lost() {
    for bytes in [
        vec![0; 512],
        vec![0xff; 512],
        b"# GRUB Environment Blocj\n".to_vec(),
    ] {
        let file = GrubFile::new(&bytes);
        assert!(
            !tool("grub-editenv", &[file.path(), "list"])
                .status
                .success()
        );
        assert!(grub_env::decode(&bytes).is_err());
    }
}

/// Copies of an environment in one file, 4096 bytes apart, and the tools' configuration for it.
struct UbootFile {
    folder: TempDir,
    layout: Layout,
}

const SIZE: usize = 512;
const STEP: usize = 4096;

impl UbootFile {
    fn new(copies: &[Vec<u8>], layout: Layout) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = vec![0; STEP * copies.len()];
        let mut lines = String::new();
        let image = folder.path().join("env.img");
        for (n, copy) in copies.iter().enumerate() {
            bytes[n * STEP..n * STEP + SIZE].copy_from_slice(copy);
            lines.push_str(&format!("{} {:#x} {SIZE:#x}\n", image.display(), n * STEP));
        }
        fs::write(&image, bytes).unwrap();
        fs::write(folder.path().join("fw_env.config"), lines).unwrap();
        Self { folder, layout }
    }

    fn config(&self) -> String {
        self.path("fw_env.config").to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.folder.path()).join(name)
    }

    fn copies(&self) -> Vec<Vec<u8>> {
        let bytes = fs::read(self.path("env.img")).unwrap();
        bytes.chunks(STEP).map(|c| c[..SIZE].to_vec()).collect()
    }

    /// Variables as the tool sees them; `None` where it finds no valid environment.
    fn print(&self) -> Option<BTreeMap<String, String>> {
        let output = tool("fw_printenv", &["-c", &self.config()]);
        let text = String::from_utf8(output.stdout).unwrap();
        let variables = text.lines().filter_map(|line| line.split_once('='));
        let map = variables
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .collect();
        output.status.success().then_some(map)
    }

    fn set(&self, variables: &[(String, String)]) -> bool {
        let script: String = variables
            .iter()
            .map(|(n, v)| format!("{n}={v}\n"))
            .collect();
        let path = self.path("script");
        fs::write(&path, script).unwrap();
        // Without a default environment it refuses to start from a bad one.
        let defaults = self.path("none");
        let (config, script) = (self.config(), path.to_str().unwrap().to_owned());
        let defaults = defaults.to_str().unwrap();
        let arguments = ["-c", &config, "-f", defaults, "-s", &script];
        tool("fw_setenv", &arguments).status.success()
    }

    /// Index of the copy that counts by our rule.
    fn current(&self) -> Option<usize> {
        let copies = self.copies();
        if copies.len() == 1 {
            return UbootEnv::new(&copies[0], self.layout).map(|_| 0);
        }
        let serial = |n: usize| UbootEnv::new(&copies[n], self.layout).map(|env| env.serial());
        uboot_env::current([serial(0), serial(1)])
    }
}

fn copy(state: &BootState, layout: Layout, serial: u8, pad: u8) -> Vec<u8> {
    let mut copy = vec![0; SIZE];
    uboot_env::set(&mut copy, layout, "bootcmd", "boot").unwrap();
    let ours = digits(state);
    for (name, value) in &ours {
        uboot_env::set(&mut copy, layout, name, value).unwrap();
    }
    let used = copy
        .windows(2)
        .skip(layout.header_len())
        .position(|w| w == [0, 0]);
    let padding = layout.header_len() + used.unwrap() + 2;
    copy[padding..].fill(pad);
    uboot_env::seal(&mut copy, layout, serial);
    copy
}

fn expected(state: &BootState) -> BTreeMap<String, String> {
    let mut map: BTreeMap<_, _> = digits(state).into_iter().collect();
    map.insert("bootcmd".to_owned(), "boot".to_owned());
    map
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn fw_env_agrees_on_a_single_copy(old in states(), new in states(), pad: u8) {
        let layout = Layout::Single;
        let file = UbootFile::new(&[copy(&old, layout, 0, pad)], layout);
        prop_assert_eq!(file.print(), Some(expected(&old)));
        prop_assert!(file.set(&digits(&new)));
        let mut bytes = file.copies().remove(0);
        prop_assert_eq!(uboot_env::decode(&bytes, layout), Ok(new));
        // And the tool reads what we make of its own file, whatever it left in the padding.
        uboot_env::encode(&mut bytes, layout, 0, &old).unwrap();
        let file = UbootFile::new(&[bytes], layout);
        prop_assert_eq!(file.print(), Some(expected(&old)));
    }

    #[test]
    fn fw_env_agrees_on_two_copies(
        states in (states(), states(), states()),
        serials in (any::<u8>(), prop_oneof![Just(1_i16), Just(-1), Just(0), any::<i16>()]),
        bad in prop_oneof![Just(None), Just(Some(0)), Just(Some(1))],
        wrap: bool,
    ) {
        let layout = Layout::Redundant;
        let first = if wrap { 255 } else { serials.0 };
        let second = u8::try_from((i32::from(first) + i32::from(serials.1)) & 0xff).unwrap();
        let mut copies = [copy(&states.0, layout, first, 0xff), copy(&states.1, layout, second, 0)];
        if let Some(bad) = bad {
            copies[bad][100] ^= 1;
        }
        let file = UbootFile::new(&copies, layout);
        let current = file.current().unwrap();
        let counts = [states.0, states.1][current];
        prop_assert_eq!(file.print(), Some(expected(&counts)), "{} {}", first, second);
        let before = file.copies();
        prop_assert!(file.set(&digits(&states.2)));
        let after = file.copies();
        // It writes the copy that we, too, call the older one.
        prop_assert_eq!(&after[current], &before[current]);
        let written = UbootEnv::new(&after[1 - current], layout).unwrap();
        prop_assert_eq!(written.serial(), [first, second][current].wrapping_add(1));
        prop_assert_eq!(uboot_env::decode(&after[1 - current], layout), Ok(states.2));
    }
}

#[test]
fn fw_env_finds_nothing_where_we_find_nothing() {
    let zeros = vec![0; SIZE];
    let single = UbootFile::new(std::slice::from_ref(&zeros), Layout::Single);
    assert_eq!((single.print(), single.current()), (None, None));
    let both = UbootFile::new(&[zeros.clone(), zeros], Layout::Redundant);
    assert_eq!((both.print(), both.current()), (None, None));
}
