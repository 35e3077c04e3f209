use std::io::BufRead;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use super::*;

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn system() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "proc/1/stat", "1 (systemd) S 0 1 1 0 -1");
    put(root.path(), "proc/40/stat", "40 (agetty) S 1 40 40 1025 40");
    put(root.path(), "proc/41/stat", "41 (sshd) S 1 41 41 0 -1");
    // A process that ended meanwhile, and what is none.
    fs::create_dir_all(root.path().join("proc/42")).unwrap();
    put(root.path(), "proc/sys/stat", "");
    root
}

#[test]
fn a_getty_is_nobody_and_a_shell_somebody() {
    let root = system();
    assert_eq!(Logins::look(root.path()), Logins::default());
    assert_eq!(Logins::look(root.path()).people(), People::Nobody);
    put(root.path(), "proc/50/stat", "50 (bash) S 41 50 50 34817 60");
    put(root.path(), "proc/60/stat", "60 (vi) S 50 60 50 34817 60");
    put(root.path(), "proc/70/stat", "70 (sh) S 40 70 70 1025 70");
    let logins = Logins::look(root.path());
    let names: Vec<String> = logins.terminals.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["4:1", "136:1"]);
    assert_eq!(logins.people(), People::Somebody);
}

#[test]
fn sessions_of_people_count_and_those_of_greeters_do_not() {
    let root = system();
    let session = |name: &str, text: &str| put(root.path(), &format!("{SESSIONS}/{name}"), text);
    session("c1", "# private\nUID=42\nCLASS=greeter\nSTATE=active\n");
    session("2", "UID=1000\nCLASS=user\nSTATE=closing\n");
    session("3", "UID=1000\nCLASS=manager\nSTATE=active\n");
    assert_eq!(Logins::look(root.path()).people(), People::Nobody);
    session("4", "UID=1000\nCLASS=user\nSTATE=online\n");
    session("5", "whatever a later version writes\n");
    let logins = Logins::look(root.path());
    assert_eq!((logins.sessions, logins.people()), (2, People::Somebody));
}

#[test]
fn what_cannot_be_read_is_somebody() {
    let root = tempfile::tempdir().unwrap();
    let logins = Logins::look(root.path());
    assert!(logins.unknown.is_some());
    assert_eq!(logins.people(), People::Somebody);
    let root = system();
    put(root.path(), SESSIONS, "a file in place of the folder");
    assert_eq!(Logins::look(root.path()).people(), People::Somebody);
}

/// `script` starts a program on a terminal of its own and shows what appears on that.
#[test]
fn a_line_reaches_a_terminal_that_somebody_uses() {
    let mut script = Command::new("script")
        .args(["-qfc", "tty; exec sleep 60", "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = io::BufReader::new(script.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let device = fs::metadata(line.trim()).unwrap().rdev();
    let terminal = terminal::of_device(device);

    let logins = Logins::look(Path::new("/"));
    assert!(
        logins.terminals.contains(&terminal),
        "{terminal} of {logins:?}"
    );
    assert_eq!(logins.people(), People::Somebody);
    let only = Logins {
        terminals: vec![terminal],
        ..Logins::default()
    };
    assert_eq!(only.tell("this device reboots in 10 minutes"), 1);
    line.clear();
    while !line.contains("reboots") {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "it ended");
    }
    assert_eq!(line.trim_end(), "\u{7}this device reboots in 10 minutes");
    script.kill().unwrap();
    script.wait().unwrap();
}
