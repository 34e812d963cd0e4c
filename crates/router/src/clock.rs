//! The clocks. Everything below the daemon gets its time from here.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fairway_types::{Now, Time};

/// Both clocks, monotonic since the daemon started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

impl Clock {
    /// A clock that begins now.
    #[expect(clippy::disallowed_methods, reason = "the daemon is the shell that reads the clocks")]
    pub(crate) fn start() -> Self {
        Self { origin: Instant::now() }
    }

    /// Both clocks.
    pub(crate) fn now(&self) -> Now {
        Now { mono: self.mono(), unix: unix_time().as_secs() }
    }

    /// The monotonic clock alone.
    #[expect(clippy::disallowed_methods, reason = "the daemon is the shell that reads the clocks")]
    pub(crate) fn mono(&self) -> Time {
        let elapsed = Instant::now().duration_since(self.origin);
        Time(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// The time since the Unix epoch; zero before it.
#[expect(clippy::disallowed_methods, reason = "the daemon is the shell that reads the clocks")]
pub(crate) fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
