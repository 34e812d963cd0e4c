//! Waypoint ports: which pair of ports a new session gets on a peer path (svr-wire, section 4).
//!
//! The initiator picks both ports: even on its own side, odd on the peer's. A range the peer asks
//! for is used round-robin, without parity. A pair is unique per protocol and per pair of waypoint
//! addresses. A released pair rests before it is used again, so that what is still under way for the
//! old session never meets a new one.

use core::time::Duration;
use std::collections::VecDeque;

use fairway_types::{PortRange, Time};
use foldhash::fast::FixedState;
use hashbrown::HashSet;

/// How long a released pair rests.
pub(crate) const REST: Duration = Duration::from_secs(60);
/// How many pairs are tried before the path counts as exhausted. With free pairs left at all, pairs
/// that were given out in turn come free in turn, so one of these is almost always free.
const ATTEMPTS: usize = 4096;

/// Waypoint ports of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pair {
    pub(crate) local: u16,
    pub(crate) remote: u16,
}

/// Ports `first`, `first + step`, … , `count` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progression {
    first: u16,
    step: u16,
    count: u32,
}

impl Progression {
    fn of_parity(range: PortRange, odd: bool) -> Self {
        let first = range.first() + u16::from((range.first() % 2 == 1) != odd);
        let count = if first < range.first() || first > range.last() {
            0
        } else {
            u32::from(range.last() - first) / 2 + 1
        };
        Self { first, step: 2, count }
    }

    fn all(range: PortRange) -> Self {
        Self { first: range.first(), step: 1, count: range.count() }
    }

    fn port(&self, number: u32) -> u16 {
        self.first.wrapping_add(number as u16 * self.step)
    }
}

/// A place among all pairs. Remote ports go round first; each round starts with the next local port, so
/// consecutive sessions differ in both. Many places may be passed over to find one that fits, so a step
/// divides nothing.
struct Walk {
    round: u32,
    local: u32,
    remote: u32,
    locals: u32,
    remotes: u32,
}

impl Walk {
    fn step(&mut self) {
        let next = |number: u32, count: u32| if number + 1 == count { 0 } else { number + 1 };
        self.remote = next(self.remote, self.remotes);
        if self.remote == 0 {
            self.round = next(self.round, self.locals);
            self.local = self.round;
        } else {
            self.local = next(self.local, self.locals);
        }
    }
}

/// No pair is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted;

/// The pairs of one path and one waypoint protocol.
#[derive(Debug)]
pub(crate) struct PortPool {
    local: Progression,
    remote: Progression,
    limit: u32,
    next: u64,
    /// In use or at rest.
    taken: HashSet<Pair, FixedState>,
    resting: VecDeque<(Time, Pair)>,
    pub(crate) tally: PortTally,
}

/// What came of a pool's limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PortTally {
    /// The most pairs that were in use at once.
    pub(crate) peak: u32,
    /// Pairs given out.
    pub(crate) given: u64,
    /// Sessions refused because no pair was free.
    pub(crate) refused: u64,
    /// Sessions that gave way to new ones.
    pub(crate) evicted: u64,
}

impl PortPool {
    /// A pool for a path. `remote` is the range the peer asks for; `expected` pairs need no further
    /// memory; `start` spreads the first choice.
    pub(crate) fn new(remote: Option<PortRange>, limit: u32, expected: u32, start: u64) -> Self {
        Self {
            local: Progression::of_parity(PortRange::WAYPOINTS, false),
            remote: remote
                .map_or_else(|| Progression::of_parity(PortRange::WAYPOINTS, true), Progression::all),
            limit,
            next: start,
            taken: HashSet::with_capacity_and_hasher(
                expected.min(limit) as usize,
                FixedState::with_seed(start),
            ),
            resting: VecDeque::new(),
            tally: PortTally::default(),
        }
    }

    /// Whether a pool made for this range and limit would give out the same pairs.
    pub(crate) fn configure(&mut self, remote: Option<PortRange>, limit: u32) {
        self.remote =
            remote.map_or_else(|| Progression::of_parity(PortRange::WAYPOINTS, true), Progression::all);
        self.limit = limit;
    }

    /// Whether as many pairs are in use as may be; the last eighth of them is only for the
    /// `preferred`.
    pub(crate) fn is_full(&self, preferred: bool) -> bool {
        self.used() >= if preferred { self.limit } else { self.limit - self.limit / 8 }
    }

    /// Pairs in use.
    pub(crate) fn used(&self) -> u32 {
        (self.taken.len() - self.resting.len()) as u32
    }

    /// Pairs at rest.
    pub(crate) fn resting(&self) -> u32 {
        self.resting.len() as u32
    }

    /// Pairs that could be in use at once.
    pub(crate) fn capacity(&self) -> u32 {
        self.pairs().min(u64::from(self.limit)) as u32
    }

    fn pairs(&self) -> u64 {
        u64::from(self.local.count) * u64::from(self.remote.count)
    }

    /// Takes the next free pair that `fits`.
    pub(crate) fn allocate(
        &mut self,
        now: Time,
        preferred: bool,
        fits: impl Fn(Pair) -> bool,
    ) -> Result<Pair, Exhausted> {
        self.wake(now);
        if self.is_full(preferred) {
            return Err(Exhausted);
        }
        let pairs = self.pairs();
        let mut walk = self.walk(self.next % pairs.max(1));
        for _ in 0..ATTEMPTS.min(usize::try_from(pairs).unwrap_or(ATTEMPTS)) {
            let pair = self.pair(&walk);
            self.next = self.next.wrapping_add(1);
            walk.step();
            if fits(pair) && self.taken.insert(pair) {
                self.tally.given += 1;
                self.tally.peak = self.tally.peak.max(self.used());
                return Ok(pair);
            }
        }
        Err(Exhausted)
    }

    /// Takes this pair, which a session had before this router lost it. Says whether it was free.
    pub(crate) fn take(&mut self, pair: Pair) -> bool {
        let free = self.used() < self.limit && self.taken.insert(pair);
        if free {
            self.tally.peak = self.tally.peak.max(self.used());
        }
        free
    }

    /// The walk through all pairs, from one of them on.
    fn walk(&self, number: u64) -> Walk {
        let (locals, remotes) = (self.local.count.max(1), self.remote.count.max(1));
        let round = number / u64::from(remotes);
        let remote = (number % u64::from(remotes)) as u32;
        let round = (round % u64::from(locals)) as u32;
        Walk { round, local: (round + remote) % locals, remote, locals, remotes }
    }

    fn pair(&self, walk: &Walk) -> Pair {
        Pair { local: self.local.port(walk.local), remote: self.remote.port(walk.remote) }
    }

    /// Gives a pair back. It rests first.
    pub(crate) fn release(&mut self, now: Time, pair: Pair) {
        self.wake(now);
        if !self.taken.contains(&pair) {
            return;
        }
        // No more rest than may be in use, so that a flood of short sessions does not need memory
        // without end. Whom that wakes early is not given out soon: all other pairs come first, and
        // where those are few, all of them may rest.
        if self.resting.len() >= self.limit as usize
            && let Some((_, longest)) = self.resting.pop_front()
        {
            self.taken.remove(&longest);
        }
        self.resting.push_back((now, pair));
    }

    fn wake(&mut self, now: Time) {
        while let Some(&(since, pair)) = self.resting.front() {
            if now.since(since) < REST {
                break;
            }
            self.resting.pop_front();
            self.taken.remove(&pair);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_have_the_parity_of_the_specification_and_never_repeat() {
        let mut pool = PortPool::new(None, 1_000_000, 0, 7);
        let mut seen = std::collections::HashSet::new();
        for _ in 0..100_000 {
            let pair = pool.allocate(Time::ZERO, true, |_| true).unwrap();
            assert!(pair.local.is_multiple_of(2) && !pair.remote.is_multiple_of(2));
            assert!(PortRange::WAYPOINTS.contains(pair.local) && PortRange::WAYPOINTS.contains(pair.remote));
            assert!(seen.insert(pair));
        }
        assert_eq!(pool.used(), 100_000);
    }

    #[test]
    fn a_range_of_the_peer_is_used_round_robin() {
        let mut pool = PortPool::new(PortRange::new(20_000, 20_002), 10, 0, 0);
        let ports: Vec<_> =
            (0..4).map(|_| pool.allocate(Time::ZERO, true, |_| true).unwrap().remote).collect();
        assert_eq!(ports, [20_000, 20_001, 20_002, 20_000]);
    }

    #[test]
    fn exhaustion_is_refused_and_released_pairs_rest_for_a_minute() {
        let mut pool = PortPool::new(None, 2, 2, 0);
        let first = pool.allocate(Time::ZERO, true, |_| true).unwrap();
        pool.allocate(Time::ZERO, true, |_| true).unwrap();
        assert_eq!(pool.allocate(Time::ZERO, true, |_| true), Err(Exhausted));
        pool.release(Time::from_secs(1), first);
        assert_eq!((pool.used(), pool.resting()), (1, 1));
        let next = pool.allocate(Time::from_secs(1), true, |_| true).unwrap();
        assert_ne!(next, first);
        pool.release(Time::from_secs(61), next);
        assert_eq!(pool.resting(), 1);
    }

    #[test]
    fn the_last_pairs_are_for_the_preferred() {
        let mut pool = PortPool::new(None, 80, 80, 0);
        let given = (0..100).filter(|_| pool.allocate(Time::ZERO, false, |_| true).is_ok()).count();
        let preferred = (0..100).filter(|_| pool.allocate(Time::ZERO, true, |_| true).is_ok()).count();
        assert_eq!((given, preferred), (70, 10));
    }

    #[test]
    fn pairs_at_rest_are_bounded() {
        let mut pool = PortPool::new(None, 100, 100, 0);
        let mut given = std::collections::HashSet::new();
        for _ in 0..10_000 {
            let pair = pool.allocate(Time::ZERO, true, |_| true).unwrap();
            assert!(given.insert(pair), "what is woken early does not come back soon");
            pool.release(Time::ZERO, pair);
            assert!(pool.resting() <= 100 && pool.taken.len() <= 200);
        }
    }

    #[test]
    fn a_pair_that_a_session_of_the_peer_uses_is_passed_over() {
        let mut pool = PortPool::new(PortRange::new(20_000, 20_001), 10, 0, 0);
        let pair = pool.allocate(Time::ZERO, true, |pair| pair.remote != 20_000).unwrap();
        assert_eq!(pair.remote, 20_001);
    }
}
