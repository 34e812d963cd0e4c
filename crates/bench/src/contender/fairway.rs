//! Two Fairway routers.

use serde_json::{Value, json};

use super::{Contender, interfaces};

/// How many sessions a router has room for, if not a million are to be measured.
const SESSIONS: u32 = 300_000;
const MANY_SESSIONS: u32 = 1_200_000;
/// Limits that no cell comes near: what is measured is the way of packets.
const NO_LIMIT: u32 = 4_000_000;
const NO_RATE: u32 = 10_000_000;

/// Puts routers `a` and `b` into the topology.
pub(super) fn routers(contender: Contender, topology: &mut Value, workers: Option<u8>) {
    for node in ["a", "b"] {
        let mut router = json!({ "interfaces": interfaces(node) });
        if let Some(workers) = workers {
            router["workers"] = json!(workers);
        }
        if matches!(contender, Contender::FairwayXdp | Contender::FairwayXdpMillion) {
            router["io"] = json!("xdp");
        }
        topology["routers"][node] = router;
    }
    topology["config"] = configuration(contender);
}

/// How payload is protected.
fn security(contender: Contender) -> Value {
    let cipher = match contender {
        Contender::FairwayGcm => Some("aes-gcm-256"),
        Contender::FairwayCbc => Some("aes-cbc-256"),
        _ => None,
    };
    match cipher {
        Some(cipher) => json!({
            "name": "default", "encrypt": true, "encryption-cipher": cipher, "adaptive-encryption": false,
        }),
        None => json!({ "name": "default", "encrypt": false, "hmac-mode": "disabled" }),
    }
}

fn configuration(contender: Contender) -> Value {
    let sessions = if contender.has_many_sessions() { MANY_SESSIONS } else { SESSIONS };
    json!({ "fairway:authority": {
        "name": "bench",
        "tenant": [{ "name": "corp" }],
        "security": [security(contender)],
        // Long enough for a million sessions to be made and measured.
        "session-type": [{ "name": "udp", "timeout": 1800, "initial-timeout": 1800 }],
        "service": [{
            "name": "servers",
            "address": ["10.2.0.0/24"],
            "access-policy": [{ "source": "corp" }],
        }],
        "router": [router("a", sessions), router("b", sessions)],
    } })
}

fn router(name: &str, sessions: u32) -> Value {
    let quota = json!({ "max-sessions": NO_LIMIT, "half-open": NO_LIMIT, "session-rate": NO_RATE });
    let wan = if name == "a" { "172.16.1.1" } else { "172.16.1.2" };
    let fabric = json!({ "name": "wan", "network-interface": [{
        "name": "wan",
        "type": "fabric",
        "address": [{ "ip-address": wan, "prefix-length": 24 }],
        "neighborhood": [{ "name": "wan", "max-way-points": 1_000_000 }],
    }] });
    let hosts = if name == "a" {
        json!({ "name": "lan", "network-interface": [{
            "name": "lan", "tenant": "corp", "address": [{ "ip-address": "10.1.0.1", "prefix-length": 24 }],
        }] })
    } else {
        json!({ "name": "servers", "network-interface": [{
            "name": "servers", "address": [{ "ip-address": "10.2.0.1", "prefix-length": 24 }],
        }] })
    };
    let mut router = json!({
        "name": name,
        "node": [{ "name": "node0", "device-interface": [fabric, hosts] }],
        "limits": {
            "sessions": sessions, "half-open": NO_LIMIT, "session-rate": NO_RATE,
            "first-packet-rate": NO_RATE, "per-tenant": quota, "per-source": quota, "per-peer": quota,
        },
    });
    if name == "b" {
        router["service-route"] = json!([{ "name": "here", "service-name": "servers", "local": {} }]);
    }
    router
}
