//! Cryptography of the hop layer and of the session layer: keys, signatures, encryption, replay windows
//! (wire specification, sections 1 and 6).
//!
//! A *hop* is one direction between two neighbouring routers. Its keys come from the peer key both
//! share, the names of both, and the *key salt* the sender made at its start. Metadata is always
//! signed and, by policy, encrypted:
//!
//! - [`Sender`] numbers what this router sends to one peer and signs it;
//! - [`Receiver`] verifies what one peer sends, refuses replays, and follows the peer's key salts;
//! - [`Keyring`] holds one of each for every peer.
//!
//! Verification comes before everything else: nothing is decrypted, and no state changes, for bytes
//! whose tag is wrong.
//!
//! Nothing here reads a clock or a random number: time is a [`fairway_types::Now`], salts and
//! initialisation vectors come from the caller. Nothing is allocated per packet.
//!
//! The payload of sessions is protected from ingress to egress, with keys of each session:
//! [`session::End`].
//!
//! `cargo run --release -p fairway-crypto --example cost` measures what the operations cost.

mod hop;
mod keyring;
mod peer_key;
mod receiver;
mod replay;
mod scrub;
mod sender;
pub mod session;

pub use hop::{
    CryptoError, DecryptError, HopKeys, IV_LENGTH, SALT_LENGTH, SLOT_SECONDS, TAG_LENGTH, TagError,
    padded_length, security_id, slot,
};
pub use keyring::{Keyring, KeyringEntry, KeyringError};
pub use peer_key::{KeyFileError, PeerKey};
pub use receiver::{Accepted, DERIVATIONS_PER_SECOND, PREVIOUS_SALT_LIFETIME, Receiver, Refused};
pub use replay::{Replay, ReplayWindow};
pub use scrub::scrub_stack;
pub use sender::Sender;
