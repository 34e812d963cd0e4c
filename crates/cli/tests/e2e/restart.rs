//! Sessions that live through the restart of a router they cross, or where they began.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fabric::{Fabric, SERVER};
use crate::lab::{Lab, fairway, pass, poll};
use crate::programs::{downloader, hash, ssh_options};

#[test]
fn sessions_survive_a_killed_transit_router() {
    survives("killed", "transit", "-KILL", Duration::ZERO);
}

#[test]
fn sessions_survive_a_transit_router_that_is_away_for_two_seconds() {
    survives("away", "transit", "-KILL", Duration::from_secs(2));
}

#[test]
fn sessions_survive_a_clean_restart_of_the_transit_router() {
    survives("restarted", "transit", "-TERM", Duration::ZERO);
}

#[test]
fn sessions_survive_a_killed_ingress_router() {
    survives("ingress", "branch", "-KILL", Duration::ZERO);
}

#[test]
fn sessions_survive_an_ingress_router_that_is_away_for_two_seconds() {
    survives("gone", "branch", "-KILL", Duration::from_secs(2));
}

#[test]
fn sessions_survive_a_killed_egress_router() {
    survives("egress", "dc", "-KILL", Duration::ZERO);
}

/// A client that only listens, and sessions in the kernel.
#[test]
fn a_client_that_only_listens_goes_on_listening_after_a_restart_of_its_router() {
    let plain = json!([{ "name": "default", "encrypt": false, "hmac-mode": "disabled" }]);
    let fabric = Fabric::new(2).config(|authority| authority["security"] = plain);
    let Some(lab) = fabric.raise("listens") else { return };
    for state in ["on", "off"] {
        for router in lab.routers() {
            fairway(&["offload", state, "--socket", &lab.socket(&router)]).ok();
        }
        // The server says how fast: the client reads what there is, and says nothing but that it has it.
        let script = "import socket, sys
s = socket.create_connection((sys.argv[1], 9100))
data = b''
s.settimeout(60)
while part := s.recv(65536): data += part
print(len(data), data == bytes(range(256)) * (len(data) // 256))";
        let serve = "import socket, time
l = socket.socket(socket.AF_INET)
l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
l.bind(('', 9100)); l.listen()
c, _ = l.accept()
for _ in range(400): c.sendall(bytes(range(256)) * 16); time.sleep(0.02)
c.close()";
        let server = lab.start("server", &["python3", "-c", serve]);
        let bound = || lab.run("server", &["ss", "-Hltn", "sport", "=", ":9100"]).stdout.contains(":9100");
        assert!(poll(10, bound), "the server does not start");
        let client = lab.start("client", &["python3", "-c", script, SERVER[0]]);
        assert!(poll(15, || traffic(&lab, SERVER[0], "9100") > 200_000), "the session did not begin");
        lab.end_router("branch", "-KILL");
        lab.start_router("branch");
        assert_eq!(client.wait(70).ok().stdout.trim(), "1638400 True", "offload {state}");
        server.wait(10).ok();
        let resumed = lab.show("branch", &["counters"]);
        let resumed = resumed.as_array().unwrap().iter().find(|one| one["name"] == "sessions-resumed");
        assert!(resumed.unwrap()["value"].as_u64().unwrap() > 0, "offload {state}");
    }
}

fn survives(test: &str, router: &str, signal: &str, away: Duration) {
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
    let uuids = uuids(&lab, router);

    lab.end_router(router, signal);
    pass(away);
    lab.start_router(router);

    let known = || {
        let there = self::uuids(&lab, router);
        uuids.iter().all(|uuid| there.contains(uuid))
    };
    // A host that speaks before the session is given back begins another one.
    assert!(
        router == "branch" || poll(20, known),
        "{router} does not know {uuids:?} again, but {:?}",
        self::uuids(&lab, router)
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
