//! The receiving half of a hop: verification, replay protection, and the peer's changes of key salt.
//!
//! A peer makes a new key salt when it starts. The first *genuine* packet with a new salt makes it
//! the current one; those before it stay acceptable for [`PREVIOUS_SALT_LIFETIME`], each with its own
//! replay window. That is longer than a tag can live (two slots), so that a packet of a forgotten
//! salt is never mistaken for a restart. Packets with an unknown salt cost a key derivation and are
//! therefore limited to [`DERIVATIONS_PER_SECOND`]; they change nothing unless they are genuine.

use core::fmt;
use core::time::Duration;

use fairway_types::{Now, Time};
use thiserror::Error;

use crate::hop::{HopKeys, SALT_LENGTH, TAG_LENGTH, TagError, security_id, slot};
use crate::peer_key::PeerKey;
use crate::replay::{Replay, ReplayWindow};

/// How long a key salt is accepted after a newer one was.
pub const PREVIOUS_SALT_LIFETIME: Duration = Duration::from_secs(10);

/// How many unknown key salts of one peer are tried in a second; each costs about 2 µs.
///
/// Whoever sends more forged packets than that can delay the recognition of a peer's restart, but
/// nothing else.
pub const DERIVATIONS_PER_SECOND: u32 = 256;

/// How many older salts are kept at once. A peer that restarts more often within
/// [`PREVIOUS_SALT_LIFETIME`] waits for the oldest to expire.
const PREVIOUS_SALTS: usize = 3;

/// Why a packet was refused. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// The tag is not genuine, or too many unknown salts were tried in this second.
    #[error("the tag does not match")]
    BadTag,
    /// The tag is genuine but the sequence number is not new, or the key salt is an old one.
    #[error("the packet was received before")]
    Replayed(#[source] Replay),
    /// The tag is genuine but was made before this receiver started.
    #[error("the packet was signed before this router started")]
    BeforeStart,
}

/// A packet that is genuine and new.
#[derive(Debug)]
pub struct Accepted<'a> {
    /// The keys of the salt it came with, to decrypt it.
    pub keys: &'a HopKeys,
    /// Whether it is the first one with this salt: the peer, or this router, started anew.
    pub new_salt: bool,
}

/// The keys of one salt and what was received under it.
struct Generation {
    salt: [u8; SALT_LENGTH],
    keys: HopKeys,
    window: ReplayWindow,
    /// The latest time slot a packet was signed in.
    last_slot: u64,
    /// How many packets were accepted.
    accepted: u64,
}

impl Generation {
    fn accept(&mut self, packet: &Packet<'_>) -> Result<(), Refused> {
        let slot = packet.verify(&self.keys)?;
        self.window.check_and_set(packet.sequence).map_err(Refused::Replayed)?;
        self.last_slot = self.last_slot.max(slot);
        self.accepted += 1;
        Ok(())
    }
}

/// A generation that was replaced, and when it is forgotten.
struct Previous {
    generation: Box<Generation>,
    until: Time,
}

/// What this router needs to verify what one peer sends to it.
pub struct Receiver {
    key: PeerKey,
    own: Box<str>,
    peer: Box<str>,
    not_before_slot: u64,
    current: Option<Box<Generation>>,
    previous: [Option<Previous>; PREVIOUS_SALTS],
    /// The last generation that proved genuine by a packet from before the start. It spares a
    /// derivation for each of those that follow, and nothing is accepted under it.
    early: Option<Box<Generation>>,
    budget: Budget,
}

impl Receiver {
    /// A receiver at the router `own` for what the router `peer` sends. Only packets signed in a
    /// time slot after that of `started_unix` (wall clock seconds) are accepted: what was sent
    /// before this router started might be a replay of what it then received.
    #[must_use]
    pub fn new(key: PeerKey, own: &str, peer: &str, started_unix: u64) -> Self {
        Self {
            key,
            own: own.into(),
            peer: peer.into(),
            not_before_slot: slot(started_unix).saturating_add(1),
            current: None,
            previous: [const { None }; PREVIOUS_SALTS],
            early: None,
            budget: Budget::default(),
        }
    }

    /// The value of TLV 16 in what the peer sends.
    #[must_use]
    pub fn security_id(&self) -> u32 {
        security_id(&self.own, &self.peer)
    }

    /// The peer's router name.
    #[must_use]
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// The key salt of the newest generation, once a genuine packet has come.
    #[must_use]
    pub fn salt(&self) -> Option<&[u8; SALT_LENGTH]> {
        self.current.as_ref().map(|generation| &generation.salt)
    }

    /// Verifies a packet and marks its sequence number as received.
    ///
    /// `salt` and `sequence` are the packet's TLVs 0x8004 and 0x8005, both part of `signed`: all
    /// bytes from the cookie to the one before the tag, as received.
    ///
    /// # Errors
    /// [`Refused`] says why; this receiver is unchanged then, but for its budget of derivations.
    pub fn accept(
        &mut self,
        salt: &[u8; SALT_LENGTH],
        sequence: u64,
        signed: &[u8],
        tag: &[u8; TAG_LENGTH],
        now: Now,
    ) -> Result<Accepted<'_>, Refused> {
        self.forget_expired(now.mono);
        let packet = Packet { sequence, signed, tag, unix: now.unix, not_before_slot: self.not_before_slot };
        let is_its = |generation: &Generation| generation.salt == *salt;
        if let Some(current) = self.current.as_mut().filter(|current| is_its(current)) {
            current.accept(&packet)?;
        } else if self.previous.iter().flatten().any(|previous| is_its(&previous.generation)) {
            return self.accept_previous(salt, &packet, now.mono);
        } else {
            let fresh = self.accept_unknown(salt, &packet, now.mono)?;
            self.promote(fresh, now.mono);
        }
        let current = self.current.as_ref().ok_or(Refused::BadTag)?;
        Ok(Accepted { keys: &current.keys, new_salt: current.accepted == 1 })
    }

    /// Verifies once more what [`Self::accept`] accepted a moment ago on behalf of another worker: its
    /// sequence number is used up already.
    ///
    /// # Errors
    /// [`Refused::BadTag`], also when its key salt was forgotten meanwhile.
    pub fn recognise(
        &self,
        salt: &[u8; SALT_LENGTH],
        signed: &[u8],
        tag: &[u8; TAG_LENGTH],
        now: Now,
    ) -> Result<Accepted<'_>, Refused> {
        let packet =
            Packet { sequence: 0, signed, tag, unix: now.unix, not_before_slot: self.not_before_slot };
        let previous = self.previous.iter().flatten().map(|previous| &previous.generation);
        let mut generations = self.current.iter().chain(previous);
        let generation = generations.find(|generation| generation.salt == *salt).ok_or(Refused::BadTag)?;
        packet.verify(&generation.keys)?;
        Ok(Accepted { keys: &generation.keys, new_salt: false })
    }

    /// Accepts a packet of an older salt. Should it be signed later than everything under the newer
    /// one, then the order was mistaken, and it becomes the current one again.
    fn accept_previous(
        &mut self,
        salt: &[u8; SALT_LENGTH],
        packet: &Packet<'_>,
        mono: Time,
    ) -> Result<Accepted<'_>, Refused> {
        let mut previous = self.previous.iter_mut().flatten();
        let previous = previous.find(|previous| previous.generation.salt == *salt).ok_or(Refused::BadTag)?;
        previous.generation.accept(packet)?;
        let mut accepted = &mut previous.generation;
        if let Some(current) = self.current.as_mut().filter(|current| current.last_slot < accepted.last_slot)
        {
            core::mem::swap(current, accepted);
            previous.until = mono + PREVIOUS_SALT_LIFETIME;
            accepted = current;
        }
        Ok(Accepted { keys: &accepted.keys, new_salt: false })
    }

    /// Accepts a packet of an unknown salt, whose keys are derived within the budget, unless it was
    /// signed earlier than one under the current salt: a peer's clock does not go back.
    fn accept_unknown(
        &mut self,
        salt: &[u8; SALT_LENGTH],
        packet: &Packet<'_>,
        mono: Time,
    ) -> Result<Box<Generation>, Refused> {
        if self.current.is_some() && self.previous.iter().all(Option::is_some) {
            return Err(Refused::BadTag);
        }
        let early = self.early.take_if(|early| early.salt == *salt);
        let was_early = early.is_some();
        let mut fresh = match early {
            Some(early) => early,
            None => self.derive(salt, mono)?,
        };
        let outcome = fresh.accept(packet);
        if outcome.is_ok() {
            let stale = self.current.as_ref().is_some_and(|current| fresh.last_slot < current.last_slot);
            return if stale { Err(Refused::Replayed(Replay::TooOld)) } else { Ok(fresh) };
        }
        if was_early || outcome == Err(Refused::BeforeStart) {
            self.early = Some(fresh);
        }
        Err(outcome.err().unwrap_or(Refused::BadTag))
    }

    fn derive(&mut self, salt: &[u8; SALT_LENGTH], mono: Time) -> Result<Box<Generation>, Refused> {
        if !self.budget.take(mono) {
            return Err(Refused::BadTag);
        }
        let keys = HopKeys::derive(&self.key, salt, &self.peer, &self.own).map_err(|_| Refused::BadTag)?;
        Ok(Box::new(Generation { salt: *salt, keys, window: ReplayWindow::new(), last_slot: 0, accepted: 0 }))
    }

    /// Makes a verified generation the current one.
    fn promote(&mut self, fresh: Box<Generation>, mono: Time) {
        let Some(replaced) = self.current.replace(fresh) else { return };
        if let Some(place) = self.previous.iter_mut().find(|place| place.is_none()) {
            *place = Some(Previous { generation: replaced, until: mono + PREVIOUS_SALT_LIFETIME });
        }
    }

    fn forget_expired(&mut self, mono: Time) {
        for place in &mut self.previous {
            if place.as_ref().is_some_and(|previous| previous.until <= mono) {
                *place = None;
            }
        }
    }

    pub(crate) fn is_for(&self, own: &str, key: &PeerKey) -> bool {
        *self.own == *own && self.key == *key
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("own", &self.own).field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// What is verified about a packet.
struct Packet<'a> {
    sequence: u64,
    signed: &'a [u8],
    tag: &'a [u8; TAG_LENGTH],
    unix: u64,
    not_before_slot: u64,
}

impl Packet<'_> {
    /// The time slot it was signed in.
    fn verify(&self, keys: &HopKeys) -> Result<u64, Refused> {
        keys.verify(self.signed, self.tag, self.unix, self.not_before_slot).map_err(|error| match error {
            TagError::Mismatch => Refused::BadTag,
            TagError::BeforeStart => Refused::BeforeStart,
        })
    }
}

/// How many derivations are left in the present second of the monotonic clock.
#[derive(Default)]
struct Budget {
    second: u64,
    taken: u32,
}

impl Budget {
    fn take(&mut self, mono: Time) -> bool {
        let second = mono.as_millis() / 1000;
        if second != self.second {
            *self = Self { second, taken: 0 };
        }
        if self.taken == DERIVATIONS_PER_SECOND {
            return false;
        }
        self.taken += 1;
        true
    }
}

#[cfg(test)]
mod tests;
