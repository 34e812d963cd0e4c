//! The receiving half: which keys a packet needs, and whether its counter is new.

use core::ops::Range;
use core::time::Duration;

use fairway_types::Time;
use thiserror::Error;

use super::keys::{Derivation, Keys, Opening, Tag};
use super::near;
use super::outbound::{SEQUENCES, first_phase};
use super::sha256::LANES;
use super::together::Checked;
use crate::hop::{CryptoError, SALT_LENGTH};
use crate::replay::ReplayWindow;

/// How long replaced keys still open what is under way.
const PREVIOUS_LIFETIME: Duration = Duration::from_secs(10);
/// Generations of keys that are kept beside the newest.
const PREVIOUS: usize = 2;
/// Workers of a sender whose counters are told apart; more are refused.
const WORKERS: usize = 16;

/// Why a payload was not opened. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unopened {
    /// The tag is wrong, the block is cut short, or no keys fit its key phase.
    #[error("the payload is not what was sealed")]
    Forged,
    /// Received before, or too old to tell.
    #[error("the payload was received before")]
    Replayed,
    /// The peer's sender salt is not known yet.
    #[error("the keys of the sender are not known yet")]
    NoKeys,
}

/// The keys of one key phase, and what was received under them.
struct Generation {
    salt: [u8; SALT_LENGTH],
    phase: u8,
    keys: Keys,
    /// The worker of the sender that was heard first, which is the only one but for sessions that
    /// move, and its window.
    first: Option<(u8, Window)>,
    /// Those of other workers.
    others: Vec<(u8, Window)>,
}

/// What covers the skew of one path, and of a burst behind an overtaking packet.
type Window = ReplayWindow<32>;

impl Generation {
    fn derive(of: &Derivation<'_>, salt: [u8; SALT_LENGTH], phase: u8) -> Result<Box<Self>, CryptoError> {
        let keys = Keys::derive(of, &salt, phase)?;
        Ok(Box::new(Self { salt, phase, keys, first: None, others: Vec::new() }))
    }

    /// The counter of a packet that may be of this key phase.
    fn counter(&self, block: &[u8]) -> Option<u64> {
        self.keys.counter(block).filter(|counter| (counter >> 56) as u8 == self.phase)
    }

    /// What is known to be old is not even verified.
    fn open(
        &mut self,
        counter: u64,
        associated: &[u8],
        block: &mut [u8],
        tag: Tag,
    ) -> Result<Range<usize>, Unopened> {
        let (worker, sequence) = ((counter >> 48) as u8, counter % SEQUENCES);
        let is_full = self.others.len() == WORKERS;
        match self.window(worker) {
            Some(window) => window.check(sequence).map_err(|_| Unopened::Replayed)?,
            None if is_full => return Err(Unopened::Forged),
            None => {}
        }
        let payload = self.keys.open(counter, associated, block, tag).map_err(|_| Unopened::Forged)?;
        if self.window(worker).is_none() {
            let fresh = (worker, Window::new());
            if self.first.is_none() { self.first = Some(fresh) } else { self.others.push(fresh) }
        }
        if let Some(window) = self.window(worker) {
            window.set(sequence);
        }
        Ok(payload)
    }

    /// Whether a packet with this counter has not been seen.
    fn awaits(&self, counter: u64) -> bool {
        let (worker, sequence) = ((counter >> 48) as u8, counter % SEQUENCES);
        let mut known = self.first.iter().chain(&self.others);
        match known.find(|(of, _)| *of == worker) {
            Some((_, window)) => window.check(sequence).is_ok(),
            None => self.others.len() < WORKERS,
        }
    }

    #[inline]
    fn window(&mut self, worker: u8) -> Option<&mut Window> {
        let mut known = self.first.iter_mut().chain(&mut self.others);
        known.find(|(of, _)| *of == worker).map(|(_, window)| window)
    }
}

/// What opens one direction.
#[derive(Default)]
pub(super) struct Inbound {
    current: Option<Box<Generation>>,
    /// The phase after the current one: derived when a packet first claims it, and current as soon
    /// as one proves it.
    next: Option<Box<Generation>>,
    previous: [Option<(Box<Generation>, Time)>; PREVIOUS],
}

impl Inbound {
    #[inline]
    pub(super) fn bring(&self) {
        if let Some(current) = &self.current {
            near::bring(&current.first);
            current.keys.bring();
        }
    }

    pub(super) const fn has_keys(&self) -> bool {
        self.current.is_some()
    }

    /// Takes note of the sender salt that metadata names. Says whether it is new.
    pub(super) fn learn(
        &mut self,
        of: &Derivation<'_>,
        salt: &[u8; SALT_LENGTH],
        now: Time,
    ) -> Result<bool, CryptoError> {
        let known = self.current.as_ref().is_some_and(|current| current.salt == *salt)
            || self.previous.iter().flatten().any(|(generation, _)| generation.salt == *salt);
        if known {
            return Ok(false);
        }
        let fresh = Generation::derive(of, *salt, first_phase(salt))?;
        self.replace(fresh, now);
        Ok(true)
    }

    /// Looks at a block before its turn: `None` if that brings nothing, or it will hardly open.
    pub(super) fn check(&self, block: &[u8]) -> Option<Checked> {
        let current = self.current.as_ref()?;
        let keys = current.keys.shared()?;
        let counter = current.counter(block).filter(|&counter| current.awaits(counter))?;
        Some(Checked { keys, counter, tag: Tag::Unknown })
    }

    /// Verifies and decrypts in place, and says where the payload is.
    #[inline]
    pub(super) fn open(
        &mut self,
        of: &Derivation<'_>,
        associated: &[u8],
        block: &mut [u8],
        now: Time,
        checked: Option<&Checked>,
    ) -> Result<Range<usize>, Unopened> {
        let Some(current) = &mut self.current else { return Err(Unopened::NoKeys) };
        // The keys may have changed since it was looked at.
        if let Some(checked) = checked.filter(|checked| current.keys.are(&checked.keys)) {
            return current.open(checked.counter, associated, block, checked.tag);
        }
        if let Some(counter) = current.counter(block) {
            return current.open(counter, associated, block, Tag::Unknown);
        }
        for (generation, until) in self.previous.iter_mut().flatten() {
            if let Some(counter) = generation.counter(block).filter(|_| now < *until) {
                return generation.open(counter, associated, block, Tag::Unknown);
            }
        }
        self.open_next(of, associated, block, now)
    }

    /// [`Self::open`] for several blocks, in their order.
    pub(super) fn open_all(&mut self, of: &Derivation<'_>, blocks: &mut [Opening<'_>], now: Time) {
        for group in blocks.chunks_mut(LANES) {
            let (tags, verified_by) = match &self.current {
                Some(current) => (current.keys.verify_all(group), Some((current.salt, current.phase))),
                None => ([Tag::Unknown; LANES], None),
            };
            for (sealed, tag) in group.iter_mut().zip(tags) {
                let Opening { associated, block, opened } = sealed;
                // One of them may be the first of the next key phase.
                let current = self.current.as_mut().filter(|c| verified_by == Some((c.salt, c.phase)));
                *opened = match current.and_then(|current| Some((current.counter(block)?, current))) {
                    Some((counter, current)) => current.open(counter, associated, block, tag),
                    None => self.open(of, associated, block, now, None),
                };
            }
        }
    }

    /// Opens the first packet of the next key phase of the current salt.
    fn open_next(
        &mut self,
        of: &Derivation<'_>,
        associated: &[u8],
        block: &mut [u8],
        now: Time,
    ) -> Result<Range<usize>, Unopened> {
        let Some(current) = &self.current else { return Err(Unopened::NoKeys) };
        let mut next = match self.next.take() {
            Some(next) => next,
            None => Generation::derive(of, current.salt, current.phase.wrapping_add(1))
                .map_err(|_| Unopened::NoKeys)?,
        };
        let opened = match next.counter(block) {
            Some(counter) => next.open(counter, associated, block, Tag::Unknown),
            None => Err(Unopened::Forged),
        };
        if opened.is_ok() {
            self.replace(next, now);
        } else {
            self.next = Some(next);
        }
        opened
    }

    /// Makes a generation the current one; the one before it stays for what is under way.
    fn replace(&mut self, fresh: Box<Generation>, now: Time) {
        self.next = None;
        let Some(replaced) = self.current.replace(fresh) else { return };
        self.previous.rotate_right(1);
        if let Some(place) = self.previous.first_mut() {
            *place = Some((replaced, now + PREVIOUS_LIFETIME));
        }
    }
}
