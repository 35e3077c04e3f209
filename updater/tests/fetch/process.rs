//! The download process itself.

use std::fs;
use std::io::Read;
use std::path::PathBuf;

use updater::fetch::{FailureKind, HttpPayload};

use crate::server::{Offer, Server, stall};
use crate::{failure, options};

/// The download processes that this one has started, by their `status`.
fn downloads() -> Vec<String> {
    let us = format!("PPid:\t{}\n", std::process::id());
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read_to_string(entry.path().join("status")).ok())
        .filter(|status| status.starts_with("Name:\ttandem-fetch\n") && status.contains(&us))
        .collect()
}

#[test]
fn a_download_has_no_privileges() {
    let offer = Offer::new(100_000).cut(1000);
    let server = Server::plain(move |request, link| {
        offer.answer(request, link)?;
        stall(link)
    });
    let mut payload = HttpPayload::new(&server.url("/p"), options(), None);
    payload.read_exact(&mut [0; 1000]).unwrap();
    let downloads = downloads();
    assert!(!downloads.is_empty());
    let is_root = fs::metadata("/proc/self").is_ok_and(|m| {
        use std::os::unix::fs::MetadataExt;
        m.uid() == 0
    });
    for status in downloads {
        let line = |key: &str| {
            status
                .lines()
                .find(|line| line.starts_with(key))
                .unwrap()
                .to_owned()
        };
        assert_eq!(line("NoNewPrivs:"), "NoNewPrivs:\t1");
        if is_root {
            for key in ["Uid:", "Gid:"] {
                let ids: Vec<_> = line(key).split('\t').skip(1).map(str::to_owned).collect();
                assert!(ids.iter().all(|id| id != "0"), "{status}");
            }
            assert_eq!(line("CapEff:"), "CapEff:\t0000000000000000");
            assert_eq!(line("Groups:").trim_end(), "Groups:");
        }
    }
}

#[test]
fn a_download_process_that_ends_or_is_none() {
    let with = |program: &str| {
        let mut options = options();
        options.program = Some(PathBuf::from(program));
        failure("http://localhost:1/p", options)
    };
    for program in ["/bin/true", "/bin/cat", "/nonexistent"] {
        let (kind, text) = with(program);
        assert!(
            matches!(kind, FailureKind::Process | FailureKind::Protocol),
            "{program}: {text}"
        );
    }
}
