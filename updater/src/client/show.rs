//! Status and history as they are printed.

use bootctl::exit::{Exit, one_line};
use updater::journal::history::{self, Event};
use updater::print::say;
use updater::service::Failure;
use updater::service::place::Place;
use updater::service::status::Status;

use super::remembered::Remembered;

/// Prints a status, and with it what the journal remembers.
pub fn status(status: &Status, place: &Place, json: bool) {
    let journal = place.journal();
    let remembered = Remembered::of(journal.as_ref());
    if json {
        let mut object = status.to_json();
        if let Some(object) = object.as_object_mut() {
            object.extend(remembered.to_json());
        }
        return say(object);
    }
    say(status.to_lines());
    say(remembered.to_lines());
}

/// Prints the history.
pub fn history(place: &Place, json: bool) -> Result<Exit, Failure> {
    let Some(folder) = &place.state else {
        let text = "read history: a disk that does not run has none (--state)";
        return Err(Failure::new(Exit::Usage, text));
    };
    let events = history::read(folder).map_err(Failure::failed)?;
    if json {
        say(serde_json::json!({ "events": events }));
        return Ok(Exit::Done);
    }
    for event in &events {
        say(line(event));
    }
    Ok(Exit::Done)
}

/// `2026-11-21T16:55:00Z staged 2.0.0 in slot b: detail`
fn line(event: &Event) -> String {
    let time = i64::try_from(event.time)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    let time = time.map_or_else(|| event.time.to_string(), |time| time.to_string());
    let mut line = format!("{time} {}", event.event);
    if let Some(version) = &event.version {
        line.push(' ');
        line.push_str(version);
    }
    if let Some(slot) = &event.slot {
        line.push_str(" in slot ");
        line.push_str(slot);
    }
    if let Some(detail) = &event.detail {
        line.push_str(": ");
        line.push_str(detail);
    }
    one_line(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let mut event: Event = serde_json::from_str(
            r#"{"time":1700000000,"event":"fell-back","version":"2.0.0","slot":"b","detail":"health: a\nb"}"#,
        )
        .unwrap();
        assert_eq!(
            line(&event),
            "2023-11-14T22:13:20Z fell-back 2.0.0 in slot b: health: a\\nb"
        );
        event.time = u64::MAX;
        event.detail = None;
        assert!(line(&event).starts_with("18446744073709551615 fell-back 2.0.0"));
    }
}
