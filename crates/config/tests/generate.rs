//! Neighborhoods become peers and paths, egress routers become service-routes.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;

use fairway_config::Authority;
use fairway_config::elements::{Adjacency, Router};
use fairway_types::model::RouteTarget;
use serde_json::{Value, json};

/// A router with one interface for each (neighborhood, topology, host part, cost).
fn router(name: &str, interfaces: &[(&str, &str, u8, u32)], routes: Value) -> Value {
    let interface = |(number, (neighborhood, topology, host, cost)): (usize, &(&str, &str, u8, u32))| {
        json!({
            "name": format!("eth{number}"),
            "network-interface": [{
                "name": format!("{neighborhood}-if"),
                "type": "fabric",
                "address": [{"ip-address": format!("192.0.2.{host}"), "prefix-length": 24}],
                "neighborhood": [{"name": neighborhood, "topology": topology, "cost": cost}],
            }],
        })
    };
    let interfaces: Vec<Value> = interfaces.iter().enumerate().map(interface).collect();
    json!({"name": name, "node": [{"name": "n", "device-interface": interfaces}], "service-route": routes})
}

fn authority(routers: Vec<Value>) -> Authority {
    let service = json!({"name": "web", "address": ["10.0.0.0/8"], "scope": "public"});
    let document = json!({"fairway:authority": {"name": "a", "service": [service], "router": routers}});
    Authority::parse(&document.to_string()).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn adjacencies(router: &Router) -> Vec<&Adjacency> {
    router.network_interfaces().flat_map(|(_, _, interface)| &interface.adjacencies).collect()
}

fn peers(authority: &Authority, router: &str) -> Vec<String> {
    let generated = authority.generate();
    let peers: BTreeSet<String> =
        generated.router(router).unwrap().peers.iter().map(|peer| peer.name.clone()).collect();
    peers.into_iter().collect()
}

/// Peer and cost of every service-route to a peer.
fn routes(authority: &Authority, router: &str) -> Vec<(String, u32)> {
    let generated = authority.generate();
    let routes = &generated.router(router).unwrap().service_routes;
    routes.iter().filter_map(|route| Some((route.peer.clone()?, route.cost))).collect()
}

fn local() -> Value {
    json!([{"name": "web", "service-name": "web", "local": {}}])
}

#[test]
fn a_mesh_joins_all_and_a_hub_joins_its_spokes() {
    let none = || json!([]);
    let mesh = |name: &str, host| router(name, &[("wan", "mesh", host, 10)], none());
    let all = authority(vec![mesh("a", 1), mesh("b", 2), mesh("c", 3)]);
    assert_eq!(peers(&all, "a"), ["b", "c"]);
    assert_eq!(peers(&all, "c"), ["a", "b"]);

    let star = authority(vec![
        router("hub1", &[("wan", "hub", 1, 10)], none()),
        router("hub2", &[("wan", "hub", 2, 10)], none()),
        router("spoke1", &[("wan", "spoke", 3, 10)], none()),
        router("spoke2", &[("wan", "spoke", 4, 10)], none()),
        router("mesh", &[("wan", "mesh", 5, 10)], none()),
    ]);
    assert_eq!(peers(&star, "hub1"), ["mesh", "spoke1", "spoke2"]);
    assert_eq!(peers(&star, "spoke1"), ["hub1", "hub2"]);
    assert_eq!(peers(&star, "mesh"), ["hub1", "hub2"]);
}

#[test]
fn each_family_both_have_makes_a_path() {
    let authority = Authority::parse(&support::example()).unwrap();
    let model = authority.router_model("branch").unwrap();
    let paths: Vec<(String, &str)> =
        model.paths.iter().map(|path| (path.remote.to_string(), path.pathway.as_str())).collect();
    assert_eq!(
        paths,
        [
            ("198.51.100.20".to_owned(), "internet:branch/wan-dc/wan"),
            ("2001:db8:100::20".to_owned(), "internet:branch/wan-dc/wan@v6"),
        ]
    );
}

#[test]
fn a_configured_element_takes_the_place_of_the_generated_one() {
    let authority = Authority::parse(&support::example()).unwrap().generate();
    let dc = authority.router("dc").unwrap();
    let found: Vec<_> =
        adjacencies(dc).iter().map(|a| (a.ip_address.to_string(), a.cost, a.generated)).collect();
    assert_eq!(found, [("2001:db8:100::10".to_owned(), 50, false), ("198.51.100.10".to_owned(), 10, true)]);
    assert_eq!(dc.peers.len(), 1);
    assert!(!dc.peers[0].generated);

    let mut document: Value = serde_json::from_str(&support::example()).unwrap();
    let routes =
        document.pointer_mut("/fairway:authority/router/0/service-route").unwrap().as_array_mut().unwrap();
    routes.push(json!({"name": "web@dc", "service-name": "web", "peer": "dc", "cost": 99}));
    routes.push(json!({"name": "my-dns", "service-name": "dns", "peer": "dc", "cost": 7}));
    let authority = Authority::parse(&document.to_string()).unwrap().generate();
    let routes = &authority.router("branch").unwrap().service_routes;
    let named = |service: &str| -> Vec<_> {
        routes
            .iter()
            .filter(|r| r.service_name == service)
            .map(|r| (r.name.as_str(), r.cost, r.generated))
            .collect()
    };
    assert_eq!(named("web"), [("web@dc", 99, false)]);
    assert_eq!(named("dns"), [("my-dns", 7, false)]);
    assert_eq!(named("internet"), [("internet@dc", 5, true)]);
}

#[test]
fn services_are_reached_through_transit_routers() {
    let chain = authority(vec![
        router("branch", &[("one", "mesh", 1, 10)], json!([])),
        router("transit", &[("one", "mesh", 2, 10), ("two", "mesh", 3, 20)], json!([])),
        router("dc", &[("two", "mesh", 4, 20)], local()),
    ]);
    assert_eq!(routes(&chain, "branch"), [("transit".to_owned(), 20)]);
    assert_eq!(routes(&chain, "transit"), [("dc".to_owned(), 0)]);
    assert_eq!(routes(&chain, "dc"), []);

    let model = chain.router_model("branch").unwrap();
    let [route] = &model.routes[..] else { panic!("{:?}", model.routes) };
    assert_eq!(route.name, "web@transit");
    assert_eq!(route.origin, "/fairway:authority/router[name='dc']/service-route[name='web']");
    let RouteTarget::Peer(peer) = route.target else { panic!("{route:?}") };
    assert_eq!(model.peer(peer).unwrap().name, "transit");
}

#[test]
fn every_hop_comes_nearer_even_when_paths_cost_nothing() {
    // Two egresses at the ends of a ring of free paths: no router may send back and forth.
    let free = |name: &str, left: &'static str, right: &'static str, hosts: (u8, u8), routes| {
        router(name, &[(left, "mesh", hosts.0, 0), (right, "mesh", hosts.1, 0)], routes)
    };
    let ring = authority(vec![
        free("r0", "n5", "n0", (1, 2), local()),
        free("r1", "n0", "n1", (3, 4), json!([])),
        free("r2", "n1", "n2", (5, 6), json!([])),
        free("r3", "n2", "n3", (7, 8), local()),
        free("r4", "n3", "n4", (9, 10), json!([])),
        free("r5", "n4", "n5", (11, 12), json!([])),
    ]);
    for (router, expected) in [("r1", "r0"), ("r2", "r3"), ("r4", "r3"), ("r5", "r0")] {
        assert_eq!(routes(&ring, router), [(expected.to_owned(), 0)], "{router}");
    }
}

#[test]
fn the_cheaper_way_is_cheaper_and_the_dearer_one_is_there_too() {
    let two_ways = authority(vec![
        router("branch", &[("cheap", "mesh", 1, 5), ("dear", "mesh", 2, 50)], json!([])),
        router("transit1", &[("cheap", "mesh", 3, 5), ("core1", "mesh", 4, 5)], json!([])),
        router("transit2", &[("dear", "mesh", 5, 50), ("core2", "mesh", 6, 5)], json!([])),
        router("dc", &[("core1", "mesh", 7, 5), ("core2", "mesh", 8, 5)], local()),
    ]);
    assert_eq!(routes(&two_ways, "branch"), [("transit1".to_owned(), 5), ("transit2".to_owned(), 5)]);
    let model = two_ways.router_model("branch").unwrap();
    let costs: Vec<u32> = model.paths.iter().map(|path| path.cost).collect();
    assert_eq!(costs, [5, 50]);
}

#[test]
fn a_service_that_is_not_shared_gets_no_routes() {
    let mut document: Value = serde_json::from_str(&support::example()).unwrap();
    document["fairway:authority"]["service"][0]["share-service-routes"] = json!(false);
    let authority = Authority::parse(&document.to_string()).unwrap().generate();
    let branch = authority.router("branch").unwrap();
    assert!(branch.service_routes.iter().all(|route| route.service_name != "web"));
    assert!(branch.service_routes.iter().any(|route| route.service_name == "admin.web"));
}

#[test]
fn generation_is_repeatable_and_its_marks_are_dropped_when_read() {
    let authority = Authority::parse(&support::example()).unwrap();
    let generated = authority.generate();
    assert_eq!(generated.generate(), generated);
    let text = authority.to_json(true);
    assert!(text.contains("\"generated\": true"));
    assert_eq!(Authority::parse(&text).unwrap(), authority);
    let one = authority.generate_router("dc");
    assert_eq!(one.router("dc"), generated.router("dc"));
    assert_eq!(one.router("branch"), authority.router("branch"));
}
