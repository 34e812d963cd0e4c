//! Peer paths: liveness, restart detection and signed messages between waypoints (wire
//! specification, sections 5, 6 and 8).
//!
//! Each peer path runs one BFD session (RFC 5880) whose packets travel in signed messages on
//! UDP/1280, so that nobody but the peer can take a path up or down:
//!
//! ```text
//! UDP payload = metadata header · header TLVs 16, 0x8004, 0x8005 (, 0x8007)
//!             · payload TLVs 14, 19, 0x8006, in the clear or IV and AES-256-CBC
//!             · BFD control packet, 24 bytes
//!             · hop tag, 16 bytes
//! ```
//!
//! The boot id (0x8006) differs after every start of a router. A peer whose boot id changes has
//! lost its sessions: [`Event::PeerRestarted`] makes this router send their metadata again. A
//! router that starts says so at once, since the first message of every path is due at once.
//!
//! [`Peering`] never touches a socket or a clock. The caller adds IP and UDP headers, port 1280 on
//! both sides, and owns the [`fairway_crypto::Keyring`], whose sequence numbers these messages share
//! with the metadata of sessions.

mod message;
mod peering;
pub mod reason;
mod status;

pub use fairway_bfd::Diagnostic;
pub use fairway_wire::bfd::State;
pub use peering::{Event, Peering, Transmit};
pub use status::PathStatus;

/// A buffer of this many bytes holds every message.
pub const MAX_MESSAGE_LEN: usize = 768;
