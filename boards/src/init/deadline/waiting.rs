//! What the deadline waits for: time that does not count, and a disk that may not answer.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};

/// Most of the time for mending ROOT that does not count.
const MENDING_MAX: Duration = Duration::from_secs(3600);

/// Time that goes into mending ROOT, which both slots share: a reset would only begin it again. It does not count, as long
/// as it comes to an end.
#[derive(Default)]
pub(super) struct Mending {
    total: Duration,
    seen: Duration,
}

impl Mending {
    /// How much it has been at `now`, counted from the start.
    pub(super) fn so_far(&mut self, now: Duration, is_mending: bool) -> Duration {
        if is_mending {
            let since = now.saturating_sub(self.seen);
            self.total = self.total.saturating_add(since).min(MENDING_MAX);
        }
        self.seen = now;
        self.total
    }
}

/// Where a look's answer comes.
pub(super) type Answer<T> = Receiver<Result<T>>;

/// Looks at the disk, one after the other, each by a thread of its own: a disk that does not answer must keep nobody from
/// the deadline, nor from the watchdog.
pub(super) struct Looks<T> {
    under_way: Option<Answer<T>>,
}

impl<T> Looks<T> {
    pub(super) const fn new() -> Self {
        Self { under_way: None }
    }

    /// A look has not ended.
    pub(super) const fn is_waiting(&self) -> bool {
        self.under_way.is_some()
    }

    /// What a look says, if it does within `patience`.
    pub(super) fn take(
        &mut self,
        begin: impl FnOnce() -> Result<Answer<T>>,
        patience: Duration,
    ) -> Result<T> {
        if let Some(earlier) = self.under_way.take()
            && let Ok(judgement) = self.wait(earlier, patience)?
        {
            return Ok(judgement);
        }
        // What an earlier look found missing may be there now.
        self.wait(begin()?, patience)?
    }

    /// The inner error is the look's, the outer one is that it has not ended.
    fn wait(&mut self, answer: Answer<T>, patience: Duration) -> Result<Result<T>> {
        match answer.recv_timeout(patience) {
            Ok(judgement) => Ok(judgement),
            Err(RecvTimeoutError::Timeout) => {
                self.under_way = Some(answer);
                bail!("look at the disk: it does not answer")
            }
            Err(RecvTimeoutError::Disconnected) => Ok(Err(anyhow!("look at the disk: no answer"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_disk_that_does_not_answer_keeps_nobody_waiting() {
        let soon = Duration::from_millis(10);
        let mut looks = Looks::new();
        let (done, answer) = mpsc::channel();
        assert!(looks.take(|| Ok(answer), soon).is_err());
        assert!(looks.is_waiting());
        let no_other = || -> Result<Answer<&'static str>> { panic!("one is under way") };
        assert!(looks.take(no_other, soon).is_err());
        done.send(Ok("good")).unwrap();
        assert_eq!(looks.take(no_other, soon).unwrap(), "good");
    }

    #[test]
    fn an_answer_that_comes_late_is_not_the_last_word() {
        let soon = Duration::from_millis(10);
        let mut looks = Looks::new();
        let (done, answer) = mpsc::channel();
        assert!(looks.take(|| Ok(answer), soon).is_err());
        done.send(Err(anyhow!("not confirmed"))).unwrap();
        let (done, answer) = mpsc::channel();
        done.send(Ok("good")).unwrap();
        assert_eq!(looks.take(|| Ok(answer), soon).unwrap(), "good");
        // One that is asked again, and says no.
        let (done, answer) = mpsc::channel();
        done.send(Err(anyhow!("not confirmed"))).unwrap();
        let error = looks.take(|| Ok(answer), soon).unwrap_err();
        assert_eq!(error.to_string(), "not confirmed");
    }

    #[test]
    fn time_for_mending_does_not_count_but_for_an_endless_one() {
        let seconds = Duration::from_secs;
        let mut mending = Mending::default();
        assert_eq!(mending.so_far(seconds(5), false), Duration::ZERO);
        assert_eq!(mending.so_far(seconds(8), true), seconds(3));
        assert_eq!(mending.so_far(seconds(90), true), seconds(85));
        assert_eq!(mending.so_far(seconds(100), false), seconds(85));
        assert_eq!(mending.so_far(seconds(9000), true), MENDING_MAX);
    }
}
