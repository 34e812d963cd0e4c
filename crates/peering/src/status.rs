//! What `show peers` shows of a path.

use core::net::IpAddr;

use fairway_bfd::Diagnostic;
use fairway_types::{PathId, PeerId, Time};
use fairway_wire::bfd::State;

/// The present state of one peer path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathStatus<'a> {
    /// The path.
    pub path: PathId,
    /// The peer.
    pub peer: PeerId,
    /// The peer's router name.
    pub peer_name: &'a str,
    /// The name of the path, as this router sends it.
    pub pathway: &'a str,
    /// The local waypoint.
    pub local: IpAddr,
    /// The peer's waypoint.
    pub remote: IpAddr,
    /// Whether sessions may use the path: BFD is up and the hold-down time has passed.
    pub up: bool,
    /// The state of the BFD session.
    pub state: State,
    /// The state the peer says it is in; Down when it is not heard.
    pub remote_state: State,
    /// Since when the path is up.
    pub up_since: Option<Time>,
    /// When the path will be up if it stays alive, while it is held down.
    pub held_until: Option<Time>,
    /// When the state of the BFD session last changed.
    pub last_change: Time,
    /// Why the BFD session last went down; none while it is up.
    pub diagnostic: Diagnostic,
    /// The boot id of the peer, once known.
    pub boot_id: Option<u64>,
    /// Messages sent.
    pub sent: u64,
    /// Genuine messages received.
    pub received: u64,
}
