//! From what the engine and the backend know to what the API says.

use core::time::Duration;

use fairway_io::{PortStatus, Ports};
use fairway_peering::{Diagnostic, State};
use fairway_policy::{Candidate, CandidateHop, Decision, Explanation, FibRow, Match};
use fairway_session::{
    DropRecord, Engine, LegView, LimitScope, LimitView, NatUsage, SessionView, WaypointUsage,
};
use fairway_types::model::{InterfaceKind, RouterModel};
use fairway_types::{Counters, DropReason, InterfaceId, IpNet, Now, PathId, Time, Tuple};

use crate::api;

/// A session.
pub(crate) fn session(model: &RouterModel, now: Now, view: &SessionView) -> api::Session {
    let [initiator, responder] = &view.legs;
    api::Session {
        uuid: uuid(&view.uuid),
        tenant: view.tenant.clone(),
        service: view.service.clone(),
        protocol: view.original.protocol.to_string(),
        source: view.original.source,
        destination: view.original.destination,
        role: view.role.name().to_owned(),
        state: view.state.to_owned(),
        forwarded_by: if view.in_kernel { "kernel" } else { "worker" }.to_owned(),
        kernel_refused: view.refusal.map(|why| why.reason().to_owned()),
        route: (!view.route.is_empty()).then(|| view.route.clone()),
        ingress_router: (!view.source_router.is_empty()).then(|| view.source_router.clone()),
        protection: view.protection.map(|protection| api::Protection {
            cipher: protection.suite.name().to_owned(),
            forward: protection.forward.to_owned(),
            reverse: protection.reverse.to_owned(),
        }),
        initiator: leg(model, initiator),
        responder: leg(model, responder),
        forward: traffic(initiator),
        reverse: traffic(responder),
        age_seconds: seconds(now.mono.since(view.created)),
        idle_seconds: seconds(now.mono.since(view.active)),
        remaining_seconds: seconds(view.expires_in),
    }
}

fn leg(model: &RouterModel, leg: &LegView) -> api::Leg {
    api::Leg {
        interface: interface_name(model, leg.interface),
        peer: leg.peer.clone(),
        path: leg.path.and_then(|path| model.path(path)).map(|path| path.pathway.clone()),
        protocol: leg.tuple.protocol.to_string(),
        local: leg.tuple.destination,
        remote: leg.tuple.source,
        next_hop: Some(leg.next_hop),
        handshake: leg.path.map(|_| if leg.telling { "sending" } else { "established" }.to_owned()),
    }
}

fn traffic(leg: &LegView) -> api::Traffic {
    api::Traffic { packets: leg.packets, bytes: leg.bytes }
}

/// The two flows of a session.
pub(crate) fn flows(model: &RouterModel, view: &SessionView) -> [api::Flow; 2] {
    let [initiator, responder] = &view.legs;
    [("forward", initiator, responder), ("reverse", responder, initiator)].map(|(direction, from, to)| {
        api::Flow {
            session: uuid(&view.uuid),
            direction: direction.to_owned(),
            tenant: view.tenant.clone(),
            service: view.service.clone(),
            ingress: flow_end(model, from, from.tuple),
            egress: flow_end(model, to, to.tuple.reversed()),
            traffic: traffic(from),
        }
    })
}

fn flow_end(model: &RouterModel, leg: &LegView, tuple: Tuple) -> api::FlowEnd {
    api::FlowEnd {
        interface: interface_name(model, leg.interface),
        peer: leg.peer.clone(),
        protocol: tuple.protocol.to_string(),
        source: tuple.source,
        destination: tuple.destination,
    }
}

fn uuid(bytes: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// The bytes of a UUID, written with or without hyphens.
pub(crate) fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Option<Vec<u32>> = text.chars().filter(|&c| c != '-').map(|c| c.to_digit(16)).collect();
    let bytes: Vec<u8> =
        digits?.chunks(2).map(|pair| pair.iter().fold(0, |all, &d| all << 4 | d as u8)).collect();
    (text.chars().filter(|&c| c != '-').count() == 32).then(|| bytes.try_into().ok())?
}

/// A row of the FIB.
pub(crate) fn fib_row(model: &RouterModel, row: &FibRow<'_>) -> api::FibRow {
    api::FibRow {
        prefix: row.prefix,
        protocol: row.protocol.map(|protocol| protocol.to_string()),
        first_port: row.ports.first(),
        last_port: row.ports.last(),
        tenant: row.tenant.to_string(),
        source: row.source,
        service: row.service_name.to_owned(),
        permit: row.permit,
        route: row.route.map(|candidate| way(model, &candidate)),
    }
}

fn way(model: &RouterModel, candidate: &Candidate) -> api::Way {
    let route = model.routes.get(candidate.route.index());
    let mut way = api::Way {
        route: route.map(|route| route.name.clone()).unwrap_or_default(),
        cost: candidate.cost,
        peer: None,
        path: None,
        interface: None,
        gateway: None,
        up: None,
        origin: None,
    };
    match candidate.hop {
        CandidateHop::Path(path) => {
            if let Some(path) = model.path(path) {
                way.peer = model.peer(path.peer).map(|peer| peer.name.clone());
                way.path = Some(path.pathway.clone());
                way.interface = Some(interface_name(model, path.interface));
            }
        }
        CandidateHop::NextHop { interface, gateway } => {
            way.interface = Some(interface_name(model, interface));
            way.gateway = gateway;
        }
        CandidateHop::Local => {}
    }
    way
}

/// An explained decision; `is_up` says whether a way can be taken now.
pub(crate) fn lookup(
    model: &RouterModel,
    explanation: Explanation,
    is_up: impl Fn(&CandidateHop) -> bool,
) -> api::Lookup {
    let ways: Vec<api::Way> = explanation
        .routes
        .iter()
        .map(|choice| api::Way {
            up: Some(is_up(&choice.candidate.hop)),
            origin: Some(choice.origin.clone()),
            ..way(model, &choice.candidate)
        })
        .collect();
    let taken = ways.iter().position(|way| way.up == Some(true));
    let reason = match explanation.decision {
        Decision::Deny { reason, .. } => Some(reason),
        Decision::Permit { .. } if ways.is_empty() => Some(DropReason::NoRoute),
        Decision::Permit { .. } if taken.is_none() => Some(DropReason::PathDown),
        Decision::Permit { .. } => None,
    };
    api::Lookup {
        permit: reason.is_none(),
        reason: reason.map(|reason| reason.name().to_owned()),
        tenant: explanation.tenant,
        matched: explanation.matched.as_ref().map(matched),
        line: explanation.line.map(|line| api::Line {
            permit: line.permit,
            service: line.service,
            origin: line.origin,
        }),
        passed_over: explanation
            .passed_over
            .iter()
            .map(|passed| api::PassedOver { service: matched(&passed.row), why: passed.reason.to_string() })
            .collect(),
        passed_over_more: explanation.passed_over_more as u64,
        ways,
        taken,
    }
}

fn matched(row: &Match) -> api::Matched {
    api::Matched {
        service: row.name.clone(),
        origin: row.origin.clone(),
        prefix: row.prefix,
        protocol: row.protocol.map(|protocol| protocol.to_string()),
        first_port: row.ports.first(),
        last_port: row.ports.last(),
    }
}

/// All peers with their paths.
pub(crate) fn peers(engine: &Engine, now: Time) -> Vec<api::Peer> {
    let snapshot = engine.snapshot();
    let model = snapshot.model();
    let mut peers: Vec<api::Peer> = model
        .peers
        .iter()
        .map(|peer| api::Peer {
            name: peer.name.clone(),
            tenants: peer.tenants.as_ref().map(|ids| {
                ids.iter().filter_map(|id| model.tenants.get(id.index())).map(|t| t.name.clone()).collect()
            }),
            up: false,
            paths: Vec::new(),
        })
        .collect();
    for status in engine.peer_paths() {
        let configured = model.path(status.path);
        if let Some(peer) = peers.get_mut(status.peer.index()) {
            peer.up |= status.up;
            peer.paths.push(api::Path {
                name: status.pathway.to_owned(),
                interface: configured.map(|path| interface_name(model, path.interface)).unwrap_or_default(),
                local: status.local,
                remote: status.remote,
                cost: configured.map_or(0, |path| path.cost),
                up: status.up,
                state: state_name(status.state).to_owned(),
                remote_state: state_name(status.remote_state).to_owned(),
                since_seconds: seconds(now.since(status.last_change)),
                held_down_seconds: status.held_until.map(|until| seconds(until.since(now))),
                diagnostic: (status.diagnostic != Diagnostic::None)
                    .then(|| status.diagnostic.name().to_owned()),
                packets_sent: status.sent,
                packets_received: status.received,
            });
        }
    }
    peers
}

const fn state_name(state: State) -> &'static str {
    match state {
        State::AdminDown => "admin-down",
        State::Down => "down",
        State::Init => "init",
        State::Up => "up",
    }
}

/// All interfaces.
pub(crate) fn interfaces(model: &RouterModel, status: &[PortStatus]) -> Vec<api::Interface> {
    let configured = (0u16..).map(InterfaceId).zip(&model.interfaces);
    let known = |id: InterfaceId| status.iter().find(|status| status.id == id);
    configured.filter_map(|(id, interface)| Some(one_interface(model, interface, known(id)?))).collect()
}

fn one_interface(
    model: &RouterModel,
    configured: &fairway_types::model::Interface,
    status: &PortStatus,
) -> api::Interface {
    let tenant = configured.tenant.and_then(|id| model.tenants.get(id.index()));
    let addresses: Vec<IpNet> = configured.addresses.iter().map(|address| address.address).collect();
    let figures = &status.statistics;
    api::Interface {
        name: configured.name.clone(),
        device: status.device.clone(),
        vlan: configured.vlan,
        tagged: status.tagged,
        io: status.io.map(|method| method.name().to_owned()),
        kind: kind_name(configured.kind).to_owned(),
        tenant: tenant.map(|tenant| tenant.name.clone()),
        up: status.up,
        mtu_bytes: u32::from(status.mtu),
        mac: status.mac.map(|byte| format!("{byte:02x}")).join(":"),
        addresses,
        missing_addresses: crate::interfaces::missing_addresses(configured, &status.addresses),
        received: api::Traffic { packets: figures.rx_packets, bytes: figures.rx_bytes },
        sent: api::Traffic { packets: figures.tx_packets, bytes: figures.tx_bytes },
        receive_overruns: figures.rx_overruns,
        receive_unusable: figures.rx_unusable,
        punted: figures.punted,
        punts_discarded: figures.punts_discarded,
        held: figures.held,
        link: status.tagged.then_some(api::Link {
            asked: figures.link.asked,
            unasked: figures.link.unasked,
            answered: figures.link.answered,
            pings: figures.link.pings,
            ignored: figures.link.ignored,
            conflicts: figures.link.conflicts,
        }),
        drops: figures
            .drops()
            .map(|(reason, count)| api::NamedCount { name: reason.name().to_owned(), count })
            .collect(),
    }
}

const fn kind_name(kind: InterfaceKind) -> &'static str {
    match kind {
        InterfaceKind::External => "external",
        InterfaceKind::Fabric => "fabric",
        InterfaceKind::Shared => "shared",
        InterfaceKind::Host => "host",
    }
}

/// The waypoint ports of all paths.
pub(crate) fn waypoints(model: &RouterModel, usage: &[WaypointUsage]) -> Vec<api::Waypoints> {
    let one = |usage: &WaypointUsage| {
        let path = model.path(usage.path)?;
        Some(api::Waypoints {
            peer: model.peer(path.peer).map(|peer| peer.name.clone()).unwrap_or_default(),
            path: path.pathway.clone(),
            interface: interface_name(model, path.interface),
            local: path.local,
            remote: path.remote,
            protocol: usage.protocol.to_string(),
            used: u64::from(usage.used),
            resting: u64::from(usage.resting),
            capacity: u64::from(usage.capacity),
            exhausted: usage.exhausted,
        })
    };
    usage.iter().filter_map(one).collect()
}

/// The ports of source NAT.
pub(crate) fn nat(model: &RouterModel, usage: &[NatUsage]) -> Vec<api::NatPorts> {
    let one = |usage: &NatUsage| api::NatPorts {
        interface: interface_name(model, usage.interface),
        address: usage.address,
        protocol: usage.protocol.to_string(),
        used: u64::from(usage.used),
        resting: u64::from(usage.resting),
        capacity: u64::from(usage.capacity),
        peak: u64::from(usage.peak),
        given: usage.given,
        refused: usage.refused,
    };
    usage.iter().map(one).collect()
}

/// All limits.
pub(crate) fn limits(
    model: &RouterModel,
    limits: &[LimitView],
    waypoints: &[WaypointUsage],
    nat: &[NatUsage],
) -> Vec<api::Limit> {
    let one = |view: &LimitView| {
        let (scope, name) = scope(model, &view.limit.scope);
        api::Limit {
            scope: scope.to_owned(),
            name,
            limit: view.limit.kind.name().to_owned(),
            unit: view.limit.kind.unit().to_owned(),
            most: view.most,
            now: view.now,
            peak: view.peak,
            allowed: view.allowed,
            refused: view.refused,
            evicted: view.evicted,
        }
    };
    let mut all: Vec<api::Limit> = limits.iter().map(one).collect();
    all.extend(waypoints.iter().map(|usage| port_limit(model, usage)));
    all.extend(nat.iter().map(nat_limit));
    all
}

/// The limit of waypoint ports on a path.
fn port_limit(model: &RouterModel, usage: &WaypointUsage) -> api::Limit {
    let path = model.path(usage.path).map_or("", |path| &path.pathway);
    api::Limit {
        scope: "path".to_owned(),
        name: Some(format!("{path} {}", usage.protocol)),
        limit: "max-way-points".to_owned(),
        unit: "sessions".to_owned(),
        most: Some(usage.capacity),
        now: Some(usage.used),
        peak: Some(usage.peak),
        allowed: usage.given,
        refused: usage.exhausted,
        evicted: usage.evicted,
    }
}

/// The limit of the ports that source NAT has of an address.
fn nat_limit(usage: &NatUsage) -> api::Limit {
    api::Limit {
        scope: "nat".to_owned(),
        name: Some(format!("{} {}", usage.address, usage.protocol)),
        limit: "nat-ports".to_owned(),
        unit: "endpoints".to_owned(),
        most: Some(usage.capacity),
        now: Some(usage.used + usage.resting),
        peak: Some(usage.peak),
        allowed: usage.given,
        refused: usage.refused,
        evicted: 0,
    }
}

/// Whose limit it is, by kind and name.
pub(crate) fn scope(model: &RouterModel, scope: &LimitScope) -> (&'static str, Option<String>) {
    match scope {
        LimitScope::Router => ("router", None),
        LimitScope::Tenant(id) => ("tenant", model.tenants.get(id.index()).map(|t| t.name.clone())),
        LimitScope::WithoutTenant => ("tenant", None),
        LimitScope::Peer(id) => ("peer", model.peer(*id).map(|peer| peer.name.clone())),
        LimitScope::Source(source) => {
            let named = |(interface, address): (InterfaceId, core::net::IpAddr)| {
                let prefix = if address.is_ipv6() { "/64" } else { "" };
                format!("{address}{prefix} on {}", interface_name(model, interface))
            };
            ("source", source.map(named))
        }
    }
}

/// All counters.
pub(crate) fn counters(counters: &Counters) -> Vec<api::Counter> {
    let one = |(counter, value): (fairway_types::Counter, u64)| api::Counter {
        name: counter.name().to_owned(),
        value,
        help: counter.help().trim().to_owned(),
    };
    counters.iter().map(one).collect()
}

/// All drops, the engine's and those on the way out, reasons without any included.
pub(crate) fn drops(
    model: &RouterModel,
    now: Time,
    records: &[DropRecord],
    outbound: &[PortStatus],
) -> Vec<api::Drop> {
    let sent =
        |reason: DropReason| -> u64 { outbound.iter().map(|port| port.statistics.dropped(reason)).sum() };
    records
        .iter()
        .map(|record| api::Drop {
            reason: record.reason.name().to_owned(),
            culprit: record.reason.culprit().name().to_owned(),
            count: record.count + sent(record.reason),
            help: record.reason.help().trim().to_owned(),
            last: record.last.map(|last| api::DropExample {
                age_seconds: seconds(now.since(last.at)),
                interface: model.interface(last.interface).map(|i| i.name.clone()),
                protocol: last.tuple.map(|tuple| tuple.protocol.to_string()),
                source: last.tuple.map(|tuple| tuple.source),
                destination: last.tuple.map(|tuple| tuple.destination),
                length_bytes: last.length,
            }),
        })
        .collect()
}

/// Which of the ways of a decision can be taken now.
pub(crate) fn usable(engine: &Engine, ports: &Ports, hop: &CandidateHop, to: core::net::IpAddr) -> bool {
    match hop {
        CandidateHop::Path(path) => path_is_up(engine, *path),
        CandidateHop::NextHop { interface, .. } => ports.is_up(*interface),
        CandidateHop::Local => {
            let interface = engine.snapshot().interface_with_prefix(to);
            interface.is_some_and(|interface| ports.is_up(interface))
        }
    }
}

fn path_is_up(engine: &Engine, path: PathId) -> bool {
    engine.peer_paths().any(|status| status.path == path && status.up)
}

fn interface_name(model: &RouterModel, id: InterfaceId) -> String {
    model.interface(id).map(|interface| interface.name.clone()).unwrap_or_default()
}

fn seconds(duration: Duration) -> f64 {
    // Milliseconds are precise enough, and read better.
    duration.as_millis() as f64 / 1000.0
}

/// Seconds since the daemon started.
pub(crate) fn uptime(now: Time) -> f64 {
    seconds(now.since(Time::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_read_back_with_and_without_hyphens() {
        let bytes: [u8; 16] = core::array::from_fn(|index| index as u8 * 17);
        let text = uuid(&bytes);
        assert_eq!(text, "00112233-4455-6677-8899-aabbccddeeff");
        assert_eq!(parse_uuid(&text), Some(bytes));
        assert_eq!(parse_uuid(&text.replace('-', "")), Some(bytes));
        for broken in
            ["", "0", "00112233-4455-6677-8899-aabbccddeef", &format!("{text}0"), &text.replace('a', "g")]
        {
            assert_eq!(parse_uuid(broken), None, "{broken}");
        }
    }
}
