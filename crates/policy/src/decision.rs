//! What the policy answers: decisions, candidates, explanations' building blocks.

use core::net::IpAddr;

use fairway_types::{DropReason, InterfaceId, PathId, RouteId, ServiceId};

/// Which line of an access-policy decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessLine {
    /// Line `index` of the access-policy of `service`: the matched service or one of its parents.
    Line {
        /// The service whose configuration holds the line.
        service: ServiceId,
        /// The position in [`fairway_types::model::Service::access`].
        index: u32,
    },
    /// No line speaks about the source; the service's scope is public.
    Public,
}

/// What becomes of a new session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// The session may be made.
    Permit {
        /// The service it belongs to.
        service: ServiceId,
        /// Why it may.
        line: AccessLine,
    },
    /// The session may not be made.
    Deny {
        /// The service that decided; `None` when no service matches.
        service: Option<ServiceId>,
        /// [`DropReason::NoService`], [`DropReason::NoTenant`] or [`DropReason::AccessDenied`].
        reason: DropReason,
        /// The line that denied; `None` when no line speaks about the source.
        line: Option<AccessLine>,
    },
}

impl Decision {
    /// Whether the session may be made.
    #[must_use]
    pub const fn is_permit(&self) -> bool {
        matches!(self, Self::Permit { .. })
    }

    /// The service that decided, if one matched.
    #[must_use]
    pub const fn service(&self) -> Option<ServiceId> {
        match *self {
            Self::Permit { service, .. } => Some(service),
            Self::Deny { service, .. } => service,
        }
    }
}

/// One way a session of a service may go from this router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The service-route it comes from.
    pub route: RouteId,
    /// The cost of the service-route plus that of the peer path, saturating. Lower is better.
    pub cost: u32,
    /// Where it leads.
    pub hop: CandidateHop,
}

/// Where a [`Candidate`] leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CandidateHop {
    /// Over a peer path.
    Path(PathId),
    /// Out of an interface.
    NextHop {
        /// The interface.
        interface: InterfaceId,
        /// The next hop; `None` when the destination is on the link.
        gateway: Option<IpAddr>,
    },
    /// To the destination on a connected prefix: [`crate::Snapshot::interface_with_prefix`] finds it.
    Local,
}
