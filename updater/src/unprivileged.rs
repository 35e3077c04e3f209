//! Processes of ours that have no privileges: our own executable or one beside it, another user, and one socket.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::geteuid;

/// User and group of `nobody`.
const NOBODY: (u32, u32) = (65534, 65534);

/// Which process is wanted.
#[derive(Debug)]
pub(crate) struct Role<'a> {
    /// The program, our own executable if none.
    pub program: Option<&'a Path>,
    /// Its command line, with the name that it goes by.
    pub words: (&'a str, &'a [&'a str]),
    /// The user that it runs as, if we are root.
    pub user: &'a str,
    /// Whether `nobody` will do on a system that has no such user.
    pub or_nobody: bool,
    /// What it gets of our environment.
    pub variables: &'a [&'a str],
}

/// A running process; it is ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Our end of what it has as standard input.
    pub socket: UnixStream,
}

impl Process {
    /// Starts the process.
    ///
    /// # Errors
    /// There is no such program or user, or no descriptor or process left.
    pub fn start(role: &Role<'_>) -> io::Result<Self> {
        // By descriptor, because folders on the way to our executable may be closed to that user.
        let program = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_PATH.bits())
            .open(role.program.unwrap_or(Path::new("/proc/self/exe")))?;
        let (ours, theirs) = UnixStream::pair()?;
        let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        let kept = role.variables.iter().chain(&["RUST_LOG"]);
        let kept = kept.filter_map(|name| Some((*name, std::env::var_os(name)?)));
        command
            .arg0(role.words.0)
            .args(role.words.1)
            .env_clear()
            // Without this the C library keeps as much memory as the longest message had that somebody has sent.
            .env("MALLOC_MMAP_THRESHOLD_", "131072")
            .envs(kept.collect::<Vec<(&str, OsString)>>())
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null());
        if geteuid().is_root() {
            let found = File::open("/etc/passwd")
                .ok()
                .and_then(|table| find_user(role.user, table));
            let (user, group) = match found {
                None if role.or_nobody => NOBODY,
                None => {
                    let text = format!("there is no user {}", role.user);
                    return Err(io::Error::new(ErrorKind::NotFound, text));
                }
                Some(ids) => ids,
            };
            command.uid(user).gid(group);
        }
        let child = command.spawn()?;
        // Our copy of the other end goes, so that the end of the process can be seen.
        drop(command);
        Ok(Self {
            child,
            socket: ours,
        })
    }

    /// A process whose side of the socket is played by a test.
    #[cfg(test)]
    pub fn played() -> (Self, UnixStream) {
        let (socket, theirs) = UnixStream::pair().unwrap();
        let child = Command::new("true").spawn().unwrap();
        (Self { child, socket }, theirs)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It holds nothing that it would have to put in order. Both only fail if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes of writable memory, and descriptors, that such a process may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub memory: u64,
    pub files: u64,
}

/// Called in such a process: gives away what it does not need, and returns its end of the socket.
///
/// # Errors
/// The kernel refuses, or standard input can't be had.
pub(crate) fn confine(name: &std::ffi::CStr, limits: Limits) -> io::Result<UnixStream> {
    prctl::set_no_new_privs()?;
    // Other processes of the same user must not read a private key out of this one.
    prctl::set_dumpable(false)?;
    prctl::set_name(name)?;
    for (resource, limit) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_DATA, limits.memory),
        (Resource::RLIMIT_NOFILE, limits.files),
    ] {
        setrlimit(resource, limit, limit)?;
    }
    Ok(UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?))
}

/// Reads the table itself: the C library's look-up needs shared libraries, which a static program has not.
fn find_user(name: &str, passwd: impl Read) -> Option<(u32, u32)> {
    const MAX: u64 = 1 << 20;
    let lines = BufReader::new(passwd.take(MAX)).lines();
    lines.map_while(Result::ok).find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        // Behind the password.
        let mut ids = fields
            .skip(1)
            .map(|id| id.parse().ok().filter(|id| *id != 0));
        Some((ids.next()??, ids.next()??))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn such_a_user_is_never_root() {
        let find = |text: &str| find_user("tandem-fetch", text.as_bytes());
        assert_eq!(
            find("root:x:0:0::/:\ntandem-fetch:x:990:991::/:/bin/false\n"),
            Some((990, 991))
        );
        assert_eq!(find("tandem-fetch:x:0:0::/:\n"), None);
        assert_eq!(find("tandem-fetch2:x:990:990::/:\n"), None);
        assert_eq!(find("tandem-fetch:x:99999999999:1::/:\n"), None);
        assert_eq!(find("tandem-fetch"), None);
    }
}
