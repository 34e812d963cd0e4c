//! The sending half: keys, and a counter that never repeats under them.

use core::time::Duration;

use fairway_types::Time;
use thiserror::Error;

use super::keys::{Derivation, Keys};
use crate::hop::{CryptoError, SALT_LENGTH};

/// How many packets one key phase protects at most.
pub const PHASE_PACKETS: u64 = 1 << 36;
/// How long one key phase lasts at most.
pub const PHASE_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// How often the phase may change under one sender salt: none comes twice.
const TURNS: u8 = u8::MAX;
/// Sequence numbers of a phase have 48 bits.
pub(super) const SEQUENCES: u64 = 1 << 48;

/// The keys are used up, or could not be made: the session needs a new sender salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the session's keys are used up")]
pub struct Exhausted;

/// What seals one direction.
pub(super) struct Outbound {
    /// Its last byte is the first key phase.
    salt: [u8; SALT_LENGTH],
    keys: Keys,
    phase: u8,
    /// Phases after the first one of this salt.
    turns: u8,
    worker: u8,
    next: u64,
    since: Time,
}

impl Outbound {
    pub(super) fn new(
        of: &Derivation<'_>,
        salt: [u8; SALT_LENGTH],
        worker: u8,
        now: Time,
    ) -> Result<Self, CryptoError> {
        let phase = first_phase(&salt);
        let keys = Keys::derive(of, &salt, phase)?;
        Ok(Self { salt, keys, phase, turns: 0, worker, next: 0, since: now })
    }

    #[inline]
    pub(super) fn bring(&self) {
        self.keys.bring();
    }

    pub(super) const fn salt(&self) -> &[u8; SALT_LENGTH] {
        &self.salt
    }

    pub(super) const fn phase(&self) -> u8 {
        self.phase
    }

    /// Keys and counters for so many more packets: the first counter, which the others follow.
    #[inline]
    pub(super) fn take(
        &mut self,
        of: &Derivation<'_>,
        packets: usize,
        now: Time,
    ) -> Result<(&Keys, u64), Exhausted> {
        let worn = self.next >= PHASE_PACKETS || now.since(self.since) >= PHASE_LIFETIME;
        if worn && self.turns < TURNS {
            self.turn(of, now).map_err(|_| Exhausted)?;
        }
        let after = self.next.saturating_add(packets as u64);
        if after > SEQUENCES {
            return Err(Exhausted);
        }
        let counter = u64::from(self.phase) << 56 | u64::from(self.worker) << 48 | self.next;
        self.next = after;
        Ok((&self.keys, counter))
    }

    /// What the start of a block is in the clear that this end sealed under the present keys.
    pub(super) fn reveal(&self, block: &[u8], shown: &mut [u8]) -> usize {
        let is_own = self
            .keys
            .counter(block)
            .is_some_and(|counter| (counter >> 56) as u8 == self.phase && counter % SEQUENCES < self.next);
        if is_own { self.keys.reveal(block, shown) } else { 0 }
    }

    /// Goes on to the next key phase.
    #[cold]
    pub(super) fn turn(&mut self, of: &Derivation<'_>, now: Time) -> Result<(), CryptoError> {
        if self.turns == TURNS {
            return Err(CryptoError);
        }
        let phase = self.phase.wrapping_add(1);
        self.keys = Keys::derive(of, &self.salt, phase)?;
        (self.phase, self.turns, self.next, self.since) = (phase, self.turns + 1, 0, now);
        Ok(())
    }
}

/// The key phase that a sender salt begins with. The sender chose it to differ from that of the salt
/// before, so that the receiver knows from the counter which keys a packet needs.
pub(super) const fn first_phase(salt: &[u8; SALT_LENGTH]) -> u8 {
    salt[SALT_LENGTH - 1]
}
