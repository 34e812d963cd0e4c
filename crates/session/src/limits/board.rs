//! Who has a session with an answer at any worker of a router.
//!
//! Workers keep books of their own, but whom a flood must not keep out is for all to know: a new session
//! of a host that works may be with a worker that has never heard of it. So each counts such sessions on
//! one board, in two places that a secret hash leads to, and a source is on it if neither is empty. With
//! thousands of such sources, one in a hundred of all others seems to be on it, too, and nobody can
//! choose which.

use core::hash::BuildHasher;
use core::sync::atomic::{AtomicU32, Ordering};

use foldhash::fast::FixedState;

use super::sources::Source;

/// Places on the board, a power of two: 128 KiB.
const PLACES: usize = 32_768;

/// The board. Counts are exact, whatever the order in which workers change them.
#[derive(Debug)]
pub(crate) struct Board {
    counts: Box<[AtomicU32]>,
    hasher: FixedState,
}

impl Board {
    /// An empty board. `secret` keeps senders from choosing whose places they share.
    pub(crate) fn new(secret: u64) -> Self {
        let counts = (0..PLACES).map(|_| AtomicU32::new(0)).collect();
        Self { counts, hasher: FixedState::with_seed(secret) }
    }

    fn places(&self, source: &Source) -> [&AtomicU32; 2] {
        let hash = self.hasher.hash_one(source);
        [hash, hash >> 32].map(|part| &self.counts[part as usize % PLACES])
    }

    pub(crate) fn has(&self, source: &Source) -> bool {
        self.places(source).iter().all(|count| count.load(Ordering::Relaxed) > 0)
    }

    pub(crate) fn add(&self, source: &Source, sessions: u32) {
        for count in self.places(source) {
            count.fetch_add(sessions, Ordering::Relaxed);
        }
    }

    /// Takes off what was added.
    pub(crate) fn remove(&self, source: &Source, sessions: u32) {
        for count in self.places(source) {
            count.fetch_sub(sessions, Ordering::Relaxed);
        }
    }
}
