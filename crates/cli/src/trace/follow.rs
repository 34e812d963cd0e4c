//! Follows a packet from router to router, by the same tables that the routers decide with.

use core::fmt::Write as _;
use core::net::IpAddr;

use fairway_policy::{CandidateHop, Decision, Explanation, Match, PassedReason, RouteChoice, Snapshot};
use fairway_types::model::{Access, InterfaceKind};
use fairway_types::{DropReason, InterfaceId, PathId, PortRange, Protocol, TenantId};

use super::endpoint::To;
use super::fabric::{Entry, Fabric};
use super::steps::{End, Hop, Passed, Said, Trace, Way};

/// Says whether a path of a router is known to be down: router, local and remote waypoint.
pub type IsDown<'a> = &'a dyn Fn(&str, IpAddr, IpAddr) -> bool;

/// How the packet came to a router.
enum Arrival {
    /// From a host, without metadata.
    Host(InterfaceId),
    /// From a peer, over this path of the router it came to.
    Peer(PathId),
}

/// Follows the packet to its end.
pub fn follow(fabric: &Fabric, entry: &Entry, to: To, is_down: IsDown<'_>) -> Trace {
    let mut walk = Walk { fabric, source: entry.source, to, is_down, hops: Vec::new(), tenant: None };
    let outcome = walk.run(entry);
    Trace {
        protocol: to.protocol.to_string(),
        source: entry.source,
        destination: to.address,
        port: to.protocol.has_ports().then_some(to.port),
        routers: walk.hops,
        outcome,
    }
}

struct Walk<'a> {
    fabric: &'a Fabric,
    source: IpAddr,
    to: To,
    is_down: IsDown<'a>,
    hops: Vec<Hop>,
    /// The tenant's name: between routers it travels as such.
    tenant: Option<String>,
}

/// What one router makes of the packet.
enum Next {
    /// It ends here.
    End(End),
    /// It goes on to a peer, from this waypoint to that one.
    Peer { name: String, local: IpAddr, remote: IpAddr },
}

impl Walk<'_> {
    fn run(&mut self, entry: &Entry) -> End {
        let mut router = entry.router.clone();
        let mut arrival = Arrival::Host(entry.interface);
        // Each router is visited once at most, so this ends.
        loop {
            let Some(snapshot) = self.fabric.router(&router) else {
                return self.denied(
                    &router,
                    DropReason::NoRoute,
                    "the router is not in the configuration",
                    "add it",
                    None,
                );
            };
            let (peer, local, remote) = match self.at(snapshot, &arrival) {
                Next::End(end) => return end,
                Next::Peer { name, local, remote } => (name, local, remote),
            };
            if self.hops.iter().any(|hop| hop.router == peer) {
                let why = format!("the next router would be {peer}, where the packet has been before");
                let fix = "change the cost of service-routes or paths so that they do not form a loop";
                return self.denied(&router, DropReason::RouteLoop, &why, fix, None);
            }
            let next = self.fabric.router(&peer);
            let Some(path) = next.and_then(|next| next.path_by_waypoints(remote, local)) else {
                let why =
                    format!("{peer} has no path from {remote} to {local}, so it refuses metadata from there");
                let fix = format!(
                    "add an adjacency with peer {router} and address {local} to the interface of {peer} that holds {remote}"
                );
                return self.denied(&peer, DropReason::PeerAddressMismatch, &why, &fix, None);
            };
            router = peer;
            arrival = Arrival::Peer(path);
        }
    }

    fn denied(&self, router: &str, reason: DropReason, why: &str, fix: &str, origin: Option<&str>) -> End {
        End::Denied {
            router: router.to_owned(),
            reason: reason.name(),
            why: why.to_owned(),
            fix: fix.to_owned(),
            origin: origin.map(str::to_owned),
        }
    }

    /// One router: entrance, tenant, service, access, way.
    fn at(&mut self, snapshot: &Snapshot, arrival: &Arrival) -> Next {
        let model = snapshot.model();
        let mut hop =
            Hop { router: model.router.clone(), ingress: ingress(snapshot, arrival), ..Hop::default() };
        let tenant = match self.tenant_at(snapshot, arrival, &mut hop) {
            Ok(tenant) => tenant,
            Err(end) => {
                self.hops.push(hop);
                return Next::End(end);
            }
        };
        if self.is_for_the_router(snapshot, arrival) {
            self.hops.push(hop);
            return Next::End(End::Router { router: model.router.clone() });
        }
        let explanation =
            snapshot.explain(tenant, self.source, self.to.address, self.to.protocol, self.to.port);
        describe(snapshot, &explanation, &mut hop);
        let next = match explanation.decision {
            Decision::Permit { .. } => self.way(snapshot, arrival, &explanation, &mut hop),
            Decision::Deny { reason, .. } => Next::End(self.refusal(snapshot, arrival, reason, &explanation)),
        };
        self.hops.push(hop);
        next
    }

    /// Whether Linux keeps the packet: from hosts to an address of the router itself.
    fn is_for_the_router(&self, snapshot: &Snapshot, arrival: &Arrival) -> bool {
        let Arrival::Host(interface) = arrival else { return false };
        let kind = snapshot.model().interface(*interface).map(|interface| interface.kind);
        kind != Some(InterfaceKind::Host)
            && snapshot.is_own_address(self.to.address)
            && !self.is_for_an_inside_host(snapshot, *interface)
    }

    /// Whether it goes to an endpoint of source NAT, which is an inside host's, from another interface
    /// than where such endpoints are.
    fn is_for_an_inside_host(&self, snapshot: &Snapshot, interface: InterfaceId) -> bool {
        let mut others = (0u16..).map(InterfaceId).zip(&snapshot.model().interfaces);
        self.to.protocol.has_ports()
            && PortRange::SOURCE_NAT.contains(self.to.port)
            && others.any(|(id, other)| {
                id != interface && other.nat_addresses().any(|address| address == self.to.address)
            })
    }

    /// The tenant of the packet here, or why the router refuses what is claimed.
    fn tenant_at(
        &mut self,
        snapshot: &Snapshot,
        arrival: &Arrival,
        hop: &mut Hop,
    ) -> Result<Option<TenantId>, End> {
        match arrival {
            Arrival::Host(interface) => self.tenant_of_host(snapshot, *interface, hop),
            Arrival::Peer(path) => self.tenant_of_peer(snapshot, *path, hop),
        }
    }

    fn tenant_of_host(
        &mut self,
        snapshot: &Snapshot,
        interface: InterfaceId,
        hop: &mut Hop,
    ) -> Result<Option<TenantId>, End> {
        let model = snapshot.model();
        let tenant = snapshot.tenant_of(interface, self.source);
        self.tenant = tenant.and_then(|id| model.tenants.get(id.index())).map(|tenant| tenant.name.clone());
        hop.tenant = Some(local_tenant(snapshot, interface, self.source, self.tenant.as_deref()));
        let fabric = model.interface(interface).filter(|element| element.kind == InterfaceKind::Fabric);
        let Some(element) = fabric else { return Ok(tenant) };
        let why =
            format!("{} is a fabric interface: packets without metadata are not expected", element.name);
        let fix = "make its type `shared` or `external` if hosts are there";
        Err(self.denied(&model.router, DropReason::NoTenant, &why, fix, Some(&element.origin)))
    }

    fn tenant_of_peer(
        &self,
        snapshot: &Snapshot,
        path: PathId,
        hop: &mut Hop,
    ) -> Result<Option<TenantId>, End> {
        let model = snapshot.model();
        let path = model.path(path);
        let interface = path.and_then(|path| model.interface(path.interface));
        if let Some(element) = interface.filter(|element| element.kind == InterfaceKind::External) {
            let why = format!("{} is an external interface: metadata is not expected", element.name);
            let fix = "make its type `shared` or `fabric` if peers are there";
            let reason = DropReason::MetadataUnexpected;
            return Err(self.denied(&model.router, reason, &why, fix, Some(&element.origin)));
        }
        let Some(name) = self.tenant.as_deref() else {
            hop.tenant = Some(Said::text("none: the metadata names no tenant"));
            return Ok(None);
        };
        let Some(tenant) = snapshot.tenant_named(name) else {
            let why = format!("the metadata names the tenant {name}, which this router does not know");
            let fix = "give all routers the same configuration";
            return Err(self.denied(&model.router, DropReason::UnknownTenant, &why, fix, None));
        };
        let peer = path.and_then(|path| Some((path.peer, model.peer(path.peer)?)));
        let Some((id, peer)) = peer else { return Ok(Some(tenant)) };
        let text = format!("{name}, by the metadata of {}", peer.name);
        hop.tenant = Some(Said::named(name, text, &peer.origin));
        if snapshot.peer_may_claim(id, tenant) {
            return Ok(Some(tenant));
        }
        let why = format!("the peer {} may not claim the tenant {name}", peer.name);
        let fix = format!("add {name} to `allowed-tenant` of the peer {}", peer.name);
        Err(self.denied(&model.router, DropReason::TenantNotAllowed, &why, &fix, Some(&peer.origin)))
    }

    /// Chooses a way, and says why others before it are not taken.
    fn way(&self, snapshot: &Snapshot, arrival: &Arrival, explanation: &Explanation, hop: &mut Hop) -> Next {
        let model = snapshot.model();
        let came_from = match arrival {
            Arrival::Host(_) => None,
            Arrival::Peer(path) => model.path(*path).map(|path| path.peer),
        };
        let (mut next, mut refusal) = (None, None);
        for choice in &explanation.routes {
            let (leads, blocked, outcome) = self.lead(snapshot, choice, came_from);
            // A path that is down says more than a route that could never be taken.
            if refusal != Some(Blocked::Down) && blocked.is_some() {
                refusal = blocked;
            }
            let taken = next.is_none() && blocked.is_none();
            if taken {
                next = outcome;
            }
            hop.ways.push(Way {
                route: choice.name.clone(),
                cost: choice.candidate.cost,
                leads,
                origin: choice.origin.clone(),
                path_origin: choice.path_origin.clone(),
                taken,
                passed: blocked.map(|blocked| blocked.text().to_owned()),
            });
        }
        next.unwrap_or_else(|| Next::End(self.no_way(snapshot, explanation, refusal)))
    }

    /// Where a way leads, what speaks against it, and what follows if it is taken.
    fn lead(
        &self,
        snapshot: &Snapshot,
        choice: &RouteChoice,
        came_from: Option<fairway_types::PeerId>,
    ) -> (String, Option<Blocked>, Option<Next>) {
        let model = snapshot.model();
        match choice.candidate.hop {
            CandidateHop::Path(id) => {
                let Some(path) = model.path(id) else { return (String::new(), Some(Blocked::Missing), None) };
                let name = choice.peer.clone().unwrap_or_default();
                let interface =
                    model.interface(path.interface).map_or("", |interface| interface.name.as_str());
                let leads = format!("to peer {name}: {interface} {} → {}", path.local, path.remote);
                let blocked = if came_from == Some(path.peer) {
                    Some(Blocked::Back)
                } else {
                    (self.is_down)(&model.router, path.local, path.remote).then_some(Blocked::Down)
                };
                (leads, blocked, Some(Next::Peer { name, local: path.local, remote: path.remote }))
            }
            CandidateHop::NextHop { interface, gateway } => {
                let via = gateway.map_or("on the link".to_owned(), |gateway| format!("by {gateway}"));
                let name = model.interface(interface).map_or("", |interface| interface.name.as_str());
                let next = self.delivered(snapshot, interface, gateway.unwrap_or(self.to.address));
                (format!("out of {name}, {via}"), None, next)
            }
            CandidateHop::Local => match snapshot.interface_with_prefix(self.to.address) {
                Some(interface) => {
                    let name = model.interface(interface).map_or("", |interface| interface.name.as_str());
                    let next = self.delivered(snapshot, interface, self.to.address);
                    (format!("local: out of {name}, on the link"), None, next)
                }
                None => ("local".to_owned(), Some(Blocked::NotConnected), None),
            },
        }
    }

    fn delivered(&self, snapshot: &Snapshot, interface: InterfaceId, next_hop: IpAddr) -> Option<Next> {
        let element = snapshot.model().interface(interface)?;
        Some(Next::End(End::Delivered {
            router: snapshot.model().router.clone(),
            interface: element.name.clone(),
            device: element.device.clone(),
            next_hop,
        }))
    }

    fn no_way(&self, snapshot: &Snapshot, explanation: &Explanation, refusal: Option<Blocked>) -> End {
        let router = &snapshot.model().router;
        let service = explanation.matched.as_ref().map_or("", |matched| matched.name.as_str());
        let origin = explanation.matched.as_ref().map(|matched| matched.origin.as_str());
        let (reason, why, fix) = match refusal {
            Some(Blocked::Down) => (
                DropReason::PathDown,
                format!("every way of {service} from {router} leads over a path that is down"),
                "see `fairway show peers` on this router, and the link behind the path".to_owned(),
            ),
            Some(Blocked::Back) => (
                DropReason::RouteLoop,
                format!("the ways of {service} from {router} lead back to where the packet came from"),
                "give this router a service-route that leads on, or change the costs of the one before"
                    .to_owned(),
            ),
            Some(Blocked::NotConnected) => (
                DropReason::NoRoute,
                format!(
                    "{service} is local to {router}, but no interface has a prefix that holds {}",
                    self.to.address
                ),
                "use a service-route with next-hop, or give an interface that prefix".to_owned(),
            ),
            Some(Blocked::Missing) | None => (
                DropReason::NoRoute,
                format!("{service} has no service-route on {router}"),
                format!(
                    "add a service-route for {service} to {router} (peer, next-hop or local), or one to an \
                     egress router, from which it is generated for the others"
                ),
            ),
        };
        self.denied(router, reason, &why, &fix, origin)
    }

    fn refusal(
        &self,
        snapshot: &Snapshot,
        arrival: &Arrival,
        reason: DropReason,
        explanation: &Explanation,
    ) -> End {
        let router = &snapshot.model().router;
        let who = self
            .tenant
            .as_deref()
            .map_or("sources without a tenant".to_owned(), |name| format!("tenant {name}"));
        let Some(matched) = &explanation.matched else {
            let why = format!("no service holds {}", self.wanted());
            let fix = match explanation.passed_over.first() {
                Some(other) => format!(
                    "{} holds the address, but speaks {}: add the transport there, or add a service",
                    other.row.name,
                    transport(&other.row)
                ),
                None => {
                    "add a service whose address holds the destination, with access for the tenant".to_owned()
                }
            };
            return self.denied(router, reason, &why, &fix, None);
        };
        if let Some(line) = &explanation.line {
            let why = format!("{} denies {who}", matched.name);
            let fix = "change that line, or add one for a more specific tenant or prefix";
            return self.denied(router, reason, &why, fix, Some(&line.origin));
        }
        let why = format!("no line of the access-policy of {} speaks about {who}", matched.name);
        let fix = match (arrival, &self.tenant) {
            (Arrival::Host(_), None) => format!(
                "give the interface a tenant, or a tenant a member with this source, or make {} public",
                matched.name
            ),
            _ => format!("add a line to the access-policy of {} that allows {who}", matched.name),
        };
        self.denied(router, reason, &why, &fix, Some(&matched.origin))
    }

    fn wanted(&self) -> String {
        match self.to.protocol {
            protocol if protocol.has_ports() => format!("{} {protocol} {}", self.to.address, self.to.port),
            protocol => format!("{} {protocol}", self.to.address),
        }
    }
}

/// What speaks against a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blocked {
    Down,
    Back,
    NotConnected,
    Missing,
}

impl Blocked {
    const fn text(self) -> &'static str {
        match self {
            Self::Down => "the path is down",
            Self::Back => "it leads back to where the packet came from",
            Self::NotConnected => "no interface is connected to the destination",
            Self::Missing => "the path is gone",
        }
    }
}

fn ingress(snapshot: &Snapshot, arrival: &Arrival) -> Said {
    let model = snapshot.model();
    match arrival {
        Arrival::Host(id) => match model.interface(*id) {
            Some(interface) => {
                let text = format!("{} ({}), {}", interface.name, interface.device, kind(interface.kind));
                Said::named(&interface.name, text, &interface.origin)
            }
            None => Said::default(),
        },
        Arrival::Peer(id) => {
            let Some(path) = model.path(*id) else { return Said::default() };
            let (name, device) = model
                .interface(path.interface)
                .map_or(("", ""), |interface| (interface.name.as_str(), interface.device.as_str()));
            let peer = model.peer(path.peer).map_or("", |peer| peer.name.as_str());
            let text = format!("{name} ({device}), from peer {peer}: {} → {}", path.remote, path.local);
            Said::named(name, text, &path.origin)
        }
    }
}

const fn kind(kind: InterfaceKind) -> &'static str {
    match kind {
        InterfaceKind::External => "external",
        InterfaceKind::Fabric => "fabric",
        InterfaceKind::Shared => "shared",
        InterfaceKind::Host => "the router's own host",
    }
}

fn local_tenant(snapshot: &Snapshot, id: InterfaceId, source: IpAddr, name: Option<&str>) -> Said {
    let model = snapshot.model();
    let interface = model.interface(id);
    let Some(name) = name else {
        let origin = interface.map(|interface| interface.origin.clone());
        let text = "none: neither the interface nor a membership says one";
        return Said { name: None, text: text.to_owned(), origin };
    };
    if let Some(interface) = interface.filter(|interface| interface.tenant.is_some()) {
        return Said::named(
            name,
            format!("{name}, of the interface"),
            &format!("{}/tenant", interface.origin),
        );
    }
    let memberships =
        model.memberships.iter().filter(|line| line.interface == id && line.prefix.contains(&source));
    match memberships.max_by_key(|line| line.prefix.prefix_len()) {
        Some(line) => {
            Said::named(name, format!("{name}, which {} belongs to here", line.prefix), &line.origin)
        }
        None => Said::text(name),
    }
}

/// Service, passed-over services and access line of a router.
fn describe(snapshot: &Snapshot, explanation: &Explanation, hop: &mut Hop) {
    let row = |row: &Match| format!("{}: {} {}", row.name, row.prefix, transport(row));
    hop.service =
        explanation.matched.as_ref().map(|matched| Said::named(&matched.name, row(matched), &matched.origin));
    let passed = explanation.passed_over.iter().map(|passed| {
        let text = format!("{}: {}", row(&passed.row), passed.reason);
        Passed {
            said: Said::named(&passed.row.name, text, &passed.row.origin),
            other_transport: passed.reason == PassedReason::OtherTransport,
        }
    });
    hop.passed_over = passed.collect();
    hop.passed_over_more = explanation.passed_over_more;
    hop.access = explanation.line.as_ref().map(|line| {
        let text = match line.line {
            fairway_policy::AccessLine::Public => format!("{} is public: everybody is allowed", line.service),
            fairway_policy::AccessLine::Line { service, index } => {
                let services = &snapshot.model().services;
                let access =
                    services.get(service.index()).and_then(|service| service.access.get(index as usize));
                access.map_or_else(String::new, |access| access_text(snapshot, access, &line.service))
            }
        };
        Said::named(&line.service, text, &line.origin)
    });
}

fn access_text(snapshot: &Snapshot, access: &Access, service: &str) -> String {
    let tenant = access.tenant.and_then(|id| snapshot.model().tenants.get(id.index()));
    let mut text = format!("{service} {} ", if access.permit { "allows" } else { "denies" });
    text.push_str(tenant.map_or("every source", |tenant| tenant.name.as_str()));
    if let Some(prefix) = access.prefix {
        let _ = write!(text, " from {prefix}");
    }
    text
}

fn transport(row: &Match) -> String {
    match row.protocol {
        None => "every protocol".to_owned(),
        Some(protocol) if has_range(protocol, row) => format!("{protocol} {}", row.ports),
        Some(protocol) => protocol.to_string(),
    }
}

fn has_range(protocol: Protocol, row: &Match) -> bool {
    protocol.has_ports() && row.ports != fairway_types::PortRange::ALL
}
