use std::fs;

use tempfile::TempDir;

use super::*;

fn release(n: u8) -> Release {
    Release {
        id: [n; 32],
        version: format!("{n}.0.0"),
        rollback_index: u64::from(n),
    }
}

fn reason(cause: Cause) -> Reason {
    Reason::new(cause, "50-network: exit status 1\n\"no\" route\\")
}

#[test]
fn an_absent_journal_is_empty_and_reading_it_creates_nothing() {
    let dir = TempDir::new().unwrap();
    let journal = Journal::load(&dir.path().join("tandem"));
    assert_eq!(journal.floor(), 0);
    assert_eq!(journal.staged_release(), None);
    assert_eq!(journal.refusal(&[1; 32]), None);
    assert!(!dir.path().join("tandem").exists());
}

#[test]
fn literal_journal() {
    let dir = TempDir::new().unwrap();
    let id = "07".repeat(32);
    let text = format!(
        r#"{{"format":1,"floor":3,"later":[1],"staged":{{"id":"{id}","version":"7","rollback_index":4,"slot":"b","time":9,"boots":2,"failure":{{"cause":"health","detail":"x"}}}},"failed":[{{"id":"{id}","version":"7","rollback_index":4,"reason":{{"cause":"unexplained"}},"unexplained":2,"time":8}}]}}"#
    );
    fs::write(dir.path().join("journal.json"), text).unwrap();
    let journal = Journal::load(dir.path());
    assert_eq!(journal.floor(), 3);
    let staged = journal.staged_release().unwrap();
    assert_eq!((staged.slot, staged.boots), (Slot::B, 2));
    assert_eq!(staged.failure.as_ref().unwrap().cause, Cause::Health);
    assert_eq!(journal.refusal(&[7; 32]).unwrap().unexplained, 2);
}

#[test]
fn the_floor_rises_only_on_confirmation_and_never_sinks() {
    let dir = TempDir::new().unwrap();
    let mut journal = Journal::load(dir.path());
    journal.staged(&release(5), Slot::B).unwrap();
    journal.booted(&release(5), Slot::B, "boot-1").unwrap();
    assert_eq!(Journal::load(dir.path()).floor(), 0);
    journal.confirmed(&release(5), Slot::B).unwrap();
    assert_eq!(Journal::load(dir.path()).floor(), 5);
    assert_eq!(Journal::load(dir.path()).staged_release(), None);
    journal.confirmed(&release(2), Slot::A).unwrap();
    assert_eq!(Journal::load(dir.path()).floor(), 5);
}

#[test]
fn a_boot_is_counted_once() {
    let dir = TempDir::new().unwrap();
    let mut journal = Journal::load(dir.path());
    journal.staged(&release(1), Slot::B).unwrap();
    for boot in ["one", "one", "two"] {
        journal.booted(&release(1), Slot::B, boot).unwrap();
    }
    assert_eq!(journal.staged_release().unwrap().boots, 2);
    // Never staged by us (rolled back to, or the entry was lost): it is counted all the same.
    journal.booted(&release(2), Slot::A, "three").unwrap();
    let staged = journal.staged_release().unwrap();
    assert_eq!((staged.release.id, staged.boots), ([2; 32], 1));
}

#[test]
fn own_fault_is_refused_at_once_and_stays_so() {
    let dir = TempDir::new().unwrap();
    let mut journal = Journal::load(dir.path());
    journal
        .fell_back(&release(1), Slot::B, &reason(Cause::Panic))
        .unwrap();
    assert!(journal.refusal(&[1; 32]).is_some());
    journal
        .fell_back(&release(1), Slot::B, &reason(Cause::Medium))
        .unwrap();
    let refusal = journal.refusal(&[1; 32]).unwrap();
    assert_eq!(refusal.reason.cause, Cause::Panic);
    journal.confirmed(&release(1), Slot::B).unwrap();
    assert_eq!(journal.refusal(&[1; 32]), None);
}

#[test]
fn unexplained_twice_is_refused_and_damage_never() {
    let dir = TempDir::new().unwrap();
    let mut journal = Journal::load(dir.path());
    for _ in 0..3 {
        journal
            .fell_back(&release(1), Slot::B, &reason(Cause::Medium))
            .unwrap();
        assert_eq!(journal.refusal(&[1; 32]), None);
    }
    let unexplained = reason(Cause::Unexplained);
    journal
        .fell_back(&release(1), Slot::B, &unexplained)
        .unwrap();
    assert_eq!(Journal::load(dir.path()).refusal(&[1; 32]), None);
    journal
        .fell_back(&release(1), Slot::B, &unexplained)
        .unwrap();
    assert!(Journal::load(dir.path()).refusal(&[1; 32]).is_some());
}

#[test]
fn writers_with_a_stale_view_do_not_undo_each_other() {
    let dir = TempDir::new().unwrap();
    let mut apply = Journal::load(dir.path());
    let mut health = Journal::load(dir.path());
    health
        .fell_back(&release(1), Slot::B, &reason(Cause::Health))
        .unwrap();
    apply.staged(&release(2), Slot::B).unwrap();
    let journal = Journal::load(dir.path());
    assert!(journal.refusal(&[1; 32]).is_some());
    assert_eq!(journal.staged_release().unwrap().release.id, [2; 32]);
}

#[test]
fn a_corrupt_journal_is_moved_aside_and_a_new_one_started() {
    let long = "x".repeat(2 << 20);
    for text in ["", "{", "[]", "\0\0\0", "{\"format\":2}", "null", &long] {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("journal.json"), text).unwrap();
        let mut journal = Journal::load(dir.path());
        assert_eq!(journal.floor(), 0);
        let aside = fs::read_to_string(dir.path().join("journal.json.corrupt")).unwrap();
        assert_eq!(aside, text);
        journal.staged(&release(1), Slot::A).unwrap();
        assert!(Journal::load(dir.path()).staged_release().is_some());
    }
}

#[test]
fn a_journal_that_is_no_file_does_not_stop_anybody() {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("journal.json")).unwrap();
    assert_eq!(Journal::load(dir.path()).floor(), 0);
}

#[test]
fn what_is_known_already_is_not_written_again() {
    let dir = TempDir::new().unwrap();
    let mut journal = Journal::load(dir.path());
    journal.confirmed(&release(1), Slot::A).unwrap();
    let before = fs::metadata(dir.path().join("journal.json")).unwrap();
    journal.confirmed(&release(1), Slot::A).unwrap();
    let after = fs::metadata(dir.path().join("journal.json")).unwrap();
    assert_eq!(
        std::os::unix::fs::MetadataExt::ino(&before),
        std::os::unix::fs::MetadataExt::ino(&after)
    );
    assert_eq!(history::read(dir.path()).unwrap().len(), 1);
}

#[test]
fn the_last_result_is_plain_text_on_one_line() {
    let dir = TempDir::new().unwrap();
    let mut journal = Journal::load(dir.path());
    journal
        .fell_back(&release(3), Slot::B, &reason(Cause::Health))
        .unwrap();
    assert_eq!(
        journal.last_result(),
        "fell back from 3.0.0: health: 50-network: exit status 1 'no' route/"
    );
}

#[test]
fn failed_releases_are_bounded() {
    let dir = TempDir::new().unwrap();
    let mut journal = Journal::load(dir.path());
    for n in 0..70 {
        journal
            .fell_back(&release(n), Slot::B, &reason(Cause::Load))
            .unwrap();
    }
    assert_eq!(journal.failed(&[5; 32]), None);
    assert!(journal.failed(&[6; 32]).is_some());
    assert!(journal.failed(&[69; 32]).is_some());
}

#[test]
fn the_last_fallback_is_named_with_its_reason_until_that_release_proves_itself() {
    let dir = TempDir::new().unwrap();
    let mut journal = Journal::load(dir.path());
    assert_eq!(journal.last_fallback(), None);
    for (n, cause) in [(1, Cause::Health), (2, Cause::Watchdog), (1, Cause::Panic)] {
        journal
            .fell_back(&release(n), Slot::B, &reason(cause))
            .unwrap();
        let last = journal.last_fallback().unwrap();
        assert_eq!((last.release.id, last.reason.cause), ([n; 32], cause));
    }
    journal.confirmed(&release(1), Slot::B).unwrap();
    let last = Journal::load(dir.path());
    assert_eq!(last.last_fallback().unwrap().release.id, [2; 32]);
}

/// Whatever is written and however long it is: the file stays bounded, and what it holds is the newest of it, in order.
#[test]
fn rotation_keeps_the_newest_events_without_a_gap() {
    let mut runner =
        proptest::test_runner::TestRunner::new(proptest::prelude::ProptestConfig::with_cases(3));
    let lengths = proptest::collection::vec(0..6000_usize, 100..300);
    let result = runner.run(&lengths, |lengths| {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("history.jsonl");
        for (n, length) in lengths.iter().enumerate() {
            let event = Event::new("result", 0).detail(&format!("{n} {}", "x".repeat(*length)));
            history::append(dir.path(), &event).unwrap();
            assert!(fs::metadata(&path).unwrap().len() <= 256 << 10);
        }
        let events = history::read(dir.path()).unwrap();
        let first = lengths.len() - events.len();
        for (n, event) in (first..).zip(&events) {
            let detail = event.detail.as_ref().unwrap();
            assert!(detail.starts_with(&format!("{n} ")), "{n}: {detail}");
        }
        assert!(events.len() >= 20, "{}", events.len());
        Ok(())
    });
    result.unwrap();
}

#[test]
fn a_history_that_somebody_else_made_too_long_keeps_its_end() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("history.jsonl");
    let mut text = String::new();
    for n in 0..20_000 {
        text.push_str(&format!("{{\"time\":{n},\"event\":\"result\"}}\n"));
    }
    fs::write(&path, &text).unwrap();
    assert!(text.len() > 512 << 10);
    assert_eq!(
        history::read(dir.path()).unwrap().last().unwrap().time,
        19_999
    );
    Journal::load(dir.path()).result("the next").unwrap();
    assert!(fs::metadata(&path).unwrap().len() <= 256 << 10);
    let events = history::read(dir.path()).unwrap();
    let times: Vec<u64> = events
        .iter()
        .rev()
        .skip(1)
        .take(100)
        .map(|e| e.time)
        .collect();
    let expected: Vec<u64> = (19_900..20_000).rev().collect();
    assert_eq!(times, expected);
}

#[test]
fn history_survives_a_torn_line_and_stays_bounded() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("history.jsonl");
    fs::write(&path, "{\"time\":1,\"event\":\"conf").unwrap();
    let mut journal = Journal::load(dir.path());
    journal.staged(&release(1), Slot::B).unwrap();
    let events = history::read(dir.path()).unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].event, "staged");
    assert_eq!(events[0].version.as_deref(), Some("1.0.0"));

    let long = "y".repeat(4000);
    for n in 0..150 {
        journal.result(&format!("{n} {long}")).unwrap();
    }
    assert!(fs::metadata(&path).unwrap().len() <= 256 << 10);
    let events = history::read(dir.path()).unwrap();
    let last = events.last().unwrap().detail.as_ref().unwrap();
    assert!(last.starts_with("149 "), "{last}");
    assert!(events.len() > 30);
}

#[test]
fn attempts_are_counted_across_restarts_and_one_that_never_ended_was_interrupted() {
    let dir = TempDir::new().unwrap();
    let id = [1; 32];
    assert!(Journal::load(dir.path()).attempts(&id).is_none());
    // Every attempt is another process.
    let attempt = |end: Option<(Ended, &str)>| {
        let mut journal = Journal::load(dir.path());
        journal.attempt(&release(1), Slot::B).unwrap();
        if let Some((ended, detail)) = end {
            journal.ended(&release(1), ended, detail).unwrap();
        }
    };
    attempt(None);
    attempt(Some((Ended::Transport, "connection\nreset")));
    attempt(Some((Ended::Cancelled, "cancelled")));
    let journal = Journal::load(dir.path());
    let attempts = journal.attempts(&id).unwrap();
    let endings: Vec<_> = attempts.outcomes.iter().map(|e| e.ended).collect();
    assert_eq!(attempts.attempts, 3);
    assert_eq!(
        endings,
        [Ended::Interrupted, Ended::Transport, Ended::Cancelled]
    );
    assert_eq!(attempts.outcomes[1].detail, "connection reset");
    assert_eq!(journal.last_result(), "1.0.0 was not installed: cancelled");
    // None of this refuses anything, however often.
    for _ in 0..20 {
        attempt(Some((Ended::Transport, &"x".repeat(1000))));
    }
    let mut journal = Journal::load(dir.path());
    assert_eq!(journal.refusal(&id), None);
    let attempts = journal.attempts(&id).unwrap();
    assert_eq!((attempts.attempts, attempts.outcomes.len()), (23, 8));
    assert_eq!(attempts.outcomes[0].detail.len(), 256);
    // Staging is an end too, and a fallback afterwards forgets nothing; only proving itself does.
    journal.attempt(&release(1), Slot::B).unwrap();
    journal.staged(&release(1), Slot::B).unwrap();
    let last = |journal: &Journal| journal.attempts(&id).unwrap().outcomes[7].ended;
    assert_eq!(last(&journal), Ended::Staged);
    journal
        .fell_back(&release(1), Slot::B, &reason(Cause::Unexplained))
        .unwrap();
    assert_eq!(journal.attempts(&id).unwrap().attempts, 24);
    journal.confirmed(&release(1), Slot::B).unwrap();
    assert!(journal.attempts(&id).is_none());
    let events = history::read(dir.path()).unwrap();
    let named = |name: &str| events.iter().filter(|event| event.event == name).count();
    assert_eq!((named("attempt"), named("attempt-failed")), (24, 22));
}

#[test]
fn failures_in_a_row_delay_the_next_attempt_and_nothing_else_does() {
    use Ended::{Cancelled, Interrupted, Medium, Staged, Transport};
    let wait = |endings: &[Ended], now: u64| {
        let ending = |ended: &Ended| Ending {
            ended: *ended,
            time: 1_000_000,
            detail: String::new(),
        };
        let attempts = Attempts {
            release: release(1),
            attempts: 100,
            outcomes: endings.iter().map(ending).collect(),
        };
        attempts.wait(now).as_secs()
    };
    let now = 1_000_000;
    assert_eq!(wait(&[], now), 0);
    assert_eq!(wait(&[Transport], now), 60);
    assert_eq!(wait(&[Transport], now + 45), 15);
    assert_eq!(wait(&[Transport], now + 60), 0);
    assert_eq!(wait(&[Medium, Transport, Transport], now), 240);
    assert_eq!(wait(&[Transport; 8], now), 7680);
    assert_eq!(wait(&[Transport, Transport, Cancelled], now), 0);
    assert_eq!(wait(&[Transport, Staged], now), 0);
    // The power went once: go on at once. Again and again: something is wrong.
    assert_eq!(wait(&[Interrupted], now), 0);
    assert_eq!(wait(&[Interrupted, Interrupted], now), 60);
    assert_eq!(wait(&[Transport, Interrupted], now), 60);
    // A clock that has lost its time must not stop updates.
    assert_eq!(wait(&[Transport; 8], 0), 0);
    assert_eq!(wait(&[Transport; 8], now - 1), 0);
    assert_eq!(wait(&[Transport; 8], u64::MAX), 0);
}

#[test]
fn a_release_that_fell_back_through_no_fault_of_its_own_waits_longer_each_time() {
    let dir = TempDir::new().unwrap();
    let mut waits = Vec::new();
    for _ in 0..3 {
        let mut journal = Journal::load(dir.path());
        journal.attempt(&release(1), Slot::B).unwrap();
        journal.staged(&release(1), Slot::B).unwrap();
        let reason = Reason::new(Cause::Medium, "locked");
        journal.fell_back(&release(1), Slot::B, &reason).unwrap();
        let journal = Journal::load(dir.path());
        let attempts = journal.attempts(&release(1).id).unwrap();
        let last = attempts.outcomes.last().unwrap();
        waits.push(attempts.wait(last.time).as_secs());
    }
    assert_eq!(waits, [60, 120, 240]);
}

#[test]
fn attempts_of_many_payloads_are_bounded() {
    let dir = TempDir::new().unwrap();
    let mut journal = Journal::load(dir.path());
    for n in 0..40 {
        journal.attempt(&release(n), Slot::B).unwrap();
    }
    journal.attempt(&release(8), Slot::B).unwrap();
    journal.attempt(&release(40), Slot::B).unwrap();
    assert!(journal.attempts(&[7; 32]).is_none());
    assert_eq!(journal.attempts(&[8; 32]).unwrap().attempts, 2);
    assert!(journal.attempts(&[9; 32]).is_none());
    assert!(journal.attempts(&[40; 32]).is_some());
}

#[test]
fn an_ending_of_a_later_version_is_an_interruption() {
    let ended: Ended = serde_json::from_str("\"meteor\"").unwrap();
    assert_eq!(ended, Ended::Interrupted);
    for ended in [
        Ended::Staged,
        Ended::Cancelled,
        Ended::Transport,
        Ended::Medium,
        Ended::Payload,
        Ended::Interrupted,
    ] {
        let json = serde_json::to_string(&ended).unwrap();
        assert_eq!(json, format!("\"{}\"", ended.as_str()));
    }
}

#[test]
fn who_may_only_look_into_the_folder_cannot_lock_the_journal() {
    use nix::fcntl::{Flock, FlockArg};
    let dir = TempDir::new().unwrap();
    let folder = fs::File::open(dir.path()).unwrap();
    let _held = Flock::lock(folder, FlockArg::LockExclusiveNonblock).unwrap();
    let mut journal = Journal::load(dir.path());
    journal.attempt(&release(1), Slot::B).unwrap();
    let lock = fs::metadata(dir.path().join("journal.lock")).unwrap();
    let mode = std::os::unix::fs::MetadataExt::mode(&lock);
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_was_left_by_hand_is_remembered_until_somebody_wants_it() {
    let dir = TempDir::new().unwrap();
    let mut journal = Journal::load(dir.path());
    journal.rolled_back("1", Slot::A, Some(release(2))).unwrap();
    assert!(Journal::load(dir.path()).is_left(&[2; 32]));
    journal.confirmed(&release(1), Slot::A).unwrap();
    assert!(journal.is_left(&[2; 32]));
    journal.attempt(&release(3), Slot::B).unwrap();
    assert!(journal.is_left(&[2; 32]));
    journal.attempt(&release(2), Slot::B).unwrap();
    assert!(!journal.is_left(&[2; 32]));
    journal.cancelled(&release(2), Slot::B).unwrap();
    assert!(journal.is_left(&[2; 32]) && !journal.is_left(&[3; 32]));
}
