//! Devices that go and come back, neighbours that change, and neighbours that never answer.

use crate::fabric::{Fabric, SERVER};
use crate::lab::{Lab, poll};
use crate::programs::ping;

#[track_caller]
fn recovers(lab: &Lab, seconds: u64, what: &str) {
    for to in SERVER {
        let works = || lab.run("client", &["ping", "-c", "1", "-W", "1", to]).code == 0;
        assert!(poll(seconds, works), "no ping to {to} {seconds} s after {what}");
    }
}

#[test]
fn an_interface_that_comes_back_is_used_again() {
    let Some(lab) = Fabric::new(2).raise("updown") else { return };
    ping(&lab, SERVER[0]);
    lab.run("branch", &["ip", "link", "set", "wan1", "down"]).ok();
    let down = || {
        let status = lab.show("branch", &["status"]);
        status["paths_up"] == 0 && status["interfaces_up"] == 2
    };
    assert!(poll(10, down), "branch does not notice: {}", lab.show("branch", &["status"]));
    assert_ne!(lab.run("client", &["ping", "-c", "1", "-W", "1", SERVER[0]]).code, 0);
    lab.run("branch", &["ip", "link", "set", "wan1", "up"]).ok();
    // The kernel takes IPv6 addresses off a device that goes down.
    lab.run("branch", &["ip", "-6", "addr", "replace", "fd00:101::1/64", "dev", "wan1", "nodad"]).ok();
    lab.wait_for_paths(30);
    recovers(&lab, 10, "the interface came back");

    // The hosts' side.
    lab.run("dc", &["ip", "link", "set", "servers", "down"]).ok();
    let down = || lab.show("dc", &["status"])["interfaces_up"] == 1;
    assert!(poll(10, down), "dc does not notice: {}", lab.show("dc", &["status"]));
    lab.run("dc", &["ip", "link", "set", "servers", "up"]).ok();
    lab.run("dc", &["ip", "-6", "addr", "replace", "fd00:2::1/64", "dev", "servers", "nodad"]).ok();
    recovers(&lab, 10, "the servers' interface came back");
}

/// Whether devices tell their neighbours when their MAC changes, as those of a failover pair do.
fn announce(lab: &Lab, node: &str, state: &str) {
    for setting in ["net.ipv4.conf.all.arp_notify", "net.ipv6.conf.all.ndisc_notify"] {
        lab.run(node, &["sysctl", "-qw", &format!("{setting}={state}")]).ok();
    }
}

fn change_mac(lab: &Lab, node: &str, device: &str, last: u8) {
    let mac = format!("02:00:00:00:00:{last:02x}");
    lab.run(node, &["ip", "link", "set", device, "address", &mac]).ok();
}

#[test]
fn a_neighbour_that_announces_a_new_mac_is_followed_at_once() {
    let Some(lab) = Fabric::new(2).raise("mac") else { return };
    for to in SERVER {
        ping(&lab, to);
    }
    announce(&lab, "server", "1");
    announce(&lab, "dc", "1");
    change_mac(&lab, "server", "servers", 7);
    recovers(&lab, 5, "the server's MAC changed");
    change_mac(&lab, "dc", "servers", 8);
    recovers(&lab, 5, "the MAC of the servers' gateway changed");
    change_mac(&lab, "dc", "wan1", 9);
    recovers(&lab, 15, "the MAC of the next router changed");
    lab.wait_for_paths(30);
}

#[test]
fn a_neighbour_with_a_new_mac_is_found_again() {
    let Some(lab) = Fabric::new(2).raise("newmac") else { return };
    // The kernel's patience with neighbours: a second instead of half a minute.
    for family in ["ipv4", "ipv6"] {
        for setting in ["base_reachable_time_ms=1000", "delay_first_probe_time=1"] {
            lab.run("dc", &["sysctl", "-qw", &format!("net.{family}.neigh.servers.{setting}")]).ok();
        }
    }
    for to in SERVER {
        ping(&lab, to);
    }
    change_mac(&lab, "server", "servers", 7);
    recovers(&lab, 20, "the server's MAC changed in silence");
}

#[test]
fn a_neighbour_that_never_answers_is_counted() {
    let Some(lab) = Fabric::new(2).raise("nobody") else { return };
    let before = lab.drops();
    for to in ["10.2.0.99", "fd00:2::99"] {
        assert_ne!(lab.run("client", &["ping", "-c", "3", "-i", "0.2", "-W", "1", to]).code, 0);
    }
    let counted = || lab.moved(&before).get("dc next-hop-unresolved").is_some_and(|&count| count >= 6);
    assert!(poll(10, counted), "six pings to nobody, and {:?}", lab.moved(&before));
    lab.assert_moved(&before, &["dc next-hop-unresolved"]);
}
