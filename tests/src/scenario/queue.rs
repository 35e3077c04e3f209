//! Several scenarios at a time.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Calls `run` with each of `jobs`, in their order, at most `at_a_time` of them at once. Returns how many were false.
pub fn run_all<T: Send>(jobs: Vec<T>, at_a_time: usize, run: impl Fn(T) -> bool + Sync) -> usize {
    let queue = Mutex::new(VecDeque::from(jobs));
    // Not within the loop's head, where the queue would stay locked for as long as the job takes.
    let next = || {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.pop_front()
    };
    let failed = Mutex::new(0);
    std::thread::scope(|scope| {
        for _ in 0..at_a_time.max(1) {
            scope.spawn(|| {
                while let Some(job) = next() {
                    if !run(job) {
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use super::*;

    #[test]
    fn two_at_a_time_do_not_wait_for_each_other() {
        let (tell_first, first) = channel();
        let (tell_second, second) = channel();
        let jobs = vec![(tell_second, first), (tell_first, second)];
        let failed = run_all(jobs, 2, |(tell, hear)| {
            tell.send(()).is_ok() && hear.recv_timeout(Duration::from_secs(20)).is_ok()
        });
        assert_eq!(failed, 0);
    }

    #[test]
    fn failures_are_counted_and_do_not_end_the_run() {
        assert_eq!(run_all(vec![1, 2, 3, 4], 2, |n| n % 2 == 0), 2);
        assert_eq!(run_all(Vec::new(), 0, |_: ()| false), 0);
    }
}
