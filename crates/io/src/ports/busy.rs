//! Busy polling: where packets follow one another closely, a worker looks for the next one before it sleeps.
//!
//! To put a processor to sleep and to wake it up costs microseconds, in a virtual machine tens of them: more
//! than all that is done with a packet. So a worker whose last sleeps were short looks for a while instead.
//! It does so only where the processor would have been idle: as soon as another program has run in between, it
//! sleeps.

use std::io;
use std::time::Duration;

use crate::sys::shared::kernel_time;

/// Looking is worth it after so many sleeps that were short.
const WORTH: u8 = 4;
const MOST_WORTH: u8 = 8;
/// What a look takes at most, in nanoseconds, if nobody else ran in between.
const UNDISTURBED: u64 = 4_000;

/// What a worker remembers of its sleeps.
#[derive(Debug, Default)]
pub(super) struct BusyPoll {
    /// How long it looks at most, in nanoseconds; zero for not at all.
    most: u64,
    worth: u8,
}

impl BusyPoll {
    /// Looks for so long at most from now on.
    pub(super) fn set(&mut self, most: Duration) {
        self.most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        self.worth = 0;
    }

    /// Looks again and again while that is worth it; says whether there was something.
    pub(super) fn look(&mut self, mut look: impl FnMut() -> io::Result<bool>) -> io::Result<bool> {
        if self.most == 0 || self.worth < WORTH {
            return Ok(false);
        }
        let start = kernel_time();
        let mut last = start;
        loop {
            if look()? {
                self.worth = MOST_WORTH;
                return Ok(true);
            }
            std::thread::yield_now();
            let now = kernel_time();
            if now - last > UNDISTURBED || now - start > self.most {
                self.worth = self.worth.saturating_sub(2);
                return Ok(false);
            }
            last = now;
        }
    }

    /// A sleep that began at a time of the kernel's clock has ended with packets.
    pub(super) fn slept_since(&mut self, start: u64) {
        let was_short = kernel_time().saturating_sub(start) <= self.most;
        self.worth = if was_short { (self.worth + 1).min(MOST_WORTH) } else { self.worth.saturating_sub(1) };
    }
}
