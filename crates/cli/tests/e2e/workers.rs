//! Several workers in each router, of different numbers: programs notice nothing of it, both
//! directions of a session are with one worker, and no packet overtakes another.

use std::collections::HashSet;

use serde_json::Value;

use crate::fabric::{Fabric, SERVER, interfaces};
use crate::lab::Lab;
use crate::programs;

const WORKERS: [(&str, u8); 3] = [("branch", 2), ("transit", 3), ("dc", 4)];

/// A number of each worker of a router.
fn each(lab: &Lab, router: &str, what: &str) -> Vec<u64> {
    let workers = lab.show(router, &["workers"]);
    workers["workers"].as_array().unwrap().iter().map(|worker| worker[what].as_u64().unwrap()).collect()
}

/// Eight streams of UDP, of which nothing is lost and nothing overtakes.
fn streams(lab: &Lab, to: &str) {
    let options = ["-u", "-P", "8", "-b", "2M", "-l", "600", "-t", "3"];
    let end = programs::iperf(lab, to, &options);
    for stream in end["streams"].as_array().unwrap() {
        let udp = &stream["udp"];
        assert_eq!((&udp["lost_packets"], &udp["out_of_order"]), (&Value::from(0), &Value::from(0)), "{udp}");
    }
}

fn all_programs(lab: &Lab) {
    for to in SERVER {
        programs::ping(lab, to);
        programs::page(lab, to);
        programs::download(lab, to, "10m");
        programs::lookup(lab, to, &["+notcp"]);
        programs::lookup(lab, to, &["+tcp"]);
        programs::shell(lab, to, "true");
        let refused = lab.run("client", &["nc", "-w", "3", "-v", to, "9999"]);
        assert!(refused.text().contains("refused"), "{}", refused.text());
        streams(lab, to);
    }
}

#[test]
fn workers_share_sessions_and_programs_notice_nothing() {
    let Some(lab) = Fabric::new(3).workers(&WORKERS).raise("workers") else { return };
    let before = lab.drops();
    all_programs(&lab);
    let (router, many) =
        ("client", "for i in $(seq 1 60); do curl -gsS -o /dev/null http://10.2.0.10/ || exit 1; done");
    lab.run(router, &["bash", "-c", many]).ok();
    lab.assert_moved(&before, &[]);
    for (router, count) in WORKERS {
        let sessions = lab.sessions(router, &[]);
        let identities: HashSet<&str> = sessions.iter().map(|s| s["uuid"].as_str().unwrap()).collect();
        assert_eq!(identities.len(), sessions.len(), "{router}: a session is with one worker");
        let received = each(&lab, router, "received");
        assert_eq!(received.len(), usize::from(count));
        assert!(received.iter().all(|&packets| packets > 100), "{router}: {received:?}");
        // Routers choose waypoint ports that lead to the right worker.
        let handed = each(&lab, router, "handed_over");
        assert_eq!(handed.iter().sum::<u64>(), 0, "{router}: {handed:?}");
    }
}

#[test]
fn flows_under_another_address_are_steered_to_their_worker() {
    let fabric = Fabric::new(2).workers(&[("branch", 3), ("dc", 3)]).without_way_back().config(|authority| {
        for interface in interfaces(authority).filter(|interface| interface["name"] == "servers") {
            interface["source-nat"] = true.into();
        }
    });
    let Some(lab) = fabric.raise("workers-nat") else { return };
    let before = lab.drops();
    all_programs(&lab);
    lab.assert_moved(&before, &[]);
    let workers = lab.show("dc", &["workers"]);
    assert!(workers["steered_flows"].as_u64().unwrap() > 0, "{workers}");
    assert_eq!(workers["steering_refused"], 0);
    // One place for an endpoint, whichever workers have its sessions.
    let given: u64 =
        lab.show("dc", &["nat"]).as_array().unwrap().iter().map(|row| row["given"].as_u64().unwrap()).sum();
    assert!(given > 0);
}
