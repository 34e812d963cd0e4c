//! Why a model cannot be compiled. `config` refuses such models first; these are checks of the
//! contract between the two.

use core::net::IpAddr;

use ipnet::IpNet;

/// A model that contradicts itself or exceeds what a snapshot can hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// A reference to an element that the model does not hold.
    #[error("{origin}: refers to {kind} {index}, but there are only {count}")]
    Dangling {
        /// The element that refers.
        origin: String,
        /// What it refers to.
        kind: &'static str,
        /// The position it refers to.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// A tenant or service is its own ancestor.
    #[error("{origin}: is its own ancestor")]
    Cycle {
        /// An element of the cycle.
        origin: String,
    },
    /// Two elements share a name that must be unique.
    #[error("{origin}: the {kind} name `{name}` is used twice")]
    DuplicateName {
        /// The second of them.
        origin: String,
        /// What they are.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// Two peer paths have the same waypoints, so that packets could not be told apart.
    #[error("{origin}: another path also has the waypoints {local} and {remote}")]
    DuplicateWaypoints {
        /// The second of them.
        origin: String,
        /// The local waypoint.
        local: IpAddr,
        /// The remote waypoint.
        remote: IpAddr,
    },
    /// Two tenants claim the same sources on the same interface.
    #[error("{origin}: the prefix {prefix} already belongs to another tenant on this interface")]
    AmbiguousMembership {
        /// The second claim.
        origin: String,
        /// The sources.
        prefix: IpNet,
    },
    /// Ports given for a protocol that has none.
    #[error("{origin}: protocol {protocol} has no ports")]
    PortsWithoutProtocol {
        /// The service.
        origin: String,
        /// The protocol number.
        protocol: u8,
    },
    /// More elements than an identifier can count, or port ranges that overlap too often.
    #[error("too many {what}: {count}, at most {limit}")]
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
}
