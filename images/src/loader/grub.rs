//! GRUB without grub-install: core images made by `grub-mkimage`, put where firmware looks.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use boards::x86_64_grub;

use super::{GRUB_DIR, Loader, Sources, read};
use crate::disk::layout::{Layout, Span};
use crate::tools;

/// Where UEFI firmware looks on a disk that it knows nothing about.
const EFI_PATH: &str = "EFI/BOOT/BOOTX64.EFI";
const SECTOR: usize = 512;
/// GRUB's `boot.img`: where the partition table begins, which is not ours to change.
const BOOT_KEEP: usize = 0x1B8;
/// GRUB's `boot.img`: first sector of the core image (8 bytes).
const BOOT_CORE_LBA: usize = 0x5C;
/// GRUB's `boot.img`: a jump over code for floppies and disks that lie about their number, made two no-ops.
const BOOT_DRIVE_CHECK: usize = 0x66;
/// First sector of the core image: sector, count and segment of the rest of it.
const CORE_BLOCK_LIST: usize = 0x1F4;
/// Segment that the rest of the core image is loaded to.
const CORE_SEGMENT: u16 = 0x820;

/// Makes both core images with the script for a disk with this layout.
///
/// # Errors
/// GRUB's tools or modules are missing or fail.
pub fn make(layout: &Layout, sources: &Sources) -> Result<Loader> {
    let grub = sources.grub.as_deref().unwrap_or(Path::new(GRUB_DIR));
    let script = x86_64_grub::grub_cfg(&x86_64_grub::Layout {
        sector_size: layout.sector_size,
        usr_a: extent(layout, layout.usr_a),
        usr_b: extent(layout, layout.usr_b),
        oem: extent(layout, layout.oem),
        oem_config: extent(layout, layout.oem_config),
    })
    .context("make loader script")?;
    let work = tempfile::tempdir().context("create a temporary folder")?;
    let memdisk = work.path().join("memdisk.tar");
    std::fs::write(&memdisk, tar(x86_64_grub::CONFIG_PATH, script.as_bytes())?)
        .context("write memdisk")?;
    let image = |format: &str, modules: &[&str], package| -> Result<Vec<u8>> {
        let out = work.path().join(format);
        let folder = grub.join(format);
        ensure!(
            folder.is_dir(),
            "install loader: {} does not exist; it comes with the package {package} (--grub-dir)",
            folder.display()
        );
        let mut command = tools::command("grub-mkimage");
        command
            .args(["-O", format, "-p", x86_64_grub::PREFIX, "-d"])
            .arg(&folder)
            .arg("-m")
            .arg(&memdisk)
            .arg("-o")
            .arg(&out)
            .args(x86_64_grub::MODULES)
            .args(modules);
        tools::run(&mut command, "grub-common").context("install loader")?;
        read(&out)
    };
    let efi = image("x86_64-efi", x86_64_grub::MODULES_EFI, "grub-efi-amd64-bin")?;
    let bios = match layout.bios_boot {
        None => None,
        Some(_) => {
            let core = image("i386-pc", x86_64_grub::MODULES_BIOS, "grub-pc-bin")?;
            Some((read(&grub.join("i386-pc/boot.img"))?, core))
        }
    };
    Ok(Loader {
        bios,
        files: vec![(EFI_PATH.to_owned(), efi)],
        hybrid: false,
        own_environment: None,
    })
}

/// Puts the BIOS part into LBA 0 and BIOS-BOOT, which begins at sector `lba`.
///
/// # Errors
/// The core image is larger than BIOS-BOOT, GRUB's images look strange, or the disk can't be written.
pub fn install_bios(disk: &File, boot: &[u8], core: &[u8], lba: u64, span: Span) -> Result<()> {
    let core = patch_core(core.to_vec(), lba, span.len)?;
    let mut first = [0; SECTOR];
    disk.read_exact_at(&mut first, 0).context("read LBA 0")?;
    patch_boot(&mut first, boot, lba)?;
    disk.write_all_at(&core, span.start)
        .context("write BIOS-BOOT")?;
    disk.write_all_at(&first, 0).context("write LBA 0")
}

const fn extent(layout: &Layout, span: Span) -> x86_64_grub::Extent {
    x86_64_grub::Extent {
        first_lba: layout.lba(span),
        sectors: layout.sectors(span),
    }
}

fn patch_boot(first: &mut [u8; SECTOR], boot: &[u8], core_lba: u64) -> Result<()> {
    ensure!(
        boot.len() == SECTOR && boot.ends_with(&[0x55, 0xAA]),
        "install loader: boot.img is not one boot sector"
    );
    first[..BOOT_KEEP].copy_from_slice(&boot[..BOOT_KEEP]);
    first[BOOT_CORE_LBA..BOOT_CORE_LBA + 8].copy_from_slice(&core_lba.to_le_bytes());
    first[BOOT_DRIVE_CHECK..BOOT_DRIVE_CHECK + 2].fill(0x90);
    first[SECTOR - 2..].copy_from_slice(&[0x55, 0xAA]);
    Ok(())
}

fn patch_core(mut core: Vec<u8>, lba: u64, room: u64) -> Result<Vec<u8>> {
    core.resize(core.len().next_multiple_of(SECTOR), 0);
    ensure!(
        core.len() > SECTOR && core.len() as u64 <= room,
        "install loader: a core image of {} bytes does not fit into BIOS-BOOT of {room}",
        core.len()
    );
    let sectors = u16::try_from(core.len() / SECTOR - 1).context("install loader: core image")?;
    let list = &mut core[CORE_BLOCK_LIST..SECTOR];
    list[..8].copy_from_slice(&(lba + 1).to_le_bytes());
    list[8..10].copy_from_slice(&sectors.to_le_bytes());
    list[10..12].copy_from_slice(&CORE_SEGMENT.to_le_bytes());
    Ok(core)
}

/// A tar archive (POSIX ustar) with one file and the folders above it, all from the year 1970.
fn tar(path: &str, content: &[u8]) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    for (i, _) in path.match_indices('/') {
        archive.extend(tar_header(&path[..=i], b'5', 0)?);
    }
    archive.extend(tar_header(path, b'0', content.len())?);
    archive.extend(content);
    let end = archive.len().next_multiple_of(SECTOR) + 2 * SECTOR;
    archive.resize(end, 0);
    Ok(archive)
}

fn tar_header(path: &str, kind: u8, len: usize) -> Result<[u8; SECTOR]> {
    ensure!(path.len() < 100, "make tar: {path} is too long a name");
    let mut header = [0; SECTOR];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    put(0, path.as_bytes());
    put(
        100,
        if kind == b'5' {
            b"0000755\0"
        } else {
            b"0000644\0"
        },
    );
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{len:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tar_reads_our_archive() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.tar");
        std::fs::write(&file, tar("boot/grub/grub.cfg", b"echo hello\n").unwrap()).unwrap();
        let run = |args: &[&str]| {
            let mut command = tools::command("tar");
            tools::run(command.arg("-f").arg(&file).args(args), "tar")
                .unwrap()
                .stdout
        };
        assert_eq!(run(&["-t"]), b"boot/\nboot/grub/\nboot/grub/grub.cfg\n");
        assert_eq!(run(&["-xO", "boot/grub/grub.cfg"]), b"echo hello\n");
    }

    #[test]
    fn the_partition_table_in_lba_0_is_kept() {
        let mut first = [7; SECTOR];
        let mut boot = vec![1; SECTOR];
        boot[510..].copy_from_slice(&[0x55, 0xAA]);
        patch_boot(&mut first, &boot, 0x1122_3344_5566).unwrap();
        assert_eq!(
            first[0x5C..0x64],
            [0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0, 0]
        );
        assert_eq!(first[0x66..0x69], [0x90, 0x90, 1]);
        assert!(first[0x1B8..510].iter().all(|&b| b == 7));
        assert!(patch_boot(&mut first, &[0; 512], 1).is_err());
    }

    #[test]
    fn the_core_image_says_where_its_rest_is() {
        let core = patch_core(vec![3; 1500], 2048, 1 << 20).unwrap();
        assert_eq!(core.len(), 1536);
        assert_eq!(core[0x1F4..0x200], [1, 8, 0, 0, 0, 0, 0, 0, 2, 0, 0x20, 8]);
        assert!(patch_core(vec![3; 1500], 2048, 1024).is_err());
        assert!(patch_core(vec![3; 40 << 20], 2048, 64 << 20).is_err());
    }
}
