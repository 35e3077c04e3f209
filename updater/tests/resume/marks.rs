//! Which marks are used, and which are thrown away.

use std::fs;
use std::sync::OnceLock;

use bootctl::Slot;
use updater::Digest;
use updater::apply::{ApplyError, Options, Outcome, apply};
use updater::engine::Silent;
use updater::journal::{Ended, Journal};
use updater::resume::{self, Keeper, Mark};
use updater::source::Source;

use super::bench::Bench;
use super::payload::{BLOCK, Payload};

const SIZE: usize = 20 * BLOCK;

fn options(bench: &Bench<'_>) -> Options {
    Options {
        disk: Some(bench.paths.disk.clone()),
        keys: Some(bench.paths.keys.clone()),
        state: Some(bench.paths.state.clone()),
        resume: true,
        ..Options::default()
    }
}

fn install(bench: &Bench<'_>, options: &Options) -> Result<Outcome, ApplyError> {
    let source = Source::open(&bench.paths.payload).unwrap();
    apply(source, options, &mut Silent)
}

/// A bench whose slot B holds eight good blocks, and the mark that says so.
fn interrupted() -> (Bench<'static>, Mark) {
    static PAYLOAD: OnceLock<Payload> = OnceLock::new();
    let bench = Bench::new(PAYLOAD.get_or_init(|| Payload::new(SIZE)));
    bench.fill(Slot::B, 8 * BLOCK);
    let mark = Mark {
        id: bench.payload.id,
        slot: Slot::B,
        blocks: 8,
        origin: None,
    };
    (bench, mark)
}

#[test]
fn only_the_mark_of_this_payload_and_this_slot_is_used() {
    for (what, used) in [
        ("own", true),
        ("none", false),
        ("payload", false),
        ("slot", false),
        ("garbage", false),
    ] {
        let (bench, mark) = interrupted();
        let state = &bench.paths.state;
        let mark = match what {
            "payload" => Mark {
                id: Digest::of(b"another"),
                ..mark
            },
            "slot" => Mark {
                slot: Slot::A,
                ..mark
            },
            _ => mark,
        };
        if what != "none" {
            Keeper::begin(state, mark, &bench.payload.bytes[..1000]).unwrap();
        }
        if what == "garbage" {
            fs::write(state.join("resume.json"), "{\"format\":1").unwrap();
        }
        let report = install(&bench, &options(&bench)).unwrap().report.unwrap();
        assert_eq!(report.resumed, if used { 8 } else { 0 }, "{what}");
        // What is there is not written again in any case.
        assert!(report.unchanged >= 8, "{what}");
        assert!(bench.slot_b_is_the_image());
        for name in ["resume.json", "resume.prefix"] {
            assert!(!state.join(name).exists(), "{what}: {name}");
        }
    }
}

#[test]
fn a_mark_is_not_used_unless_asked_for_and_not_made_for_a_file() {
    let (bench, mark) = interrupted();
    let state = &bench.paths.state;
    Keeper::begin(state, mark.clone(), &bench.payload.bytes[..1000]).unwrap();
    let check = Options {
        check: true,
        ..options(&bench)
    };
    assert_eq!(install(&bench, &check).unwrap().report, None);
    assert_eq!(resume::load_mark(state), Some(mark));
    let anew = Options {
        resume: false,
        ..options(&bench)
    };
    let report = install(&bench, &anew).unwrap().report.unwrap();
    assert_eq!(report.resumed, 0);
    assert_eq!(resume::load_mark(state), None);
}

#[test]
fn attempts_end_in_the_journal() {
    let (bench, _) = interrupted();
    let state = &bench.paths.state;
    let ended = || -> Vec<Ended> {
        let journal = Journal::load(state);
        let attempts = journal.attempts(&bench.payload.id.0);
        attempts.map_or_else(Vec::new, |a| a.outcomes.iter().map(|e| e.ended).collect())
    };
    let good = fs::read(&bench.paths.payload).unwrap();
    // The manifest is not there yet: nobody knows which payload it is.
    fs::write(&bench.paths.payload, &good[..100]).unwrap();
    install(&bench, &options(&bench)).unwrap_err();
    assert_eq!(ended(), []);
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    fs::write(&bench.paths.payload, &bad).unwrap();
    install(&bench, &options(&bench)).unwrap_err();
    fs::write(&bench.paths.payload, &good[..good.len() - 1]).unwrap();
    install(&bench, &options(&bench)).unwrap_err();
    assert_eq!(ended(), [Ended::Transport; 2]);
    let journal = Journal::load(state);
    assert!(
        journal
            .last_result()
            .starts_with("2.0.0 was not installed: ")
    );
    assert_eq!(journal.refusal(&bench.payload.id.0), None);
    // A check is no attempt.
    let check = Options {
        check: true,
        ..options(&bench)
    };
    fs::write(&bench.paths.payload, &good).unwrap();
    install(&bench, &check).unwrap();
    install(&bench, &options(&bench)).unwrap();
    assert_eq!(ended(), [Ended::Transport, Ended::Transport, Ended::Staged]);
    let journal = Journal::load(state);
    assert_eq!(journal.attempts(&bench.payload.id.0).unwrap().attempts, 3);
}

#[test]
fn a_state_directory_that_cannot_be_written_stops_nothing() {
    let (bench, _) = interrupted();
    let folder = bench.device.root().join("file");
    fs::write(&folder, "not a folder").unwrap();
    let options = Options {
        state: Some(folder),
        ..options(&bench)
    };
    assert!(install(&bench, &options).is_ok());
    assert!(bench.slot_b_is_the_image());
}
