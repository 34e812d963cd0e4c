//! The books of an engine: every packet it is given ends in exactly one counter.

use fairway_session::Engine;
use fairway_types::Counter::{
    FragmentsDiscarded, PacketsConsumed, PacketsEmitted, PacketsForwarded, PacketsHandedOver, PacketsPunted,
    PacketsReceived, PacketsTakenOver,
};
use fairway_types::DropReason::{FragmentEvicted, FragmentLimit, FragmentOverlap, FragmentTimeout};
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
        books.add(engine);
        books
    }

    /// The books of all workers of a router together.
    #[must_use]
    pub fn of_all(engines: &[Engine]) -> Self {
        let mut books = Self { counters: [0; Counter::ALL.len()], drops: [0; DropReason::ALL.len()] };
        engines.iter().for_each(|engine| books.add(engine));
        books
    }

    fn add(&mut self, engine: &Engine) {
        for (slot, (_, value)) in self.counters.iter_mut().zip(engine.counters().iter()) {
            *slot += value;
        }
        for (slot, record) in self.drops.iter_mut().zip(engine.drops()) {
            *slot += record.count;
        }
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

    /// Holds that each packet of a batch moved exactly one counter, the one its verdict names, and that
    /// all packets the engine made are counted.
    ///
    /// # Panics
    /// When that is not so.
    pub fn check(before: &Self, after: &Self, batch: &Batch, seed: u64) {
        let mut expected = before.clone();
        let mut undecided = 0;
        let mut count = |counter: Counter| expected.counters[counter as usize] += 1;
        for slot in batch.emitted() {
            let handed = matches!(slot.verdict, Verdict::HandOver(_));
            count(if handed { PacketsHandedOver } else { PacketsEmitted });
        }
        for slot in batch.received() {
            count(if slot.handed > 0 { PacketsTakenOver } else { PacketsReceived });
            match slot.verdict {
                Verdict::Forward(_) => count(PacketsForwarded),
                Verdict::Punt => count(PacketsPunted),
                Verdict::Consumed => count(PacketsConsumed),
                Verdict::HandOver(_) => count(PacketsHandedOver),
                Verdict::Drop(reason) => expected.drops[reason as usize] += 1,
                Verdict::Pending => undecided += 1,
            }
        }
        assert_eq!(undecided, 0, "seed {seed}: packets without verdict");
        // What was kept of packets counts as consumed, and as dropped when it is dropped after all.
        let mut discarded = after.counter(FragmentsDiscarded) - before.counter(FragmentsDiscarded);
        for reason in [FragmentOverlap, FragmentLimit, FragmentTimeout, FragmentEvicted] {
            let expected = &mut expected.drops[reason as usize];
            let more = after.drops(reason).saturating_sub(*expected).min(discarded);
            *expected += more;
            discarded -= more;
        }
        assert_eq!(discarded, 0, "seed {seed}: parts of packets without reason");
        assert_eq!(after.dropped_since(before), expected.dropped_since(before), "seed {seed}");
        for counter in [
            PacketsReceived,
            PacketsTakenOver,
            PacketsForwarded,
            PacketsPunted,
            PacketsConsumed,
            PacketsHandedOver,
            PacketsEmitted,
        ] {
            let (is, should) = (after.counter(counter), expected.counter(counter));
            assert_eq!(is, should, "seed {seed}: {}", counter.name());
        }
    }
}
