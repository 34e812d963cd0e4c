//! What a log of sessions says: when each began and ended, and why.

use std::collections::VecDeque;

use fairway_types::{Counter, Now};

use crate::engine::Engine;
use crate::session::Session;
use crate::table::Index;
use crate::view::SessionView;

/// How many records wait to be taken; more are lost, and counted.
const RECORDS: usize = 4096;

/// The beginning or the end of a session.
#[derive(Clone, Debug)]
pub struct SessionRecord {
    /// When.
    pub at: Now,
    /// Why it ended: `expired`, `closed`, `deleted`, `replaced` or `evicted`; nothing when it began.
    pub end: Option<&'static str>,
    /// The session as it was then.
    pub session: SessionView,
}

/// Records that wait.
#[derive(Default)]
pub(crate) struct Records {
    enabled: bool,
    waiting: VecDeque<SessionRecord>,
}

impl Engine {
    /// Says whether sessions are to be recorded. Each record costs about as much as a session.
    pub fn record_sessions(&mut self, enabled: bool) {
        self.records.enabled = enabled;
        self.records.waiting.clear();
    }

    /// The next record, the oldest first.
    pub fn poll_record(&mut self) -> Option<SessionRecord> {
        self.records.waiting.pop_front()
    }

    /// Counts a record that nobody could take.
    pub fn lose_record(&mut self) {
        self.counters.increment(Counter::SessionRecordsLost);
    }

    pub(crate) fn record_begin(&mut self, now: Now, index: Index) {
        if self.records.enabled
            && let Some(session) = self.table.get(index).copied()
        {
            self.record(now, &session, None);
        }
    }

    pub(crate) fn record_end(&mut self, now: Now, session: &Session, why: Counter) {
        if self.records.enabled {
            let name = why.name();
            self.record(now, session, Some(name.strip_prefix("sessions-").unwrap_or(name)));
        }
    }

    fn record(&mut self, at: Now, session: &Session, end: Option<&'static str>) {
        if self.records.waiting.len() >= RECORDS {
            return self.lose_record();
        }
        let session = self.view(at, session);
        self.records.waiting.push_back(SessionRecord { at, end, session });
    }
}
