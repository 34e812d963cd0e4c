//! The sending half of a hop.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::hop::{CryptoError, HopKeys, SALT_LENGTH, security_id};
use crate::peer_key::PeerKey;

/// What this router needs to sign and number what it sends to one peer.
#[derive(Debug)]
pub struct Sender {
    security_id: u32,
    salt: [u8; SALT_LENGTH],
    next_sequence: AtomicU64,
    keys: HopKeys,
}

impl Sender {
    /// A sender from the router `own` to the router `peer`. The key salt must be random, and never
    /// used before with this key: the sequence numbers begin at zero.
    ///
    /// # Errors
    /// [`CryptoError`] when the library has no memory left.
    pub fn new(key: &PeerKey, own: &str, peer: &str, salt: [u8; SALT_LENGTH]) -> Result<Self, CryptoError> {
        Ok(Self {
            security_id: security_id(peer, own),
            salt,
            next_sequence: AtomicU64::new(0),
            keys: HopKeys::derive(key, &salt, own, peer)?,
        })
    }

    /// The value of TLV 16, by which the peer finds the key.
    #[must_use]
    pub const fn security_id(&self) -> u32 {
        self.security_id
    }

    /// The value of TLV 0x8004.
    #[must_use]
    pub const fn salt(&self) -> &[u8; SALT_LENGTH] {
        &self.salt
    }

    /// The value of TLV 0x8005 for the next packet; each call returns one more, whoever calls.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// The keys to encrypt and sign with.
    #[must_use]
    pub const fn keys(&self) -> &HopKeys {
        &self.keys
    }
}
