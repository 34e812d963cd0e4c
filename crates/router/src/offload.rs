//! Sessions that the kernel forwards by itself: what the engine orders is carried out, what the kernel has
//! done is reported to the engine.

use std::collections::VecDeque;
use std::time::Duration;

use fairway_io::Ports;
use fairway_session::OffloadOrder;
use fairway_types::{OffloadId, Time};

use crate::worker::Core;

/// How often the engine hears of each session, if there are no more of them than so many; else it hears of
/// as many in that time.
const INTERVAL: Duration = Duration::from_secs(1);
const IN_AN_INTERVAL: usize = 16_384;
/// How soon it hears of one that is new: many connections are over by then.
const SOON: Duration = Duration::from_millis(25);
/// Reports in one round: packets wait no longer than these take.
const REPORTS: usize = 64;
/// So many sessions are taken back together: what is known of their ends takes memory until it is told.
const RECALLS: usize = 1024;

/// What is to be reported.
#[derive(Default)]
pub(crate) struct Reports {
    /// The sessions that were in the kernel at their last reports, in the order of these.
    round: VecDeque<OffloadId>,
    /// How many of them are to be reported before the next interval.
    waiting: usize,
    next: Time,
    /// New sessions, and when the first report of each is due.
    new: VecDeque<(Time, OffloadId)>,
}

impl Reports {
    /// When the first report of a new session is due.
    pub(crate) fn due(&self) -> Option<Time> {
        self.new.front().map(|&(due, _)| due)
    }

    /// How many of the round are to be reported now.
    fn turn(&mut self, now: Time) -> usize {
        if self.waiting == 0 {
            if self.round.is_empty() || now < self.next {
                return 0;
            }
            self.waiting = self.round.len();
            let intervals = self.waiting.div_ceil(IN_AN_INTERVAL);
            self.next = now + INTERVAL * u32::try_from(intervals).unwrap_or(u32::MAX);
        }
        let some = self.waiting.min(REPORTS);
        self.waiting -= some;
        some
    }
}

impl Core {
    /// Says whether the kernel may forward sessions by itself.
    pub(crate) fn enable_offload(&mut self, enabled: bool) {
        let enabled = enabled && self.ports.can_offload();
        self.engine.enable_offload(enabled);
        if !enabled {
            self.recall_offloads();
        }
    }

    /// Carries out what the engine orders.
    pub(crate) fn carry_out_offloads(&mut self) {
        while let Some((id, report)) = self.ports.poll_offload_ended() {
            self.engine.offload_ended(self.clock.now(), id, Some(&report));
        }
        let mut clock = None;
        while let Some(order) = self.engine.poll_offload() {
            let now = *clock.get_or_insert_with(|| self.clock.now());
            match order {
                OffloadOrder::Begin(id, flows) => match self.ports.offload(now.mono, id, &flows) {
                    Ok(()) => self.reports.new.push_back((now.mono + SOON, id)),
                    Err(why) => self.engine.offload_refused(now, id, why),
                },
                OffloadOrder::End(id) => {
                    let report = self.ports.end_offload(now.mono, id);
                    self.engine.offload_ended(now, id, report.as_ref());
                }
                OffloadOrder::Touched(id) => self.ports.offload_touched(id),
            }
        }
    }

    /// Takes every session back from the kernel.
    pub(crate) fn recall_offloads(&mut self) {
        self.carry_out_offloads();
        while self.engine.recall_some(RECALLS) {
            self.carry_out_offloads();
        }
    }

    /// Takes some of those sessions back for which the kernel would do something else now; says whether there
    /// are more.
    pub(crate) fn recall_changed(&mut self) -> bool {
        let more = self.engine.recall_changed(RECALLS);
        self.carry_out_offloads();
        more
    }

    /// Reports some of what the kernel has done; says whether there is more to report now.
    pub(crate) fn report_offloads(&mut self) -> bool {
        let now = self.clock.mono();
        for _ in 0..REPORTS {
            if self.reports.due().is_none_or(|due| due > now) {
                break;
            }
            if let Some((_, id)) = self.reports.new.pop_front() {
                self.report_in_turn(id);
            }
        }
        self.carry_out_offloads();
        let some = self.reports.turn(now);
        for _ in 0..some {
            if let Some(id) = self.reports.round.pop_front() {
                self.report_in_turn(id);
            }
        }
        self.carry_out_offloads();
        self.reports.waiting > 0
    }

    /// Brings sessions and counters to what the kernel has done until now, for an operator. Where there are so
    /// many that packets would wait for it, what was last reported has to do.
    pub(crate) fn report_all_offloads(&mut self) {
        if self.engine.offloaded_count() > Ports::FEW_OFFLOADS {
            return;
        }
        for id in self.engine.offloaded() {
            self.report_offload(id);
        }
        self.carry_out_offloads();
    }

    /// Reports one session in its turn, and has it reported again in the next round, if the kernel still has it.
    fn report_in_turn(&mut self, id: OffloadId) {
        if self.report_offload(id) {
            self.reports.round.push_back(id);
        }
    }

    /// Reports one session; says whether the kernel still has it.
    fn report_offload(&mut self, id: OffloadId) -> bool {
        let now = self.clock.now();
        let report = self.ports.offload_report(now.mono, id);
        if let Some(report) = &report {
            self.engine.offload_report(now, id, report);
        }
        report.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many reports there are in each of some seconds, when so many sessions are in the kernel.
    fn in_each_second(sessions: u64, seconds: u64) -> Vec<u64> {
        let round = (0..sessions).map(OffloadId).collect();
        let mut reports = Reports { round, ..Reports::default() };
        let millis =
            |second: u64| (0..1000).map(move |milli| Time(second * 1_000_000_000 + milli * 1_000_000));
        let mut second = |number| {
            // A busy worker comes by more often than that.
            millis(number)
                .map(|now| reports.turn(now))
                .inspect(|some| assert!(*some <= REPORTS))
                .sum::<usize>() as u64
        };
        (1..=seconds).map(&mut second).collect()
    }

    #[test]
    fn each_session_is_reported_once_a_second_while_they_are_few_enough() {
        for few in [0, 1, 64, 65, 16_384] {
            assert_eq!(in_each_second(few, 3), [few; 3]);
        }
    }

    #[test]
    fn of_many_each_is_reported_once_in_as_many_seconds_as_that_takes() {
        let many = in_each_second(40_000, 9);
        for round in many.chunks(3) {
            assert_eq!(round.iter().sum::<u64>(), 40_000, "{many:?}");
        }
    }
}
