//! The socket: who may connect, and who it was.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use super::connection::Rights;
use crate::control_socket;
use crate::files;
use crate::service::Failure;

/// Members of it may look.
const GROUP: &str = "tandem";
const GROUPS: &str = "/etc/group";
/// Most of `/etc/group` that is read, in bytes.
const GROUPS_MAX: u64 = 1 << 20;

/// Makes the socket in `run`, in place of one that a program left which has ended: the caller holds the service's lock.
///
/// The kernel lets root connect and the members of the group, and nobody else.
pub(super) fn listen(run: &Path) -> Result<UnixListener, Failure> {
    let path = control_socket::path(run);
    let failed =
        |error: io::Error| Failure::failed(format!("listen on {}: {error}", path.display()));
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    // Nobody but the owner may connect before the next lines have run, as the mask takes the right to write.
    let listener = UnixListener::bind(&path).map_err(failed)?;
    let group = group_id(GROUP);
    let mode = match group {
        Some(_) => 0o660,
        None => 0o600,
    };
    if group.is_some() {
        chown(&path, None, group).map_err(failed)?;
    }
    fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Whom the kernel saw connecting, and what that user may do here.
pub(super) fn peer(stream: &UnixStream) -> io::Result<(u32, Rights)> {
    let uid = getsockopt(stream, PeerCredentials)?.uid();
    let rights = match uid {
        0 => Rights::Act,
        // On a disk image, which needs no root, the service runs as whoever started it.
        own if own == nix::unistd::geteuid().as_raw() => Rights::Act,
        _ => Rights::Look,
    };
    Ok((uid, rights))
}

/// Looked up in the file itself: a static program can't ask other sources of groups.
fn group_id(name: &str) -> Option<u32> {
    let mut text = String::new();
    let file = files::open(Path::new(GROUPS)).ok()?;
    file.take(GROUPS_MAX).read_to_string(&mut text).ok()?;
    find_group(&text, name)
}

fn find_group(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next() == Some(name);
        let id = fields.nth(1)?;
        found.then(|| id.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_by_its_whole_name() {
        let text = "root:x:0:\nnot-tandem:x:7:\ntandem:x:998:alice,bob\ntandem:x:1:\n\nodd\n";
        assert_eq!(find_group(text, "tandem"), Some(998));
        assert_eq!(find_group(text, "odd"), None);
        assert_eq!(find_group("tandem:x:many:\n", "tandem"), None);
    }
}
