//! Sessions that live through the restart of the transit router.

use std::time::Duration;

use serde_json::Value;

use crate::fabric::{Fabric, SERVER};
use crate::lab::{Lab, pass, poll};
use crate::programs::{downloader, hash, ssh_options};

#[test]
fn sessions_survive_a_killed_transit_router() {
    survives("killed", "-KILL", Duration::ZERO);
}

#[test]
fn sessions_survive_a_transit_router_that_is_away_for_two_seconds() {
    survives("away", "-KILL", Duration::from_secs(2));
}

#[test]
fn sessions_survive_a_clean_restart_of_the_transit_router() {
    survives("restarted", "-TERM", Duration::ZERO);
}

fn survives(test: &str, signal: &str, away: Duration) {
    let Some(lab) = Fabric::new(3).raise(test) else { return };
    let wanted = hash(&lab, "20m");
    let command = downloader(SERVER[0], "20m", "--limit-rate 2M --max-time 60");
    let download = lab.start("client", &["bash", "-c", &command]);
    let options = ssh_options(&lab, "server");
    let lines = "for i in $(seq 1 60); do echo line $i; sleep 0.2; done";
    let words: Vec<&str> =
        ["ssh"].into_iter().chain(options.iter().map(String::as_str)).chain([SERVER[1], lines]).collect();
    let shell = lab.start("client", &words);
    let busy = || traffic(&lab, SERVER[0], "80") > 1_000_000 && traffic(&lab, SERVER[1], "22") > 4_000;
    assert!(poll(15, busy), "the sessions did not begin");
    let uuids = uuids(&lab, "branch");

    lab.end_router("transit", signal);
    pass(away);
    lab.start_router("transit");

    let known = || {
        let there = self::uuids(&lab, "transit");
        uuids.iter().all(|uuid| there.contains(uuid))
    };
    assert!(
        poll(20, known),
        "the transit router does not know {uuids:?} again, but {:?}",
        self::uuids(&lab, "transit")
    );
    assert_eq!(download.wait(60).ok().stdout.trim(), wanted);
    let printed = shell.wait(60).ok().stdout;
    let expected: String = (1..=60).map(|i| format!("line {i}\n")).collect();
    assert_eq!(printed, expected);
}

/// Bytes from the server in the session to an address and port.
fn traffic(lab: &Lab, to: &str, port: &str) -> u64 {
    let sessions = lab.sessions("branch", &["--destination", to, "--port", port]);
    sessions.iter().filter_map(|session| session["reverse"]["bytes"].as_u64()).sum()
}

fn uuids(lab: &Lab, router: &str) -> Vec<String> {
    let uuid = |session: &Value| session["uuid"].as_str().unwrap().to_owned();
    lab.sessions(router, &["--protocol", "tcp"]).iter().map(uuid).collect()
}
