//! A second installation while one runs.

use std::io::Write;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use crate::fixture::{Content, Disk, Forged, How, Map, Program, lab};

/// Starts an installation from a pipe that has given `first` so far.
fn start(disk: &Disk, first: &[u8]) -> Child {
    let mut command = Program::UpdateEngine.command_after(":");
    command
        .args(disk.apply_arguments("-", &[]))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(first).unwrap();
    child
}

/// Waits until slot B differs from what it was: its record goes first of all.
fn wait_for_change(disk: &Disk) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let usr_b = Map::of(disk.before()).usr_b;
    loop {
        let now = Content::read(disk.path().as_ref());
        let different = disk.before().differences(&now);
        if different.iter().any(|at| usr_b.contains(at)) {
            return;
        }
        assert!(Instant::now() < deadline, "the installation did not begin");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_second_apply_is_turned_away_and_the_first_finishes() {
    let disk = Disk::both();
    let payload = Forged::good().bytes();
    let (first, rest) = payload.split_at(payload.len() - 100);
    let mut child = start(&disk, first);
    wait_for_change(&disk);
    for how in How::BOTH {
        disk.apply(how, &lab().good, &[]).fails(5, "", &how);
    }
    let bootctl = |verb: &[&str]| {
        let arguments = [&["--disk", disk.path()], verb].concat();
        Program::Bootctl.run(&arguments)
    };
    for change in [
        &["activate", "b"][..],
        &["mark-unbootable", "b"],
        &["rollback"],
    ] {
        bootctl(change).fails(5, "", &change);
    }
    // These have nothing to do with the installation, and find nothing to do here.
    for change in ["mark-successful", "repair", "sync"] {
        bootctl(&[change]).succeeds(&change);
    }
    // Who only reads is not kept waiting.
    let status = bootctl(&["status", "--json"]);
    assert_eq!(status.code, Some(0), "{status:#?}");
    let check = disk.apply(How::File, &lab().good, &["--check"]);
    assert_eq!(check.code, Some(0), "{check:#?}");
    disk.is_unchanged_but_for_passive(&"while the first waits");

    child.stdin.take().unwrap().write_all(rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // The lock goes with the process.
    disk.takes_good(&"afterwards");
}

#[test]
fn an_installation_that_is_killed_leaves_no_lock_and_no_bootable_slot() {
    let disk = Disk::both();
    let payload = Forged::good().bytes();
    let mut child = start(&disk, &payload[..payload.len() - 100]);
    wait_for_change(&disk);
    child.kill().unwrap();
    child.wait().unwrap();
    disk.is_unchanged_but_for_passive(&"killed");
    disk.takes_good(&"killed");
}
