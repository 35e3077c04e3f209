//! Updates over links and from servers that misbehave.

use std::fs;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::device::{Device, Service};
use crate::fixture::{BOARD, Outcome, PRODUCT, Program, lab, noise};
use crate::web::Web;

/// Bytes of a block, which is what may be lost at a time.
const BLOCK: usize = 256 << 10;

/// A payload of 3 MB, so that there is something to interrupt.
fn large(version: &'static str) -> &'static [u8] {
    static TWO: OnceLock<Vec<u8>> = OnceLock::new();
    static THREE: OnceLock<Vec<u8>> = OnceLock::new();
    match version {
        "2.0.0" => TWO.get_or_init(|| pack("2.0.0", 2)),
        _ => THREE.get_or_init(|| pack("3.0.0", 3)),
    }
}

fn pack(version: &str, index: u64) -> Vec<u8> {
    let root = lab().path("large");
    fs::create_dir_all(root.join("lib")).unwrap();
    let release =
        format!("IMAGE_ID={PRODUCT}\nIMAGE_VERSION={version}\nTANDEM_ROLLBACK_INDEX={index}\n");
    fs::write(root.join("lib/os-release"), release).unwrap();
    fs::write(root.join("noise"), noise(3_000_000, index)).unwrap();
    let path = |name: &str| lab().path(name).to_str().unwrap().to_owned();
    let key = |name: &str| lab().keys().join(name).to_str().unwrap().to_owned();
    let (image, out) = (path("large.img"), path("large.payload"));
    let (private, public) = (key("release.key.pem"), key("release.pub.pem"));
    let run = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let outcome = Program::Image.run(&words);
        assert_eq!(outcome.code, Some(0), "{outcome:#?}");
    };
    run(&format!(
        "usr --root {} --key {public} --size 6M --out {image}",
        root.display()
    ));
    run(&format!(
        "payload --usr {image} --product {PRODUCT} --board {BOARD} --version {version} --rollback-index {index} --key {private} --out {out}"
    ));
    fs::read(out).unwrap()
}

fn update(device: &Device, web: &Web) -> Outcome {
    device.client(&format!("-update -json -payload {}", web.url()))
}

fn facts(outcome: &Outcome) -> Value {
    outcome.succeeds(&"update");
    serde_json::from_str(&outcome.stdout).unwrap()
}

/// A client that is at work while the test goes on.
fn begin(device: &Device, web: &Web) -> Service {
    let line = format!("-update -payload {}", web.url());
    let child = Program::Client
        .command_after(":")
        .args(device.arguments(&line))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Service(child.unwrap())
}

/// A download that got as far as the middle of the payload, where the server says no more.
fn half_way(device: &Device, web: &Web) -> Service {
    let half = large("2.0.0").len() / 2;
    web.behave(|manner| manner.stall = Some(half));
    let client = begin(device, web);
    web.wait_for(half);
    device.wait_for("DOWNLOADING");
    // What has come is on its way to the disk.
    std::thread::sleep(Duration::from_secs(1));
    web.behave(|manner| manner.stall = None);
    client
}

#[test]
fn a_link_that_breaks_every_29_kilobytes_gets_through_and_nothing_comes_twice() {
    let device = Device::both();
    let _service = device.serve();
    let web = Web::start(large("2.0.0"));
    web.behave(|manner| manner.cut = Some(29_000));
    assert_eq!(facts(&update(&device, &web))["version"], "2.0.0");
    assert_eq!((web.sent(), web.twice()), (large("2.0.0").len(), 0));
    assert!(web.hits().len() > 100);
}

#[test]
fn a_killed_service_goes_on_where_it_was() {
    let device = Device::both();
    let service = device.serve();
    let web = Web::start(large("2.0.0"));
    let client = half_way(&device, &web);
    service.kill();
    drop(client);
    assert!(device.state.join("resume.json").exists());
    let _service = device.serve();
    assert!(device.status()["LAST_ERROR"].contains("interrupted while downloading"));
    let facts = facts(&update(&device, &web));
    assert!(facts["resumed"].as_u64().unwrap() >= 5, "{facts}");
    let twice = web.twice();
    assert!(twice <= BLOCK, "{twice} bytes came twice: {:?}", web.hits());
    assert!(!device.state.join("resume.json").exists());
    assert_eq!(device.operation(), "UPDATED_NEED_REBOOT");
}

#[test]
fn a_killed_client_leaves_what_the_service_goes_on_with() {
    let device = Device::both();
    let web = Web::start(large("2.0.0"));
    half_way(&device, &web).kill();
    let _service = device.serve();
    let facts = facts(&update(&device, &web));
    assert!(facts["resumed"].as_u64().unwrap() >= 5, "{facts}");
    assert!(web.twice() <= BLOCK, "{:?}", web.hits());
}

#[test]
fn a_cancelled_download_ends_at_once_though_the_server_says_nothing() {
    let device = Device::both();
    let _service = device.serve();
    let web = Web::start(large("2.0.0"));
    let mut client = half_way(&device, &web);
    let start = Instant::now();
    device.client("-cancel").succeeds(&"cancel");
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(client.0.wait().unwrap().code(), Some(1));
    let status = device.status();
    assert_eq!(status["LAST_ERROR"], "install payload: cancelled");
    assert_eq!(device.operation(), "IDLE");
    let facts = facts(&update(&device, &web));
    assert!(facts["resumed"].as_u64().unwrap() >= 5, "{facts}");
    assert!(web.twice() <= BLOCK, "{:?}", web.hits());
}

#[test]
fn a_server_that_has_another_payload_by_now_is_asked_for_that() {
    // Whether the server tells that the file is another one, or the bytes do.
    for etags in [(Some("\"one\""), Some("\"two\"")), (None, None)] {
        let device = Device::both();
        let service = device.serve();
        let web = Web::start(large("2.0.0"));
        web.behave(|manner| manner.etag = etags.0);
        let client = half_way(&device, &web);
        service.kill();
        drop(client);
        web.behave(|manner| {
            manner.file = large("3.0.0").to_vec().into();
            manner.etag = etags.1;
        });
        let _service = device.serve();
        let facts = facts(&update(&device, &web));
        assert_eq!(facts["version"], "3.0.0", "{etags:?}");
        assert_eq!(facts["resumed"], 0, "{etags:?}");
        assert_eq!(device.status()["NEW_VERSION"], "3.0.0");
    }
}

#[test]
fn a_file_that_changes_under_the_download_is_never_a_mixture() {
    let device = Device::both();
    let _service = device.serve();
    let web = Web::start(large("2.0.0"));
    web.behave(|manner| manner.cut = Some(1_000_000));
    let client = begin(&device, &web);
    web.wait_for(1_000_000);
    web.behave(|manner| {
        manner.cut = None;
        manner.file = large("3.0.0").to_vec().into();
        manner.etag = Some("\"two\"");
    });
    let mut client = client;
    assert_eq!(client.0.wait().unwrap().code(), Some(1));
    let said = &device.status()["LAST_ERROR"];
    assert!(said.contains("the file"), "{said}");
    assert_eq!(facts(&update(&device, &web))["version"], "3.0.0");
}

#[test]
fn a_server_without_ranges_sends_the_beginning_again_and_it_works() {
    let device = Device::both();
    let web = Web::start(large("2.0.0"));
    web.behave(|manner| manner.ranges = false);
    assert_eq!(facts(&update(&device, &web))["version"], "2.0.0");
}

#[test]
fn a_second_client_is_told_that_one_is_at_work() {
    let device = Device::both();
    let service = device.serve();
    let web = Web::start(large("2.0.0"));
    let _client = half_way(&device, &web);
    update(&device, &web).fails(5, "another operation", &"second");
    assert_eq!(device.operation(), "DOWNLOADING");
    assert_eq!(service.terminate(), Some(0));
}

#[test]
fn who_talks_to_the_network_is_nobody() {
    let device = Device::both();
    let service = device.serve();
    let web = Web::start(large("2.0.0"));
    let _client = half_way(&device, &web);
    let service = service.0.id();
    let children = fs::read_to_string(format!("/proc/{service}/task/{service}/children"));
    // The thread that works has started it.
    let tasks = fs::read_dir(format!("/proc/{service}/task")).unwrap();
    let mut all = children.unwrap();
    for task in tasks {
        let path = task.unwrap().path().join("children");
        all.push_str(&fs::read_to_string(path).unwrap_or_default());
    }
    let child = all.split_whitespace().next().unwrap().to_owned();
    let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap();
    let value = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().skip(1).collect::<Vec<_>>()
    };
    assert_eq!(value("Name:"), ["tandem-fetch"]);
    assert!(value("Uid:").iter().all(|uid| *uid != "0"), "{status}");
    assert_eq!(value("CapEff:"), ["0000000000000000"]);
    assert_eq!(value("NoNewPrivs:"), ["1"]);
}
