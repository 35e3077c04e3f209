use proptest::prelude::*;

use super::*;

fn parse(usr: &str, etc: &str) -> (Settings, std::vec::Vec<std::string::String>) {
    let mut problems = std::vec::Vec::new();
    let settings = Settings::parse(usr.as_bytes(), etc.as_bytes(), &mut |p| {
        problems.push(std::format!("{p}"));
    });
    (settings, problems)
}

#[test]
fn nothing_set_is_the_default() {
    let (settings, problems) = parse("", "\n# nothing\n  \n");
    assert_eq!(settings, Settings::default());
    assert!(problems.is_empty() && settings.may_act_alone());
}

#[test]
fn all_keys() {
    let (s, problems) = parse(
        "GROUP=stable\nSERVER=https://u.example/v1?x=1\nREBOOT_STRATEGY=off\r\n\
         LOCKSMITHD_REBOOT_WINDOW_START=\"Thu 04:30\"\nLOCKSMITHD_REBOOT_WINDOW_LENGTH='1h30m'\n\
         TRIES=2\nSIGNATURES=2\nHEALTH_TIMEOUT=5\n  HEALTH_DEADLINE = 20",
        "",
    );
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(s.group, "stable");
    assert_eq!(s.server, "https://u.example/v1?x=1");
    assert_eq!(s.reboot_strategy, RebootStrategy::Off);
    let start = s.window_start.unwrap();
    assert_eq!((start.day, start.minute), (Some(Weekday::Thursday), 270));
    assert_eq!(s.window_length, Some(5400));
    assert_eq!((s.tries, s.required_signatures(4).get()), (2, 2));
    assert_eq!((s.health_timeout, s.health_deadline), (5, 20));
}

#[test]
fn etc_wins_key_by_key() {
    let (s, problems) = parse("GROUP=stable\nSERVER=disabled", "GROUP=beta\nGROUP=alpha");
    assert!(problems.is_empty());
    assert_eq!((s.group.as_str(), s.server.as_str()), ("alpha", "disabled"));
}

#[test]
fn etc_raises_tries_and_signatures_but_does_not_lower_them() {
    let (s, problems) = parse("TRIES=4\nSIGNATURES=2", "TRIES=9\nSIGNATURES=3");
    assert!(problems.is_empty());
    assert_eq!((s.tries, s.required_signatures(1).get()), (9, 3));
    // An earlier line of /etc is not the release's word.
    let (s, problems) = parse("TRIES=4", "TRIES=9\nTRIES=5");
    assert!(problems.is_empty());
    assert_eq!(s.tries, 5);

    let (s, problems) = parse("TRIES=4\nSIGNATURES=2", "TRIES=3\nSIGNATURES=1");
    assert_eq!((s.tries, s.required_signatures(4).get()), (4, 2));
    assert_eq!(
        problems,
        [
            "read /etc/tandem/update.conf, line 1, TRIES: the value may only raise the release's 4",
            "read /etc/tandem/update.conf, line 2, SIGNATURES: the value may only raise the release's 2",
        ]
    );
    // A release that asks for more than the last one must not be the last update.
    assert!(s.may_act_alone());
    // The default counts as the release's word too.
    let (s, _) = parse("", "TRIES=1");
    assert_eq!((s.tries, s.may_act_alone()), (3, true));
}

#[test]
fn a_bad_value_is_reported_and_leaves_the_one_below_in_force() {
    for bad in [
        "GROUP=",
        "GROUP=a b",
        "SERVER=",
        "SERVER=ftp://x",
        "SERVER=http://",
        "SERVER=https:///x",
        "REBOOT_STRATEGY=etcd-lock",
        "LOCKSMITHD_REBOOT_WINDOW_START=004:00",
        "LOCKSMITHD_REBOOT_WINDOW_START=Thu Fri 04:00",
        "LOCKSMITHD_REBOOT_WINDOW_START=24:00",
        "LOCKSMITHD_REBOOT_WINDOW_START=Foo 04:00",
        "LOCKSMITHD_REBOOT_WINDOW_START=+4:00",
        "LOCKSMITHD_REBOOT_WINDOW_LENGTH=1",
        "LOCKSMITHD_REBOOT_WINDOW_LENGTH=",
        "LOCKSMITHD_REBOOT_WINDOW_LENGTH=99999999999h",
        "LOCKSMITHD_REBOOT_WINDOW_LENGTH=1.h",
        "LOCKSMITHD_REBOOT_WINDOW_LENGTH=.h",
        "TRIES=0",
        "TRIES=10",
        "TRIES=+4",
        "TRIES=",
        "POLL_INTERVAL=59s",
        "POLL_INTERVAL=169h",
        "POLL_INTERVAL=",
        "RATE_LIMIT=1023",
        "RATE_LIMIT=0K",
        "RATE_LIMIT=K",
        "RATE_LIMIT=18014398509481984K",
        "RATE_LIMIT=+2K",
        "CA_FILE=ca.pem",
        "CA_FILE=/a\tb",
        "PAYLOAD_DIR=",
        "CLIENT_CERT_FILE=/c.pem",
        "CLIENT_KEY_FILE=/c.pem",
        "LOCKSMITHD_REBOOT_WINDOW_START=04:00",
        "LOCKSMITHD_REBOOT_WINDOW_LENGTH=1h",
        "HEALTH_TIMEOUT=0",
        "HEALTH_DEADLINE=86401",
        "nonsense",
    ] {
        let usr = "GROUP=stable\nTRIES=2\nHEALTH_TIMEOUT=7";
        let (s, problems) = parse(usr, bad);
        assert_eq!(problems.len(), 1, "{bad}: {problems:?}");
        assert!(!s.may_act_alone(), "{bad}");
        let (without, _) = parse(usr, "");
        let mut s = Settings { bad_values: 0, ..s };
        if problems.iter().any(|p| p.contains("beside it")) {
            // Half a pair was read, and is reported all the same.
            (s.window_start, s.window_length) = (None, None);
            (s.client_cert_file, s.client_key_file) = (None, None);
        }
        assert_eq!(s, without, "{bad}");
    }
}

#[test]
fn keys_of_the_service() {
    let (s, problems) = parse(
        "POLL_INTERVAL=6h\nRATE_LIMIT=500K\nCA_FILE=/etc/tandem/ca.pem\nPAYLOAD_DIR=/run/media/a stick\n\
         CLIENT_CERT_FILE=/c\nREBOOT_STRATEGY=best-effort\nSERVER=disabled\n",
        "CLIENT_KEY_FILE=/k\nRATE_LIMIT=unlimited",
    );
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!((s.poll_interval, s.rate_limit), (6 * 3600, None));
    assert_eq!(s.ca_file.as_deref(), Some("/etc/tandem/ca.pem"));
    assert_eq!(s.payload_dir.as_deref(), Some("/run/media/a stick"));
    assert_eq!(s.client_cert_file.as_deref(), Some("/c"));
    assert_eq!(s.client_key_file.as_deref(), Some("/k"));
    assert_eq!(s.reboot_strategy, RebootStrategy::BestEffort);
    assert!(s.has_source() && s.polled_server().is_none());
    for (rate, bytes) in [("1024", 1024), ("2M", 2 << 20)] {
        let (s, _) = parse(&std::format!("RATE_LIMIT={rate}"), "");
        assert_eq!(s.rate_limit, Some(bytes));
    }
    let (s, _) = parse("SERVER=https://u.example", "");
    assert_eq!(s.polled_server(), Some("https://u.example"));
}

#[test]
fn etcd_lock_is_refused_in_words() {
    let (s, problems) = parse("", "REBOOT_STRATEGY=etcd-lock");
    assert_eq!(
        problems,
        [
            "read /etc/tandem/update.conf, line 1, REBOOT_STRATEGY: the value must be `off`, `reboot` or \
             `best-effort`; there is no `etcd-lock` here yet"
        ]
    );
    assert!(!s.may_act_alone());
}

#[test]
fn signatures_that_nobody_can_read_are_those_of_all_keys() {
    for bad in [
        "SIGNATURES=two",
        "SIGNATURES=",
        "SIGNATURES=0",
        "SIGNATURES=5",
        "SIGNATURES=\"2",
        "SIGNATURES",
        "SIGNATURES 2",
    ] {
        for (usr, etc) in [(bad, ""), ("", bad), (bad, "SIGNATURES=1")] {
            let (s, problems) = parse(usr, etc);
            assert!(!problems.is_empty() && !s.may_act_alone(), "{bad}");
            let required: std::vec::Vec<u8> =
                (0..=6).map(|n| s.required_signatures(n).get()).collect();
            assert_eq!(required, [1, 1, 2, 3, 4, 4, 4], "{usr:?} {etc:?}");
        }
        // Never fewer than what could be read.
        let (s, _) = parse("SIGNATURES=3", bad);
        assert_eq!(s.required_signatures(1).get(), 3, "{bad}");
        // The release is not to blame for what stands in /etc, and always for its own.
        assert_eq!(s.trial_signatures(4).get(), 3, "{bad}");
        let (s, _) = parse(bad, "");
        assert_eq!(s.trial_signatures(4).get(), 4, "{bad}");
    }
    // The last line counts, and what could be read is the least.
    let (s, _) = parse("SIGNATURES=2\nSIGNATURES=x", "");
    assert_eq!([1, 2, 3].map(|n| s.required_signatures(n).get()), [2, 2, 3]);
    let (s, problems) = parse("SIGNATURES=x\nSIGNATURES=2", "");
    assert_eq!((s.required_signatures(4).get(), problems.len()), (2, 1));
    let (s, _) = parse("SIGNATURES=2", "SIGNATURES=3");
    assert_eq!(s.trial_signatures(4).get(), 3);
    // A line that is not text.
    for (line, required) in [(&b" SIGNATURES=2\xff"[..], 4), (b"GROUP=\xff", 1)] {
        let s = Settings::parse(line, b"", &mut |_| ());
        assert_eq!(s.required_signatures(4).get(), required);
    }
    let large = "#".repeat(FILE_MAX + 1);
    let (s, _) = parse(&large, "");
    assert_eq!(s.required_signatures(4).get(), 4);
    assert_eq!(Settings::unreadable().required_signatures(2).get(), 2);
}

#[test]
fn an_unknown_key_is_reported_but_stops_nothing() {
    let (s, problems) = parse("MACHINE_ALIAS=x", "");
    assert_eq!(problems.len(), 1);
    assert!(s.may_act_alone());
}

#[test]
fn a_byte_order_mark_hides_no_setting() {
    let (s, problems) = parse("", "\u{feff}SIGNATURES=2\r\nTRIES=5");
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!((s.tries, s.required_signatures(3).get()), (5, 2));
    // Letters that can't be seen, or look like others.
    for odd in [
        "\u{200b}SIGNATURES=2",
        "S\0I\0G\0N\0A\0T\0U\0R\0E\0S\0=\x002\0",
        "SIGN\u{410}TURES=2",
        "export SIGNATURES=2",
    ] {
        let (s, problems) = parse("", odd);
        assert_eq!((problems.len(), s.may_act_alone()), (1, false), "{odd:?}");
        assert_eq!(s.required_signatures(3).get(), 3, "{odd:?}");
    }
    // What nobody can take for it is a key of another version.
    for other in [
        "export SERVER=x",
        "; see http://host/?a=b",
        "GR\u{d6}SSE=5",
        "\u{410}=1",
    ] {
        let (s, problems) = parse("", other);
        assert_eq!((problems.len(), s.may_act_alone()), (1, true), "{other:?}");
        assert_eq!(s.required_signatures(3).get(), 1, "{other:?}");
    }
}

#[test]
fn a_file_too_large_is_not_read() {
    let mut text = std::string::String::from("TRIES=5\n");
    text.push_str(&"#".repeat(FILE_MAX));
    let (s, problems) = parse(&text, "");
    assert_eq!((s.tries, problems.len(), s.may_act_alone()), (3, 1, false));
}

#[test]
fn a_line_that_is_not_text_spoils_only_itself() {
    let mut count = 0;
    let s = Settings::parse(b"GROUP=\xff\xfe\nTRIES=5\n", b"", &mut |p| {
        assert_eq!((p.line, p.kind), (1, ProblemKind::NotText));
        count += 1;
    });
    assert_eq!((s.tries, count), (5, 1));
}

#[test]
fn files_are_read_below_a_root_and_never_stop_anybody() {
    let root = tempfile::TempDir::new().unwrap();
    assert_eq!(load(root.path()), Settings::default());
    let usr = root.path().join("usr/lib/tandem");
    std::fs::create_dir_all(&usr).unwrap();
    std::fs::write(usr.join("update.conf"), "TRIES=5\n").unwrap();
    assert_eq!(load(root.path()).tries, 5);
    // A directory in place of the file.
    std::fs::create_dir_all(root.path().join("etc/tandem/update.conf")).unwrap();
    let settings = load(root.path());
    assert_eq!((settings.tries, settings.may_act_alone()), (5, false));
    assert_eq!(settings.required_signatures(3).get(), 3);
    // A link that leads nowhere.
    std::fs::remove_dir(root.path().join("etc/tandem/update.conf")).unwrap();
    assert_eq!(load(root.path()).required_signatures(3).get(), 1);
    std::os::unix::fs::symlink("/nonexistent", root.path().join("etc/tandem/update.conf")).unwrap();
    assert_eq!(load(root.path()).required_signatures(3).get(), 3);
}

proptest! {
    #[test]
    fn hostile_text_never_yields_a_setting_out_of_range(usr: std::vec::Vec<u8>, etc in "([A-Z_]{0,12}=?[ -~\n]{0,12}|TRIES=[0-9]{0,22}\n|SIGNATURES=[0-9]{0,3}\n){0,9}") {
        let s = Settings::parse(&usr, etc.as_bytes(), &mut |_| ());
        prop_assert!((3..=9).contains(&s.tries));
        prop_assert!((1..=4).contains(&s.required_signatures(9).get()));
        prop_assert!(s.health_timeout > 0 && s.health_deadline > 0);
    }
}

#[test]
fn what_locksmith_reads_is_read() {
    use super::values::length;
    let start = |text: &str| {
        text.parse::<WindowStart>()
            .map(|start| (start.day, start.minute))
    };
    let thursday = Some(Weekday::Thursday);
    assert_eq!(start("4:5"), Ok((None, 245)));
    assert_eq!(start("Thu 4:00"), Ok((thursday, 240)));
    assert_eq!(start("thu \t 04:00"), Ok((thursday, 240)));
    assert_eq!(length("1.5h"), Ok(5400));
    assert_eq!(length("0.25h30s"), Ok(930));
    assert_eq!(length("167.9999999h"), Ok(604_799));
}
