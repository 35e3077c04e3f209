//! The `/usr` tree of one release of the demo system.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::release::{Fault, Recipe};
use super::{Binaries, Packages, initramfs, run};

/// Product of the demo system.
pub const PRODUCT: &str = "demo";

const INIT: &str = include_str!("files/init");
const INITTAB: &str = include_str!("files/inittab");
const BOOT: &str = include_str!("files/boot");
const CONSOLE: &str = include_str!("files/console");
const SERVICE: &str = include_str!("files/service");
const CHECK_ROOT: &str = include_str!("files/check-root");

const PROGRAM: u32 = 0o755;
const TEXT: u32 = 0o644;

/// Writes the tree into the empty folder `root`.
pub(super) fn write(
    root: &Path,
    recipe: &Recipe,
    packages: &Packages,
    binaries: &Binaries,
) -> Result<()> {
    let tree = Tree { root };
    tree.copy(&packages.busybox, "bin/busybox")?;
    for applet in packages
        .applets
        .iter()
        .filter(|applet| *applet != "busybox")
    {
        let link = root.join("bin").join(applet);
        symlink("busybox", &link).with_context(|| format!("link {}", link.display()))?;
    }
    tree.copy(&binaries.tandem_bootctl, "bin/tandem-bootctl")?;
    tree.copy(&binaries.update_engine, "bin/update_engine")?;
    tree.copy(&binaries.update_engine_client, "bin/update_engine_client")?;
    tree.file("sbin/init", PROGRAM, INIT)?;
    let inittab = INITTAB.replace("@TERMINAL@", packages.arch.terminal());
    tree.file("lib/demo/inittab", TEXT, inittab)?;
    tree.file("lib/demo/boot", PROGRAM, BOOT)?;
    tree.file("lib/demo/console", PROGRAM, CONSOLE)?;
    tree.file("lib/demo/service", PROGRAM, SERVICE)?;
    tree.file("lib/os-release", TEXT, os_release(recipe))?;
    tree.file("lib/tandem/update.conf", TEXT, update_conf(recipe))?;
    tree.file(
        "lib/tandem/health.d/required.d/10-root",
        PROGRAM,
        CHECK_ROOT,
    )?;
    boot_files(&tree, recipe, packages, binaries)?;
    fault_files(&tree, recipe.fault)
}

fn os_release(recipe: &Recipe) -> String {
    let Recipe {
        version,
        rollback_index,
        ..
    } = recipe;
    format!(
        "NAME=\"Tandem demo\"\nID=tandem-demo\nIMAGE_ID={PRODUCT}\nIMAGE_VERSION={version}\nTANDEM_ROLLBACK_INDEX={rollback_index}\n"
    )
}

fn update_conf(recipe: &Recipe) -> String {
    let seconds = recipe.health_timeout.as_secs();
    // Whoever drives the machine says when it reboots.
    format!(
        "TRIES={}\nHEALTH_TIMEOUT={seconds}\nREBOOT_STRATEGY=off\n",
        recipe.tries
    )
}

fn boot_files(
    tree: &Tree<'_>,
    recipe: &Recipe,
    packages: &Packages,
    binaries: &Binaries,
) -> Result<()> {
    tree.copy(&packages.vmlinuz, "lib/tandem/boot/vmlinuz")?;
    let arch = packages.arch;
    let initramfs = initramfs::build(packages, &binaries.tandem_init, arch.modules())?;
    tree.file("lib/tandem/boot/initrd", TEXT, initramfs)?;
    // A block as GRUB's own tool makes it, not one that our codec would agree with by construction.
    let block = tree.root.join("lib/tandem/boot/cmdline");
    run(Command::new("grub-editenv").arg(&block).arg("create"))?;
    let cmdline = format!(
        "cmdline={} quiet loglevel=4 panic=1 tandem.deadline={}",
        arch.consoles(),
        recipe.deadline.as_secs()
    );
    run(Command::new("grub-editenv")
        .arg(&block)
        .args(["set", &cmdline]))
    .map(drop)
}

/// What makes a release bad, at the place where the real thing would go wrong.
fn fault_files(tree: &Tree<'_>, fault: Fault) -> Result<()> {
    let check = "lib/tandem/health.d/required.d/50-demo";
    let hook = "lib/demo/fault";
    let script = |line: &str| format!("#!/usr/bin/busybox sh\n{line}\n");
    match fault {
        // Its filesystem, see Workshop::release.
        Fault::None | Fault::NoUsr => Ok(()),
        Fault::HealthFails => tree.file(check, PROGRAM, script("echo 'broken on purpose'\nexit 1")),
        Fault::HealthHangs => {
            tree.file(check, PROGRAM, script("exec /usr/bin/busybox sleep 100000"))
        }
        Fault::Panic => tree.file(hook, PROGRAM, script("echo c > /proc/sysrq-trigger")),
        Fault::Stalls => tree.file(
            hook,
            PROGRAM,
            script("echo 'tandem-demo: stalled'\nexec sleep 100000"),
        ),
        // Whoever sends a signal to all gets none; neither does busybox init, which waits for this one.
        Fault::Hangs => tree.file(
            hook,
            PROGRAM,
            script("echo 'tandem-demo: hangs'\nkill -STOP -1\nwhile :; do :; done"),
        ),
        Fault::KernelMissing => {
            let kernel = tree.root.join("lib/tandem/boot/vmlinuz");
            fs::remove_file(&kernel).with_context(|| format!("remove {}", kernel.display()))
        }
        Fault::KernelShort => cut_kernel(tree, |_| 4096),
        Fault::KernelHalf => cut_kernel(tree, |length| length / 2),
    }
}

fn cut_kernel(tree: &Tree<'_>, end: fn(u64) -> u64) -> Result<()> {
    let kernel = tree.root.join("lib/tandem/boot/vmlinuz");
    let cut = || {
        let file = fs::File::options().write(true).open(&kernel)?;
        file.set_len(end(file.metadata()?.len()))
    };
    cut().with_context(|| format!("cut {}", kernel.display()))
}

struct Tree<'a> {
    root: &'a Path,
}

impl Tree<'_> {
    fn copy(&self, from: &Path, to: &str) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("read {}", from.display()))?;
        let mode = fs::metadata(from)
            .with_context(|| format!("read {}", from.display()))?
            .permissions()
            .mode();
        self.file(to, if mode & 0o111 == 0 { TEXT } else { PROGRAM }, content)
    }

    fn file(&self, path: &str, permissions: u32, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.root.join(path);
        let write = || -> std::io::Result<()> {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            fs::write(&path, content)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(permissions))
        };
        write().with_context(|| format!("write {}", path.display()))
    }
}
