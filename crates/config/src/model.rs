//! What one router runs on: names become ids, inheritance is resolved, generated elements are in.

use core::time::Duration;
use std::collections::HashMap;
use std::path::PathBuf;

use fairway_types::model::{
    Access, DefaultSessionTypes, Interface, InterfaceAddress, InterfaceKind, Limits, Membership, MidFlow,
    Peer, RouterModel, SecurityPolicy, Service, ServiceRoute, SessionType, Tenant, Transport,
};
use fairway_types::{IpNet, SecurityId, ServiceId, SessionTypeId, Suite, TenantId};

use crate::elements::{
    self, Authority, Cipher, DeniedResponse, HmacMode, InterfaceType, Permission, Router, Scope, Security,
};
use crate::fault::Fault;
use crate::generate::Fabric;
use crate::graph::Graph;
use crate::names::{self, parent};
use crate::path;
use crate::routes::{self, Egresses};

mod paths;
mod quotas;

/// The security policy that applies where none is named, unless a policy of this name is configured.
const DEFAULT_SECURITY: &str = "default";

/// Names, idle and initial timeouts in seconds of the built-in session-types.
const SESSION_TYPES: [(&str, u64, u64); 5] =
    [("tcp", 1900, 10), ("udp", 180, 180), ("dns", 5, 5), ("icmp", 10, 10), ("other", 180, 180)];

impl Authority {
    /// What the router of that name runs on.
    ///
    /// Interfaces, peers and service-routes are sorted by name, paths by peer, interface, family and
    /// remote address; tenants, services, policies and session-types keep the document's order,
    /// built-in ones behind them.
    ///
    /// # Errors
    /// When there is no such router, or it would have more paths than ids can name.
    pub fn router_model(&self, name: &str) -> Result<RouterModel, Vec<Fault>> {
        let mut base = self.clone();
        base.drop_generated();
        let fabric = Fabric::new(&base);
        let Some((position, router)) =
            fabric.position(name).and_then(|at| Some((at, *fabric.routers.get(at)?)))
        else {
            return Err(vec![unknown_router(&fabric, name)]);
        };
        let graph = Graph::new(&fabric);
        let egresses = Egresses::new(&base, &fabric);
        let mut routes = router.service_routes.clone();
        routes.extend(routes::generate(&base, &fabric, &graph, &egresses, position));
        let builder = Builder::new(&base, router);
        let (peers, paths) = paths::build(&builder, &fabric, position)?;
        let routes = builder.routes(&routes, &peers);
        Ok(builder.finish(peers, paths, routes))
    }
}

fn unknown_router(fabric: &Fabric, name: &str) -> Fault {
    let known = || fabric.routers.iter().map(|router| router.name.as_str());
    let fix = match names::nearest(name, known()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => "name a router of this authority, or add this one to it".to_owned(),
    };
    Fault::error(path::child(path::ROOT, "router"), "the authority has no router of this name", fix)
        .with_value(format_args!("'{name}'"))
}

/// Maps from names to ids, and everything that needs no more than them.
struct Builder<'a> {
    authority: &'a Authority,
    router: &'a Router,
    tenants: HashMap<&'a str, TenantId>,
    services: HashMap<&'a str, ServiceId>,
    security: Vec<SecurityPolicy>,
    session_types: Vec<SessionType>,
    interfaces: Vec<Interface>,
}

impl<'a> Builder<'a> {
    fn new(authority: &'a Authority, router: &'a Router) -> Self {
        let tenants =
            (0u16..).map(TenantId).zip(&authority.tenants).map(|(id, tenant)| (tenant.name.as_str(), id));
        let services =
            (0u32..).map(ServiceId).zip(&authority.services).map(|(id, service)| (service.name.as_str(), id));
        let mut builder = Self {
            authority,
            router,
            tenants: tenants.collect(),
            services: services.collect(),
            security: security(authority),
            session_types: session_types(authority),
            interfaces: Vec::new(),
        };
        builder.interfaces = builder.interfaces();
        builder
    }

    fn finish(
        self,
        peers: Vec<Peer>,
        paths: Vec<fairway_types::model::PeerPath>,
        routes: Vec<ServiceRoute>,
    ) -> RouterModel {
        let limits = self.router.limits;
        RouterModel {
            quotas: quotas::build(self.authority, self.router, &peers),
            authority: self.authority.name.clone(),
            router: self.router.name.clone(),
            tenants: self.tenants(),
            memberships: self.memberships(),
            services: self.services(),
            default_session_types: self.default_session_types(),
            peers,
            paths,
            routes,
            limits: Limits {
                sessions: limits.sessions,
                half_open: limits.half_open,
                session_rate: limits.session_rate,
                first_packets: limits.first_packet_rate,
                answers: limits.answer_rate,
            },
            security: self.security,
            session_types: self.session_types,
            interfaces: self.interfaces,
        }
    }

    fn tenant(&self, name: &str) -> Option<TenantId> {
        self.tenants.get(name).copied()
    }

    fn tenants(&self) -> Vec<Tenant> {
        let tenant = |tenant: &elements::Tenant| Tenant {
            name: tenant.name.clone(),
            parent: parent(&tenant.name).and_then(|parent| self.tenant(parent)),
            origin: path::named("tenant", &tenant.name),
        };
        self.authority.tenants.iter().map(tenant).collect()
    }

    /// The security policy of that name, or the one that applies where none is named.
    fn security(&self, name: Option<&str>) -> SecurityId {
        let wanted = name.unwrap_or(DEFAULT_SECURITY);
        let found = (0u16..).map(SecurityId).zip(&self.security).find(|(_, policy)| policy.name == wanted);
        found.map_or(SecurityId(0), |(id, _)| id)
    }

    fn session_type(&self, name: &str) -> Option<SessionTypeId> {
        (0u16..).map(SessionTypeId).zip(&self.session_types).find(|(_, ty)| ty.name == name).map(|(id, _)| id)
    }

    fn default_session_types(&self) -> DefaultSessionTypes {
        let id = |name| self.session_type(name).unwrap_or(SessionTypeId(0));
        DefaultSessionTypes {
            tcp: id("tcp"),
            udp: id("udp"),
            dns: id("dns"),
            icmp: id("icmp"),
            other: id("other"),
        }
    }

    fn services(&self) -> Vec<Service> {
        self.authority.services.iter().map(|service| self.service(service)).collect()
    }

    fn service(&self, service: &elements::Service) -> Service {
        let line = Ancestors { authority: self.authority, services: &self.services, next: Some(service) };
        let inherited = |wanted: &dyn Fn(&elements::Service) -> bool| line.find(|ancestor| wanted(ancestor));
        let addresses = inherited(&|s| !s.addresses.is_empty()).map_or(&[][..], |s| &s.addresses);
        let transports = inherited(&|s| !s.transports.is_empty()).map_or(&[][..], |s| &s.transports);
        let security = inherited(&|s| s.security.is_some()).and_then(|s| s.security.as_deref());
        let session_type = inherited(&|s| s.session_type.is_some()).and_then(|s| s.session_type.as_deref());
        let origin = path::named("service", &service.name);
        Service {
            name: service.name.clone(),
            parent: parent(&service.name).and_then(|parent| self.services.get(parent).copied()),
            prefixes: addresses.iter().map(IpNet::trunc).collect(),
            transports: transports.iter().filter_map(transport).collect(),
            access: service.access_policy.iter().filter_map(|line| self.access(line, &origin)).collect(),
            public: service.scope == Scope::Public,
            security: self.security(security),
            session_type: session_type.and_then(|name| self.session_type(name)),
            mid_flow: match service.transport_state_enforcement {
                elements::TransportStateEnforcement::Allow => MidFlow::Allow,
                elements::TransportStateEnforcement::Block => MidFlow::Block,
                elements::TransportStateEnforcement::Reset => MidFlow::Reset,
            },
            origin,
        }
    }

    fn access(&self, line: &elements::AccessPolicy, service: &str) -> Option<Access> {
        let source = names::source(&line.source)?;
        let tenant = match source.tenant {
            Some(name) => Some(self.tenant(name)?),
            None => None,
        };
        Some(Access {
            tenant,
            prefix: source.prefix.map(|prefix| prefix.trunc()),
            permit: line.permission == Permission::Allow,
            origin: path::entry(service, "access-policy", &[("source", &line.source)]),
        })
    }

    fn interfaces(&self) -> Vec<Interface> {
        let network = self.router.network_interfaces().map(|(node, device, interface)| Interface {
            name: interface.name.clone(),
            device: device.linux_name().to_owned(),
            vlan: interface.vlan,
            kind: match interface.kind {
                InterfaceType::External => InterfaceKind::External,
                InterfaceType::Fabric => InterfaceKind::Fabric,
                InterfaceType::Shared => InterfaceKind::Shared,
            },
            tenant: interface.tenant.as_deref().and_then(|name| self.tenant(name)),
            addresses: interface
                .addresses
                .iter()
                .filter_map(|address| {
                    let net = IpNet::new(address.ip_address, address.prefix_length).ok()?;
                    Some(InterfaceAddress { address: net, gateway: address.gateway })
                })
                .collect(),
            mtu: interface.mtu,
            source_nat: interface.source_nat,
            host_ports: Vec::new(),
            denied: denied(interface.denied_response),
            origin: interface_path(&self.router.name, &node.name, &device.name, &interface.name),
        });
        let router = path::router(&self.router.name);
        let host = self.router.host_interfaces.iter().map(|host| Interface {
            name: host.name.clone(),
            device: host.linux_name().to_owned(),
            vlan: 0,
            kind: InterfaceKind::Host,
            tenant: host.tenant.as_deref().and_then(|name| self.tenant(name)),
            addresses: host
                .addresses
                .iter()
                .filter_map(|address| {
                    let net = IpNet::new(address.ip_address, address.prefix_length).ok()?;
                    Some(InterfaceAddress { address: net, gateway: None })
                })
                .collect(),
            mtu: None,
            source_nat: false,
            host_ports: Vec::new(),
            denied: denied(host.denied_response),
            origin: path::entry(&router, "host-interface", &[("name", &host.name)]),
        });
        let mut interfaces: Vec<Interface> = network.chain(host).collect();
        interfaces.sort_by(|a, b| a.name.cmp(&b.name));
        interfaces
    }

    fn interface(&self, name: &str) -> Option<fairway_types::InterfaceId> {
        let position =
            self.interfaces.binary_search_by(|interface| interface.name.as_str().cmp(name)).ok()?;
        u16::try_from(position).ok().map(fairway_types::InterfaceId)
    }

    fn memberships(&self) -> Vec<Membership> {
        let mut memberships = Vec::new();
        for (tenant, id) in self.authority.tenants.iter().filter_map(|t| Some((t, self.tenant(&t.name)?))) {
            for member in &tenant.members {
                let origin = path::named("tenant", &tenant.name);
                let origin = path::entry(&origin, "member", &[("neighborhood", &member.neighborhood)]);
                for (_, _, interface) in self.router.network_interfaces() {
                    if !takes_members(interface, &member.neighborhood) {
                        continue;
                    }
                    let Some(interface) = self.interface(&interface.name) else { continue };
                    memberships.extend(member.addresses.iter().map(|prefix| Membership {
                        interface,
                        prefix: prefix.trunc(),
                        tenant: id,
                        origin: origin.clone(),
                    }));
                }
            }
        }
        memberships
    }

    fn routes(&self, routes: &[elements::ServiceRoute], peers: &[Peer]) -> Vec<ServiceRoute> {
        let router = path::router(&self.router.name);
        let route = |route: &elements::ServiceRoute| {
            let own = || path::entry(&router, "service-route", &[("name", &route.name)]);
            Some(ServiceRoute {
                name: route.name.clone(),
                service: *self.services.get(route.service_name.as_str())?,
                target: self.target(route, peers)?,
                cost: route.cost,
                origin: route.origin.clone().unwrap_or_else(own),
            })
        };
        let mut routes: Vec<ServiceRoute> = routes.iter().filter_map(route).collect();
        routes.sort_by(|a, b| a.name.cmp(&b.name));
        routes
    }

    fn target(
        &self,
        route: &elements::ServiceRoute,
        peers: &[Peer],
    ) -> Option<fairway_types::model::RouteTarget> {
        use fairway_types::model::RouteTarget;
        if let Some(hop) = &route.next_hop {
            return Some(RouteTarget::NextHop {
                interface: self.interface(&hop.interface)?,
                gateway: hop.gateway,
            });
        }
        let Some(name) = &route.peer else { return Some(RouteTarget::Local) };
        let position = peers.binary_search_by(|peer| peer.name.cmp(name)).ok()?;
        Some(RouteTarget::Peer(fairway_types::PeerId(u16::try_from(position).ok()?)))
    }

    fn key_file(&self, peer: &str, configured: Option<&str>) -> PathBuf {
        configured
            .map_or_else(|| elements::Peer::default_key_file(&self.router.name, peer), str::to_owned)
            .into()
    }
}

/// Whether sources on the interface belong to tenants by their prefix in that neighborhood.
pub(crate) fn takes_members(interface: &elements::NetworkInterface, neighborhood: &str) -> bool {
    interface.tenant.is_none()
        && interface.kind != InterfaceType::Fabric
        && interface.neighborhoods.iter().any(|own| own.name == neighborhood)
}

/// The path of a network-interface.
pub(crate) fn interface_path(router: &str, node: &str, device: &str, interface: &str) -> String {
    let path = path::entry(&path::router(router), "node", &[("name", &node)]);
    let path = path::entry(&path, "device-interface", &[("name", &device)]);
    path::entry(&path, "network-interface", &[("name", &interface)])
}

/// A service, its parent, and so on. Ends, because every parent's name is shorter.
#[derive(Clone, Copy)]
struct Ancestors<'a> {
    authority: &'a Authority,
    services: &'a HashMap<&'a str, ServiceId>,
    next: Option<&'a elements::Service>,
}

impl<'a> Ancestors<'a> {
    /// The first of the line that `wanted` holds for.
    fn find(mut self, wanted: impl Fn(&elements::Service) -> bool) -> Option<&'a elements::Service> {
        Iterator::find(&mut self, |service| wanted(service))
    }
}

impl<'a> Iterator for Ancestors<'a> {
    type Item = &'a elements::Service;

    fn next(&mut self) -> Option<Self::Item> {
        let current = self.next?;
        let above = parent(&current.name).and_then(|parent| self.services.get(parent));
        self.next = above.and_then(|id| self.authority.services.get(id.index()));
        Some(current)
    }
}

fn transport(transport: &elements::Transport) -> Option<Transport> {
    let ports = transport.port_ranges.iter().filter_map(|range| range.range()).collect();
    Some(Transport { protocol: transport.protocol.protocol()?, ports })
}

const fn denied(response: DeniedResponse) -> fairway_types::model::DeniedResponse {
    match response {
        DeniedResponse::Silent => fairway_types::model::DeniedResponse::Silent,
        DeniedResponse::Reset => fairway_types::model::DeniedResponse::Reset,
        DeniedResponse::Prohibited => fairway_types::model::DeniedResponse::Prohibited,
    }
}

fn security(authority: &Authority) -> Vec<SecurityPolicy> {
    let configured = authority.security.iter().map(|policy| SecurityPolicy {
        name: policy.name.clone(),
        encrypt_metadata: policy.encrypt_metadata,
        payload: payload(policy),
        adaptive: policy.encrypt && policy.adaptive_encryption,
        origin: path::named("security", &policy.name),
    });
    let mut policies: Vec<SecurityPolicy> = configured.collect();
    if policies.iter().all(|policy| policy.name != DEFAULT_SECURITY) {
        policies.push(SecurityPolicy {
            name: DEFAULT_SECURITY.to_owned(),
            encrypt_metadata: true,
            payload: Some(Suite::Aes256Gcm),
            adaptive: true,
            origin: path::named("security", DEFAULT_SECURITY),
        });
    }
    policies
}

const fn payload(policy: &Security) -> Option<Suite> {
    match (policy.encrypt, policy.encryption_cipher, policy.hmac_mode) {
        (true, Cipher::Aes128Cbc, _) => Some(Suite::Aes128Cbc),
        (true, Cipher::Aes256Cbc, _) => Some(Suite::Aes256Cbc),
        (true, Cipher::Aes256Gcm, _) => Some(Suite::Aes256Gcm),
        (false, _, HmacMode::Regular) => Some(Suite::HmacSha256),
        (false, _, HmacMode::Disabled) => None,
    }
}

fn session_types(authority: &Authority) -> Vec<SessionType> {
    let configured = authority.session_types.iter().map(|ty| SessionType {
        name: ty.name.clone(),
        idle: Duration::from_secs(ty.timeout.into()),
        initial: Duration::from_secs(ty.initial_timeout.into()),
    });
    let mut types: Vec<SessionType> = configured.collect();
    for (name, idle, initial) in SESSION_TYPES {
        if types.iter().all(|ty| ty.name != name) {
            let (idle, initial) = (Duration::from_secs(idle), Duration::from_secs(initial));
            types.push(SessionType { name: name.to_owned(), idle, initial });
        }
    }
    types
}
