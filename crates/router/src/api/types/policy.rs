//! What is decided about sessions, and by what.

use core::net::IpAddr;

use fairway_types::IpNet;
use serde::{Deserialize, Serialize};

/// A row of the FIB: a destination, a transport, a service and one line of its access.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FibRow {
    /// The destination prefix.
    pub prefix: IpNet,
    /// The protocol; absent for every protocol.
    pub protocol: Option<String>,
    /// The first destination port.
    pub first_port: u16,
    /// The last destination port.
    pub last_port: u16,
    /// The tenant the line is about, `any`, or `public`.
    pub tenant: String,
    /// The sources the line is about; absent for all of the tenant.
    pub source: Option<IpNet>,
    /// The service.
    pub service: String,
    /// Whether the line permits.
    pub permit: bool,
    /// The best way from this router; absent when the service has no service-route here.
    pub route: Option<Way>,
}

/// One way a session may go from a router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// The service-route.
    pub route: String,
    /// The cost of service-route and path together.
    pub cost: u32,
    /// The peer router, when it leads over a path.
    pub peer: Option<String>,
    /// The peer path, when it leads over one.
    pub path: Option<String>,
    /// The interface it leaves by; absent for local destinations.
    pub interface: Option<String>,
    /// The gateway, when the service-route names one.
    pub gateway: Option<IpAddr>,
    /// Whether it can be taken now; absent where that was not looked at.
    pub up: Option<bool>,
    /// Where the service-route is configured; absent where that was not asked.
    pub origin: Option<String>,
}

/// What would become of a new session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lookup {
    /// Whether it may be made, and there is a way for it now.
    pub permit: bool,
    /// The drop reason, when it may not be made or has no way.
    pub reason: Option<String>,
    /// The tenant it has.
    pub tenant: Option<String>,
    /// The service that decides; absent when none matches.
    pub matched: Option<Matched>,
    /// The line of the access-policy that decides; absent when none speaks about the source.
    pub line: Option<Line>,
    /// Services that hold the destination but do not decide, most specific first.
    pub passed_over: Vec<PassedOver>,
    /// How many more were passed over than are listed.
    pub passed_over_more: u64,
    /// The ways, best first.
    pub ways: Vec<Way>,
    /// Which of the ways it would take, counted from 0; absent when none is up.
    pub taken: Option<usize>,
}

/// A service and the row of the FIB it was considered by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matched {
    /// The service.
    pub service: String,
    /// Where it is configured.
    pub origin: String,
    /// The destination prefix.
    pub prefix: IpNet,
    /// The protocol; absent for every protocol.
    pub protocol: Option<String>,
    /// The first destination port.
    pub first_port: u16,
    /// The last destination port.
    pub last_port: u16,
}

/// A line of an access-policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Whether it permits.
    pub permit: bool,
    /// The service that holds it.
    pub service: String,
    /// Where it is configured.
    pub origin: String,
}

/// A service that did not decide.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassedOver {
    /// The service.
    pub service: Matched,
    /// Why not.
    pub why: String,
}
