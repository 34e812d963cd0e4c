//! Somebody who knows a session's secret and only looks: for captures.

use core::ops::Range;

use fairway_types::Suite;

use super::keys::{Derivation, Keys, Tag};
use super::outbound::first_phase;
use super::{Direction, SessionSecret};
use crate::hop::SALT_LENGTH;

/// How many key phases after the first one of a salt are tried.
const PHASES: u8 = 4;

/// The keys of one direction of a session under one sender salt, without any memory of what was seen.
pub struct Observer {
    /// By key phase, from the first one of the salt.
    phases: Vec<Keys>,
}

impl Observer {
    /// Derives the keys of a few phases; none where the library fails.
    #[must_use]
    pub fn new(suite: Suite, secret: &SessionSecret, direction: Direction, salt: &[u8; SALT_LENGTH]) -> Self {
        let of = Derivation { suite, secret, direction };
        let phase = |number: u8| Keys::derive(&of, salt, first_phase(salt).wrapping_add(number)).ok();
        Self { phases: (0..PHASES).filter_map(phase).collect() }
    }

    /// Verifies and decrypts a block in place, and says where the payload is. A block that does not
    /// open may have been changed.
    pub fn open(&self, associated: &[u8], block: &mut [u8]) -> Option<Range<usize>> {
        let original = block.to_vec();
        self.phases.iter().find_map(|keys| {
            block.copy_from_slice(&original);
            let counter = keys.counter(block)?;
            keys.open(counter, associated, block, Tag::Unknown).ok()
        })
    }
}
