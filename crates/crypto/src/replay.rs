//! Which sequence numbers were already received (the sliding window of RFC 4303, section 3.4.3).

use thiserror::Error;

/// Why a sequence number was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Replay {
    /// It was received before.
    #[error("the sequence number was received before")]
    Seen,
    /// It lies so far behind the highest one that nobody knows.
    #[error("the sequence number lies behind the window")]
    TooOld,
}

/// The highest sequence number received and which of those up to it were: 64 for each of `WORDS`.
///
/// Use [`Self::check`] before a tag is verified, and [`Self::set`] only after: bytes that are not
/// genuine must not move the window.
#[derive(Clone, Debug)]
pub struct ReplayWindow<const WORDS: usize = 64> {
    /// The sequence number after the highest one received; zero when there is none.
    next: u64,
    /// One bit for each of the [`Self::SPAN`] numbers below `next`, at the number modulo that.
    seen: [u64; WORDS],
}

impl<const WORDS: usize> Default for ReplayWindow<WORDS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const WORDS: usize> ReplayWindow<WORDS> {
    /// How many sequence numbers the window spans.
    pub const SPAN: u64 = WORDS as u64 * 64;

    /// A window that has seen nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self { next: 0, seen: [0; WORDS] }
    }

    /// Whether a sequence number may be accepted. The last one, `u64::MAX`, never is.
    ///
    /// # Errors
    /// [`Replay`] says why not.
    pub const fn check(&self, sequence: u64) -> Result<(), Replay> {
        if sequence == u64::MAX {
            return Err(Replay::TooOld);
        }
        if sequence >= self.next {
            return Ok(());
        }
        if self.next - sequence > Self::SPAN {
            return Err(Replay::TooOld);
        }
        let (word, bit) = Self::position(sequence);
        if self.seen[word] & bit == 0 { Ok(()) } else { Err(Replay::Seen) }
    }

    /// Marks a sequence number as received. One that [`Self::check`] refuses changes nothing.
    pub fn set(&mut self, sequence: u64) {
        if self.check(sequence).is_err() {
            return;
        }
        if sequence >= self.next {
            self.advance(sequence + 1);
        }
        let (word, bit) = Self::position(sequence);
        self.seen[word] |= bit;
    }

    /// Both in one step, for a sequence number that is known to be genuine.
    ///
    /// # Errors
    /// [`Replay`] says why it is refused; the window is unchanged then.
    pub fn check_and_set(&mut self, sequence: u64) -> Result<(), Replay> {
        self.check(sequence)?;
        self.set(sequence);
        Ok(())
    }

    /// Forgets what the numbers from `self.next` up to `next` displace.
    fn advance(&mut self, next: u64) {
        if next - self.next >= Self::SPAN {
            self.seen = [0; WORDS];
        } else {
            let mut sequence = self.next;
            while sequence < next {
                let (word, bit) = Self::position(sequence);
                if bit == 1 && next - sequence >= 64 {
                    self.seen[word] = 0;
                    sequence += 64;
                } else {
                    self.seen[word] &= !bit;
                    sequence += 1;
                }
            }
        }
        self.next = next;
    }

    const fn position(sequence: u64) -> (usize, u64) {
        ((sequence % Self::SPAN / 64) as usize, 1 << (sequence % 64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const BITS: u64 = ReplayWindow::<64>::SPAN;

    /// What the window must do, said with a set.
    #[derive(Default)]
    struct Model(BTreeSet<u64>);

    impl Model {
        fn check_and_set(&mut self, sequence: u64) -> Result<(), Replay> {
            match self.0.last() {
                Some(&highest) if sequence + BITS <= highest => return Err(Replay::TooOld),
                _ => {}
            }
            if self.0.insert(sequence) { Ok(()) } else { Err(Replay::Seen) }
        }
    }

    #[test]
    fn the_edges_of_the_window() {
        let mut window = ReplayWindow::<64>::new();
        assert_eq!(window.check_and_set(10_000), Ok(()));
        assert_eq!(window.check_and_set(10_000), Err(Replay::Seen));
        assert_eq!(window.check(10_000 - BITS), Err(Replay::TooOld));
        assert_eq!(window.check_and_set(10_000 - BITS + 1), Ok(()));
        assert_eq!(window.check(10_000 - BITS + 1), Err(Replay::Seen));
        assert_eq!(window.check_and_set(u64::MAX - 1), Ok(()));
        assert_eq!(window.check(u64::MAX), Err(Replay::TooOld));
        assert_eq!(window.check(u64::MAX - 1), Err(Replay::Seen));
        assert_eq!(window.check(10_000), Err(Replay::TooOld));
    }

    #[test]
    fn a_check_alone_changes_nothing() {
        let mut window = ReplayWindow::<64>::new();
        assert_eq!(window.check(7), Ok(()));
        assert_eq!(window.check(7), Ok(()));
        window.set(7);
        assert_eq!(window.check(7), Err(Replay::Seen));
    }

    proptest! {
        #[test]
        fn the_window_agrees_with_a_set(
            steps in prop::collection::vec((prop_oneof![0u64..3, 0u64..100, 0u64..5000, 0u64..20_000], 0u64..5000), 1..400)
        ) {
            let (mut window, mut model, mut base) = (ReplayWindow::<64>::new(), Model::default(), 0u64);
            for (forward, back) in steps {
                base += forward;
                for sequence in [base, base.saturating_sub(back)] {
                    prop_assert_eq!(window.check_and_set(sequence), model.check_and_set(sequence), "{}", sequence);
                }
            }
        }
    }
}
