//! The snapshot: one compiled model and the questions it answers.

use core::net::IpAddr;
use core::time::Duration;

use fairway_types::model::{RouterModel, SessionType};
use fairway_types::{DropReason, InterfaceId, PathId, PeerId, Protocol, ServiceId, TenantId};
use hashbrown::HashMap;

use crate::access::{AccessTable, Statement, TenantKey, TenantTree};
use crate::check::check;
use crate::decision::{AccessLine, Candidate, Decision};
use crate::error::CompileError;
use crate::explain::{self, Explanation};
use crate::fib::{self, Fib, FibRow};
use crate::locate::Locator;
use crate::ways::Ways;

/// What [`Snapshot::session_type`] answers for ids of another model.
static UNKNOWN_SESSION_TYPE: SessionType =
    SessionType { name: String::new(), idle: Duration::from_secs(10), initial: Duration::from_secs(10) };

/// One compiled configuration. Immutable; share it behind an `Arc` and replace it whole.
#[derive(Debug)]
pub struct Snapshot {
    model: RouterModel,
    pub(crate) tenants: TenantTree,
    pub(crate) access: AccessTable,
    pub(crate) fib: Fib,
    tenant_names: HashMap<String, TenantId, foldhash::fast::FixedState>,
    claims: Claims,
    locator: Locator,
    ways: Ways,
}

/// What one packet is decided by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query {
    pub(crate) tenant: Option<TenantId>,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: Protocol,
    pub(crate) port: u16,
}

impl Snapshot {
    /// Compiles a model.
    ///
    /// # Errors
    /// When the model contradicts itself or is too large. A model made by `config` does not.
    pub fn compile(model: RouterModel) -> Result<Self, CompileError> {
        check(&model)?;
        let tenants = TenantTree::build(&model)?;
        let access = AccessTable::build(&model, &tenants)?;
        Ok(Self {
            fib: Fib::build(&model, &access)?,
            tenant_names: tenant_names(&model)?,
            claims: Claims::build(&model, &tenants),
            locator: Locator::build(&model)?,
            ways: Ways::build(&model)?,
            tenants,
            access,
            model,
        })
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
        let own = self.model.interface(interface).and_then(|interface| interface.tenant);
        own.or_else(|| self.locator.member_of(interface, source))
    }

    /// The tenant with that dotted name, in constant time.
    #[must_use]
    pub fn tenant_named(&self, name: &str) -> Option<TenantId> {
        self.tenant_names.get(name).copied()
    }

    /// Whether a peer may claim a tenant: one it is allowed, or a child of one.
    #[must_use]
    pub fn peer_may_claim(&self, peer: PeerId, tenant: TenantId) -> bool {
        self.claims.allows(peer, tenant)
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
        let query = Query { tenant, source, destination, protocol, port: destination_port };
        self.hit(&query).map_or(NO_SERVICE, |hit| self.verdict(tenant, hit.service, hit.statement))
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
        let query = Query { tenant, source, destination, protocol, port: destination_port };
        explain::explain(self, &query)
    }

    /// The peer path between two waypoints, in constant time.
    #[must_use]
    pub fn path_by_waypoints(&self, local: IpAddr, remote: IpAddr) -> Option<PathId> {
        self.locator.path_by_waypoints(local, remote)
    }

    /// The interface whose connected prefix holds the address; the longest prefix wins.
    #[must_use]
    pub fn interface_with_prefix(&self, address: IpAddr) -> Option<InterfaceId> {
        self.locator.interface_with_prefix(address)
    }

    /// Whether the address is one of this router's own.
    #[must_use]
    pub fn is_own_address(&self, address: IpAddr) -> bool {
        self.locator.is_own_address(address)
    }

    /// The idle timeouts of a session: those its service names, else the default of its protocol.
    #[must_use]
    pub fn session_type(&self, service: ServiceId, protocol: Protocol, port: u16) -> &SessionType {
        let defaults = &self.model.default_session_types;
        let own = self.model.services.get(service.index()).and_then(|service| service.session_type);
        let id = own.unwrap_or(match (protocol, port) {
            (Protocol::TCP, _) => defaults.tcp,
            (Protocol::UDP, 53) => defaults.dns,
            (Protocol::UDP, _) => defaults.udp,
            (protocol, _) if protocol.is_icmp() => defaults.icmp,
            _ => defaults.other,
        });
        self.model.session_types.get(id.index()).unwrap_or(&UNKNOWN_SESSION_TYPE)
    }

    /// All ways a session of the service may go, best first: by cost, then by the name of the
    /// service-route, then by the name of the peer path.
    #[must_use]
    pub fn candidates(&self, service: ServiceId) -> &[Candidate] {
        self.ways.of(service)
    }

    /// The rows for `show fib`, made one by one, sorted by prefix, protocol, ports, service, and then
    /// by the order in which the lines of the service are asked.
    pub fn fib_rows(&self) -> impl Iterator<Item = FibRow<'_>> {
        let rows =
            self.fib.scopes().flat_map(|scope| self.fib.rows(scope).iter().map(move |row| (scope, row)));
        rows.flat_map(|(scope, row)| {
            let route = self.candidates(row.service).first().copied();
            fib::rows_of(&self.model, &self.access, &self.tenants, (scope, row), route)
        })
    }

    /// Who decides about a packet.
    #[inline]
    pub(crate) fn hit(&self, query: &Query) -> Option<fib::Hit> {
        let source = (TenantKey::of(query.tenant), query.source);
        let transport = (query.protocol, query.port);
        self.fib.find(&self.access, &self.tenants, source, query.destination, transport)
    }

    /// The decision of a service that says `statement` about a source (rules 4 and 10).
    #[inline]
    pub(crate) fn verdict(
        &self,
        tenant: Option<TenantId>,
        service: ServiceId,
        statement: Option<Statement>,
    ) -> Decision {
        let line = statement.map(|said| AccessLine::Line { service: said.service, index: said.index });
        match statement {
            Some(Statement { permit: false, .. }) => {
                Decision::Deny { service: Some(service), reason: DropReason::AccessDenied, line }
            }
            Some(_) => Decision::Permit { service, line: line.unwrap_or(AccessLine::Public) },
            None if self.access.is_public(service) => Decision::Permit { service, line: AccessLine::Public },
            None => {
                let reason = tenant.map_or(DropReason::NoTenant, |_| DropReason::AccessDenied);
                Decision::Deny { service: Some(service), reason, line: None }
            }
        }
    }
}

const NO_SERVICE: Decision = Decision::Deny { service: None, reason: DropReason::NoService, line: None };

fn tenant_names(
    model: &RouterModel,
) -> Result<HashMap<String, TenantId, foldhash::fast::FixedState>, CompileError> {
    let hasher = foldhash::fast::FixedState::default();
    let mut names = HashMap::with_capacity_and_hasher(model.tenants.len(), hasher);
    for (tenant, id) in model.tenants.iter().zip(0u16..=u16::MAX) {
        if names.insert(tenant.name.clone(), TenantId(id)).is_some() {
            let (origin, name) = (tenant.origin.clone(), tenant.name.clone());
            return Err(CompileError::DuplicateName { origin, kind: "tenant", name });
        }
    }
    Ok(names)
}

/// Which tenants each peer may claim.
#[derive(Debug)]
struct Claims {
    tenants: usize,
    /// By peer: one bit for each tenant, or `None` when it may claim every tenant.
    allowed: Vec<Option<Vec<u64>>>,
}

impl Claims {
    fn build(model: &RouterModel, tree: &TenantTree) -> Self {
        let words = model.tenants.len().div_ceil(64);
        let bits_of = |allowed: &Vec<TenantId>| {
            let mut bits = vec![0u64; words];
            let allowed: Vec<TenantKey> = allowed.iter().map(|&tenant| TenantKey::of(Some(tenant))).collect();
            for (index, id) in (0..model.tenants.len()).zip(0u16..=u16::MAX) {
                let own = TenantKey::of(Some(TenantId(id)));
                let mut lineage = core::iter::successors(Some(own), |key| tree.above(*key));
                if let Some(word) = bits.get_mut(index / 64)
                    && lineage.any(|key| allowed.contains(&key))
                {
                    *word |= 1 << (index % 64);
                }
            }
            bits
        };
        let allowed = model.peers.iter().map(|peer| peer.tenants.as_ref().map(bits_of)).collect();
        Self { tenants: model.tenants.len(), allowed }
    }

    fn allows(&self, peer: PeerId, tenant: TenantId) -> bool {
        let index = tenant.index();
        match self.allowed.get(peer.index()) {
            Some(None) => index < self.tenants,
            Some(Some(bits)) => bits.get(index / 64).is_some_and(|word| word >> (index % 64) & 1 == 1),
            None => false,
        }
    }
}
