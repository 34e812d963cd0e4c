//! A token bucket: so many a second, and a tenth of a second's worth at once.

use fairway_types::Time;

/// What may still be done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    per_second: u32,
    /// In billionths.
    tokens: u64,
    filled: Time,
}

const WHOLE: u64 = 1_000_000_000;

impl Budget {
    pub(crate) fn new(per_second: u32, now: Time) -> Self {
        Self { per_second, tokens: Self::depth(per_second), filled: now }
    }

    fn depth(per_second: u32) -> u64 {
        (u64::from(per_second) / 10).max(10) * WHOLE
    }

    pub(crate) fn set_rate(&mut self, per_second: u32) {
        self.per_second = per_second;
        self.tokens = self.tokens.min(Self::depth(per_second));
    }

    /// Takes one token, if there is one.
    pub(crate) fn take(&mut self, now: Time) -> bool {
        let elapsed = now.0.saturating_sub(self.filled.0).min(10 * WHOLE);
        self.filled = now;
        let gained = elapsed.saturating_mul(u64::from(self.per_second));
        self.tokens = self.tokens.saturating_add(gained).min(Self::depth(self.per_second));
        if self.tokens < WHOLE {
            return false;
        }
        self.tokens -= WHOLE;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_holds_its_rate() {
        let mut budget = Budget::new(100, Time::ZERO);
        let taken = (0..10_000u64).filter(|&ms| budget.take(Time::from_millis(ms))).count();
        assert!((1000..=1010).contains(&taken), "{taken}");
    }
}
