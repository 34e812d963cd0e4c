//! What lies beside the straight way: services behind a next hop, and the router's own host.

use serde_json::json;

use crate::fabric::{Fabric, SERVER, named};
use crate::lab::poll;
use crate::programs::{ping, url};

/// Addresses on the server's loopback, which router dc reaches by the server as its gateway.
const BEYOND: [&str; 2] = ["10.50.0.7", "fd00:50::7"];

#[test]
fn a_service_behind_a_next_hop_is_reached() {
    let fabric = Fabric::new(3).config(|authority| {
        authority["service"].as_array_mut().unwrap().push(json!({
            "name": "beyond",
            "address": ["10.50.0.0/24", "fd00:50::/64"],
            "access-policy": [{ "source": "corp" }],
        }));
        let dc = named(&mut authority["router"], "dc");
        dc["service-route"].as_array_mut().unwrap().push(json!({
            "name": "beyond-here",
            "service-name": "beyond",
            "next-hop": { "interface": "servers", "gateway": SERVER[0] },
        }));
    });
    let Some(lab) = fabric.raise("beyond") else { return };
    lab.run("server", &["ip", "address", "add", "10.50.0.7/32", "dev", "lo"]).ok();
    lab.run("server", &["ip", "address", "add", "fd00:50::7/128", "dev", "lo"]).ok();
    let before = lab.drops();
    for to in BEYOND {
        ping(&lab, to);
        let page = lab.run("client", &["curl", "-gsS", "--max-time", "5", &url(to, "")]).ok();
        assert!(page.text().contains("hello"), "{}", page.text());
        assert_ne!(lab.run("guest", &["ping", "-c", "1", "-W", "1", to]).code, 0);
    }
    assert!(!lab.sessions("dc", &["--service", "beyond"]).is_empty());
    lab.assert_moved(&before, &["branch access-denied"]);
}

#[test]
fn the_host_of_a_router_enters_the_fabric_as_a_tenant() {
    let fabric = Fabric::new(2).config(|authority| {
        let branch = named(&mut authority["router"], "branch");
        branch["host-interface"] = json!([{
            "name": "host",
            "device": "fw0",
            "tenant": "corp",
            "address": [
                { "ip-address": "10.9.1.1", "prefix-length": 24 },
                { "ip-address": "fd00:9::1", "prefix-length": 64 },
            ],
        }]);
    });
    let Some(lab) = fabric.raise("host") else { return };
    let before = lab.drops();
    for to in SERVER {
        let page = lab.run("branch", &["curl", "-gsS", "--max-time", "5", &url(to, "")]).ok();
        assert!(page.text().contains("hello"), "{}", page.text());
        lab.run("branch", &["ping", "-c", "2", "-i", "0.2", "-W", "2", to]).ok();
    }
    let sessions = lab.sessions("dc", &["--tenant", "corp"]);
    assert!(!sessions.is_empty() && sessions.iter().all(|session| session["ingress_router"] == "branch"));
    lab.assert_moved(&before, &[]);
}

#[test]
fn traffic_is_the_kernels_again_only_when_it_is_released() {
    let Some(lab) = Fabric::new(2).with_stranger().raise("release") else { return };
    let refusals = || {
        let scan = ["nmap", "-n", "-Pn", "-p", "20000", "--host-timeout", "5", "172.16.1.1"];
        lab.run("stranger", &scan).ok().text().contains("closed")
    };
    let release = || lab.run("branch", &[env!("CARGO_BIN_EXE_fairway"), "release"]);
    let early = release();
    assert!(early.code == 1 && early.text().contains("a router runs"), "{}", early.text());
    lab.end_router("branch", "-TERM");
    assert!(!refusals(), "the kernel answers at a waypoint port of a router that is away");
    assert!(release().ok().text().contains("wan1"));
    assert!(poll(5, refusals), "the kernel does not answer after the release");
    lab.start_router("branch");
    lab.wait_for_paths(20);
    assert!(!refusals(), "the kernel answers beside the router");
}
