//! The session layer: what ingress and egress do to a session's payload (wire specification,
//! sections 1 and 6; `docs/wire.md`, section 12).
//!
//! The ingress draws a [`SessionSecret`] for each session and tells it in encrypted metadata (TLV
//! 46). Each direction has keys of its own, derived from the secret, the *sender salt* (TLV 0x8001)
//! and a *key phase*; every packet bears a counter that no other packet under these keys has. A
//! sender whose state is new has a new salt, so no nonce is ever used twice, however often a router
//! restarts.
//!
//! [`End`] is one end of a session: it seals what leaves and opens what arrives.

mod end;
mod inbound;
mod keys;
mod outbound;

use core::fmt;

use zeroize::Zeroize;

pub use end::End;
pub use inbound::Unopened;
pub use outbound::{Exhausted, PHASE_LIFETIME, PHASE_PACKETS};

/// Bytes of a session's secret.
pub const SECRET_LENGTH: usize = 32;

/// Bytes of the counter that every packet bears.
const COUNTER_LENGTH: usize = 8;

/// How payload is protected. The absence of a suite means: not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suite {
    /// Authenticated, not encrypted: counter ‖ P ‖ HMAC-SHA256-128.
    HmacSha256,
    /// IV ‖ AES-128-CBC(P, PKCS#7) ‖ HMAC-SHA256-128.
    Aes128Cbc,
    /// IV ‖ AES-256-CBC(P, PKCS#7) ‖ HMAC-SHA256-128.
    Aes256Cbc,
    /// Counter ‖ AES-256-GCM(P) ‖ tag.
    Aes256Gcm,
}

impl Suite {
    /// All suites.
    pub const ALL: [Self; 4] = [Self::HmacSha256, Self::Aes128Cbc, Self::Aes256Cbc, Self::Aes256Gcm];

    /// The number in front of the secret in TLV 46 (F).
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::HmacSha256 => 1,
            Self::Aes128Cbc => 2,
            Self::Aes256Cbc => 3,
            Self::Aes256Gcm => 4,
        }
    }

    /// The suite of a number.
    #[must_use]
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.number() == number)
    }

    /// The name in configurations, on screens and in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac-sha256-128",
            Self::Aes128Cbc => "aes-cbc-128",
            Self::Aes256Cbc => "aes-cbc-256",
            Self::Aes256Gcm => "aes-gcm-256",
        }
    }

    /// Whether payload is hidden, and not only guarded against change.
    #[must_use]
    pub const fn encrypts(self) -> bool {
        !matches!(self, Self::HmacSha256)
    }

    const fn is_cbc(self) -> bool {
        matches!(self, Self::Aes128Cbc | Self::Aes256Cbc)
    }

    /// Bytes that protection puts in front of a payload.
    #[must_use]
    pub const fn front(self) -> usize {
        if self.is_cbc() { crate::hop::IV_LENGTH } else { COUNTER_LENGTH }
    }

    /// Bytes that protection puts behind a payload of `length` bytes.
    #[must_use]
    pub const fn back(self, length: usize) -> usize {
        let padding = if self.is_cbc() { crate::hop::padded_length(length) - length } else { 0 };
        padding + crate::hop::TAG_LENGTH
    }

    /// By how many bytes protection makes any payload longer, at most.
    #[must_use]
    pub const fn max_overhead(self) -> usize {
        self.front() + self.back(0)
    }
}

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
/// It is redacted in `Debug` and zeroed when dropped.
#[derive(Clone)]
pub struct SessionSecret([u8; SECRET_LENGTH]);

impl SessionSecret {
    /// A secret of these bytes, which must come from a cryptographic generator.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; SECRET_LENGTH]) -> Self {
        Self(bytes)
    }

    /// The bytes, for TLV 46.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; SECRET_LENGTH] {
        &self.0
    }
}

impl Drop for SessionSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSecret(redacted)")
    }
}

#[cfg(test)]
mod tests;
