//! How far an update is: one line that moves on a terminal, plain lines elsewhere.

use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use updater::print::say;
use updater::service::status::{Operation, Status};

/// Phase, bytes, rate, time left.
const COUNTED: &str = "{msg:<12} [{bar:24}] {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
const UNCOUNTED: &str = "{msg} {elapsed}";

/// Shows a status each time it changes.
pub struct Live {
    kind: Kind,
    last: Option<(Operation, u64)>,
}

enum Kind {
    /// Standard output belongs to somebody else.
    Nothing,
    Lines,
    Bar(ProgressBar),
}

impl Live {
    pub fn new(silent: bool) -> Self {
        let kind = match (silent, stderr().is_terminal()) {
            (true, _) => Kind::Nothing,
            (false, false) => Kind::Lines,
            (false, true) => {
                let target = ProgressDrawTarget::stderr();
                Kind::Bar(ProgressBar::with_draw_target(Some(0), target))
            }
        };
        Self { kind, last: None }
    }

    pub fn show(&mut self, status: &Status) {
        match &self.kind {
            Kind::Nothing => {}
            Kind::Lines => self.show_line(status),
            Kind::Bar(bar) => {
                let new = self.last.is_none_or(|last| last.0 != status.operation);
                self.last = Some((status.operation, 0));
                move_bar(bar, status, new);
            }
        }
    }

    /// Leaves a terminal as it was, for the last word.
    pub fn finish(&self) {
        if let Kind::Bar(bar) = &self.kind {
            bar.finish_and_clear();
        }
    }

    /// One for each operation, and for each tenth of it.
    fn show_line(&mut self, status: &Status) {
        let tenths = status.done.saturating_mul(10) / status.total.max(1);
        let now = Some((status.operation, tenths));
        if self.last == now || !status.operation.is_busy() {
            return;
        }
        self.last = now;
        let doing = status.operation.doing();
        match (status.operation, status.total) {
            // The error itself follows on standard error.
            (Operation::ReportingErrorEvent, _) => {}
            (_, 0) => say(doing),
            _ => say(format_args!("{doing}: {} %", tenths * 10)),
        }
    }
}

fn move_bar(bar: &ProgressBar, status: &Status, new: bool) {
    if !status.operation.is_busy() || status.operation == Operation::ReportingErrorEvent {
        bar.finish_and_clear();
        return;
    }
    if new {
        bar.reset();
        bar.set_message(status.operation.doing());
    }
    let template = match status.total {
        0 => UNCOUNTED,
        _ => COUNTED,
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_length(status.size());
    bar.set_position(status.done_bytes());
}
