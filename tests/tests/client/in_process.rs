//! Without a service.

use serde_json::Value;

use crate::device::{Device, needs_root};
use crate::fixture::{BOARD, Program, lab};
use crate::web::Web;

#[test]
fn an_update_is_staged_once_taken_back_and_told_of() {
    let device = Device::single();
    let fresh = device.client("-status");
    fresh.succeeds(&"status");
    assert_eq!(
        fresh.stdout,
        "LAST_CHECKED_TIME=0\nPROGRESS=0.000000\nCURRENT_OP=UPDATE_STATUS_IDLE\nNEW_VERSION=0.0.0\nNEW_SIZE=0\nLAST_ERROR=\nLAST_RESULT=\nLAST_FALLBACK=\nATTEMPTS=\nNEWEST_SIGNED=\nNEWEST_SIGNED_AGE=\n"
    );
    let update = format!("-update -payload {}", device.payload());
    let staged = device.client(&update);
    staged.succeeds(&"update");
    let lines: Vec<&str> = staged.stdout.lines().collect();
    for line in ["verifying: 100 %", "downloading: 100 %", "finalizing"] {
        assert!(lines.contains(&line), "{line}: {lines:?}");
    }
    let last = lines.last().unwrap();
    assert!(
        last.contains("2.0.0 is staged in slot b with 3 tries"),
        "{last}"
    );

    let status = device.status();
    assert_eq!(status["CURRENT_OP"], "UPDATE_STATUS_UPDATED_NEED_REBOOT");
    assert_eq!(status["NEW_VERSION"], "2.0.0");
    assert_eq!(status["NEW_SIZE"], lab().image.len().to_string());
    assert_eq!(status["LAST_RESULT"], "staged 2.0.0 in slot b");
    assert_ne!(status["LAST_CHECKED_TIME"], "0");
    let again = device.client(&format!("{update} -json"));
    again.fails(4, "already", &"again");
    assert_eq!(device.operation(), "UPDATED_NEED_REBOOT");

    let taken_back = device.client("--cancel");
    taken_back.succeeds(&"cancel");
    assert_eq!(
        taken_back.stdout,
        "2.0.0 in slot b will not be booted; slot a stays\n"
    );
    assert_eq!(device.operation(), "IDLE");
    device.client("-cancel").fails(3, "none is", &"cancel");

    let history = device.client("-history");
    history.succeeds(&"history");
    let events: Vec<&str> = history
        .stdout
        .lines()
        .map(|line| line.split_once(' ').unwrap().1)
        .filter(|event| !event.starts_with("attempt"))
        .collect();
    assert_eq!(
        events,
        ["staged 2.0.0 in slot b", "cancelled 2.0.0 in slot b"]
    );
}

#[test]
fn a_payload_from_a_pipe_is_staged() {
    let device = Device::both();
    let outcome = device.client_with("-update -payload - -json", &lab().good);
    outcome.succeeds(&"update");
    let facts: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(
        (&facts["result"], &facts["slot"]),
        (&"staged".into(), &"b".into())
    );
    let status = device.client("-status -json");
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status["current_op"], "UPDATE_STATUS_UPDATED_NEED_REBOOT");
    assert_eq!(status["new_version"], "2.0.0");
    assert_eq!(status["last_error"], Value::Null);
    assert_eq!(status["last_result"], "staged 2.0.0 in slot b");
    assert_eq!(status.as_object().unwrap().len(), 10);
    let events = device.client("-history -json");
    let events: Value = serde_json::from_str(&events.stdout).unwrap();
    let staged = events["events"].as_array().unwrap().last().unwrap();
    assert_eq!(staged["event"], "staged");
}

#[test]
fn a_check_writes_nothing_and_is_remembered() {
    let device = Device::both();
    let check = format!("-check_for_update -payload {}", device.payload());
    device.client(&check).succeeds(&"check");
    device.disk.is_unchanged(&"check");
    assert_eq!(device.operation(), "UPDATE_AVAILABLE");
    assert_eq!(device.status()["NEW_VERSION"], "2.0.0");
    device.client("-reset_status").succeeds(&"reset");
    assert_eq!(device.operation(), "IDLE");
    assert_eq!(device.status()["NEW_VERSION"], "0.0.0");
}

#[test]
fn a_failure_is_told_with_its_code_and_stays_in_the_status() {
    let device = Device::both();
    let mut bad = lab().good.clone();
    let last = bad.len() - 1;
    bad[last] ^= 1;
    let outcome = device.client_with("-update -payload - -json", &bad);
    outcome.fails(7, "payload", &"a damaged block");
    let status = device.status();
    assert_eq!(status["CURRENT_OP"], "UPDATE_STATUS_IDLE");
    let said = outcome.stderr.trim().split_once(": ").unwrap().1;
    assert_eq!(status["LAST_ERROR"], said);
    let json: Value = serde_json::from_str(&device.client("-status -json").stdout).unwrap();
    assert_eq!(json["last_error"]["exit"], 7);
    device.client("-reset_status").succeeds(&"reset");
    assert_eq!(device.status()["LAST_ERROR"], "");
    // The next success forgets it too.
    device.client("-update -payload /no/such/file").fails(
        1,
        "open payload /no/such/file",
        &"no file",
    );
    device
        .client("-update -json")
        .fails(6, "--payload", &"no payload");
    assert!(device.status()["LAST_ERROR"].contains("--payload"));
    let good = device.client_with("-update -payload -", &lab().good);
    good.succeeds(&"good");
    assert_eq!(device.status()["LAST_ERROR"], "");
}

#[test]
fn a_rollback_waits_for_the_reboot_and_can_be_taken_back() {
    let device = Device::both();
    let outcome = device.client("-rollback");
    outcome.succeeds(&"rollback");
    assert!(outcome.stdout.contains("in slot b"), "{}", outcome.stdout);
    assert_eq!(device.operation(), "UPDATED_NEED_REBOOT");
    let taken_back = device.client("-cancel -json");
    taken_back.succeeds(&"cancel");
    // An object, though there is nothing to tell.
    assert_eq!(taken_back.stdout, "{}\n");
    assert_eq!(device.operation(), "IDLE");
    device
        .client("-rollback")
        .fails(6, "slot b", &"nothing there");
    let single = Device::single();
    single
        .client("-rollback")
        .fails(6, "slot b", &"nothing there");
    single.disk.is_unchanged(&"rollback");
}

#[test]
fn without_a_folder_nothing_is_remembered_but_the_disk_speaks() {
    let device = Device::single();
    let payload = device.payload();
    let keys = lab().keys();
    let run = |words: &[&str]| {
        let mut arguments = words.to_vec();
        arguments.extend([
            "--disk",
            device.disk.path(),
            "--keys",
            keys.to_str().unwrap(),
        ]);
        crate::fixture::Program::Client.run(&arguments)
    };
    let outcome = run(&["-update", "-payload", &payload]);
    outcome.succeeds(&"update");
    let status = run(&["-status"]);
    assert!(status.stdout.contains("NEW_VERSION=2.0.0"), "{status:?}");
    run(&["-history"]).fails(2, "--state", &"history");
    run(&["-follow"]).fails(3, "none is under way", &"follow");
    run(&["-watch_for_updates"]).fails(1, "update_engine run", &"watch");
    run(&["-status", "-payload", "x"]).fails(2, "-update", &"payload");
    assert_eq!(BOARD, "x86_64-grub");
}

#[test]
fn a_full_var_fails_no_update_and_is_told_of() {
    needs_root("mounts something");
    let device = Device::both();
    let web = Web::start(&lab().good);
    let state = device.state.display();
    let full = format!(
        r#"set -- unshare -m sh -c 'mount -t tmpfs -o size=8k none {state} && {{ cat /dev/zero > {state}/fill 2> /dev/null; exec "$@"; }}' sh "$@""#
    );
    let line = format!("-update -payload {}", web.url());
    let mut command = Program::Client.command_after(&full);
    let outcome = Program::Client.finish(command.args(device.arguments(&line)), b"");
    assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    assert!(
        outcome.stdout.contains("2.0.0 is staged in slot b"),
        "{outcome:#?}"
    );
    assert!(outcome.stderr.contains("No space left"), "{outcome:#?}");
    // Where nothing could be remembered, the disk speaks.
    assert_eq!(device.operation(), "UPDATED_NEED_REBOOT");
}
