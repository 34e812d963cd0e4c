//! The model of one router.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use core::time::Duration;
use std::path::Path;

use fairway_config::Authority;
use fairway_config::elements::Peer;
use fairway_types::model::{DeniedResponse, InterfaceKind, MidFlow, Quota, RouteTarget, RouterModel};
use fairway_types::{PeerId, PortRange, Protocol};

fn model(router: &str) -> RouterModel {
    Authority::parse(&support::example()).unwrap().router_model(router).unwrap()
}

#[test]
fn interfaces_are_numbered_by_name() {
    let branch = model("branch");
    let names: Vec<_> =
        branch.interfaces.iter().map(|i| (i.name.as_str(), i.device.as_str(), i.vlan, i.kind)).collect();
    assert_eq!(
        names,
        [
            ("host", "fairway0", 0, InterfaceKind::Host),
            ("lan-corp", "eth0", 10, InterfaceKind::External),
            ("lan-guests", "eth0", 20, InterfaceKind::External),
            ("wan", "eth1", 0, InterfaceKind::Fabric),
        ]
    );
    assert_eq!(branch.interfaces[1].denied, DeniedResponse::Prohibited);
    assert_eq!(branch.interfaces[1].tenant, branch.tenant_named("corp"));
    assert_eq!(branch.interfaces[3].addresses[0].gateway, Some("198.51.100.1".parse().unwrap()));
    assert!(branch.interfaces[3].origin.ends_with("/network-interface[name='wan']"));
}

#[test]
fn members_count_where_the_interface_has_no_tenant() {
    let branch = model("branch");
    let members: Vec<_> = branch.memberships.iter().map(|m| (m.interface.0, m.prefix.to_string())).collect();
    assert_eq!(members, [(2, "10.1.128.0/17".to_owned()), (2, "fd00:1:8000::/33".to_owned())]);
    assert!(branch.memberships.iter().all(|m| Some(m.tenant) == branch.tenant_named("guests")));
    assert_eq!(model("dc").memberships, []);
}

#[test]
fn children_have_what_they_do_not_say_from_their_parents() {
    let dc = model("dc");
    let service = |name: &str| dc.services.iter().find(|service| service.name == name).unwrap();
    let (web, admin) = (service("web"), service("admin.web"));
    assert_eq!(admin.prefixes, web.prefixes);
    assert_eq!(dc.services[admin.parent.unwrap().index()].name, "web");
    assert_eq!(admin.transports.len(), 1);
    assert_eq!(admin.transports[0].protocol, Protocol::TCP);
    assert_eq!(admin.transports[0].ports, [PortRange::single(22), PortRange::new(8000, 8099).unwrap()]);
    assert_eq!(dc.security[admin.security.index()].name, "signed-only");
    assert_eq!(dc.security[web.security.index()].name, "default");
    assert_eq!((admin.mid_flow, web.mid_flow), (MidFlow::Reset, MidFlow::Allow));
    assert_eq!(dc.session_types[admin.session_type.unwrap().index()].idle, Duration::from_secs(86_400));
    assert_eq!(web.session_type, None);
    assert_eq!(dc.tenants[1].parent, dc.tenant_named("corp"));
    let denied = &web.access[1];
    assert_eq!((denied.tenant, denied.permit), (dc.tenant_named("guests"), false));
    assert_eq!(denied.prefix, Some("10.1.200.0/24".parse().unwrap()));
    assert_eq!(
        denied.origin,
        "/fairway:authority/service[name='web']/access-policy[source='guests@10.1.200.0/24']"
    );
}

#[test]
fn timeouts_are_built_in() {
    let dc = model("dc");
    let times = |id: fairway_types::SessionTypeId| {
        let ty = &dc.session_types[id.index()];
        (ty.idle.as_secs(), ty.initial.as_secs())
    };
    let default = dc.default_session_types;
    assert_eq!(times(default.tcp), (1900, 10));
    assert_eq!(times(default.udp), (180, 180));
    assert_eq!(times(default.dns), (5, 5));
    assert_eq!(times(default.icmp), (10, 10));
    assert_eq!(times(default.other), (180, 180));
}

#[test]
fn both_ends_of_a_path_agree_on_its_ports() {
    let (branch, dc) = (model("branch"), model("dc"));
    assert_eq!(branch.paths.len(), 2);
    assert_eq!(dc.paths.len(), 2);
    let range = PortRange::new(20_000, 29_999);
    for path in &branch.paths {
        let back =
            dc.paths.iter().find(|back| back.local == path.remote && back.remote == path.local).unwrap();
        assert_eq!((path.local_ports, path.remote_ports), (range, None));
        assert_eq!((back.local_ports, back.remote_ports), (None, range));
    }
    let [v4, v6] = &dc.paths[..] else { panic!("{:?}", dc.paths) };
    assert_eq!((v4.cost, v6.cost), (10, 50));
    assert!(v6.origin.ends_with("/adjacency[peer='branch'][ip-address='2001:db8:100::10']"));
    assert!(v4.origin.ends_with("/neighborhood[name='internet']"));
    assert_eq!(v6.bfd.hold_down, Duration::from_secs(30));
    assert_eq!(branch.paths[0].bfd.desired_tx, Duration::from_millis(300));
    assert_eq!(dc.security[v6.security.index()].name, "signed-only");
}

#[test]
fn both_ends_find_the_same_key_file() {
    let (branch, dc) = (model("branch"), model("dc"));
    assert_eq!(branch.peers[0].key_file, Path::new("keys/branch--dc.key"));
    assert_eq!(branch.peers[0].key_file, dc.peers[0].key_file);
    assert_eq!(Peer::default_key_file("b", "a"), Peer::default_key_file("a", "b"));
    assert_eq!(branch.peers[0].tenants, None);
    assert_eq!(dc.peers[0].tenants.as_ref().map(Vec::len), Some(2));
}

#[test]
fn routes_lead_where_they_were_told() {
    let (branch, dc) = (model("branch"), model("dc"));
    let named = |model: &RouterModel, name: &str| {
        model.routes.iter().find(|r| r.name == name).unwrap().target.clone()
    };
    assert_eq!(named(&dc, "web"), RouteTarget::Local);
    let RouteTarget::NextHop { interface, gateway } = named(&dc, "internet") else { panic!() };
    assert_eq!(dc.interface(interface).unwrap().name, "wan");
    assert_eq!(gateway, Some("198.51.100.1".parse().unwrap()));
    assert!(matches!(named(&branch, "web@dc"), RouteTarget::Peer(_)));
    assert!(matches!(named(&dc, "branch-printers@branch"), RouteTarget::Peer(_)));
    assert_eq!(branch.limits.sessions, 50_000);
    assert_eq!(dc.limits.sessions, 100_000);
}

#[test]
fn quotas_come_from_the_element_the_router_or_its_own_limits() {
    let (branch, dc) = (model("branch"), model("dc"));
    let quota = |sessions, half_open, session_rate| Quota { sessions, half_open, session_rate };
    // Four fifths of 50,000, 2,000 and 20,000.
    assert_eq!(branch.quotas.tenant(branch.tenant_named("corp")), quota(40_000, 1600, 16_000));
    assert_eq!(branch.quotas.tenant(None), quota(40_000, 1600, 16_000));
    for model in [&branch, &dc] {
        assert_eq!(model.quotas.tenant(model.tenant_named("guests")), quota(10_000, 500, 2000));
    }
    // Half-open is a tenth of 2,000, but no less than 256.
    assert_eq!(branch.quotas.source, quota(1000, 256, 500));
    assert_eq!(dc.quotas.source, quota(10_000, 1000, 5000));
    // Of first-packet-rate, for what peers bring.
    assert_eq!(branch.quotas.peer(PeerId(0)), quota(40_000, 1600, 8000));
    assert_eq!(dc.quotas.peer(PeerId(0)), quota(60_000, 8000, 40_000));
}

#[test]
fn an_unknown_router_is_told_with_a_near_name() {
    let faults = Authority::parse(&support::example()).unwrap().router_model("brunch").unwrap_err();
    assert_eq!(faults[0].fix, "did you mean 'branch'?");
}
