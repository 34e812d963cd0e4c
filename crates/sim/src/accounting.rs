//! The books of an engine: every packet it is given ends in exactly one counter.

use fairway_session::Engine;
use fairway_types::{Batch, Counter, DropReason, Verdict};

/// The counters of an engine at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Books {
    counters: [u64; Counter::ALL.len()],
    drops: [u64; DropReason::ALL.len()],
}

impl Books {
    /// The books as they are.
    #[must_use]
    pub fn of(engine: &Engine) -> Self {
        let mut books = Self { counters: [0; Counter::ALL.len()], drops: [0; DropReason::ALL.len()] };
        for (slot, (_, value)) in books.counters.iter_mut().zip(engine.counters().iter()) {
            *slot = value;
        }
        for (slot, record) in books.drops.iter_mut().zip(engine.drops()) {
            *slot = record.count;
        }
        books
    }

    /// A counter.
    #[must_use]
    pub const fn counter(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }

    /// How many packets were dropped for a reason.
    #[must_use]
    pub const fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// The drop counters that differ from `earlier`, with by how much.
    #[must_use]
    pub fn dropped_since(&self, earlier: &Self) -> Vec<(DropReason, u64)> {
        DropReason::ALL
            .iter()
            .map(|&reason| (reason, self.drops(reason) - earlier.drops(reason)))
            .filter(|&(_, count)| count > 0)
            .collect()
    }

    fn moved(&self, earlier: &Self, counter: Counter) -> u64 {
        self.counter(counter) - earlier.counter(counter)
    }

    /// Holds that one received packet moved exactly one counter, the one its verdict names, and that
    /// all packets the engine made are counted.
    ///
    /// # Panics
    /// When that is not so.
    pub fn check_one(before: &Self, after: &Self, batch: &Batch, seed: u64) {
        let verdict = batch.received().first().map(|slot| slot.verdict);
        let made = batch.emitted().len() as u64;
        assert_eq!(after.moved(before, Counter::PacketsReceived), 1, "seed {seed}: {verdict:?}");
        assert_eq!(after.moved(before, Counter::PacketsEmitted), made, "seed {seed}: emitted, {verdict:?}");
        let forwarded = after.moved(before, Counter::PacketsForwarded);
        let punted = after.moved(before, Counter::PacketsPunted);
        let consumed = after.moved(before, Counter::PacketsConsumed);
        let drops = after.dropped_since(before);
        let expected = match verdict {
            Some(Verdict::Forward(_)) => (1, 0, 0),
            Some(Verdict::Punt) => (0, 1, 0),
            Some(Verdict::Consumed) => (0, 0, 1),
            Some(Verdict::Drop(reason)) => {
                assert_eq!(drops, [(reason, 1)], "seed {seed}: a drop moves one counter");
                return assert_eq!((forwarded, punted, consumed), (0, 0, 0), "seed {seed}");
            }
            Some(Verdict::Pending) | None => (9, 9, 9),
        };
        assert_eq!((forwarded, punted, consumed), expected, "seed {seed}: {verdict:?}");
        assert_eq!(drops, [], "seed {seed}: {verdict:?} and a drop");
    }
}
