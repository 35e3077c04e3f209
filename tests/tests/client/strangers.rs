//! Those who should not be heard: garbage, crowds, and users who are not root.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::device::{Device, PATIENCE, needs_root};
use crate::fixture::{Disk, Program, lab};

/// Nobody.
const STRANGER: u32 = 65534;

fn connect(device: &Device) -> UnixStream {
    let stream = UnixStream::connect(device.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn garbage_is_answered_once_and_hurts_nobody() {
    let device = Device::both();
    let _service = device.serve();
    let long = vec![b'{'; 1 << 20];
    for (bytes, words) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "expected"),
        (b"{\"verb\":\"become-root\"}\n", "unknown variant"),
        (b"\0\xff\xfe\n", "expected"),
        (
            b"{\"verb\":\"update\",\"payload\":\"descriptor\"}\n{",
            "descriptor",
        ),
        (&long, "16384"),
    ] {
        let mut stream = connect(&device);
        // It may have had enough before the end.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut said = Vec::new();
        // Where it has not read everything, the first thing to be heard is that, and then what it said.
        if stream.read_to_end(&mut said).is_err() {
            let _ = stream.read_to_end(&mut said);
        }
        let said = String::from_utf8(said).unwrap();
        let last = said.lines().find(|line| line.starts_with("{\"failed\""));
        assert!(
            last.is_some_and(|line| line.contains(words)),
            "{words}: {said:?}"
        );
        assert_eq!(device.operation(), "IDLE", "{words}");
    }
    device.disk.is_unchanged(&"garbage");
}

#[test]
fn a_crowd_is_told_to_wait_and_room_comes_back() {
    let device = Device::both();
    let _service = device.serve();
    let crowd: Vec<UnixStream> = (0..40).map(|_| connect(&device)).collect();
    let is_told = |mut stream: &UnixStream| {
        let patience = Some(Duration::from_millis(200));
        stream.set_read_timeout(patience).unwrap();
        let mut said = [0; 256];
        let count = stream.read(&mut said).unwrap_or(0);
        String::from_utf8_lossy(&said[..count]).contains("\"exit\":5")
    };
    let told = crowd.iter().filter(|stream| is_told(stream)).count();
    // One of the seats may still be taken by whoever asked whether the service listens.
    assert!((24..=25).contains(&told), "{told}");
    drop(crowd);
    let start = std::time::Instant::now();
    while device.client("-status").code != Some(0) {
        assert!(start.elapsed() < PATIENCE);
    }
}

/// Somebody who is not root runs the client against this device.
fn stranger(device: &Device, client: &Path, line: &str) -> (Option<i32>, String) {
    let output = Command::new(client)
        .args(device.arguments(line))
        .env_remove("RUST_LOG")
        .current_dir("/")
        .uid(STRANGER)
        .gid(STRANGER)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn a_hostile_user_may_look_where_allowed_and_never_act() {
    needs_root("changes users");
    // Where they may go: the service's folder, a copy of the client, and nothing else.
    let place = tempfile::Builder::new()
        .permissions(Permissions::from_mode(0o755))
        .tempdir()
        .unwrap();
    let everybody = |path: &Path, mode| {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    };
    let client = place.path().join("client");
    fs::copy(Program::Client.path(), &client).unwrap();
    let device = Device::at(Disk::both(), place.path().join("state"));
    everybody(&device.state, 0o755);
    let _service = device.serve();
    let (code, said) = stranger(&device, &client, "-status");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("ermission denied"), "{said}");

    // As if they were in the group: the kernel lets them connect.
    everybody(&device.socket(), 0o666);
    let (code, said) = stranger(&device, &client, "-status");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("CURRENT_OP=UPDATE_STATUS_IDLE"), "{said}");
    let payload = place.path().join("payload");
    fs::write(&payload, &lab().good).unwrap();
    everybody(&payload, 0o644);
    let update = format!("-update -payload {}", payload.display());
    for verb in ["-rollback", "-cancel", "-reset_status", &update] {
        let (code, said) = stranger(&device, &client, verb);
        assert_eq!(code, Some(6), "{verb}: {said}");
        assert!(said.contains("only root may"), "{verb}: {said}");
    }
    device.disk.is_unchanged(&"a stranger");
    // A crowd of them does not keep root out.
    let script =
        "for i in $(seq 40); do \"$0\" -watch_for_updates \"$@\" & done; sleep 2; kill $(jobs -p)";
    let mut crowd = Command::new("bash");
    let status = crowd
        .args(["-c", script])
        .arg(&client)
        .args(device.arguments(""))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .current_dir("/")
        .uid(STRANGER)
        .gid(STRANGER)
        .spawn();
    let mut crowd = status.unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(device.operation(), "IDLE");
    crowd.wait().unwrap();
}
