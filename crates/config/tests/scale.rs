//! An authority of a thousand routers and ten thousand services.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

use std::fmt::Write;
use std::time::Duration;

use fairway_config::Authority;

const ROUTERS: usize = 1_000;
const SERVICES: usize = 10_000;

/// Two hubs, the rest spokes; ten services leave at each router.
fn document() -> String {
    let mut text = String::from(
        "{\"fairway:authority\":{\"name\":\"big\",\"tenant\":[{\"name\":\"corp\"}],\"service\":[",
    );
    for service in 0..SERVICES {
        let (high, low) = (service / 256, service % 256);
        let comma = if service == 0 { "" } else { "," };
        write!(
            text,
            r#"{comma}{{"name":"s{service}","address":["10.{high}.{low}.0/24"],"access-policy":[{{"source":"corp"}}],
            "transport":[{{"protocol":"tcp","port-range":[{{"start-port":443}}]}}]}}"#
        )
        .unwrap();
    }
    text.push_str("],\"router\":[");
    for router in 0..ROUTERS {
        let (comma, topology) = if router < 2 { ("", "hub") } else { (",", "spoke") };
        let comma = if router == 1 { "," } else { comma };
        let (high, low) = (router / 250, router % 250 + 1);
        let routes: Vec<String> = (0..SERVICES / ROUTERS)
            .map(|n| router * (SERVICES / ROUTERS) + n)
            .map(|service| format!(r#"{{"name":"s{service}","service-name":"s{service}","local":{{}}}}"#))
            .collect();
        write!(
            text,
            r#"{comma}{{"name":"r{router}","node":[{{"name":"n","device-interface":[{{"name":"wan","network-interface":[
            {{"name":"wan","type":"fabric","address":[{{"ip-address":"172.16.{high}.{low}","prefix-length":16}}],
            "neighborhood":[{{"name":"wan","topology":"{topology}"}}]}}]}}]}}],"service-route":[{}]}}"#,
            routes.join(",")
        )
        .unwrap();
    }
    text.push_str("]}}");
    text
}

#[test]
#[allow(clippy::disallowed_methods, reason = "a test that measures reads the clock")]
fn a_thousand_routers_and_ten_thousand_services_are_validated_in_seconds() {
    let text = document();
    let start = std::time::Instant::now();
    let authority = Authority::parse(&text).unwrap();
    let parsed = start.elapsed();
    assert_eq!(authority.warnings(), []);
    let start = std::time::Instant::now();
    let spoke = authority.router_model("r500").unwrap();
    let modelled = start.elapsed();
    let start = std::time::Instant::now();
    let hub = authority.router_model("r0").unwrap();
    let hub_modelled = start.elapsed();
    assert_eq!((spoke.peers.len(), hub.peers.len()), (2, 998));
    // Every service of another router over both hubs, except those of the hubs themselves.
    assert_eq!(spoke.routes.len(), 10 + 2 * 9_970 + 20);
    println!("{} bytes: parsed in {parsed:?}, spoke in {modelled:?}, hub in {hub_modelled:?}", text.len());
    assert!(parsed < Duration::from_secs(5), "{parsed:?}");
    assert!(modelled + hub_modelled < Duration::from_secs(10), "{modelled:?} {hub_modelled:?}");
}
