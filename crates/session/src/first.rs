//! The first packet of a flow nobody knows: whose is it, may it pass, and which way?

use core::net::IpAddr;

use fairway_policy::{CandidateHop, Decision};
use fairway_types::model::{InterfaceKind, MidFlow, UdpTransform};
use fairway_types::{
    Counter, DropReason, InterfaceId, Now, Outlet, PathId, PeerId, Protocol, RouteId, ServiceId, Slot,
    TenantId, Verdict,
};
use fairway_wire::ip::{IcmpKind, Parsed};
use fairway_wire::svr;
use rand_core::RngCore;

use crate::engine::Engine;
use crate::event::Event;
use crate::key::{End, FlowKey};
use crate::liveness::Liveness;
use crate::open::is_routable;
use crate::ports::Pair;
use crate::room::opens;
use crate::session::{Hop, Leg, Session, Side, epoch_of};
use crate::table::Index;
use crate::tcp::{Tcp, flags};
use crate::together::Company;
use crate::vault::Protection;

/// Where a new session goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Over a peer path.
    Path(PathId),
    /// Out of an interface to a host, which is, or lies behind, this address.
    Host(InterfaceId, IpAddr),
}

/// How sure it is that a way works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Sure,
    /// A path nothing is known of, or one that came back only now.
    Perhaps,
}

/// What policy decided about a new session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    pub(crate) tenant: Option<TenantId>,
    pub(crate) service: ServiceId,
    pub(crate) route: RouteId,
    pub(crate) way: Way,
}

/// How long a path that ran out of ports is not reported again.
const REPORT_INTERVAL: core::time::Duration = core::time::Duration::from_secs(10);

impl Engine {
    /// A packet whose flow is not known.
    pub(crate) fn unknown(
        &mut self,
        now: Now,
        key: &FlowKey,
        packet: &mut Slot,
        parsed: &Parsed,
        outlet: &mut Outlet<'_>,
    ) -> Result<Verdict, DropReason> {
        if parsed.icmp == Some(IcmpKind::Error) {
            return self.icmp_error(now, packet, parsed, outlet);
        }
        if let Some(worker) = self.elsewhere(packet, key, parsed) {
            return Ok(Verdict::HandOver(worker));
        }
        if packet.interface.is_hairpin() {
            return Err(DropReason::UnknownWaypoint);
        }
        let to_router = self.snapshot.is_own_address(parsed.destination) && !self.is_host(packet.interface);
        if to_router && !self.asks_for_outside(key) {
            return self.waypoint_packet(now, packet, parsed, outlet);
        }
        self.first_packet(now, key, packet, parsed, outlet)
    }

    fn is_host(&self, interface: InterfaceId) -> bool {
        self.snapshot.model().interface(interface).is_some_and(|i| i.kind == InterfaceKind::Host)
    }

    /// A packet to an address of this router that is no known flow: metadata, a message between
    /// peers, or somebody who tries doors.
    fn waypoint_packet(
        &mut self,
        now: Now,
        packet: &mut Slot,
        parsed: &Parsed,
        outlet: &mut Outlet<'_>,
    ) -> Result<Verdict, DropReason> {
        if parsed.protocol == Protocol::UDP.0 && parsed.destination_port == svr::BFD_PORT {
            return self.peer_message(now, packet, parsed);
        }
        if packet.gso.is_some() {
            let size = packet.gso.map_or(1, |gso| usize::from(gso.size).max(1));
            let bytes = packet.packet.bytes();
            if parsed.payload(bytes).chunks(size).any(svr::starts_with_cookie) {
                return self.process_segments(now, packet, outlet);
            }
        }
        if !svr::starts_with_cookie(parsed.payload(packet.packet.bytes())) {
            return Err(DropReason::UnknownWaypoint);
        }
        let kind = self.snapshot.model().interface(packet.interface).map(|interface| interface.kind);
        if kind == Some(InterfaceKind::External) {
            return Err(DropReason::MetadataUnexpected);
        }
        self.metadata(now, None, packet, parsed, outlet)
    }

    /// The first packet of a session that begins here.
    fn first_packet(
        &mut self,
        now: Now,
        key: &FlowKey,
        packet: &mut Slot,
        parsed: &Parsed,
        outlet: &mut Outlet<'_>,
    ) -> Result<Verdict, DropReason> {
        if !is_routable(parsed.source, parsed.destination) {
            return Err(DropReason::MartianAddress);
        }
        self.check_source(now, key, parsed.tcp_flags)?;
        let admission = match self.admit(key) {
            Ok(admission) => admission,
            Err(reason) => {
                self.answer_denied(now, packet, parsed, outlet);
                return Err(reason);
            }
        };
        if parsed.ttl <= 1 {
            self.answer_ttl_expired(now, packet, parsed, outlet);
            return Err(DropReason::TtlExpired);
        }
        self.check_opening(now, admission.service, packet, parsed, outlet)?;
        let index = self.begin(now, key, &admission, parsed)?;
        self.send_on(now, index, Side::Initiator, packet, parsed, Company::NONE, outlet)
    }

    /// Tenant, service, access, route: what the configuration says of a packet from a host.
    fn admit(&self, key: &FlowKey) -> Result<Admission, DropReason> {
        let kind = self.snapshot.model().interface(key.interface).map(|interface| interface.kind);
        if kind == Some(InterfaceKind::Fabric) {
            return Err(DropReason::NoTenant);
        }
        let tuple = key.tuple();
        let tenant = self.snapshot.tenant_of(key.interface, tuple.source.ip());
        self.decide(tenant, &tuple, None)
    }

    /// What the configuration says of a session, whoever brings it.
    pub(crate) fn decide(
        &self,
        tenant: Option<TenantId>,
        tuple: &fairway_types::Tuple,
        from: Option<PeerId>,
    ) -> Result<Admission, DropReason> {
        let (source, destination) = (tuple.source.ip(), tuple.destination.ip());
        let port = if tuple.protocol.has_ports() { tuple.destination.port() } else { 0 };
        match self.snapshot.decide(tenant, source, destination, tuple.protocol, port) {
            Decision::Deny { reason, .. } => Err(reason),
            Decision::Permit { service, .. } => {
                let (route, way) = self.choose(service, destination, from)?;
                Ok(Admission { tenant, service, route, way })
            }
        }
    }

    /// The best way for a session of a service that can be used now.
    fn choose(
        &self,
        service: ServiceId,
        destination: IpAddr,
        from: Option<PeerId>,
    ) -> Result<(RouteId, Way), DropReason> {
        let mut refusal = DropReason::NoRoute;
        let mut second_best = None;
        for candidate in self.snapshot.candidates(service) {
            let way = match candidate.hop {
                CandidateHop::Path(path) => self.usable(path, from),
                CandidateHop::NextHop { interface, gateway } => {
                    Ok((Standing::Sure, Way::Host(interface, gateway.unwrap_or(destination))))
                }
                CandidateHop::Local => self
                    .snapshot
                    .interface_with_prefix(destination)
                    .map(|interface| (Standing::Sure, Way::Host(interface, destination)))
                    .ok_or(DropReason::NoRoute),
            };
            match way {
                Ok((Standing::Sure, way)) => return Ok((candidate.route, way)),
                Ok((Standing::Perhaps, way)) => {
                    second_best.get_or_insert((candidate.route, way));
                }
                // A path that is down says more than a route that could never be taken.
                Err(reason) if refusal != DropReason::PathDown => refusal = reason,
                Err(_) => {}
            }
        }
        second_best.ok_or(refusal)
    }

    /// Whether a new session may use a path.
    fn usable(&self, path: PathId, from: Option<PeerId>) -> Result<(Standing, Way), DropReason> {
        if from.is_some() && self.peer_of(path) == from {
            return Err(DropReason::RouteLoop);
        }
        match self.liveness(path) {
            Liveness::Up => Ok((Standing::Sure, Way::Path(path))),
            Liveness::Unknown => Ok((Standing::Perhaps, Way::Path(path))),
            Liveness::Held => Ok((Standing::Perhaps, Way::Path(path))),
            // Held down after it came back: better than nothing.
            Liveness::Down if self.shard.leads() && self.peering.is_alive(path) => {
                Ok((Standing::Perhaps, Way::Path(path)))
            }
            Liveness::Down => Err(DropReason::PathDown),
        }
    }

    /// Whether a TCP packet may begin a session.
    pub(crate) fn check_opening(
        &mut self,
        now: Now,
        service: ServiceId,
        packet: &Slot,
        parsed: &Parsed,
        outlet: &mut Outlet<'_>,
    ) -> Result<(), DropReason> {
        if parsed.protocol != Protocol::TCP.0 {
            return Ok(());
        }
        if parsed.tcp_flags & (flags::SYN | flags::ACK | flags::RST) == flags::SYN {
            return Ok(());
        }
        if parsed.tcp_flags & flags::RST != 0 {
            return Err(DropReason::TcpMidFlow);
        }
        let services = &self.snapshot.model().services;
        match services.get(service.index()).map_or(MidFlow::Block, |service| service.mid_flow) {
            MidFlow::Allow => Ok(()),
            MidFlow::Block => Err(DropReason::TcpMidFlow),
            MidFlow::Reset => {
                self.answer_reset(now, packet, parsed, outlet);
                Err(DropReason::TcpMidFlow)
            }
        }
    }

    /// Makes the session of a host's first packet.
    fn begin(
        &mut self,
        now: Now,
        key: &FlowKey,
        admission: &Admission,
        parsed: &Parsed,
    ) -> Result<Index, DropReason> {
        let arrival = Leg::new(*key, parsed.source, None);
        let owner = self.owner(&arrival, admission.tenant);
        let preferred = self.make_room(now, &owner, opens(key.protocol, parsed.tcp_flags))?;
        let protection = match admission.way {
            Way::Path(path) => {
                // Making keys costs more than all else; a flood must not get that far.
                let protected = self.protects(admission.service);
                self.check_ports(now, path, key.protocol, protected, preferred)?;
                self.new_protection(now, admission.service)?
            }
            Way::Host(..) => None,
        };
        let mut uuid = [0; 16];
        self.rng.fill_bytes(&mut uuid);
        let (epoch, flags) = (epoch_of(now), parsed.tcp_flags);
        self.connect(now, uuid, key, arrival, admission, epoch, 0, flags, protection, preferred)
    }

    /// Makes a session that there is room for out of its first leg and what policy decided: chooses
    /// the other leg, allocates ports, the last ones only for the `preferred`, and inserts it.
    #[expect(clippy::too_many_arguments, reason = "each is a fact of the session that nothing else knows")]
    pub(crate) fn connect(
        &mut self,
        now: Now,
        uuid: [u8; 16],
        original: &FlowKey,
        arrival: Leg,
        admission: &Admission,
        epoch: u32,
        source_router: u16,
        first_flags: u8,
        protection: Option<Protection>,
        preferred: bool,
    ) -> Result<Index, DropReason> {
        let departure = match admission.way {
            Way::Host(interface, next_hop) => {
                self.host_leg(now, original, interface, next_hop, admission.tenant, source_router)?
            }
            Way::Path(path) => {
                self.waypoint_leg(now, path, original, protection.is_some(), epoch, preferred)?
            }
        };
        let legs = [arrival, departure];
        self.join_legs(now, uuid, original, legs, admission, source_router, first_flags, protection)
    }

    /// Makes a session of its two legs.
    #[expect(clippy::too_many_arguments, reason = "each is a fact of the session that nothing else knows")]
    pub(crate) fn join_legs(
        &mut self,
        now: Now,
        uuid: [u8; 16],
        original: &FlowKey,
        legs: [Leg; 2],
        admission: &Admission,
        source_router: u16,
        first_flags: u8,
        protection: Option<Protection>,
    ) -> Result<Index, DropReason> {
        let port = if original.protocol.has_ports() { original.local.port() } else { 0 };
        let times = self.snapshot.session_type(admission.service, original.protocol, port);
        let session = Session {
            uuid,
            legs,
            original: *original,
            protocol: original.protocol,
            tenant: admission.tenant,
            service: admission.service,
            route: admission.route,
            source_router,
            protection: protection.and_then(|protection| self.vault.insert(protection)),
            tcp: Tcp::new(first_flags),
            idle_seconds: seconds(times.idle),
            initial_seconds: seconds(times.initial),
            answered: false,
            shares_account: false,
            in_kernel: false,
            created: now.mono,
            active: now.mono,
        };
        self.insert(now, session).inspect_err(|_| {
            self.release_ports(now, session.leg(Side::Responder));
            self.release_nat(now, &session);
            self.vault.remove(session.protection);
        })
    }

    /// A leg to a host, as whose source a session appears there, or as its own.
    fn host_leg(
        &mut self,
        now: Now,
        original: &FlowKey,
        interface: InterfaceId,
        next_hop: IpAddr,
        tenant: Option<TenantId>,
        source_router: u16,
    ) -> Result<Leg, DropReason> {
        let key = self.translated_key(now, original, interface, tenant, source_router)?;
        if let Err(reason) = self.evict_stale(now, &key, tenant, source_router) {
            self.give_back(now, &key);
            return Err(reason);
        }
        Ok(Leg::new(key, next_hop, None))
    }

    /// A new session replaces one that its own tenant left behind on the same tuple, as after the
    /// restart of an ingress router; it never replaces one of somebody else.
    fn evict_stale(
        &mut self,
        now: Now,
        key: &FlowKey,
        tenant: Option<TenantId>,
        source_router: u16,
    ) -> Result<(), DropReason> {
        let Some((index, side)) = self.table.find(key) else { return Ok(()) };
        let Some(old) = self.table.get(index) else { return Ok(()) };
        if side == Side::Initiator || old.tenant != tenant || old.source_router != source_router {
            return Err(DropReason::TupleInUse);
        }
        self.remove(now, index, Counter::SessionsReplaced);
        Ok(())
    }

    /// A leg to a peer, with a fresh pair of waypoint ports: TCP as TCP or as UDP, all else as UDP. The
    /// last pairs are for the `preferred`.
    ///
    /// The pair is of the class of the original flow if there is one, so that at both routers one
    /// worker has both flows of the session; else of one that steers answers here.
    pub(crate) fn waypoint_leg(
        &mut self,
        now: Now,
        path_id: PathId,
        original: &FlowKey,
        protected: bool,
        epoch: u32,
        preferred: bool,
    ) -> Result<Leg, DropReason> {
        let protocol = self.check_ports(now, path_id, original.protocol, protected, preferred)?;
        let class = original.class();
        let shard = self.shard;
        let Self { snapshot, table, paths, .. } = self;
        let (Some(model), Some(path)) = (snapshot.model().path(path_id), paths.get_mut(path_id.index()))
        else {
            return Err(DropReason::NoRoute);
        };
        let key = |pair: Pair| FlowKey {
            remote: End::new(model.remote, pair.remote),
            local: End::new(model.local, pair.local),
            interface: model.interface,
            protocol,
            ipv6: model.local.is_ipv6(),
        };
        let pool = path.pool(protocol);
        let classes = key(Pair { local: 0, remote: 0 }).classes();
        let class_of = |pair: Pair| classes.of_ports((pair.local, pair.remote));
        let is_free = |pair: Pair| table.find(&key(pair)).is_none();
        let pair = pool
            .allocate(now.mono, preferred, |pair| class_of(pair) == class && is_free(pair))
            .or_else(|_| {
                let here = |pair| shard.is_home_of(class_of(pair)) && is_free(pair);
                pool.allocate(now.mono, preferred, here)
            });
        if let Ok(pair) = pair {
            return Ok(Leg::new(key(pair), model.remote, Some(Hop::new(path_id, Side::Responder, epoch))));
        }
        Err(self.exhausted(now, path_id, protocol))
    }

    /// Whether a path has waypoint ports for one more session, if need be because another one gives
    /// way, and of which protocol.
    fn check_ports(
        &mut self,
        now: Now,
        path_id: PathId,
        protocol: Protocol,
        protected: bool,
        preferred: bool,
    ) -> Result<Protocol, DropReason> {
        let Some(model) = self.snapshot.model().path(path_id) else { return Err(DropReason::NoRoute) };
        let carried = match model.udp_transform {
            UdpTransform::Encrypted => protected,
            UdpTransform::Always => true,
            UdpTransform::Never => false,
        };
        let protocol = if carried { Protocol::UDP } else { protocol.on_waypoints() };
        let Some(path) = self.paths.get_mut(path_id.index()) else { return Err(DropReason::NoRoute) };
        if path.pool(protocol).is_full(preferred) && !self.give_way_on_path(now, path_id, protocol) {
            return Err(self.exhausted(now, path_id, protocol));
        }
        Ok(protocol)
    }

    fn exhausted(&mut self, now: Now, path_id: PathId, protocol: Protocol) -> DropReason {
        if let Some(path) = self.paths.get_mut(path_id.index()) {
            path.pool(protocol).tally.refused += 1;
            if path.reported.is_none_or(|at| now.mono.since(at) >= REPORT_INTERVAL) {
                path.reported = Some(now.mono);
                self.report(Event::WaypointsExhausted(path_id));
            }
        }
        DropReason::WaypointsExhausted
    }

    /// Gives back the ports of a leg that this router chose.
    pub(crate) fn release_ports(&mut self, now: Now, leg: &Leg) {
        let Some(hop) = &leg.hop else { return };
        let pair = Pair { local: leg.key.local.port(), remote: leg.key.remote.port() };
        if let Some(path) = self.paths.get_mut(hop.path.index()) {
            path.pool(leg.key.protocol).release(now.mono, pair);
        }
    }
}

fn seconds(duration: core::time::Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX).max(1)
}
