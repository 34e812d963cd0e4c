//! Every program over one, two and three routers, IPv4 and IPv6, each over waypoints of both families.

use serde_json::Value;

use crate::fabric::{Fabric, SERVER};
use crate::lab::{Lab, poll};
use crate::programs;

#[test]
fn programs_work_over_one_router() {
    let Some(lab) = Fabric::new(1).raise("one") else { return };
    all_programs(&lab, None);
}

#[test]
fn programs_work_over_two_routers_with_ipv4_waypoints() {
    let Some(lab) = Fabric::new(2).waypoints(4).raise("two-v4") else { return };
    all_programs(&lab, Some(4));
}

#[test]
fn programs_work_over_two_routers_with_ipv6_waypoints() {
    let Some(lab) = Fabric::new(2).waypoints(6).raise("two-v6") else { return };
    all_programs(&lab, Some(6));
}

#[test]
fn programs_work_over_three_routers_with_ipv4_waypoints() {
    let Some(lab) = Fabric::new(3).waypoints(4).raise("three-v4") else { return };
    all_programs(&lab, Some(4));
}

#[test]
fn programs_work_over_three_routers_with_ipv6_waypoints() {
    let Some(lab) = Fabric::new(3).waypoints(6).raise("three-v6") else { return };
    all_programs(&lab, Some(6));
}

fn uuids(sessions: Vec<Value>) -> Vec<String> {
    sessions.iter().map(|session| session["uuid"].as_str().unwrap().to_owned()).collect()
}

fn all_programs(lab: &Lab, waypoints: Option<u8>) {
    let before = lab.drops();
    for to in SERVER {
        programs::all(lab, to);
        let sessions = lab.sessions("branch", &["--destination", to]);
        assert!(!sessions.is_empty(), "no sessions to {to}");
        for session in &sessions {
            assert_eq!(session["tenant"], "corp", "{session}");
            let local = session["responder"]["local"].as_str().unwrap();
            match waypoints {
                Some(family) => assert_eq!(local.starts_with('['), family == 6, "waypoint {local}"),
                None => assert_eq!(session["responder"]["peer"], Value::Null),
            }
        }
        // A session that is over may have ended at one router and not yet at another.
        let same = || {
            let web = uuids(lab.sessions("branch", &["--destination", to, "--service", "web"]));
            let there = |router: &String| uuids(lab.sessions(router, &[]));
            lab.routers().iter().map(there).all(|there| web.iter().all(|uuid| there.contains(uuid)))
        };
        programs::page(lab, to);
        assert!(poll(5, same), "a session has one UUID on all routers");
    }
    // Segments fit the longer header of IPv6 waypoints, and the seal: hosts were told when they began.
    lab.assert_moved(&before, &[]);
}
