//! The forwarding information base: which services a destination, protocol and port belong to.

mod groups;
mod ports;
mod ranges;
mod show;
mod table;

use core::fmt;

use fairway_types::{PortRange, Protocol, ServiceId, TenantId};
use ipnet::IpNet;

use crate::decision::Candidate;

pub(crate) use ranges::{Lpm, NONE};
pub(crate) use show::rows_of;
pub(crate) use table::{Fib, Hit, Row, ScopeRows};

/// Whom a row of the FIB is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FibTenant<'a> {
    /// A tenant, children included.
    Named(TenantId, &'a str),
    /// Every source.
    Any,
    /// Every source, because the service is public.
    Public,
}

impl fmt::Display for FibTenant<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Named(_, name) => name,
            Self::Any => "any",
            Self::Public => "public",
        })
    }
}

/// One row for `show fib`: a destination, a transport, a service and one line of its access.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FibRow<'a> {
    /// The destination prefix.
    pub prefix: IpNet,
    /// The protocol; `None` means every protocol.
    pub protocol: Option<Protocol>,
    /// The destination ports.
    pub ports: PortRange,
    /// Whom the line is about.
    pub tenant: FibTenant<'a>,
    /// The sources the line is about; `None` means all of the tenant.
    pub source: Option<IpNet>,
    /// The service.
    pub service: ServiceId,
    /// The name of the service.
    pub service_name: &'a str,
    /// Whether the line permits.
    pub permit: bool,
    /// The best way of the service from this router; `None` when it has no service-route here.
    pub route: Option<Candidate>,
}
