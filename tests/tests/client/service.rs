//! Against `update_engine run`.

use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::Duration;

use updater::control_socket::{Channel, Payload, Reply, Request, Wish};
use updater::service::status::Operation;

use crate::device::{Device, feed_half, feed_rest};
use crate::fixture::{How, lab};
use crate::web::Web;

#[test]
fn two_clients_at_once_one_updates_and_the_other_is_told_so() {
    let device = Device::both();
    let service = device.serve();
    let (first, mut input) = device.start_client("-update -payload -");
    feed_half(&mut input);
    device.wait_for("DOWNLOADING");
    let update = format!("-update -payload {}", device.payload());
    device.client(&update).fails(5, "downloading", &"second");
    device
        .client("-rollback")
        .fails(5, "under way", &"rollback");
    device
        .client("-reset_status")
        .fails(5, "under way", &"reset");
    let (follower, _) = device.start_client("-follow");
    // It has to be there before the end.
    sleep(Duration::from_millis(500));
    feed_rest(input);
    let first = first.wait_with_output().unwrap();
    assert_eq!(first.status.code(), Some(0), "{first:?}");
    let said = String::from_utf8(first.stdout).unwrap();
    assert!(said.contains("2.0.0 is staged in slot b"), "{said}");
    let follower = follower.wait_with_output().unwrap();
    assert_eq!(follower.status.code(), Some(0), "{follower:?}");
    let last = said.lines().last().unwrap();
    let said = String::from_utf8(follower.stdout).unwrap();
    assert_eq!(said.lines().last(), Some(last));
    device
        .client("-follow")
        .fails(3, "none is under way", &"nothing");
    let again = device.client(&format!("{update} -json"));
    again.fails(4, "already", &"again");
    assert_eq!(service.terminate(), Some(0));
    assert!(!device.socket().exists());
}

#[test]
fn a_client_that_vanishes_leaves_the_update_running() {
    let device = Device::both();
    let _service = device.serve();
    let (mut client, mut input) = device.start_client("-update -payload -");
    feed_half(&mut input);
    device.wait_for("DOWNLOADING");
    client.kill().unwrap();
    client.wait().unwrap();
    feed_rest(input);
    device.wait_for("UPDATED_NEED_REBOOT");
    assert_eq!(device.status()["LAST_ERROR"], "");
}

#[test]
fn a_cancel_stops_at_a_block_and_the_next_update_works() {
    let device = Device::both();
    let _service = device.serve();
    let (client, mut input) = device.start_client("-update -payload -");
    feed_half(&mut input);
    device.wait_for("DOWNLOADING");
    let (cancel, _) = device.start_client("-cancel");
    // It is told before the next block comes.
    sleep(Duration::from_millis(500));
    // The service may have stopped reading.
    let fed = std::thread::spawn(move || feed_rest(input));
    let cancel = cancel.wait_with_output().unwrap();
    assert_eq!(cancel.status.code(), Some(0), "{cancel:?}");
    let client = client.wait_with_output().unwrap();
    assert_eq!(client.status.code(), Some(1), "{client:?}");
    let said = String::from_utf8(client.stderr).unwrap();
    assert!(said.contains("cancelled"), "{said}");
    let _ = fed.join();
    let status = device.status();
    assert_eq!(status["CURRENT_OP"], "UPDATE_STATUS_IDLE");
    assert!(status["LAST_ERROR"].contains("cancelled"), "{status:?}");
    device.disk.is_unchanged_but_for_passive(&"cancel");
    let again = device.client(&format!("-update -payload {}", device.payload()));
    again.succeeds(&"again");
    assert_eq!(device.status()["LAST_ERROR"], "");
}

#[test]
fn a_cancel_ends_a_pipe_that_has_gone_silent() {
    for fed in [false, true] {
        let device = Device::both();
        let _service = device.serve();
        let (client, mut input) = device.start_client("-update -payload -");
        if fed {
            feed_half(&mut input);
        }
        // Not even its first bytes have come.
        let at_work = if fed {
            "DOWNLOADING"
        } else {
            "CHECKING_FOR_UPDATE"
        };
        device.wait_for(at_work);
        device.client("-cancel").succeeds(&"cancel");
        let client = client.wait_with_output().unwrap();
        assert_eq!(client.status.code(), Some(1), "{client:?}");
        assert!(device.status()["LAST_ERROR"].contains("cancelled"));
        drop(input);
        match fed {
            true => device.disk.is_unchanged_but_for_passive(&"cancel"),
            false => device.disk.is_unchanged(&"cancel"),
        }
    }
}

#[test]
fn a_service_that_was_killed_tells_what_it_was_doing_and_goes_on() {
    let device = Device::both();
    let service = device.serve();
    let (client, mut input) = device.start_client("-update -payload -");
    feed_half(&mut input);
    device.wait_for("DOWNLOADING");
    service.kill();
    let client = client.wait_with_output().unwrap();
    assert_eq!(client.status.code(), Some(1), "{client:?}");
    let said = String::from_utf8(client.stderr).unwrap();
    assert!(said.contains("has ended"), "{said}");
    // The socket is still there, and nobody behind it.
    assert_eq!(
        device.status()["LAST_ERROR"],
        "install payload: interrupted while downloading"
    );
    let _service = device.serve();
    let status = device.status();
    assert_eq!(status["CURRENT_OP"], "UPDATE_STATUS_IDLE");
    assert_eq!(
        status["LAST_ERROR"],
        "install payload: interrupted while downloading"
    );
    let update = device.client(&format!("-update -payload {}", device.payload()));
    update.succeeds(&"again");
    assert_eq!(device.operation(), "UPDATED_NEED_REBOOT");
}

#[test]
fn a_service_waits_for_a_client_that_works_by_itself() {
    let device = Device::both();
    let (client, mut input) = device.start_client("-update -payload -");
    feed_half(&mut input);
    device.wait_for("DOWNLOADING");
    // The client is the service meanwhile: others hear and obey it.
    let update = format!("-update -payload {}", device.payload());
    device.client(&update).fails(5, "downloading", &"second");
    let mut waiting = crate::fixture::Program::UpdateEngine
        .command_after(":")
        .args(device.arguments("run"))
        .spawn()
        .unwrap();
    sleep(Duration::from_millis(500));
    assert!(waiting.try_wait().unwrap().is_none());
    feed_rest(input);
    let client = client.wait_with_output().unwrap();
    assert_eq!(client.status.code(), Some(0), "{client:?}");
    let waiting = crate::device::Service(waiting);
    device.wait_for("UPDATED_NEED_REBOOT");
    drop(waiting);
}

#[test]
fn the_last_word_comes_also_where_the_payload_is_no_payload() {
    let device = Device::both();
    let _service = device.serve();
    let bad = device.client_with("-update -payload - -json", b"GIF89a");
    bad.fails(7, "payload", &"garbage");
    device.disk.is_unchanged(&"garbage");
    let folder = format!("-update -json -payload {}", device.state.display());
    device.client(&folder).fails(1, "directory", &"a folder");
    assert!(lab().good.len() > 1000);
}

#[test]
fn what_another_program_staged_is_told_and_can_be_taken_back() {
    let device = Device::both();
    let _service = device.serve();
    assert_eq!(device.operation(), "IDLE");
    let apply = device.disk.apply(How::File, &lab().good, &[]);
    apply.succeeds(&"apply beside the service");
    let status = device.status();
    assert_eq!(status["CURRENT_OP"], "UPDATE_STATUS_UPDATED_NEED_REBOOT");
    assert_eq!(status["NEW_VERSION"], "2.0.0");
    device.client("-cancel").succeeds(&"take it back");
    assert_eq!(device.operation(), "IDLE");
}

#[test]
fn an_update_asked_for_the_moment_a_check_ends_is_told_of_from_its_start() {
    for _ in 0..5 {
        let device = Device::both();
        let _service = device.serve();
        let web = Web::start(&lab().good);
        let payload = Payload::Url(web.url());
        let force = Vec::new();
        let wish = Wish { payload, force };
        let connect = || Channel::new(UnixStream::connect(device.socket()).unwrap());
        let (mut first, mut second) = (connect(), connect());
        first.send(&Request::Check(wish.clone()), None).unwrap();
        let ends = |reply: Reply| match reply {
            Reply::Status(status) => status.operation == Operation::UpdateAvailable,
            Reply::Done(_) => true,
            Reply::Failed(failed) => panic!("{failed:?}"),
        };
        while !ends(first.receive().unwrap()) {}
        second.send(&Request::Update(wish), None).unwrap();
        let mut seen = Vec::new();
        loop {
            match second.receive().unwrap() {
                Reply::Status(status) => seen.push(status.operation),
                Reply::Done(_) => break,
                Reply::Failed(failed) => panic!("{failed:?}"),
            }
        }
        assert!(seen.contains(&Operation::Finalizing), "{seen:?}");
        assert_eq!(device.operation(), "UPDATED_NEED_REBOOT");
    }
}
