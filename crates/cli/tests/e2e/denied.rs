//! A host whose tenant has no access: what it gets, what it is told, and what the operator sees.

use crate::fabric::{Fabric, SERVER, interfaces};
use crate::lab::{Done, Lab};
use crate::programs::url;

fn tries(lab: &Lab, to: &str) -> [Done; 3] {
    let server = format!("@{to}");
    [
        lab.run("guest", &["curl", "-gsS", "--max-time", "2", &url(to, "")]),
        lab.run("guest", &["ping", "-c", "1", "-W", "2", to]),
        lab.run("guest", &["dig", "+time=1", "+tries=1", &server, "web.test"]),
    ]
}

fn answer_with(lab: &Lab, response: &str) {
    lab.configure(|authority| {
        let mut all = interfaces(authority);
        all.find(|interface| interface["name"] == "guests").unwrap()["denied-response"] = response.into();
    });
    lab.reload("branch").ok();
}

#[test]
fn a_tenant_without_access_gets_nothing() {
    let Some(lab) = Fabric::new(3).raise("denied") else { return };
    let before = lab.drops();
    for to in SERVER {
        for done in tries(&lab, to) {
            assert_ne!(done.code, 0, "{}: {}", done.command, done.text());
            assert!(
                !done.text().contains("hello") && !done.text().contains("64 bytes from"),
                "{}",
                done.text()
            );
        }
        let curl = lab.run("guest", &["curl", "-gsS", "--max-time", "1", &url(to, "")]);
        assert_eq!(curl.code, 28, "silence is a timeout: {}", curl.text());
        let drops = lab.show("branch", &["drops"]);
        let denied = drops.as_array().unwrap().iter().find(|drop| drop["reason"] == "access-denied").unwrap();
        let example = &denied["last"];
        assert_eq!(example["interface"], "guests", "{denied}");
        assert_eq!(example["protocol"], "tcp", "{denied}");
        let web = if to.contains(':') { "[fd00:2::10]:80" } else { "10.2.0.10:80" };
        assert_eq!(example["destination"], web, "{denied}");
        let guest = if to.contains(':') { "[fd00:3::10]:" } else { "10.3.0.10:" };
        assert!(example["source"].as_str().unwrap().starts_with(guest), "{denied}");
    }
    lab.assert_moved(&before, &["branch access-denied"]);
    assert!(lab.sessions("branch", &["--tenant", "guest"]).is_empty());
    assert!(lab.sessions("dc", &[]).is_empty());
}

#[test]
fn what_a_denied_host_is_told_is_policy() {
    let Some(lab) = Fabric::new(2).raise("told") else { return };
    let before = lab.drops();
    answer_with(&lab, "reset");
    for to in SERVER {
        let [curl, ping, dig] = tries(&lab, to);
        assert!(curl.code == 7 && !timed_out(&curl), "a reset ends curl at once: {}", curl.text());
        assert!(
            curl.text().contains("refused") || curl.text().contains("Couldn't connect"),
            "{}",
            curl.text()
        );
        prohibited(&ping);
        assert!(
            dig.text().contains("unreachable")
                || dig.text().contains("denied")
                || dig.text().contains("refused"),
            "{}",
            dig.text()
        );
    }
    answer_with(&lab, "prohibited");
    for to in SERVER {
        let [curl, ping, _] = tries(&lab, to);
        assert!(curl.code == 7 && !timed_out(&curl), "ICMP ends curl at once: {}", curl.text());
        prohibited(&ping);
    }
    answer_with(&lab, "silent");
    assert_eq!(tries(&lab, SERVER[0])[0].code, 28);
    lab.assert_moved(&before, &["branch access-denied"]);
}

fn timed_out(done: &Done) -> bool {
    done.text().contains("timed out")
}

/// What ping(8) says to ICMP type 3 code 13 and ICMPv6 type 1 code 1.
fn prohibited(ping: &Done) {
    let text = ping.text();
    assert!(text.contains("Packet filtered") || text.contains("Administratively prohibited"), "{text}");
}
