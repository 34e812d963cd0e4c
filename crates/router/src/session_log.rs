//! The log of sessions: a JSON object a line for each beginning and each end.
//!
//! Lines are written by a thread of their own, behind a bounded queue: a slow disk costs lines, which
//! are counted (`session-records-lost`), and never packets. The file may be renamed at any time, as
//! log rotation does: the next line goes into a new one.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;
use tracing::warn;

use crate::api;
use crate::clock::Clock;
use crate::files::Files;

/// Lines that wait for the disk.
const QUEUE: usize = 8192;
/// Bytes that are written at once when lines come fast.
const BLOCK: usize = 32 * 1024;
/// How often what was written is flushed, and the file looked for.
const INTERVAL: Duration = Duration::from_secs(1);

/// One line.
#[derive(Debug, Serialize)]
pub(crate) struct Line {
    /// UTC, RFC 3339.
    pub(crate) time: String,
    /// `start` or `end`.
    pub(crate) event: &'static str,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<&'static str>,
    /// This router.
    pub(crate) router: String,
    /// The session, as `fairway show sessions --json` has it.
    #[serde(flatten)]
    pub(crate) session: api::Session,
}

/// Where lines go.
#[derive(Clone, Debug)]
pub(crate) struct SessionLog {
    lines: SyncSender<Line>,
}

impl SessionLog {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// When there is no thread.
    pub(crate) fn start(output: Output, clock: Clock) -> anyhow::Result<(Self, JoinHandle<()>)> {
        let (lines, waiting) = sync_channel(QUEUE);
        let thread =
            Builder::new().name("session-log".into()).spawn(move || write(output, &waiting, clock))?;
        Ok((Self { lines }, thread))
    }

    /// Takes a line, if there is room for it.
    pub(crate) fn take(&self, line: Line) -> bool {
        self.lines.try_send(line).is_ok()
    }
}

/// The file, and which one it is.
pub(crate) struct Output {
    path: PathBuf,
    files: Files,
    file: File,
    /// Whole lines that wait to be written, so that nobody ever reads half of one.
    pending: Vec<u8>,
    identity: (u64, u64),
}

impl Output {
    /// Opens the file; `path` is what it is called.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) fn open(files: Files, path: PathBuf) -> anyhow::Result<Self> {
        let opened = files.session_log().and_then(|file| Ok((identity(&file)?, file)));
        let (identity, file) = opened.with_context(|| format!("open the session log {}", path.display()))?;
        Ok(Self { path, files, file, pending: Vec::with_capacity(2 * BLOCK), identity })
    }

    /// Goes on in a new file when this one was renamed or removed.
    fn follow(&mut self) -> io::Result<()> {
        let file = self.files.session_log()?;
        let found = identity(&file)?;
        if found != self.identity {
            (self.file, self.identity) = (file, found);
        }
        Ok(())
    }

    fn put(&mut self, line: &Line) -> io::Result<()> {
        serde_json::to_writer(&mut self.pending, line)?;
        self.pending.push(b'\n');
        if self.pending.len() < BLOCK { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.file.write_all(&self.pending);
        self.pending.clear();
        result
    }
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Writes until nobody has lines any more.
fn write(mut output: Output, waiting: &Receiver<Line>, clock: Clock) {
    let (mut failing, mut flushed) = (false, clock.mono());
    loop {
        let received = waiting.recv_timeout(INTERVAL);
        let mut result = match &received {
            Ok(line) => output.put(line),
            Err(_) => Ok(()),
        };
        let due = clock.mono().since(flushed) >= INTERVAL;
        if due || received.is_err() {
            flushed = clock.mono();
            result = result.and_then(|()| output.flush()).and_then(|()| output.follow());
        }
        if let Err(error) = &result
            && !failing
        {
            warn!(%error, file = %output.path.display(), "the session log cannot be written");
        }
        failing = result.is_err();
        if let Err(RecvTimeoutError::Disconnected) = received {
            return;
        }
    }
}

/// A time in seconds since the Unix epoch as RFC 3339 has it, in UTC.
pub(crate) fn rfc3339(unix: u64) -> String {
    // Days from civil, backwards (Howard Hinnant, "chrono-compatible low-level date algorithms").
    let (days, second) = (unix / 86_400, unix % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (unix, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_000_001, "2026-11-18T11:06:41Z"),
            (4_102_444_800, "2100-01-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(unix), text);
        }
    }
}
