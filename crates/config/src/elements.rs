//! The validated elements of a configuration, in the shape of `yang/`.
//!
//! Field names are the YANG names in snake case, lists in the plural. Defaults are filled in. Values
//! come from [`Authority::parse`] only, so references point to something, and ranges hold.

mod interface;
mod policy;
mod router;

use serde::{Deserialize, Serialize};

use crate::fault::Fault;

pub use interface::{
    Adjacency, Bfd, DeniedResponse, DeviceInterface, InterfaceAddress, InterfaceType, Neighborhood,
    NetworkInterface, Topology, UdpTransform, WaypointRange,
};
pub use policy::{
    AccessPolicy, Cipher, HmacMode, Permission, PortRange, Protocol, Quota, Scope, Security, Service,
    SessionType, Tenant, TenantMember, Transport, TransportStateEnforcement,
};
pub use router::{HostAddress, HostInterface, Limits, Local, NextHop, Node, Peer, Router, ServiceRoute};

/// One administrative domain: everything its routers share, and the routers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Authority {
    /// The authority's name.
    pub name: String,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Who uses services.
    #[serde(rename = "tenant", default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<Tenant>,
    /// How packets are protected.
    #[serde(rename = "security", default, skip_serializing_if = "Vec::is_empty")]
    pub security: Vec<Security>,
    /// Idle timeouts.
    #[serde(rename = "session-type", default, skip_serializing_if = "Vec::is_empty")]
    pub session_types: Vec<SessionType>,
    /// What tenants reach.
    #[serde(rename = "service", default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// The routers.
    #[serde(rename = "router", default, skip_serializing_if = "Vec::is_empty")]
    pub routers: Vec<Router>,
    #[serde(skip)]
    pub(crate) warnings: Vec<Fault>,
}

impl Authority {
    /// What is accepted but probably not meant.
    #[must_use]
    pub fn warnings(&self) -> &[Fault] {
        &self.warnings
    }

    /// The router of that name.
    #[must_use]
    pub fn router(&self, name: &str) -> Option<&Router> {
        self.routers.iter().find(|router| router.name == name)
    }
}
