//! The image of a `/usr` tree.

use std::io::Read;
use std::path::Path;

use anyhow::{Result, ensure};
use boards::raspberry_pi::KERNEL_MAX;
use updater::keys::{SUFFIX, read_key};
use updater::settings::{FILE_MAX, Settings};
use updater::signature::KeySet;

use crate::os_release::OsRelease;
use crate::output::{Output, is_no_input};
use crate::tree::{Kind, Tree};
use crate::{ext4, kernel, keys, os_release};

/// What was made.
#[derive(Clone, Debug)]
pub struct Made {
    /// Size of the image in bytes.
    pub size: u64,
    /// What may keep a device from booting the image or from accepting the next one.
    pub warnings: Vec<String>,
}

/// Makes `out` the image of the tree at `root`, with the public `keys` in `lib/tandem/keys.d`.
///
/// `size` in bytes; without it the image is as small as the tree allows. The same tree gives the same bytes, wherever
/// it is and whatever the umask was.
///
/// # Errors
/// The tree does not fit, holds what an image can't, or a tool of e2fsprogs is missing. Nothing is left at `out` then.
pub fn make(root: &Path, keys: &[&Path], size: Option<u64>, time: u32, out: &Path) -> Result<Made> {
    is_no_input(out, keys.iter().copied())?;
    let mut tree = Tree::read(root)?;
    if let Some(found) = tree.get("lost+found") {
        ensure!(
            found.kind == Kind::Folder,
            "take lost+found: the name belongs to the file system"
        );
        tree.remove_empty("lost+found")?;
    }
    for key in keys {
        keys::read_public(key)?;
        let name = keys::installed_name(key)?;
        tree.add_file(&format!("lib/tandem/keys.d/{name}"), key)?;
    }
    let output = Output::create(out)?;
    let image = output.path();
    let options = ext4::Options {
        label: "usr",
        size,
        writable: false,
        time,
        salt: &[],
    };
    let size = ext4::make(&tree, &image, &options)
        .and_then(|size| ext4::fsck(&image).map(|()| size))
        .map_err(|e| output.explain(e))?;
    output.commit()?;
    let mut warnings = tree.warnings().to_vec();
    warnings.extend(missing(&tree));
    Ok(Made { size, warnings })
}

const KEYS: &[u8] = b"lib/tandem/keys.d/";
const KERNEL: &str = "lib/tandem/boot/vmlinuz";

/// Loaders start a kernel that ends anywhere behind its header, and the machine then stops where no software can end it.
fn about_kernel(tree: &Tree) -> Vec<String> {
    let Some((head, size)) = head_of_kernel(tree) else {
        return Vec::new();
    };
    let mut warnings = Vec::new();
    if let Some(announced) = kernel::announced_length(&head).filter(|length| size < *length) {
        warnings.push(format!(
            "{KERNEL} is cut short: {size} bytes of {announced}; a device may stop in it until it is turned off and on"
        ));
    }
    if let Some(memory) = kernel::arm64_memory(&head).filter(|memory| *memory > KERNEL_MAX) {
        warnings.push(format!(
            "{KERNEL} takes {memory} bytes of memory: on a Raspberry Pi it lies over the initramfs, where {KERNEL_MAX} would fit"
        ));
    }
    warnings
}

/// Its first bytes, and how many there are.
fn head_of_kernel(tree: &Tree) -> Option<(Vec<u8>, u64)> {
    let Kind::File(source, size) = &tree.get(KERNEL)?.kind else {
        return None;
    };
    let mut head = Vec::new();
    let file = std::fs::File::open(source).ok()?;
    file.take(kernel::HEAD).read_to_end(&mut head).ok()?;
    Some((head, *size))
}

/// The settings of the image, and what devices will complain about in them; they then do nothing by themselves any more.
fn settings(tree: &Tree) -> (Settings, Vec<String>) {
    let mut warnings = Vec::new();
    let Some(Kind::File(source, size)) = tree.get("lib/tandem/update.conf").map(|n| &n.kind) else {
        return (Settings::default(), warnings);
    };
    // One byte more than allowed, so that the parser sees that it is too much.
    let size = (*size).min(FILE_MAX as u64 + 1);
    let mut text = Vec::new();
    let read = std::fs::File::open(source).and_then(|f| f.take(size).read_to_end(&mut text));
    if let Err(error) = read {
        let warning = format!("read {}: {error}", source.display());
        return (Settings::default(), vec![warning]);
    }
    let settings = Settings::parse(&text, &[], &mut |problem| {
        warnings.push(problem.to_string());
    });
    (settings, warnings)
}

fn file_at<'t>(tree: &'t Tree, path: &[u8]) -> Option<&'t Path> {
    match &tree.get(std::str::from_utf8(path).ok()?)?.kind {
        Kind::File(source, _) => Some(source),
        _ => None,
    }
}

/// A device that can't read one of its keys, or has fewer than have to sign, takes no update any more.
fn about_keys(tree: &Tree, settings: &Settings) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut trusted = KeySet::new();
    let in_folder = |path: &[u8]| path.starts_with(KEYS) && path.ends_with(SUFFIX.as_bytes());
    for (_, node) in tree.nodes().filter(|(path, _)| in_folder(path)) {
        let source = match &node.kind {
            Kind::File(source, _) => source,
            Kind::HardLink(path) => match file_at(tree, path) {
                Some(source) => source,
                None => continue,
            },
            // Where it leads only the device can tell.
            _ => return warnings,
        };
        let read = read_key(source).map_err(|error| error.to_string());
        let read = read.and_then(|key| trusted.insert(key.as_bytes()).map_err(|e| e.to_string()));
        if let Err(error) = read {
            warnings.push(format!(
                "{error}: a device that runs this image takes no update"
            ));
        }
    }
    let (keys, required) = (trusted.len(), settings.required_signatures(trusted.len()));
    if keys == 0 && warnings.is_empty() {
        warnings.push(
            "no key in lib/tandem/keys.d (--key): a device that runs this image asks OEM for keys"
                .to_owned(),
        );
    } else if keys > 0 && usize::from(required.get()) > keys {
        warnings.push(format!(
            "lib/tandem/keys.d has {keys} keys, and {required} have to sign (SIGNATURES in lib/tandem/update.conf): \
             a device that runs this image takes no update"
        ));
    }
    warnings
}

fn missing(tree: &Tree) -> Vec<String> {
    let mut warnings = Vec::new();
    match tree.get("lib/os-release").map(|n| &n.kind) {
        Some(Kind::File(source, size)) if *size <= 1 << 20 => {
            let text = std::fs::read(source).unwrap_or_default();
            let keys = os_release::missing(&OsRelease::parse(&String::from_utf8_lossy(&text)));
            if !keys.is_empty() {
                warnings.push(format!(
                    "lib/os-release lacks {}: the image will not pass its own first health check",
                    keys.join(", ")
                ));
            }
        }
        _ => warnings.push(
            "no lib/os-release: the image will not pass its own first health check".to_owned(),
        ),
    }
    for file in ["lib/tandem/boot/vmlinuz", "lib/tandem/boot/initrd"] {
        if tree.get(file).is_none() {
            warnings.push(format!(
                "no {file}: the loader will skip a slot with this image"
            ));
        }
    }
    warnings.extend(about_kernel(tree));
    let (settings, about_settings) = settings(tree);
    warnings.extend(about_settings);
    warnings.extend(about_keys(tree, &settings));
    warnings
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn settings_that_devices_will_complain_about_are_named() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("lib/tandem");
        fs::create_dir_all(&folder).unwrap();
        let warnings = |text: &str| {
            fs::write(folder.join("update.conf"), text).unwrap();
            settings(&Tree::read(root.path()).unwrap()).1
        };
        assert_eq!(warnings("GROUP=stable\nSIGNATURES=2\n"), [""; 0]);
        let two = warnings("SIGNATURES=two\nSERVER=x\n");
        assert!(
            two[0].contains("update.conf, line 1, SIGNATURES"),
            "{two:?}"
        );
        assert_eq!(
            (two.len(), warnings(&"#".repeat(FILE_MAX + 1)).len()),
            (2, 1)
        );
    }

    #[test]
    fn keys_that_would_be_the_end_of_all_updates_are_named() {
        const KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
            MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=\n\
            -----END PUBLIC KEY-----\n";
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("lib/tandem/keys.d");
        fs::create_dir_all(&folder).unwrap();
        let warnings = |key: &str, conf: &[u8]| {
            fs::write(folder.join("a.pub.pem"), key).unwrap();
            let settings = Settings::parse(conf, &[], &mut |_| {});
            about_keys(&Tree::read(root.path()).unwrap(), &settings)
        };
        assert_eq!(warnings(KEY, b""), [""; 0]);
        let two = warnings(KEY, b"SIGNATURES=2");
        assert!(two[0].contains("1 keys, and 2 have to sign"), "{two:?}");
        for bad in [format!("{KEY}{KEY}"), String::new()] {
            let bad = warnings(&bad, b"");
            assert!(bad[0].contains("takes no update"), "{bad:?}");
            assert_eq!(bad.len(), 1);
        }
        fs::remove_file(folder.join("a.pub.pem")).unwrap();
        let none = about_keys(&Tree::read(root.path()).unwrap(), &Settings::default());
        assert!(none[0].contains("--key"), "{none:?}");
    }

    #[test]
    fn a_kernel_that_is_shorter_than_its_header_says_is_named() {
        let root = tempfile::tempdir().unwrap();
        let boot = root.path().join("lib/tandem/boot");
        fs::create_dir_all(&boot).unwrap();
        let mut kernel = vec![0; 5 * 512 + 16];
        kernel[0x1f4] = 1;
        kernel[0x202..0x208].copy_from_slice(b"HdrS\x0f\x02");
        let warnings = |bytes: &[u8]| {
            fs::write(boot.join("vmlinuz"), bytes).unwrap();
            about_kernel(&Tree::read(root.path()).unwrap())
        };
        assert_eq!(warnings(&kernel), [""; 0]);
        kernel.pop();
        let cut = warnings(&kernel);
        assert!(cut[0].contains("2575 bytes of 2576"), "{cut:?}");
    }

    #[test]
    fn a_kernel_that_would_lie_over_the_initramfs_is_named() {
        let root = tempfile::tempdir().unwrap();
        let boot = root.path().join("lib/tandem/boot");
        fs::create_dir_all(&boot).unwrap();
        let mut kernel = vec![0; 64];
        kernel[56..60].copy_from_slice(b"ARM\x64");
        for (memory, warnings) in [(KERNEL_MAX, 0), (KERNEL_MAX + 1, 1)] {
            kernel[16..24].copy_from_slice(&memory.to_le_bytes());
            fs::write(boot.join("vmlinuz"), &kernel).unwrap();
            let found = about_kernel(&Tree::read(root.path()).unwrap());
            assert_eq!(found.len(), warnings, "{found:?}");
        }
    }
}
