//! What an operator should hear of.

use core::fmt;

use fairway_types::{PathId, PeerId};

/// Something that happened, past tense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A peer path came up.
    PathUp(PathId),
    /// A peer path went down.
    PathDown(PathId),
    /// A peer started anew and lost its sessions; they are being re-established.
    PeerRestarted {
        /// The peer.
        peer: PeerId,
        /// How many sessions lead through it.
        sessions: u32,
    },
    /// A session could not be made: no pair of waypoint ports was free on the path.
    WaypointsExhausted(PathId),
    /// A session could not be made: the session table is full.
    SessionLimitReached,
    /// A TCP session could not be made: too many wait for their handshake.
    HalfOpenLimitReached,
}

impl Event {
    /// The name in logs and JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PathUp(_) => "path-up",
            Self::PathDown(_) => "path-down",
            Self::PeerRestarted { .. } => "peer-restarted",
            Self::WaypointsExhausted(_) => "waypoints-exhausted",
            Self::SessionLimitReached => "session-limit-reached",
            Self::HalfOpenLimitReached => "half-open-limit-reached",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PathUp(path) => write!(f, "path {} is up", path.0),
            Self::PathDown(path) => write!(f, "path {} is down", path.0),
            Self::PeerRestarted { peer, sessions } => {
                write!(f, "peer {} restarted; {sessions} sessions are being re-established", peer.0)
            }
            Self::WaypointsExhausted(path) => write!(f, "no waypoint ports left on path {}", path.0),
            Self::SessionLimitReached => f.write_str("the session table is full"),
            Self::HalfOpenLimitReached => f.write_str("too many TCP sessions wait for their handshake"),
        }
    }
}
