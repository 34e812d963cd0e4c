//! What one owner has of a router, and what came of its limits.

use core::time::Duration;

use fairway_types::Time;
use fairway_types::model::Quota;

use super::{LimitKind, Standing};
use crate::budget::Budget;

/// How long a limit that was reached is not reported again.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);
/// How long no session is looked for that could give way after none was found.
pub(crate) const SEARCH_INTERVAL: Duration = Duration::from_millis(10);

/// What a limit let through, and what not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) allowed: u64,
    pub(crate) refused: u64,
    /// Sessions that gave way to others.
    pub(crate) evicted: u64,
    reported: Option<Time>,
    /// When no session was found that could give way.
    fruitless: Option<Time>,
}

impl Tally {
    /// Counts a refusal. Says whether it is the first in a while.
    fn refuse(&mut self, now: Time) -> bool {
        self.refused += 1;
        let due = self.reported.is_none_or(|at| now.since(at) >= REPORT_INTERVAL);
        if due {
            self.reported = Some(now);
        }
        due
    }
}

/// A number that goes up and down.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Gauge {
    pub(crate) now: u32,
    pub(crate) peak: u32,
    pub(crate) tally: Tally,
}

impl Gauge {
    fn raise(&mut self, by: bool) {
        self.now += u32::from(by);
        self.peak = self.peak.max(self.now);
    }

    fn lower(&mut self, by: bool) {
        self.now = self.now.saturating_sub(u32::from(by));
    }
}

/// The account of a router, a tenant or a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    pub(super) quota: Quota,
    pub(super) sessions: Gauge,
    pub(super) half_open: Gauge,
    pub(super) setups: Budget,
}

impl Account {
    pub(super) fn new(quota: Quota, now: Time) -> Self {
        Self {
            quota,
            sessions: Gauge::default(),
            half_open: Gauge::default(),
            setups: Budget::new(quota.session_rate, now),
        }
    }

    /// Another quota, and no sessions until they are counted again.
    pub(super) fn reset(&mut self, quota: Quota) {
        self.quota = quota;
        self.sessions.now = 0;
        self.half_open.now = 0;
        self.setups.set_rate(quota.session_rate);
    }

    /// Whether there is room for another session; the last eighth of it is only for the `preferred`.
    pub(super) fn check(&self, opening: bool, preferred: bool) -> Result<(), LimitKind> {
        let most = |quota: u32| if preferred { quota } else { quota - quota / 8 };
        if self.sessions.now >= most(self.quota.sessions) {
            return Err(LimitKind::Sessions);
        }
        if opening && self.half_open.now >= most(self.quota.half_open) {
            return Err(LimitKind::HalfOpen);
        }
        Ok(())
    }

    pub(super) fn check_pace(&mut self, now: Time, preferred: bool) -> Result<(), LimitKind> {
        if self.setups.holds(now, preferred) { Ok(()) } else { Err(LimitKind::SessionRate) }
    }

    pub(super) fn join(&mut self, standing: Standing) {
        self.begun(standing);
        self.rejoin(standing);
    }

    /// Counts that a session began, without that it is held.
    pub(super) fn begun(&mut self, standing: Standing) {
        self.sessions.tally.allowed += 1;
        self.half_open.tally.allowed += u64::from(standing.half_open);
    }

    /// Counts that a session is held, without that it began.
    pub(super) fn rejoin(&mut self, standing: Standing) {
        self.sessions.raise(true);
        self.half_open.raise(standing.half_open);
    }

    pub(super) fn leave(&mut self, standing: Standing) {
        self.sessions.lower(true);
        self.half_open.lower(standing.half_open);
    }

    pub(super) fn change(&mut self, was: Standing, is: Standing) {
        if was.half_open != is.half_open {
            self.half_open.raise(is.half_open);
            self.half_open.lower(was.half_open);
        }
    }

    /// Whether to look for a session that gives way: not right after none was found, since looking
    /// costs more than refusing.
    pub(super) fn may_search(&mut self, now: Time, kind: LimitKind) -> bool {
        let last = self.tally_mut(kind).fruitless;
        last.is_none_or(|at| now.since(at) >= SEARCH_INTERVAL)
    }

    pub(super) fn searched_in_vain(&mut self, now: Time, kind: LimitKind) {
        self.tally_mut(kind).fruitless = Some(now);
    }

    fn tally_mut(&mut self, kind: LimitKind) -> &mut Tally {
        match kind {
            LimitKind::Sessions => &mut self.sessions.tally,
            LimitKind::HalfOpen => &mut self.half_open.tally,
            LimitKind::SessionRate
            | LimitKind::FirstPacketRate
            | LimitKind::PeerMessageRate
            | LimitKind::AnswerRate
            | LimitKind::RetellRate => &mut self.setups.tally,
        }
    }

    pub(super) fn refuse(&mut self, now: Time, kind: LimitKind) -> bool {
        self.tally_mut(kind).refuse(now)
    }

    pub(super) fn evicted(&mut self, kind: LimitKind) {
        self.tally_mut(kind).evicted += 1;
    }
}
