//! Requests that fail, and flushes that lie.

use super::{ENOUGH, Worker};
use crate::powercut::cuts::{Cut, Depth, enumerate};
use crate::powercut::disk::{Event, Fault, SimDisk};
use crate::powercut::facts::Facts;
use crate::powercut::judge::{Damage, must};
use crate::powercut::medium::Medium;
use crate::powercut::recovery::{Future, recover};
use crate::powercut::report::describe;

impl Worker<'_> {
    /// Each request of the operation fails once, in each way.
    pub(super) fn fail_everywhere(&mut self, log: &[Event]) {
        let writes = log.iter().filter(|e| matches!(e, Event::Write(_))).count();
        let flushes = log.len() - writes;
        let on_write = [Fault::Write, Fault::WritesFrom, Fault::Short];
        let on_flush = [Fault::Flush, Fault::FlushLoses, Fault::FlushLies];
        let faults = (0..writes)
            .flat_map(|n| on_write.map(|fault| fault(n)))
            .chain((0..flushes).flat_map(|n| on_flush.map(|fault| fault(n))));
        for fault in faults {
            if self.findings.len() >= ENOUGH {
                return;
            }
            self.fail(fault);
        }
        self.lie_everywhere(log);
    }

    fn fail(&mut self, fault: Fault) {
        self.counts.faults += 1;
        let disk = SimDisk::new(self.case.start.clone(), Some(fault));
        let case = self.case.clone();
        let result = case
            .operation
            .run(case.fixture, &disk, case.running, case.tries);
        disk.heal();
        let log = disk.take_log();
        let medium = disk.now();
        let sector = case.fixture.sector_size.bytes();
        let trace = || {
            let mut lines = vec![format!("{fault:?}: {result:?}")];
            lines.extend(describe(&log, sector));
            lines
        };
        if matches!(fault, Fault::FlushLies(_)) {
            let survived = self.survives(&medium);
            self.counts.lies[usize::from(!survived)] += 1;
            // What a lie has lost of the blocks must be found by reading them back.
            let content = case.fixture.content(&medium, 1 - case.running);
            let whole = case
                .operation
                .installs()
                .is_none_or(|number| content == Some(number));
            let judged = must(3, result.is_err() || whole, || {
                format!("{fault:?} lost a block, which went unnoticed")
            });
            self.note(judged, &medium, trace);
            return;
        }
        let judged = must(3, result.is_err(), || format!("{fault:?} went unnoticed"))
            .and_then(|()| crate::powercut::audit::stopped(&case, &log, fault));
        if self.note(judged, &medium, trace) || self.later(&medium, trace) {
            return;
        }
        // And the power goes while the failed operation tidies up.
        let mut last = Vec::new();
        let _ = enumerate(
            &case.start,
            &log,
            Depth::QUICK,
            self.seed,
            &mut |cut: Cut, m| {
                if matches!(cut.kind, crate::powercut::cuts::Kind::After) {
                    last.push((cut, m));
                }
                Ok::<_, ()>(())
            },
        );
        for (cut, medium) in last {
            let known = self.is_judged(&medium);
            if !known {
                self.counts.cuts += 1;
                let traced = || {
                    let mut lines = trace();
                    lines.push(format!("cut: {cut:?}"));
                    lines
                };
                if self.later(&medium, traced) {
                    return;
                }
            }
        }
    }

    /// One flush did nothing, and the power goes: what is survived nevertheless, and what nobody can.
    fn lie_everywhere(&mut self, log: &[Event]) {
        let flushes = log
            .iter()
            .enumerate()
            .filter(|(_, event)| **event == Event::Flush);
        for (lie, _) in flushes {
            let mut honest = log.to_vec();
            honest.remove(lie);
            let mut media = Vec::new();
            let start = &self.case.start;
            let _ = enumerate(
                start,
                &honest,
                Depth::QUICK,
                self.seed,
                &mut |cut: Cut, medium| {
                    if matches!(cut.kind, crate::powercut::cuts::Kind::After) {
                        media.push(medium);
                    }
                    Ok::<_, ()>(())
                },
            );
            for medium in media {
                if !self.is_judged(&medium) {
                    let survived = self.survives(&medium);
                    self.counts.lies[usize::from(!survived)] += 1;
                }
            }
        }
    }

    /// A good slot runs, and everything is mended.
    fn survives(&self, medium: &Medium) -> bool {
        let facts = Facts::of(self.case.fixture, medium);
        recover(&self.case, medium, &facts, Future::Failing, &Damage::MANY).is_ok()
    }
}
