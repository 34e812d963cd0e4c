//! Why a decision is what it is, for `fairway trace`.

use core::fmt;

use fairway_types::{PortRange, Protocol, ServiceId};
use ipnet::IpNet;

use crate::decision::{AccessLine, Candidate, Decision};

/// A service with the row of the FIB that it was considered by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The service.
    pub service: ServiceId,
    /// Its name.
    pub name: String,
    /// Where it is configured.
    pub origin: String,
    /// The destination prefix.
    pub prefix: IpNet,
    /// The protocol; `None` means every protocol.
    pub protocol: Option<Protocol>,
    /// The destination ports.
    pub ports: PortRange,
}

/// Why a service that holds the destination did not decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassedReason {
    /// It does not speak the protocol or port.
    OtherTransport,
    /// A service on a longer prefix decided.
    ShorterPrefix,
    /// A service with a more specific transport decided.
    WiderTransport,
    /// A service of the same prefix and transport says more about the source, or comes first by name.
    LessSpecificAccess,
}

impl fmt::Display for PassedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::OtherTransport => "does not speak this protocol and port",
            Self::ShorterPrefix => "its prefix is shorter",
            Self::WiderTransport => "its transport is less specific",
            Self::LessSpecificAccess => "its access-policy says less about this source",
        })
    }
}

/// A service that holds the destination but did not decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// The service and its row.
    pub row: Match,
    /// Why it did not decide.
    pub reason: PassedReason,
}

/// The access line that decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineChoice {
    /// Which line.
    pub line: AccessLine,
    /// Whether it permits.
    pub permit: bool,
    /// The name of the service that holds it: the matched one, or a parent of it.
    pub service: String,
    /// Where it is configured: the line, or for public scope the service.
    pub origin: String,
}

/// A way the session may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteChoice {
    /// The way and its cost.
    pub candidate: Candidate,
    /// The name of the service-route.
    pub name: String,
    /// Where the service-route is configured.
    pub origin: String,
    /// The name of the peer router, when it leads over a path.
    pub peer: Option<String>,
    /// Where the path is configured, when it leads over one.
    pub path_origin: Option<String>,
}

/// A decision with everything that led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What [`crate::Snapshot::decide`] answers.
    pub decision: Decision,
    /// The tenant's dotted name.
    pub tenant: Option<String>,
    /// The row that matched; `None` when no service matches.
    pub matched: Option<Match>,
    /// The services that hold the destination but did not decide, most specific first.
    pub passed_over: Vec<PassedOver>,
    /// How many more were passed over than `passed_over` lists.
    pub passed_over_more: usize,
    /// The access line that decided; `None` when no line speaks about the source.
    pub line: Option<LineChoice>,
    /// The ways of the matched service, best first, whether they are up or not.
    pub routes: Vec<RouteChoice>,
}
