//! What a device does not do unless somebody asks for it, and where it looks instead.

use super::*;

/// A device whose server has 2.0.0, left to itself for a day, and then asked for it.
fn leaves_it_until_asked(device: &Device, active: Option<Slot>) {
    let web = Web::start(&lab().good);
    configure(device, &web, "POLL_INTERVAL=1h\n");
    let mut alone = Alone::new(device, active);
    alone.pass(DAY);
    assert!(alone.looks.len() > 10, "{:?}", alone.looks);
    assert_eq!(
        (device.operation().as_str(), alone.reboots.len()),
        ("IDLE", 0)
    );
    drop(alone);
    device.client("-update").succeeds(&"by hand");
    assert_eq!(device.operation(), "UPDATED_NEED_REBOOT");
}

#[test]
fn what_was_cancelled_by_hand_is_not_staged_again_unasked() {
    let device = Device::both();
    let update = format!("-update -payload {}", device.payload());
    device.client(&update).succeeds(&"update");
    device.client("-cancel").succeeds(&"cancel");
    leaves_it_until_asked(&device, None);
}

#[test]
fn what_was_rolled_back_by_hand_is_not_installed_again_unasked() {
    for by_client in [true, false] {
        let device = Device::both();
        let disk = device.disk.path();
        let bootctl = |words: &str| {
            let mut line = vec!["--disk", disk];
            line.extend(words.split(' '));
            Program::Bootctl.run(&line).succeeds(&words);
        };
        let update = format!("-update -payload {}", device.payload());
        device.client(&update).succeeds(&"update");
        bootctl("--active b mark-successful");
        match by_client {
            true => device.client("-rollback --active b").succeeds(&"rollback"),
            false => bootctl("--active b rollback"),
        }
        bootctl("--active a mark-successful");
        leaves_it_until_asked(&device, Some(Slot::A));
    }
}

/// It was on trial when somebody went back: its tries are left, and the loader starts it only after the other one.
#[test]
fn what_comes_after_the_running_release_counts_as_staged_no_more() {
    let device = Device::both();
    let update = format!("-update -payload {}", device.payload());
    device.client(&update).succeeds(&"update");
    let back = ["--disk", device.disk.path(), "--active", "b", "rollback"];
    Program::Bootctl.run(&back).succeeds(&"rollback");
    assert_eq!(device.operation(), "IDLE");
    device.client(&update).succeeds(&"again");
    assert_eq!(device.operation(), "UPDATED_NEED_REBOOT");
}

/// As the loader leaves a release that was staged and has started three times.
fn spend_all_tries(device: &mut Device) {
    let content = Content::read(Path::new(device.disk.path()));
    let map = Map::of(&content);
    let environment = content.bytes(map.environment_at(), 512);
    let text = String::from_utf8(environment).unwrap();
    let mut spent = text.replace("tandem_b_tries=3", "tandem_b_tries=0");
    assert_ne!(text, spent);
    // The fifth of the digits that are all of them once more.
    let check = spent.find("tandem_check=").unwrap() + "tandem_check=".len() + 4;
    spent.replace_range(check..=check, "0");
    device.disk.edit(map.environment_at(), spent.as_bytes());
}

#[test]
fn a_release_that_fell_back_is_not_installed_for_ever_where_the_journal_is_lost() {
    let mut device = Device::both();
    let update = format!("-update -payload {}", device.payload());
    device.client(&update).succeeds(&"update");
    spend_all_tries(&mut device);
    for file in ["journal.json", "service.json"] {
        fs::remove_file(device.state.join(file)).unwrap();
    }
    leaves_it_until_asked(&device, Some(Slot::A));
}

#[test]
fn a_release_that_fell_back_is_not_installed_for_ever_where_the_journal_cannot_say_so() {
    let mut device = Device::both();
    let update = format!("-update -payload {}", device.payload());
    device.client(&update).succeeds(&"update");
    // The medium has filled up since, so that what became of it was not noted.
    spend_all_tries(&mut device);
    leaves_it_until_asked(&device, Some(Slot::A));
}

#[test]
fn a_release_that_fell_back_is_tried_again_only_if_that_can_be_noted() {
    let mut device = Device::both();
    let update = format!("-update -payload {}", device.payload());
    device.client(&update).succeeds(&"update");
    spend_all_tries(&mut device);
    // It fell back, nothing explains it, and that was noted.
    let path = device.state.join("journal.json");
    let mut journal: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    journal.as_object_mut().unwrap().remove("staged").unwrap();
    fs::write(&path, journal.to_string()).unwrap();
    // Since then the journal can't be written.
    let in_the_way = device.state.join("journal.json.new");
    fs::create_dir(&in_the_way).unwrap();
    let web = Web::start(&lab().good);
    configure(&device, &web, "POLL_INTERVAL=1h\n");
    let mut alone = Alone::new(&device, Some(Slot::A));
    alone.pass(DAY);
    assert!(alone.looks.len() > 10, "{:?}", alone.looks);
    assert_eq!(
        (device.operation().as_str(), alone.reboots.len()),
        ("IDLE", 0)
    );

    fs::remove_dir(&in_the_way).unwrap();
    alone.pass(DAY);
    drop(alone);
    assert_eq!(device.operation(), "UPDATED_NEED_REBOOT");
}

#[test]
fn a_payload_at_hand_that_was_taken_back_does_not_shut_the_server_out() {
    let device = Device::both();
    let folder = device.state.join("stick");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("v2.payload"), &lab().good).unwrap();
    let update = format!("-update -payload {}", device.payload());
    device.client(&update).succeeds(&"update");
    device.client("-cancel").succeeds(&"cancel");
    let web = Web::start(&lab().good);
    let stick = format!("PAYLOAD_DIR={}\nREBOOT_STRATEGY=off\n", folder.display());
    configure(&device, &web, &format!("POLL_INTERVAL=1h\n{stick}"));
    let mut alone = Alone::new(&device, None);
    alone.pass(3 * HOUR);
    assert!(web.sent() > 0, "{:?}", alone.looks);
}

#[test]
fn a_damaged_payload_at_hand_does_not_shut_the_server_out() {
    let device = Device::both();
    let web = Web::start(&lab().good);
    let folder = device.state.join("stick");
    fs::create_dir(&folder).unwrap();
    let (half, _) = lab().good.split_at(lab().good.len() - 1000);
    fs::write(folder.join("v2.payload"), half).unwrap();
    let stick = format!("PAYLOAD_DIR={}\nREBOOT_STRATEGY=off\n", folder.display());
    configure(&device, &web, &format!("POLL_INTERVAL=5m\n{stick}"));
    let mut alone = Alone::new(&device, None);
    alone.pass(2 * HOUR);
    assert!(web.sent() > 0, "{:?}", alone.looks);
}
