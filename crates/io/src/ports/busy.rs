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
    /// How long it has looked, in nanoseconds.
    looked: u64,
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
        let found = loop {
            if look()? {
                break true;
            }
            std::thread::yield_now();
            let now = kernel_time();
            if now - last > UNDISTURBED || now - start > self.most {
                break false;
            }
            last = now;
        };
        self.looked += last - start;
        self.worth = if found { MOST_WORTH } else { self.worth.saturating_sub(2) };
        Ok(found)
    }

    /// How long it has looked in all.
    pub(super) const fn looked(&self) -> Duration {
        Duration::from_nanos(self.looked)
    }

    /// A sleep that began at a time of the kernel's clock has ended with packets.
    pub(super) fn slept_since(&mut self, start: u64) {
        let was_short = kernel_time().saturating_sub(start) <= self.most;
        self.worth = if was_short { (self.worth + 1).min(MOST_WORTH) } else { self.worth.saturating_sub(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy(most: Duration) -> BusyPoll {
        let mut busy = BusyPoll::default();
        busy.set(most);
        busy
    }

    #[test]
    fn it_looks_only_where_sleeps_were_short_and_not_for_ever() {
        let mut busy = busy(Duration::from_millis(2));
        let mut looks = 0;
        let mut nothing = |busy: &mut BusyPoll| {
            let before = looks;
            assert!(
                !busy
                    .look(|| {
                        looks += 1;
                        Ok(false)
                    })
                    .unwrap()
            );
            looks - before
        };
        assert_eq!(nothing(&mut busy), 0, "nothing is known of its sleeps");
        for _ in 0..WORTH {
            busy.slept_since(kernel_time());
        }
        assert!(nothing(&mut busy) > 0);
        assert_eq!(nothing(&mut busy), 0, "it was in vain");
        for _ in 0..MOST_WORTH {
            busy.slept_since(kernel_time() - 10_000_000);
            assert_eq!(nothing(&mut busy), 0, "long sleeps");
        }
        assert!(busy.looked() < Duration::from_millis(100));
    }

    #[test]
    fn what_is_found_makes_it_look_again_and_zero_means_never() {
        let mut eager = busy(Duration::from_millis(2));
        (0..WORTH).for_each(|_| eager.slept_since(kernel_time()));
        for _ in 0..100 {
            assert!(eager.look(|| Ok(true)).unwrap());
        }
        let mut never = busy(Duration::ZERO);
        (0..100).for_each(|_| never.slept_since(kernel_time()));
        assert!(!never.look(|| panic!("it looks")).unwrap());
    }
}
