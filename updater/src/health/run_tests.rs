use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::kill;
use tempfile::TempDir;

use super::*;

const PATIENT: Limits = Limits {
    time: Duration::from_secs(60),
    grace: Duration::from_secs(10),
};
const SHORT: Limits = Limits {
    time: Duration::from_millis(300),
    grace: Duration::from_millis(300),
};

fn script(dir: &TempDir, text: &str) -> std::path::PathBuf {
    let path = dir.path().join("check");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

fn run_script(text: &str, limits: Limits) -> Outcome {
    let dir = TempDir::new().unwrap();
    let program = script(&dir, text);
    loop {
        let outcome = run(&program, &[("TANDEM_SLOT", "b")], limits);
        // Another test may have forked while the script was open for writing here.
        match &outcome.end {
            End::Broken(e) if e.kind() == io::ErrorKind::ExecutableFileBusy => {}
            _ => return outcome,
        }
    }
}

/// Waits until no process with this id is left, for at most a minute.
fn is_gone(pid: &str) -> bool {
    let pid = Pid::from_raw(pid.trim().parse().unwrap());
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        // An orphan may stay a zombie for as long as nobody reaps it.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let zombie = stat.rsplit(')').next().is_some_and(|s| s.starts_with(" Z"));
        if kill(pid, None).is_err() || zombie {
            return true;
        }
        sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn exit_status_and_output_are_kept() {
    let outcome = run_script("echo slot $TANDEM_SLOT; echo bad >&2; exit 3", PATIENT);
    assert!(!outcome.passed());
    assert_eq!(outcome.output, "slot b\nbad\n");
    assert_eq!(outcome.to_string(), "exit status: 3: slot b\nbad");
    assert!(run_script("exit 0", PATIENT).passed());
}

#[test]
fn input_is_empty() {
    assert!(run_script("cat", PATIENT).passed());
}

#[test]
fn a_signal_is_a_failure() {
    let outcome = run_script("kill -SEGV $$", PATIENT);
    assert!(matches!(outcome.end, End::Failed(_)), "{outcome}");
}

#[test]
fn only_the_end_of_much_output_is_kept() {
    let outcome = run_script(
        "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; exit 1",
        PATIENT,
    );
    assert_eq!(outcome.output.len(), OUTPUT_MAX + "[...]".len());
    assert!(outcome.output.starts_with("[...]"));
    assert!(outcome.output.ends_with("line 2999\n"));
}

#[test]
fn what_can_not_be_started_is_a_failure() {
    let outcome = run(Path::new("/nonexistent/check"), &[], PATIENT);
    assert!(matches!(outcome.end, End::Broken(_)), "{outcome}");
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("check");
    fs::write(&path, "\u{7f}not a program").unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    assert!(!run(&path, &[], PATIENT).passed());
}

#[test]
fn a_check_that_hangs_is_ended_and_its_output_kept() {
    let outcome = run_script("echo before; sleep 1000", SHORT);
    assert!(matches!(outcome.end, End::TimedOut(_)), "{outcome}");
    assert_eq!(outcome.output, "before\n");
}

#[test]
fn a_check_that_ignores_sigterm_is_killed_with_its_children() {
    let outcome = run_script(
        "trap '' TERM; sh -c 'trap \"\" TERM; echo $$; while :; do sleep 1; done' & echo $$; wait; while :; do sleep 1; done",
        Limits {
            time: Duration::from_secs(1),
            ..SHORT
        },
    );
    assert!(matches!(outcome.end, End::TimedOut(_)), "{outcome}");
    assert_eq!(outcome.output.lines().count(), 2, "{outcome}");
    for pid in outcome.output.lines() {
        assert!(is_gone(pid), "{pid} still runs");
    }
}

#[test]
fn what_a_check_leaves_behind_neither_delays_nor_survives_it() {
    let outcome = run_script("sleep 1000 & echo $!; exit 0", PATIENT);
    assert!(outcome.passed(), "{outcome}");
    assert!(is_gone(&outcome.output));
}

#[test]
fn a_grandchild_that_left_the_group_does_not_hold_us_up() {
    // It keeps our pipe open.
    let outcome = run_script(
        "setsid sh -c 'echo $$; exec sleep 1000' & while ! [ -d /proc/$! ]; do :; done; sleep 1; exit 4",
        PATIENT,
    );
    assert!(matches!(outcome.end, End::Failed(_)), "{outcome}");
    let pid = Pid::from_raw(outcome.output.trim().parse().unwrap());
    kill(pid, Signal::SIGKILL).unwrap();
}

#[test]
fn closing_the_output_does_not_end_a_check() {
    let outcome = run_script("exec >&- 2>&-; sleep 1; exit 5", PATIENT);
    assert_eq!(outcome.to_string(), "exit status: 5");
}
