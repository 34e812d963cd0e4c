//! The snapshot: one compiled model and the questions it answers.

use core::net::IpAddr;

use fairway_types::model::{RouterModel, SessionType};
use fairway_types::{InterfaceId, PathId, PeerId, Protocol, ServiceId, TenantId};

use crate::decision::{Candidate, Decision};
use crate::error::CompileError;
use crate::explain::Explanation;
use crate::fib::FibRow;

/// One compiled configuration. Immutable; share it behind an `Arc` and replace it whole.
#[derive(Debug)]
pub struct Snapshot {
    model: RouterModel,
}

impl Snapshot {
    /// Compiles a model.
    ///
    /// # Errors
    /// When the model contradicts itself or is too large. A model made by `config` does not.
    pub fn compile(model: RouterModel) -> Result<Self, CompileError> {
        Ok(Self { model })
    }

    /// The model it was compiled from.
    #[must_use]
    pub fn model(&self) -> &RouterModel {
        &self.model
    }

    /// The tenant of what arrives without metadata: that of the interface, else that of its membership
    /// with the longest prefix that holds the source, else none.
    #[must_use]
    pub fn tenant_of(&self, interface: InterfaceId, source: IpAddr) -> Option<TenantId> {
        todo!()
    }

    /// The tenant with that dotted name, in constant time.
    #[must_use]
    pub fn tenant_named(&self, name: &str) -> Option<TenantId> {
        todo!()
    }

    /// Whether a peer may claim a tenant: one it is allowed, or a child of one.
    #[must_use]
    pub fn peer_may_claim(&self, peer: PeerId, tenant: TenantId) -> bool {
        todo!()
    }

    /// Decides about a new session, by the rules in the documentation of this crate. Allocates nothing.
    #[must_use]
    pub fn decide(
        &self,
        tenant: Option<TenantId>,
        source: IpAddr,
        destination: IpAddr,
        protocol: Protocol,
        destination_port: u16,
    ) -> Decision {
        todo!()
    }

    /// Explains what [`Self::decide`] answers.
    #[must_use]
    pub fn explain(
        &self,
        tenant: Option<TenantId>,
        source: IpAddr,
        destination: IpAddr,
        protocol: Protocol,
        destination_port: u16,
    ) -> Explanation {
        todo!()
    }

    /// The peer path between two waypoints, in constant time.
    #[must_use]
    pub fn path_by_waypoints(&self, local: IpAddr, remote: IpAddr) -> Option<PathId> {
        todo!()
    }

    /// The interface whose connected prefix holds the address; the longest prefix wins.
    #[must_use]
    pub fn interface_with_prefix(&self, address: IpAddr) -> Option<InterfaceId> {
        todo!()
    }

    /// Whether the address is one of this router's own.
    #[must_use]
    pub fn is_own_address(&self, address: IpAddr) -> bool {
        todo!()
    }

    /// The idle timeouts of a session: those its service names, else the default of its protocol.
    #[must_use]
    pub fn session_type(&self, service: ServiceId, protocol: Protocol, port: u16) -> &SessionType {
        todo!()
    }

    /// All ways a session of the service may go, best first: by cost, then by the name of the
    /// service-route, then by the name of the peer path.
    #[must_use]
    pub fn candidates(&self, service: ServiceId) -> &[Candidate] {
        todo!()
    }

    /// The rows for `show fib`, made one by one, sorted by prefix, protocol, ports, service, and then
    /// by the order in which the lines of the service are asked.
    pub fn fib_rows(&self) -> impl Iterator<Item = FibRow<'_>> {
        core::iter::empty()
    }
}
