//! Where an update comes from: an address, the server or the folder that the settings name.

use std::fs;

use serde_json::Value;

use crate::device::Device;
use crate::fixture::lab;
use crate::web::Web;

const HEAD: usize = 16784;

/// With the service, and without it.
fn both_ways(test: impl Fn(&Device)) {
    let device = Device::both();
    test(&device);
    let device = Device::both();
    let service = device.serve();
    test(&device);
    assert_eq!(service.terminate(), Some(0));
}

#[test]
fn a_payload_at_an_address_is_looked_at_by_its_head_and_then_staged() {
    both_ways(|device| {
        let web = Web::start(&lab().good);
        let url = web.url();
        let look = device.client(&format!("-check_for_update -payload {url}"));
        look.succeeds(&"check");
        let said = "demo 2.0.0 is available for slot b";
        assert!(look.stdout.contains(said), "{}", look.stdout);
        assert_eq!(device.operation(), "UPDATE_AVAILABLE");
        device.disk.is_unchanged(&"check");
        let hits = web.hits();
        assert_eq!(hits.len(), 1, "{hits:?}");
        assert_eq!(hits[0].range.as_deref(), Some("bytes=0-16783"));
        assert_eq!(web.sent(), HEAD);
        web.forget();

        let update = device.client(&format!("-update -json -payload {url}"));
        update.succeeds(&"update");
        let facts: Value = serde_json::from_str(&update.stdout).unwrap();
        assert_eq!(facts["result"], "staged");
        assert_eq!(device.operation(), "UPDATED_NEED_REBOOT");
        assert_eq!((web.sent(), web.twice()), (lab().good.len(), 0));
        web.forget();

        let again = device.client(&format!("-update -json -payload {url}"));
        again.fails(4, "already", &"again");
        assert_eq!(web.sent(), HEAD);
    });
}

#[test]
fn the_server_of_the_settings_has_the_payload_of_the_group() {
    both_ways(|device| {
        let web = Web::start(&lab().good);
        let settings = |server: &str| format!("SERVER={server}\nGROUP=stable\n");
        device.configure(&settings(&format!("{}/tandem/", web.base())));
        let look = device.client("-check_for_update -json");
        look.succeeds(&"check");
        let facts: Value = serde_json::from_str(&look.stdout).unwrap();
        assert_eq!(facts["result"], "available");
        device.client("-update").succeeds(&"update");
        assert_eq!(device.status()["NEW_VERSION"], "2.0.0");
        for hit in web.hits() {
            assert_eq!(hit.path, "/tandem/stable/x86_64-grub/latest.payload");
        }

        // By hand goes what the policy must not do.
        device.client("-cancel").succeeds(&"cancel");
        device.configure(&settings("disabled"));
        let off = device.client("-update -json");
        off.fails(6, "SERVER", &"disabled");
        let update = format!("-update -payload {}", web.url());
        device.client(&update).succeeds(&"by hand");
    });
}

#[test]
fn a_server_that_fails_is_no_lack_of_updates() {
    both_ways(|device| {
        let web = Web::start(&lab().good);
        device.configure(&format!("SERVER={}\nGROUP=stable\n", web.base()));
        web.behave(|manner| manner.refusal = Some("404 Not Found"));
        device.client("-update -json").fails(1, "404", &"404");
        assert!(device.status()["LAST_ERROR"].contains("404 Not Found"));
        assert_eq!(device.operation(), "IDLE");
        web.behave(|manner| {
            manner.refusal = None;
            manner.file = vec![b'x'; 50_000].into();
        });
        device
            .client("-update -json")
            .fails(7, "payload", &"no payload");
        device.disk.is_unchanged(&"failures");
        device.configure(&format!("SERVER={}\n", web.base()));
        device
            .client("-update -json")
            .fails(6, "GROUP", &"no group");
        let nobody = device.client("-update -json -payload http://localhost:1/x");
        assert_eq!(nobody.code, Some(1), "{nobody:?}");
        assert!(nobody.stderr.contains("localhost:1/x: no connection"));
    });
}

#[test]
fn a_folder_of_payloads_is_preferred_to_the_server() {
    both_ways(|device| {
        let web = Web::start(&lab().good);
        let folder = device.state.join("stick");
        fs::create_dir(&folder).unwrap();
        let server = format!("SERVER={}\nGROUP=stable\n", web.base());
        let stick = format!("PAYLOAD_DIR={}\n", folder.display());
        device.configure(&stick);
        device
            .client("-update -json")
            .fails(3, "no newer", &"empty");
        let mut bad = lab().good.clone();
        bad[200] ^= 1;
        fs::write(folder.join("bad.payload"), &bad).unwrap();
        let damaged = device.client("-update -json");
        damaged.fails(7, "bad.payload", &"a damaged one is no lack of updates");
        device.disk.is_unchanged(&"failures");
        fs::write(folder.join("good.payload"), &lab().good).unwrap();
        device.configure(&format!("{stick}{server}"));
        device.client("-update").succeeds(&"stick");
        assert_eq!(device.status()["NEW_VERSION"], "2.0.0");
        assert_eq!(web.hits().len(), 0);

        device.client("-cancel").succeeds(&"cancel");
        fs::remove_file(folder.join("good.payload")).unwrap();
        device.client("-update").succeeds(&"server");
        assert_eq!(web.sent(), lab().good.len());
    });
}
