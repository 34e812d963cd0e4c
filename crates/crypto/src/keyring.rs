//! The senders and receivers of all peers of a router.
//!
//! The workers of a router share them: a clone of a keyring is another handle to the same hops. What
//! is sent takes no lock; what is received takes that of its peer while it is verified, so that no
//! two workers accept the same packet.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fairway_types::PeerId;
use thiserror::Error;

use crate::hop::{CryptoError, SALT_LENGTH};
use crate::peer_key::PeerKey;
use crate::receiver::Receiver;
use crate::sender::Sender;

/// Why a keyring refused its entries. It is unchanged then.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KeyringError {
    /// Two peers have the same security id: one of them needs another name.
    #[error("the router names {first:?} and {second:?} have the same security id; rename one of them")]
    Collision {
        /// The peer that was there first.
        first: String,
        /// The other one.
        second: String,
    },
    /// Two entries have the same peer id.
    #[error("{first:?} and {second:?} have the same peer id")]
    SamePeer {
        /// The peer that was there first.
        first: String,
        /// The other one.
        second: String,
    },
    /// Keys could not be derived.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// One peer of a keyring.
#[derive(Clone, Debug)]
pub struct KeyringEntry {
    /// The peer's id in the configuration that is being applied.
    pub peer: PeerId,
    /// The peer's router name.
    pub name: String,
    /// The key shared with it.
    pub key: PeerKey,
    /// A fresh random key salt. It is used only if a new sender is made.
    pub sender_salt: [u8; SALT_LENGTH],
}

/// Both halves of a hop to one peer.
#[derive(Debug)]
struct Hop {
    name: Box<str>,
    sender: Sender,
    receiver: Mutex<Receiver>,
}

impl Hop {
    /// A thread that panicked while it verified a packet left windows that are still right.
    fn receiver(&self) -> MutexGuard<'_, Receiver> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The senders and receivers of all peers of a router.
///
/// A clone shares the hops, but not which peers there are.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    /// By peer id.
    hops: Vec<Option<Arc<Hop>>>,
    /// Sorted by security id.
    by_security_id: Vec<(u32, PeerId)>,
}

impl Keyring {
    /// A keyring without peers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one peer of the router `own`. `started_unix` is the wall clock at the start of this
    /// router: see [`Receiver::new`].
    ///
    /// # Errors
    /// [`KeyringError`] when the peer's id or security id is taken.
    pub fn insert(
        &mut self,
        peer: PeerId,
        own: &str,
        name: &str,
        key: PeerKey,
        sender_salt: [u8; SALT_LENGTH],
        started_unix: u64,
    ) -> Result<(), KeyringError> {
        let sender = Sender::new(&key, own, name, sender_salt)?;
        let receiver = Mutex::new(Receiver::new(key, own, name, started_unix));
        self.insert_hop(peer, Hop { name: name.into(), sender, receiver })
    }

    /// Makes the keyring hold exactly `entries`, as after a change of configuration.
    ///
    /// Peers with an unchanged name and key keep their sender and receiver, whatever their id is
    /// now: neither sequence numbers nor replay windows begin anew. `now_unix` is the wall clock;
    /// new receivers accept what is signed after its slot.
    ///
    /// # Errors
    /// [`KeyringError`]; the keyring is unchanged then.
    pub fn replace(
        &mut self,
        own: &str,
        entries: impl IntoIterator<Item = KeyringEntry>,
        now_unix: u64,
    ) -> Result<(), KeyringError> {
        let mut next = Self::new();
        let mut kept = Vec::new();
        for entry in entries {
            // A newcomer stands in for a peer that is kept until nothing can fail any more.
            if let Some(from) = self.position_of(own, &entry) {
                kept.push((from, entry.peer));
            }
            next.insert(entry.peer, own, &entry.name, entry.key, entry.sender_salt, now_unix)?;
        }
        for (from, to) in kept {
            let old = self.hops.get(from.index()).cloned().flatten();
            if let (Some(hop), Some(place)) = (old, next.hops.get_mut(to.index())) {
                *place = Some(hop);
            }
        }
        *self = next;
        Ok(())
    }

    /// Removes the peers for which `keep` is false; it gets their id and name.
    pub fn retain(&mut self, mut keep: impl FnMut(PeerId, &str) -> bool) {
        for (peer, place) in (0u16..).map(PeerId).zip(&mut self.hops) {
            if place.as_ref().is_some_and(|hop| !keep(peer, &hop.name)) {
                *place = None;
            }
        }
        let hops = &self.hops;
        self.by_security_id.retain(|(_, peer)| hops.get(peer.index()).is_some_and(Option::is_some));
    }

    /// The receiver that a packet's TLV 16 names, and its peer.
    #[must_use]
    pub fn receiver_by_id(&self, security_id: u32) -> Option<(PeerId, MutexGuard<'_, Receiver>)> {
        let index = self.by_security_id.binary_search_by_key(&security_id, |&(id, _)| id).ok()?;
        let &(_, peer) = self.by_security_id.get(index)?;
        Some((peer, self.receiver(peer)?))
    }

    /// The receiver for a peer.
    #[must_use]
    pub fn receiver(&self, peer: PeerId) -> Option<MutexGuard<'_, Receiver>> {
        self.hops.get(peer.index())?.as_ref().map(|hop| hop.receiver())
    }

    /// The sender to a peer.
    #[must_use]
    pub fn sender(&self, peer: PeerId) -> Option<&Sender> {
        self.hops.get(peer.index())?.as_ref().map(|hop| &hop.sender)
    }

    /// How many peers the keyring holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_security_id.len()
    }

    /// Whether the keyring holds no peer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_security_id.is_empty()
    }

    fn insert_hop(&mut self, peer: PeerId, hop: Hop) -> Result<(), KeyringError> {
        if let Some(first) = self.name_of(peer) {
            return Err(KeyringError::SamePeer { first: first.into(), second: hop.name.into() });
        }
        let id = hop.receiver().security_id();
        let index = match self.by_security_id.binary_search_by_key(&id, |&(id, _)| id) {
            Err(index) => index,
            Ok(taken) => {
                let first = self.by_security_id.get(taken).and_then(|&(_, other)| self.name_of(other));
                return Err(KeyringError::Collision {
                    first: first.unwrap_or_default().into(),
                    second: hop.name.into(),
                });
            }
        };
        self.by_security_id.insert(index, (id, peer));
        if self.hops.len() <= peer.index() {
            self.hops.resize_with(peer.index() + 1, || None);
        }
        if let Some(place) = self.hops.get_mut(peer.index()) {
            *place = Some(Arc::new(hop));
        }
        Ok(())
    }

    fn name_of(&self, peer: PeerId) -> Option<&str> {
        self.hops.get(peer.index())?.as_ref().map(|hop| &*hop.name)
    }

    /// Where the hop that `entry` leaves unchanged is kept now.
    fn position_of(&self, own: &str, entry: &KeyringEntry) -> Option<PeerId> {
        (0u16..).map(PeerId).zip(&self.hops).find_map(|(peer, hop)| {
            let hop = hop.as_ref()?;
            (*hop.name == *entry.name && hop.receiver().is_for(own, &entry.key)).then_some(peer)
        })
    }
}

#[cfg(test)]
mod tests;
