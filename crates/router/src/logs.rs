//! Log lines: their format, and how many of a kind are written.

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::time::Duration;

use fairway_types::Time;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::options::{LogFormat, LogLevel, Options};

/// Lines of one kind that are written at once.
const BURST: u32 = 10;
/// After that, one line of a kind in this time.
const INTERVAL: Duration = Duration::from_secs(5);

/// Sends log lines to standard error from now on. Does nothing when lines go somewhere already.
pub(crate) fn start(options: &Options) {
    let level = match options.log_level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    // The worker tells of these itself, by the names of the configuration.
    let told = if level == LevelFilter::INFO { LevelFilter::WARN } else { level };
    let targets = Targets::new().with_default(level).with_target("fairway_io::ports::events", told);
    let lines = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    // A second router in one process, as in tests, shares the first one's lines.
    let _ = match options.log_format {
        LogFormat::Json => lines.json().flatten_event(true).finish().with(targets).try_init(),
        // The journal has its own time.
        LogFormat::Text if std::env::var_os("JOURNAL_STREAM").is_some() => {
            lines.without_time().finish().with(targets).try_init()
        }
        LogFormat::Text => lines.finish().with(targets).try_init(),
    };
}

/// Lets through some lines of each kind, and counts those it does not.
#[derive(Debug, Default)]
pub(crate) struct Limiter {
    kinds: HashMap<&'static str, Kind>,
}

#[derive(Debug)]
struct Kind {
    tokens: u32,
    refilled: Time,
    withheld: u64,
}

impl Limiter {
    /// Whether a line of this kind may be written; then how many were withheld before it.
    pub(crate) fn admit(&mut self, now: Time, kind: &'static str) -> Option<u64> {
        let entry = self.kinds.entry(kind).or_insert(Kind { tokens: BURST, refilled: now, withheld: 0 });
        let earned = now.since(entry.refilled).as_nanos() / INTERVAL.as_nanos();
        if earned > 0 {
            entry.tokens = entry.tokens.saturating_add(u32::try_from(earned).unwrap_or(u32::MAX)).min(BURST);
            entry.refilled = now;
        }
        if entry.tokens == 0 {
            entry.withheld += 1;
            return None;
        }
        entry.tokens -= 1;
        Some(core::mem::take(&mut entry.withheld))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_the_rest_is_counted() {
        let mut limiter = Limiter::default();
        for _ in 0..BURST {
            assert_eq!(limiter.admit(Time::ZERO, "path-down"), Some(0));
        }
        assert_eq!(limiter.admit(Time::from_secs(1), "path-down"), None);
        assert_eq!(limiter.admit(Time::from_secs(1), "path-up"), Some(0));
        assert_eq!(limiter.admit(Time::from_secs(6), "path-down"), Some(1));
        assert_eq!(limiter.admit(Time::from_secs(6), "path-down"), None);
    }
}
