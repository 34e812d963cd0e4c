//! Everything a snapshot answers beside decisions.

use fairway_types::model::{Membership, RouteTarget, RouterModel, ServiceRoute};
use fairway_types::{InterfaceId, PathId, PeerId, PortRange, Protocol, RouteId, ServiceId, TenantId};

use super::fixture::{access, empty, interface, path, peer, route, service, tenant};
use crate::{AccessLine, CandidateHop, CompileError, PassedReason, Snapshot};

fn member(model: &mut RouterModel, interface: InterfaceId, prefix: &str, tenant: TenantId) {
    let origin = format!("/tenant/member[prefix='{prefix}']");
    model.memberships.push(Membership { interface, prefix: prefix.parse().unwrap(), tenant, origin });
}

#[test]
fn a_tenant_comes_from_the_interface_then_from_the_longest_membership() {
    let mut model = empty();
    let (red, blue) = (tenant(&mut model, "red"), tenant(&mut model, "blue"));
    let owned = interface(&mut model, "owned", Some(red), "");
    let shared = interface(&mut model, "shared", None, "");
    member(&mut model, owned, "10.0.0.0/8", blue);
    member(&mut model, shared, "10.0.0.0/8", blue);
    member(&mut model, shared, "10.1.2.3/16", red);
    member(&mut model, shared, "2001:db8::/32", red);
    let snapshot = Snapshot::compile(model).unwrap();
    let of = |interface, source: &str| snapshot.tenant_of(interface, source.parse().unwrap());
    assert_eq!(of(owned, "10.0.0.1"), Some(red));
    assert_eq!(of(shared, "10.0.0.1"), Some(blue));
    assert_eq!(of(shared, "10.1.0.1"), Some(red));
    assert_eq!(of(shared, "2001:db8::1"), Some(red));
    assert_eq!(of(shared, "11.0.0.1"), None);
    assert_eq!(of(InterfaceId(7), "10.0.0.1"), None);
    assert_eq!(snapshot.tenant_named("blue"), Some(blue));
    assert_eq!(snapshot.tenant_named("green"), None);
}

#[test]
fn a_peer_may_claim_what_it_is_allowed_and_the_children_of_that() {
    let mut model = empty();
    let ids: Vec<_> =
        ["corp", "eng.corp", "lab.eng.corp", "other"].map(|name| tenant(&mut model, name)).into();
    let some = peer(&mut model, "some", Some(vec![ids[1]]));
    let none = peer(&mut model, "none", Some(Vec::new()));
    let all = peer(&mut model, "all", None);
    let snapshot = Snapshot::compile(model).unwrap();
    let claims = |peer| ids.iter().map(|&id| snapshot.peer_may_claim(peer, id)).collect::<Vec<_>>();
    assert_eq!(claims(some), [false, true, true, false]);
    assert_eq!(claims(none), [false; 4]);
    assert_eq!(claims(all), [true; 4]);
    assert_eq!(claims(PeerId(9)), [false; 4]);
    assert!(!snapshot.peer_may_claim(all, TenantId(4)));
}

/// Two peers, three paths, and a service with a route to each and a next hop.
fn fabric() -> (RouterModel, ServiceId) {
    let mut model = empty();
    let wan = interface(&mut model, "wan", None, "192.0.2.1/24 2001:db8::1/64");
    interface(&mut model, "lan", None, "10.0.0.1/8 10.1.0.1/16");
    let (east, west) = (peer(&mut model, "east", None), peer(&mut model, "west", None));
    path(&mut model, east, "192.0.2.1", "198.51.100.1", 20);
    path(&mut model, east, "2001:db8::1", "2001:db8:1::1", 5);
    path(&mut model, west, "192.0.2.1", "198.51.100.2", 10);
    tenant(&mut model, "corp");
    let web = service(&mut model, "web", "10.0.0.0/8", "tcp:80");
    access(&mut model, "+corp");
    route(&mut model, "to-east", web, RouteTarget::Peer(east), 10);
    route(&mut model, "out", web, RouteTarget::NextHop { interface: wan, gateway: None }, 20);
    route(&mut model, "b-to-west", web, RouteTarget::Peer(west), 10);
    route(&mut model, "worst", web, RouteTarget::Local, u32::MAX);
    (model, web)
}

#[test]
fn ways_are_sorted_by_cost_and_then_by_name() {
    let (mut model, web) = fabric();
    model.paths[0].cost = u32::MAX;
    let snapshot = Snapshot::compile(model).unwrap();
    let found: Vec<_> = snapshot.candidates(web).iter().map(|way| (way.route.0, way.cost, way.hop)).collect();
    let out = CandidateHop::NextHop { interface: InterfaceId(0), gateway: None };
    let expected = [
        (0, 15, CandidateHop::Path(PathId(1))),
        (2, 20, CandidateHop::Path(PathId(2))),
        (1, 20, out),
        (0, u32::MAX, CandidateHop::Path(PathId(0))),
        (3, u32::MAX, CandidateHop::Local),
    ];
    assert_eq!(found, expected);
    assert!(snapshot.candidates(ServiceId(1)).is_empty());
    assert!(snapshot.candidates(ServiceId(u32::MAX)).is_empty());
}

#[test]
fn addresses_are_found() {
    let snapshot = Snapshot::compile(fabric().0).unwrap();
    let at = |text: &str| snapshot.interface_with_prefix(text.parse().unwrap());
    assert_eq!(at("192.0.2.99"), Some(InterfaceId(0)));
    assert_eq!(at("2001:db8::99"), Some(InterfaceId(0)));
    assert_eq!(at("10.1.0.9"), Some(InterfaceId(1)));
    assert_eq!(at("11.1.0.9"), None);
    assert!(snapshot.is_own_address("10.1.0.1".parse().unwrap()));
    assert!(!snapshot.is_own_address("10.1.0.2".parse().unwrap()));
    let path = |local: &str, remote: &str| {
        snapshot.path_by_waypoints(local.parse().unwrap(), remote.parse().unwrap())
    };
    assert_eq!(path("192.0.2.1", "198.51.100.2"), Some(PathId(2)));
    assert_eq!(path("198.51.100.2", "192.0.2.1"), None);
}

#[test]
fn session_types_are_the_services_or_the_protocols() {
    let (mut model, web) = fabric();
    let own = service(&mut model, "own", "", "");
    model.services[own.index()].session_type = Some(model.default_session_types.icmp);
    let snapshot = Snapshot::compile(model).unwrap();
    let name = |service, protocol, port| snapshot.session_type(service, protocol, port).name.as_str();
    assert_eq!(name(web, Protocol::TCP, 53), "tcp");
    assert_eq!(name(web, Protocol::UDP, 53), "dns");
    assert_eq!(name(web, Protocol::UDP, 54), "udp");
    assert_eq!(name(web, Protocol::ICMPV6, 0), "icmp");
    assert_eq!(name(web, Protocol::GRE, 0), "other");
    assert_eq!(name(own, Protocol::TCP, 80), "icmp");
    assert_eq!(name(ServiceId(99), Protocol::TCP, 80), "tcp");
}

#[test]
fn an_explanation_names_the_lines_that_decide() {
    let (mut model, web) = fabric();
    service(&mut model, "admin", "10.1.0.0/16", "tcp:22");
    service(&mut model, "tcp", "10.0.0.0/8", "tcp");
    service(&mut model, "twin", "10.0.0.0/8", "tcp:80");
    service(&mut model, "all", "0.0.0.0/0", "");
    service(&mut model, "dns", "0.0.0.0/0", "udp:53");
    let snapshot = Snapshot::compile(model).unwrap();
    let (source, destination) = ("1.1.1.1".parse().unwrap(), "10.1.2.3".parse().unwrap());
    let corp = snapshot.tenant_named("corp");
    let explanation = snapshot.explain(corp, source, destination, Protocol::TCP, 80);
    assert_eq!(explanation.tenant.as_deref(), Some("corp"));
    let matched = explanation.matched.unwrap();
    assert_eq!((matched.service, matched.origin.as_str()), (web, "/service[name='web']"));
    assert_eq!((matched.protocol, matched.ports), (Some(Protocol::TCP), PortRange::single(80)));
    let passed: Vec<_> =
        explanation.passed_over.iter().map(|passed| (passed.row.name.as_str(), passed.reason)).collect();
    let expected = [
        ("admin", PassedReason::OtherTransport),
        ("tcp", PassedReason::WiderTransport),
        ("twin", PassedReason::LessSpecificAccess),
        ("all", PassedReason::ShorterPrefix),
    ];
    let mut sorted = passed.clone();
    sorted.sort_by_key(|(name, _)| expected.iter().position(|(other, _)| other == name));
    assert_eq!(sorted, expected, "{passed:?}");
    let line = explanation.line.unwrap();
    assert_eq!(line.line, AccessLine::Line { service: web, index: 0 });
    assert_eq!((line.service.as_str(), line.origin.as_str(), line.permit), ("web", "line +corp", true));
    let best = &explanation.routes[0];
    assert_eq!((best.name.as_str(), best.peer.as_deref()), ("to-east", Some("east")));
    assert_eq!(best.path_origin.as_deref(), Some("/path[remote='2001:db8:1::1']"));
    assert_eq!(explanation.routes.len(), 5);
}

#[test]
fn an_explanation_of_no_service_names_those_of_other_transports() {
    let snapshot = Snapshot::compile(fabric().0).unwrap();
    let (source, destination) = ("1.1.1.1".parse().unwrap(), "10.1.2.3".parse().unwrap());
    let explanation = snapshot.explain(None, source, destination, Protocol::UDP, 80);
    assert!(explanation.matched.is_none() && explanation.line.is_none() && explanation.routes.is_empty());
    assert_eq!(explanation.passed_over.len(), 1);
    assert_eq!(explanation.passed_over[0].reason, PassedReason::OtherTransport);
}

#[test]
fn rows_are_shown_in_the_order_in_which_they_are_asked() {
    let mut model = empty();
    for name in ["corp", "eng.corp"] {
        tenant(&mut model, name);
    }
    service(&mut model, "web", "10.0.0.0/8 ::/0", "tcp:80");
    access(&mut model, "-* +corp +corp@10.0.0.0/8 -corp -eng.corp");
    service(&mut model, "api.web", "10.1.0.0/16", "");
    access(&mut model, "<web +corp");
    service(&mut model, "open", "10.2.0.0/16", "udp");
    access(&mut model, "public");
    let shut = service(&mut model, "shut", "10.3.0.0/16", "udp:1-9");
    route(&mut model, "local", shut, RouteTarget::Local, 7);
    let snapshot = Snapshot::compile(model).unwrap();
    let rows: Vec<String> = snapshot
        .fib_rows()
        .map(|row| {
            let source = row.source.map_or("all".to_owned(), |source| source.to_string());
            let protocol = row.protocol.map_or("any".to_owned(), |protocol| protocol.to_string());
            let (sign, cost) = (if row.permit { '+' } else { '-' }, row.route.map_or(0, |way| way.cost));
            format!(
                "{} {protocol} {} {sign}{}@{source} {} {cost}",
                row.prefix, row.ports, row.tenant, row.service_name
            )
        })
        .collect();
    let web = ["-eng.corp@all", "+corp@10.0.0.0/8", "-corp@all", "-any@all"];
    let mut expected: Vec<String> = web.map(|line| format!("10.0.0.0/8 tcp 80 {line} web 0")).into();
    // The lines of the parent for `corp` and its children are never asked.
    expected.extend(
        ["+corp", "-any"].map(|line| format!("10.1.0.0/16 any {} {line}@all api.web 0", PortRange::ALL)),
    );
    expected.push(format!("10.2.0.0/16 udp {} +public@all open 0", PortRange::ALL));
    expected.push("10.3.0.0/16 udp 1-9 -any@all shut 7".to_owned());
    expected.extend(web.map(|line| format!("::/0 tcp 80 {line} web 0")));
    assert_eq!(rows, expected);
}

#[test]
fn a_model_that_contradicts_itself_is_refused() {
    let refused = |change: &dyn Fn(&mut RouterModel)| {
        let (mut model, _) = fabric();
        change(&mut model);
        Snapshot::compile(model).unwrap_err()
    };
    let dangling = |change: &dyn Fn(&mut RouterModel), expected: &str| match refused(change) {
        CompileError::Dangling { kind, .. } => assert_eq!(kind, expected),
        other => panic!("{other}"),
    };
    dangling(&|m| m.tenants[0].parent = Some(TenantId(1)), "tenant");
    dangling(&|m| m.services[0].parent = Some(ServiceId(1)), "service");
    dangling(&|m| m.services[0].access[0].tenant = Some(TenantId(1)), "tenant");
    dangling(&|m| m.paths[0].peer = PeerId(2), "peer");
    dangling(&|m| m.paths[0].interface = InterfaceId(2), "interface");
    dangling(&|m| m.routes[0].service = ServiceId(2), "service");
    dangling(&|m| m.routes[0].target = RouteTarget::Peer(PeerId(2)), "peer");
    dangling(&|m| m.interfaces[0].tenant = Some(TenantId(1)), "tenant");
    dangling(&|m| m.session_types.clear(), "session-type");
    dangling(&|m| m.security.clear(), "security policy");
    let cycle = |change: &dyn Fn(&mut RouterModel)| matches!(refused(change), CompileError::Cycle { .. });
    assert!(cycle(&|m| m.tenants[0].parent = Some(TenantId(0))));
    assert!(cycle(&|m| {
        let child = service(m, "child", "", "");
        m.services[0].parent = Some(child);
        m.services[child.index()].parent = Some(ServiceId(0));
    }));
    let name = refused(&|m| {
        service(m, "web", "", "");
    });
    assert!(matches!(name, CompileError::DuplicateName { kind: "service", .. }), "{name}");
    let name = refused(&|m| {
        tenant(m, "corp");
    });
    assert!(matches!(name, CompileError::DuplicateName { kind: "tenant", .. }), "{name}");
    let waypoints = refused(&|m| path(m, PeerId(1), "192.0.2.1", "198.51.100.1", 1));
    assert!(matches!(waypoints, CompileError::DuplicateWaypoints { .. }), "{waypoints}");
    let ports = refused(&|m| m.services[0].transports[0].protocol = Protocol::GRE);
    assert!(matches!(ports, CompileError::PortsWithoutProtocol { protocol: 47, .. }), "{ports}");
    let membership = refused(&|m| {
        let other = tenant(m, "other");
        member(m, InterfaceId(0), "10.0.0.0/8", other);
        member(m, InterfaceId(0), "10.9.0.0/8", TenantId(0));
    });
    assert!(matches!(membership, CompileError::AmbiguousMembership { .. }), "{membership}");
}

#[test]
fn a_large_table_is_shown_and_explained() {
    let mut model = empty();
    tenant(&mut model, "corp");
    for index in 0..20_000u32 {
        let name = format!("s{index}");
        let id = service(&mut model, &name, "10.0.0.0/8", "");
        model.services[id.index()]
            .prefixes
            .push(format!("10.{}.{}.0/24", index / 256 % 256, index % 256).parse().unwrap());
        let target = RouteTarget::Local;
        model.routes.push(ServiceRoute { name, service: id, target, cost: 1, origin: String::new() });
    }
    let snapshot = Snapshot::compile(model).unwrap();
    assert_eq!(snapshot.fib_rows().count(), 40_000);
    let (source, destination) = ("1.1.1.1".parse().unwrap(), "10.1.2.3".parse().unwrap());
    let explanation = snapshot.explain(None, source, destination, Protocol::TCP, 80);
    assert_eq!(explanation.passed_over.len() + explanation.passed_over_more, 19_999);
    assert_eq!(explanation.routes[0].candidate.route, RouteId(258));
}
