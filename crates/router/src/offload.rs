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

/// What is to be reported.
#[derive(Default)]
pub(crate) struct Reports {
    waiting: Vec<OffloadId>,
    next: Time,
    /// New sessions, and when the first report of each is due.
    new: VecDeque<(Time, OffloadId)>,
}

impl Reports {
    /// When the first report of a new session is due.
    pub(crate) fn due(&self) -> Option<Time> {
        self.new.front().map(|&(due, _)| due)
    }
}

impl Core {
    /// Says whether the kernel may forward sessions by itself.
    pub(crate) fn enable_offload(&mut self, enabled: bool) {
        self.engine.enable_offload(enabled && self.ports.can_offload());
        self.carry_out_offloads();
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
        self.engine.recall_all();
        self.carry_out_offloads();
    }

    /// Reports some of what the kernel has done; says whether there is more to report now.
    pub(crate) fn report_offloads(&mut self) -> bool {
        let now = self.clock.mono();
        for _ in 0..REPORTS {
            if self.reports.due().is_none_or(|due| due > now) {
                break;
            }
            if let Some((_, id)) = self.reports.new.pop_front() {
                self.report_offload(id);
            }
        }
        self.carry_out_offloads();
        if self.reports.waiting.is_empty() {
            if self.engine.offloaded_count() == 0 || now < self.reports.next {
                return false;
            }
            self.reports.waiting = self.engine.offloaded();
            let intervals = self.reports.waiting.len().div_ceil(IN_AN_INTERVAL).max(1);
            self.reports.next = now + INTERVAL * u32::try_from(intervals).unwrap_or(u32::MAX);
        }
        let rest = self.reports.waiting.len().saturating_sub(REPORTS);
        for id in self.reports.waiting.split_off(rest) {
            self.report_offload(id);
        }
        self.carry_out_offloads();
        rest > 0
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

    fn report_offload(&mut self, id: OffloadId) {
        let now = self.clock.now();
        if let Some(report) = self.ports.offload_report(now.mono, id) {
            self.engine.offload_report(now, id, &report);
        }
    }
}
