//! The session layer: what ingress and egress do to a session's payload (wire specification,
//! sections 1 and 6; `docs/wire.md`, section 11).
//!
//! The ingress draws a [`SessionSecret`] for each session and tells it in encrypted metadata (TLV
//! 46). Each direction has keys of its own, derived from the secret, the *sender salt* (TLV 0x8001)
//! and a *key phase*; every packet bears a counter that no other packet under these keys has. A
//! sender whose state is new has a new salt, so no nonce is ever used twice, however often a router
//! restarts.
//!
//! [`End`] is one end of a session: it seals what leaves and opens what arrives.

mod cbc;
mod end;
mod gcm;
mod inbound;
mod keys;
mod near;
mod observer;
mod outbound;
mod processor;
mod sha256;
mod tag;
mod together;

use core::fmt;

pub use fairway_types::Suite;
use zeroize::Zeroize;

use crate::hop::SALT_LENGTH;
use crate::scrub;

pub use end::End;
pub use inbound::Unopened;
pub use keys::{Opening, Sealing};
pub use observer::Observer;
pub use outbound::{Exhausted, PHASE_LIFETIME, PHASE_PACKETS};
pub use together::{Checked, Unfinished};

/// Bytes of a session's secret.
pub const SECRET_LENGTH: usize = 32;

/// Bytes of the counter that every packet bears.
const COUNTER_LENGTH: usize = 8;

/// Which way a packet of a session goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the initiator to the responder.
    Forward,
    /// From the responder to the initiator.
    Reverse,
}

impl Direction {
    const fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Reverse => "reverse",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Forward => Self::Reverse,
            Self::Reverse => Self::Forward,
        }
    }
}

/// The secret of one session, known to every router on its way.
///
/// It is redacted in `Debug` and zeroed when dropped. It stays in one place: moving it leaves no copy
/// behind.
#[derive(Clone)]
pub struct SessionSecret(Box<[u8; SECRET_LENGTH]>);

impl SessionSecret {
    /// A secret of these bytes, which must come from a cryptographic generator.
    #[must_use]
    pub fn from_bytes(mut bytes: [u8; SECRET_LENGTH]) -> Self {
        scrub::note();
        let mut secret = Box::new([0; SECRET_LENGTH]);
        secret.copy_from_slice(&bytes);
        bytes.zeroize();
        Self(secret)
    }

    /// The bytes, for TLV 46.
    #[must_use]
    pub fn bytes(&self) -> &[u8; SECRET_LENGTH] {
        &self.0
    }
}

impl Drop for SessionSecret {
    fn drop(&mut self) {
        scrub::note();
        self.0.zeroize();
    }
}

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSecret(redacted)")
    }
}

/// A sender salt made of random bytes: eleven of them, the wall clock in seconds, and the first key
/// phase. The time lets a router that has no replay window refuse a salt that others have used.
#[must_use]
pub fn sender_salt(random: [u8; SALT_LENGTH], unix: u64) -> [u8; SALT_LENGTH] {
    let mut salt = random;
    let seconds = u32::try_from(unix).unwrap_or(u32::MAX).to_be_bytes();
    salt[11..15].copy_from_slice(&seconds);
    salt
}

/// When a sender salt was made: wall clock in seconds.
#[must_use]
pub fn salt_made_at(salt: &[u8; SALT_LENGTH]) -> u64 {
    let [.., a, b, c, d, _] = *salt;
    u64::from(u32::from_be_bytes([a, b, c, d]))
}

#[cfg(test)]
mod tests;
