//! Devices that go and come back, neighbours that change, and neighbours that never answer.

use crate::fabric::{Fabric, SERVER};
use crate::lab::{Lab, poll};
use crate::programs::ping;

#[track_caller]
fn recovers(lab: &Lab, what: &str) {
    for to in SERVER {
        let works = || lab.run("client", &["ping", "-c", "1", "-W", "1", to]).code == 0;
        assert!(poll(30, works), "no ping to {to} 30 s after {what}");
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
    recovers(&lab, "the interface came back");

    // The hosts' side.
    lab.run("dc", &["ip", "link", "set", "servers", "down"]).ok();
    let down = || lab.show("dc", &["status"])["interfaces_up"] == 1;
    assert!(poll(10, down), "dc does not notice: {}", lab.show("dc", &["status"]));
    lab.run("dc", &["ip", "link", "set", "servers", "up"]).ok();
    lab.run("dc", &["ip", "-6", "addr", "replace", "fd00:2::1/64", "dev", "servers", "nodad"]).ok();
    recovers(&lab, "the servers' interface came back");
}

#[test]
fn a_neighbour_with_a_new_mac_is_found_again() {
    let Some(lab) = Fabric::new(2).raise("mac") else { return };
    for to in SERVER {
        ping(&lab, to);
    }
    lab.run("server", &["ip", "link", "set", "servers", "address", "02:00:00:00:00:07"]).ok();
    recovers(&lab, "the server's MAC changed");
    lab.run("dc", &["ip", "link", "set", "servers", "address", "02:00:00:00:00:08"]).ok();
    recovers(&lab, "the MAC of the servers' gateway changed");
    lab.run("dc", &["ip", "link", "set", "wan1", "address", "02:00:00:00:00:09"]).ok();
    recovers(&lab, "the MAC of the next router changed");
    lab.wait_for_paths(30);
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
