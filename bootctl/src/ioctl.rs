//! The requests to devices that have no safe wrapper elsewhere. The only unsafe code of ours.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use nix::libc::{c_char, c_int, c_void};

/// The raw requests (`linux/fs.h`, `linux/blkpg.h`, `linux/watchdog.h`).
mod request {
    use nix::libc::c_int;

    use super::BlkpgArgument;

    nix::ioctl_write_ptr_bad!(blkroset, nix::request_code_none!(0x12, 93), c_int);
    nix::ioctl_read_bad!(blkroget, nix::request_code_none!(0x12, 94), c_int);
    nix::ioctl_none!(blkrrpart, 0x12, 95);
    nix::ioctl_read_bad!(blksszget, nix::request_code_none!(0x12, 104), c_int);
    nix::ioctl_write_ptr_bad!(blkpg, nix::request_code_none!(0x12, 105), BlkpgArgument);
    nix::ioctl_write_ptr!(ext4_resize_fs, b'f', 16, u64);
    nix::ioctl_readwrite!(wdioc_settimeout, b'W', 6, c_int);
    nix::ioctl_read!(wdioc_gettimeout, b'W', 7, c_int);
}

/// `struct blkpg_ioctl_arg`.
#[repr(C)]
struct BlkpgArgument {
    op: c_int,
    flags: c_int,
    datalen: c_int,
    data: *mut c_void,
}

/// `struct blkpg_partition`.
#[repr(C)]
struct BlkpgPartition {
    start: i64,
    length: i64,
    pno: c_int,
    devname: [c_char; 64],
    volname: [c_char; 64],
}

const BLKPG_RESIZE_PARTITION: c_int = 3;

/// Logical sector size of a block device in bytes.
///
/// # Errors
/// Not a block device.
pub fn logical_sector_size(device: &File) -> io::Result<u64> {
    let mut size: c_int = 0;
    // SAFETY: BLKSSZGET writes one int through the pointer, which is valid for the call.
    unsafe { request::blksszget(device.as_raw_fd(), &raw mut size) }?;
    u64::try_from(size).map_err(io::Error::other)
}

/// The read-only flag of a block device.
///
/// # Errors
/// Not a block device.
pub fn is_read_only(device: &File) -> io::Result<bool> {
    let mut flag: c_int = 0;
    // SAFETY: BLKROGET writes one int through the pointer, which is valid for the call.
    unsafe { request::blkroget(device.as_raw_fd(), &raw mut flag) }?;
    Ok(flag != 0)
}

/// Sets or clears the read-only flag of a block device, for everybody.
///
/// # Errors
/// Not a block device, or no right to do so.
pub fn set_read_only(device: &File, read_only: bool) -> io::Result<()> {
    let flag = c_int::from(read_only);
    // SAFETY: BLKROSET reads one int through the pointer, which is valid for the call.
    unsafe { request::blkroset(device.as_raw_fd(), &raw const flag) }?;
    Ok(())
}

/// Makes the kernel read a disk's partition table again.
///
/// # Errors
/// A partition of it is in use (`EBUSY`), or no right to do so.
pub fn reread_partitions(disk: &File) -> io::Result<()> {
    // SAFETY: BLKRRPART takes no argument.
    unsafe { request::blkrrpart(disk.as_raw_fd()) }?;
    Ok(())
}

/// Tells the kernel that a partition, which may be mounted, has another length. Does not change the table on the disk.
/// `start` and `length` are in bytes.
///
/// # Errors
/// No such partition, another one in the way, or no right to do so.
pub fn resize_partition(disk: &File, number: u32, start: u64, length: u64) -> io::Result<()> {
    let mut partition = BlkpgPartition {
        start: i64::try_from(start).map_err(io::Error::other)?,
        length: i64::try_from(length).map_err(io::Error::other)?,
        pno: c_int::try_from(number).map_err(io::Error::other)?,
        devname: [0; 64],
        volname: [0; 64],
    };
    let argument = BlkpgArgument {
        op: BLKPG_RESIZE_PARTITION,
        flags: 0,
        datalen: c_int::try_from(size_of::<BlkpgPartition>()).map_err(io::Error::other)?,
        data: (&raw mut partition).cast(),
    };
    // SAFETY: both structures have the kernel's layout and outlive the call; `datalen` is the length of `partition`.
    unsafe { request::blkpg(disk.as_raw_fd(), &raw const argument) }?;
    Ok(())
}

/// Grows a mounted ext4 filesystem, of which `mount_point` is open, to a number of its own blocks.
///
/// # Errors
/// Not ext4, more blocks than the device has, or no right to do so.
pub fn resize_ext4(mount_point: &File, blocks: u64) -> io::Result<()> {
    // SAFETY: EXT4_IOC_RESIZE_FS reads one u64 through the pointer, which is valid for the call.
    unsafe { request::ext4_resize_fs(mount_point.as_raw_fd(), &raw const blocks) }?;
    Ok(())
}

/// Asks a watchdog for a time-out in seconds; which it took.
///
/// # Errors
/// Not a watchdog, or none that can be told; a time-out that it can't have.
pub fn set_watchdog_timeout(device: &File, seconds: u32) -> io::Result<u32> {
    let mut seconds = c_int::try_from(seconds).map_err(io::Error::other)?;
    // SAFETY: WDIOC_SETTIMEOUT reads and writes one int through the pointer, which is valid for the call.
    unsafe { request::wdioc_settimeout(device.as_raw_fd(), &raw mut seconds) }?;
    u32::try_from(seconds).map_err(io::Error::other)
}

/// The time-out of a watchdog in seconds.
///
/// # Errors
/// Not a watchdog, or none that tells.
pub fn watchdog_timeout(device: &File) -> io::Result<u32> {
    let mut seconds: c_int = 0;
    // SAFETY: WDIOC_GETTIMEOUT writes one int through the pointer, which is valid for the call.
    unsafe { request::wdioc_gettimeout(device.as_raw_fd(), &raw mut seconds) }?;
    u32::try_from(seconds).map_err(io::Error::other)
}
