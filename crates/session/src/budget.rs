//! A token bucket: so many a second, and a tenth of a second's worth at once.

use fairway_types::Time;

use crate::limits::Tally;

/// What may still be done, and what was.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    per_second: u32,
    /// In billionths.
    tokens: u64,
    filled: Time,
    pub(crate) tally: Tally,
    pace: Pace,
}

const WHOLE: u64 = 1_000_000_000;

impl Budget {
    pub(crate) fn new(per_second: u32, now: Time) -> Self {
        Self {
            per_second,
            tokens: Self::depth(per_second),
            filled: now,
            tally: Tally::default(),
            pace: Pace::default(),
        }
    }

    fn depth(per_second: u32) -> u64 {
        (u64::from(per_second) / 10).max(10) * WHOLE
    }

    pub(crate) const fn rate(&self) -> u32 {
        self.per_second
    }

    pub(crate) fn set_rate(&mut self, per_second: u32) {
        self.per_second = per_second;
        self.tokens = self.tokens.min(Self::depth(per_second));
    }

    /// How many tokens were taken in the last whole second, and in the busiest one.
    pub(crate) fn pace(&self, now: Time) -> (u32, u32) {
        self.pace.read(now)
    }

    fn refill(&mut self, now: Time) {
        let elapsed = now.0.saturating_sub(self.filled.0).min(10 * WHOLE);
        self.filled = now;
        let gained = elapsed.saturating_mul(u64::from(self.per_second));
        self.tokens = self.tokens.saturating_add(gained).min(Self::depth(self.per_second));
    }

    /// Takes one token, if there is one; else counts that there was none.
    pub(crate) fn take(&mut self, now: Time) -> bool {
        let holds = self.holds(now, true);
        if holds {
            self.spend(now);
        } else {
            self.tally.refused += 1;
        }
        holds
    }

    /// Whether a token could be taken; the last quarter of them is only for the `preferred`.
    pub(crate) fn holds(&mut self, now: Time, preferred: bool) -> bool {
        self.refill(now);
        let kept = if preferred { 0 } else { Self::depth(self.per_second) / 4 };
        self.tokens >= WHOLE + kept
    }

    /// Takes one token that is known to be there.
    pub(crate) fn spend(&mut self, now: Time) {
        self.tokens = self.tokens.saturating_sub(WHOLE);
        self.tally.allowed += 1;
        self.pace.count(now);
    }
}

/// How many a second.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    second: u64,
    count: u32,
    last: u32,
    peak: u32,
}

impl Pace {
    fn count(&mut self, now: Time) {
        let second = now.0 / WHOLE;
        if second != self.second {
            (self.last, _) = self.read(now);
            (self.second, self.count) = (second, 0);
        }
        self.count = self.count.saturating_add(1);
        self.peak = self.peak.max(self.count);
    }

    fn read(&self, now: Time) -> (u32, u32) {
        let last = match (now.0 / WHOLE).saturating_sub(self.second) {
            0 => self.last,
            1 => self.count,
            _ => 0,
        };
        (last, self.peak)
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
        assert_eq!((budget.tally.allowed, budget.tally.refused), (taken as u64, 10_000 - taken as u64));
        assert_eq!(budget.pace(Time::from_millis(10_500)), (100, 109));
        assert_eq!(budget.pace(Time::from_secs(20)).0, 0);
    }

    #[test]
    fn the_preferred_find_tokens_under_a_flood_of_others() {
        let mut budget = Budget::new(1000, Time::ZERO);
        let mut served = 0;
        for microseconds in 0..1_000_000u64 {
            let now = Time(microseconds * 1000);
            if budget.holds(now, false) {
                budget.spend(now);
            }
            if microseconds.is_multiple_of(2000) && budget.holds(now, true) {
                budget.spend(now);
                served += 1;
            }
        }
        assert_eq!(served, 500, "each of them");
    }
}
