//! What an operator should hear of.

use core::fmt;

use fairway_types::{InterfaceId, PathId, PeerId, Protocol};

use crate::limits::{Limit, LimitKind, LimitScope};

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
    /// Four of five ports that source NAT has for a protocol on an interface are in use.
    NatScarce(InterfaceId, Protocol),
    /// A session could not be made: source NAT has no port left for the protocol on the interface.
    NatExhausted(InterfaceId, Protocol),
    /// A session could not be made: a limit was reached. Not reported for every packet.
    LimitReached(Limit),
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
            Self::NatScarce(..) => "nat-ports-scarce",
            Self::NatExhausted(..) => "nat-ports-exhausted",
            Self::LimitReached(Limit { kind: LimitKind::Sessions, .. }) => "session-limit-reached",
            Self::LimitReached(Limit { kind: LimitKind::HalfOpen, .. }) => "half-open-limit-reached",
            Self::LimitReached(_) => "rate-limit-reached",
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
            Self::NatScarce(interface, protocol) => {
                write!(f, "few ports of source NAT are left for {protocol} on interface {}", interface.0)
            }
            Self::NatExhausted(interface, protocol) => {
                write!(f, "no port of source NAT is left for {protocol} on interface {}", interface.0)
            }
            Self::LimitReached(limit) => {
                let whose = match limit.scope {
                    LimitScope::Router => "the router".to_owned(),
                    LimitScope::Tenant(tenant) => format!("tenant {}", tenant.0),
                    LimitScope::WithoutTenant => "sources without a tenant".to_owned(),
                    LimitScope::Peer(peer) => format!("peer {}", peer.0),
                    LimitScope::Source(source) => source
                        .map_or_else(|| "a source".to_owned(), |(_, address)| format!("source {address}")),
                };
                write!(f, "the {} limit of {whose} was reached", limit.kind.name())
            }
        }
    }
}
