//! The service on a bus of its own, by the programs that D-Bus brings: `dbus-daemon`, `dbus-send`, `dbus-monitor`.

mod private;

use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use crate::device::{Device, PATIENCE, feed_half, feed_rest};
use crate::fixture::lab;

use private::*;

#[test]
fn flatcars_interface_has_flatcars_signatures() {
    let (device, place) = (Device::both(), Place::new());
    let bus = place.bus();
    let _service = place.serve(&device);
    bus.wait_for_owner(None);
    let xml = bus.call("org.freedesktop.DBus.Introspectable.Introspect");
    let types = |interface, member| -> String {
        let shape = shape(&xml, interface, member);
        shape.into_iter().map(|(_, kind, _)| kind).collect()
    };
    let names = [
        "last_checked_time",
        "progress",
        "current_operation",
        "new_version",
        "new_size",
    ];
    for (member, direction) in [("GetStatus", "out"), ("StatusUpdate", "")] {
        let shape = shape(&xml, MANAGER, member);
        let expected = names.into_iter().zip(["x", "d", "s", "s", "x"]);
        let expected = expected.map(|(name, kind)| (name.into(), kind.into(), direction.into()));
        assert_eq!(shape, expected.collect::<Vec<_>>(), "{member}: {xml}");
    }
    for member in ["AttemptUpdate", "ResetStatus"] {
        assert!(xml.contains(&format!("<method name=\"{member}\"")), "{xml}");
        assert_eq!(types(MANAGER, member), "", "{member}: {xml}");
    }
    assert_eq!(types(OURS, "GetDetails"), "sttust", "{xml}");
    assert_eq!(types(OURS, "DetailsChanged"), "sttust", "{xml}");
    let status = bus.call(&format!("{MANAGER}.GetStatus"));
    let words: Vec<&str> = status.split_whitespace().collect();
    assert_eq!(
        words,
        [
            "int64",
            "0",
            "double",
            "0",
            "UPDATE_STATUS_IDLE",
            "0.0.0",
            "int64",
            "0"
        ]
    );
}

#[test]
fn an_update_is_seen_from_its_start_to_the_reboot_it_waits_for() {
    let (device, place) = (Device::both(), Place::new());
    let stick = device.state.join("stick");
    fs::create_dir(&stick).unwrap();
    fs::write(stick.join("new.payload"), &lab().good).unwrap();
    device.configure(&format!("PAYLOAD_DIR={}\n", stick.display()));
    let bus = place.bus();
    let _service = place.serve(&device);
    bus.wait_for_owner(None);
    let monitor = bus.watch(MANAGER);
    let attempt = format!("{MANAGER}.AttemptUpdate");
    bus.call(&attempt);
    follow_to_the_reboot(&monitor);
    let status = bus.call(&format!("{MANAGER}.GetStatus"));
    assert!(
        status.contains("UPDATE_STATUS_UPDATED_NEED_REBOOT   2.0.0"),
        "{status}"
    );
    // What is staged can be taken back.
    let said = bus.call(&format!("{OURS}.Cancel"));
    assert!(
        said.contains("2.0.0 in slot b will not be booted"),
        "{said}"
    );
    monitor.wait_for(|line| line.contains("UPDATE_STATUS_IDLE"));
    assert_eq!(device.operation(), "IDLE");

    // Also one that somebody else has asked for; a second one at once is refused.
    let (mut client, mut input) = device.start_client("-update -payload -");
    feed_half(&mut input);
    device.wait_for("DOWNLOADING");
    let (ok, said) = bus.call_as(0, &attempt);
    let busy = format!("{OURS}.Error.Busy");
    assert!(!ok && said.contains(&busy), "{said}");
    feed_rest(input);
    assert!(client.wait().unwrap().success());
    follow_to_the_reboot(&monitor);
}

#[track_caller]
fn follow_to_the_reboot(monitor: &Monitor) {
    let mut lines = monitor.wait_for(|line| line.contains("UPDATED_NEED_REBOOT"));
    lines.extend(monitor.wait_for(|line| line.contains("int64")));
    let signals = signals(&lines, "StatusUpdate");
    let mut operations = Vec::new();
    for values in &signals {
        let kinds: Vec<&str> = values.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, ["int64", "double", "string", "string", "int64"]);
        let progress: f64 = values[1].1.parse().unwrap();
        assert!((0.0..=1.0).contains(&progress), "{values:?}");
        let operation = values[2].1.strip_prefix("UPDATE_STATUS_").unwrap();
        operations.push(operation.to_owned());
    }
    operations.dedup();
    let rested = operations
        .iter()
        .take_while(|found| *found == "IDLE")
        .count();
    operations.drain(..rested);
    let (first, last) = (operations.first().unwrap(), operations.last().unwrap());
    assert_eq!(first, "CHECKING_FOR_UPDATE", "{operations:?}");
    for expected in ["DOWNLOADING", "VERIFYING", "FINALIZING"] {
        assert!(
            operations.iter().any(|found| found == expected),
            "{operations:?}"
        );
    }
    assert_eq!(last, "UPDATED_NEED_REBOOT", "{operations:?}");
    let last = signals.last().unwrap();
    assert_eq!(last[3].1, "2.0.0");
    assert_ne!(last[4].1, "0");
}

#[test]
fn a_cancel_and_its_reason_and_their_end_are_told() {
    let (device, place) = (Device::both(), Place::new());
    let bus = place.bus();
    let _service = place.serve(&device);
    bus.wait_for_owner(None);
    let monitor = bus.watch(OURS);
    let (mut client, mut input) = device.start_client("-update -payload -");
    feed_half(&mut input);
    device.wait_for("DOWNLOADING");
    let mut cancel = bus
        .command(0, NAME, OBJECT, &format!("{OURS}.Cancel"), &[])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // It is told before the next block comes.
    sleep(Duration::from_secs(1));
    let fed = spawn(move || feed_rest(input));
    assert!(cancel.wait().unwrap().success());
    assert_eq!(client.wait().unwrap().code(), Some(1));
    let _ = fed.join();
    monitor.wait_for(|line| line.contains("cancelled"));
    let details = bus.details();
    assert!(
        details.contains("cancelled") && details.contains("uint32 1"),
        "{details}"
    );
    bus.call(&format!("{MANAGER}.ResetStatus"));
    // The bridge hears of it as everybody does.
    monitor.wait_for(|line| line.contains("uint32 0"));
    let details = bus.details();
    assert!(
        !details.contains("cancelled") && details.contains("uint32 0"),
        "{details}"
    );
    let (ok, said) = bus.call_as(0, &format!("{OURS}.Cancel"));
    assert!(
        !ok && said.contains(&format!("{OURS}.Error.NoUpdate")),
        "{said}"
    );
    let (ok, said) = bus.call_as(0, &format!("{OURS}.Rollback"));
    assert!(
        !ok && said.contains(&format!("{OURS}.Error.Refused")),
        "{said}"
    );
    assert!(said.contains("slot b"), "{said}");
}

#[test]
fn who_is_not_root_may_look_and_neither_act_nor_take_the_name() {
    let (device, place) = (Device::both(), Place::new());
    let bus = place.bus();
    let _service = place.serve(&device);
    bus.wait_for_owner(None);
    for method in [format!("{MANAGER}.GetStatus"), format!("{OURS}.GetDetails")] {
        let (ok, said) = bus.call_as(STRANGER, &method);
        assert!(ok && said.contains("UPDATE_STATUS_IDLE"), "{said}");
    }
    let acts = ["AttemptUpdate", "ResetStatus"].map(|member| format!("{MANAGER}.{member}"));
    let ours = ["CheckForUpdate", "Cancel", "Rollback"].map(|member| format!("{OURS}.{member}"));
    for method in acts.iter().chain(&ours) {
        let (ok, said) = bus.call_as(STRANGER, method);
        assert!(!ok && said.contains("AccessDenied"), "{method}: {said}");
    }
    for user in [0, STRANGER] {
        let values = [&*format!("string:{NAME}"), "uint32:2"];
        let method = "org.freedesktop.DBus.RequestName";
        let (ok, said) = bus.calls(user, "org.freedesktop.DBus", "/", method, &values);
        assert!(!ok && said.contains("AccessDenied"), "{user}: {said}");
    }
    device.disk.is_unchanged(&"a stranger");
    let (process, user) = bus.credentials();
    assert_ne!(user, 0);
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    for line in [
        "NoNewPrivs:\t1\n",
        "CapEff:\t0000000000000000\n",
        "Groups:\t \n",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
}

#[test]
fn crowds_and_nonsense_end_neither_the_service_nor_its_place_on_the_bus() {
    let (device, place) = (Device::both(), Place::new());
    let bus = place.bus();
    let _service = place.serve(&device);
    let owner = bus.wait_for_owner(None);
    let get = format!("{MANAGER}.GetStatus");
    let long = format!("string:{}", "x".repeat(100_000));
    for (object, method, value) in [
        (OBJECT, &*get, &*long),
        (OBJECT, &*get, "variant:array:byte:1,2,3"),
        (OBJECT, "com.coreos.update1.Manager.BecomeRoot", "int32:-1"),
        (OBJECT, "org.freedesktop.DBus.Properties.GetAll", "string:"),
        (
            OBJECT,
            "org.freedesktop.DBus.Properties.Set",
            "string:nothing",
        ),
        ("/", &*get, ""),
        ("/com/coreos/update1/deeper", "tandem.Update1.Cancel", ""),
    ] {
        let values: Vec<&str> = Some(value)
            .filter(|value| !value.is_empty())
            .into_iter()
            .collect();
        bus.calls(0, NAME, object, method, &values);
        assert_eq!(bus.owner().as_ref(), Some(&owner), "{method}");
    }
    // More at once than the service has room for: each is answered somehow, and root is not kept out.
    let crowd: Vec<Child> = (0..120)
        .map(|number| {
            let method = match number % 3 {
                0 => format!("{OURS}.CheckForUpdate"),
                1 => format!("{OURS}.Cancel"),
                _ => get.clone(),
            };
            let user = if number % 3 == 2 { STRANGER } else { 0 };
            let mut command = bus.command(user, NAME, OBJECT, &method, &[]);
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    assert_eq!(device.client("-status").code, Some(0));
    for mut child in crowd {
        child.wait().unwrap();
    }
    assert_eq!(bus.owner().as_ref(), Some(&owner));
    bus.call(&get);
    device.disk.is_unchanged(&"a crowd");
    device
        .client(&format!("-update -payload {}", device.payload()))
        .succeeds(&"update");
}

#[test]
fn no_bus_is_no_error_and_each_that_comes_is_joined() {
    let (device, place) = (Device::both(), Place::new());
    let service = place.serve(&device);
    assert_eq!(device.operation(), "IDLE");
    let bus = place.bus();
    let owner = bus.wait_for_owner(None);
    let (process, _) = bus.credentials();
    let process = rustix::process::Pid::from_raw(process).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    bus.wait_for_owner(Some(&owner));
    bus.call(&format!("{MANAGER}.GetStatus"));
    drop(bus);
    assert_eq!(device.operation(), "IDLE");
    let bus = place.bus();
    bus.wait_for_owner(None);
    let status = bus.call(&format!("{MANAGER}.GetStatus"));
    assert!(status.contains("UPDATE_STATUS_IDLE"), "{status}");
    // Whatever happens to the service, nobody speaks for it then.
    let (process, _) = bus.credentials();
    service.kill();
    let start = Instant::now();
    while bus.owner().is_some() || Path::new(&format!("/proc/{process}")).exists() {
        assert!(start.elapsed() < PATIENCE, "the bridge stays");
        sleep(Duration::from_millis(50));
    }
}
