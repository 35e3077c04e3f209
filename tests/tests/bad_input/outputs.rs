//! Standard output and error that take nothing: a full disk under a log file, a pipe that nobody reads any more.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use crate::fixture::{Disk, Program, lab};

/// Exit codes with `/dev/full` and with a closed pipe as both outputs.
fn codes(program: Program, arguments: &[&str], before: impl Fn()) -> [Option<i32>; 2] {
    let full = || Stdio::from(File::options().write(true).open("/dev/full").unwrap());
    let run = |command: &mut Command| command.args(arguments).stdin(Stdio::null()).status();
    before();
    let on_full = run(program.command().stdout(full()).stderr(full())).unwrap();
    before();
    let closed = || {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Stdio::from(writer)
    };
    let on_closed = run(program.command().stdout(closed()).stderr(closed())).unwrap();
    [on_full.code(), on_closed.code()]
}

#[test]
fn an_installation_does_not_depend_on_who_listens() {
    let disk = Disk::both();
    let payload = lab().path("payload");
    let payload = payload.to_str().unwrap();
    fs::write(payload, &lab().good).unwrap();
    for more in [&[][..], &["--json"], &["--check"]] {
        let arguments = disk.apply_arguments(payload, more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let codes = codes(Program::UpdateEngine, &arguments, || disk.restore());
        assert_eq!(codes, [Some(0); 2], "{more:?}");
    }
    let verbose = disk.apply_arguments(payload, &[]);
    let verbose: Vec<&str> = ["-v"]
        .into_iter()
        .chain(verbose.iter().map(String::as_str))
        .collect();
    let codes = codes(Program::UpdateEngine, &verbose, || disk.restore());
    assert_eq!(codes, [Some(0); 2], "with progress");
}

#[test]
fn a_failure_keeps_its_code_when_nobody_hears_of_it() {
    let disk = Disk::both();
    let payload = lab().path("payload");
    let payload = payload.to_str().unwrap();
    fs::write(payload, b"no payload").unwrap();
    let arguments = disk.apply_arguments(payload, &[]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    assert_eq!(
        codes(Program::UpdateEngine, &arguments, || ()),
        [Some(7); 2]
    );
    let inspect = ["inspect", payload];
    assert_eq!(codes(Program::Image, &inspect, || ()), [Some(7); 2]);
    let activate = ["--disk", disk.path(), "activate", "a"];
    assert_eq!(codes(Program::Bootctl, &activate, || ()), [Some(6); 2]);
    disk.is_unchanged(&"unheard");
    // What was asked for is what can't be printed.
    fs::write(payload, &lab().good).unwrap();
    assert_eq!(codes(Program::Image, &inspect, || ()), [Some(1); 2]);
    let status = ["--disk", disk.path(), "status"];
    assert_eq!(codes(Program::Bootctl, &status, || ()), [Some(1); 2]);
}
