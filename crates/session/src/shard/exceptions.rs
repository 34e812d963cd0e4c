//! Flows that belong to another worker than their tuple says.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use fairway_types::WorkerId;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::key::FlowKey;

/// How many locks the flows are spread over.
const PARTS: usize = 16;

type Part = HashMap<FlowKey, WorkerId, FixedState>;

/// The owners of such flows. All workers of a router share it, and look here only for flows that
/// they do not know themselves.
pub(crate) struct Exceptions {
    parts: [Mutex<Part>; PARTS],
    /// How many there are: mostly none, and then nobody needs to look.
    count: AtomicUsize,
}

impl Exceptions {
    /// `secret` keeps senders from choosing collisions.
    pub(crate) fn new(secret: u64) -> Self {
        let part = || Mutex::new(HashMap::with_hasher(FixedState::with_seed(secret)));
        Self { parts: core::array::from_fn(|_| part()), count: AtomicUsize::new(0) }
    }

    /// A thread that panicked with a part in hand left it whole: every change is one call.
    fn part(&self, key: &FlowKey) -> MutexGuard<'_, Part> {
        let part = &self.parts[usize::from(key.class()) % PARTS];
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn owner(&self, key: &FlowKey) -> Option<WorkerId> {
        if self.len() == 0 {
            return None;
        }
        self.part(key).get(key).copied()
    }

    pub(crate) fn claim(&self, key: &FlowKey, worker: WorkerId) {
        // Whoever sees the count sees the flow: the lock is still held.
        let mut part = self.part(key);
        if part.insert(*key, worker).is_none() {
            self.count.fetch_add(1, Ordering::Release);
        }
    }

    /// Forgets the claim of a worker; one that somebody else made since stays.
    pub(crate) fn release(&self, key: &FlowKey, worker: WorkerId) {
        let mut part = self.part(key);
        if part.get(key) == Some(&worker) {
            part.remove(key);
            self.count.fetch_sub(1, Ordering::Release);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }
}
