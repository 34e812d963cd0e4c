//! Every way to protect payload, with every other property of a fabric: numbers of routers, families of
//! hosts and of waypoints, MTUs, and how TCP travels between routers.
//!
//! A fabric is raised for each number of routers and MTU, and goes through the rest by reloads.

use serde_json::{Value, json};

use crate::fabric::{CLIENT, Fabric, SERVER, interfaces};
use crate::lab::Lab;
use crate::pcap::Capture;
use crate::programs::{downloader, hash, ssh_options, url};
use crate::protection::showing;

/// Something that no packet on a WAN may contain.
const SECRET: &str = "said-between-hosts-and-nobody-else";
const MTUS: [u32; 3] = [1280, 1500, 9000];

/// A way to protect payload: its name, its policy, and what sessions are then protected with.
struct Suite {
    name: &'static str,
    policy: fn() -> Value,
    protection: Option<&'static str>,
}

/// First those that nobody can read.
const SUITES: [Suite; 5] = [
    Suite {
        name: "cbc",
        policy: || json!({ "encryption-cipher": "aes-cbc-256", "adaptive-encryption": false }),
        protection: Some("aes-cbc-256"),
    },
    Suite {
        name: "gcm",
        policy: || json!({ "encryption-cipher": "aes-gcm-256", "adaptive-encryption": false }),
        protection: Some("aes-gcm-256"),
    },
    Suite {
        name: "adaptive",
        policy: || json!({ "adaptive-encryption": true }),
        protection: Some("aes-gcm-256"),
    },
    Suite {
        name: "hmac",
        policy: || json!({ "encrypt": false, "hmac-mode": "regular" }),
        protection: Some("hmac-sha256-128"),
    },
    Suite {
        name: "plain",
        policy: || json!({ "encrypt": false, "hmac-mode": "disabled" }),
        protection: None,
    },
];
const READABLE: usize = 3;

/// How TCP travels.
const TRANSFORMS: [&str; 2] = ["never", "always"];

/// One member of the product, within a fabric.
#[derive(Clone, Copy)]
struct Member {
    suite: usize,
    waypoints: u8,
    transform: &'static str,
}

/// Makes the routers of a fabric do as a member wants.
fn change(lab: &Lab, original: &Value, member: Member) {
    lab.configure(|authority| {
        *authority = original.clone();
        let mut policy = (SUITES[member.suite].policy)();
        policy["name"] = "default".into();
        authority["security"] = json!([policy]);
        for interface in interfaces(authority).filter(|interface| interface["type"] == "fabric") {
            interface["neighborhood"][0]["udp-transform"] = member.transform.into();
            let of_family = |address: &Value| {
                address["ip-address"].as_str().unwrap().contains(':') == (member.waypoints == 6)
            };
            interface["address"].as_array_mut().unwrap().retain(of_family);
        }
    });
    for router in lab.routers() {
        lab.reload(&router).ok();
        let socket = lab.socket(&router);
        crate::lab::fairway(&["delete", "session", "--all", "--yes", "--socket", &socket]).ok();
    }
    lab.wait_for_paths(20);
}

/// What hosts do at once, with servers of both families: ping, curl and a hash, dig, ssh, iperf3.
fn script(lab: &Lab, hash: &str) -> String {
    let ssh = ssh_options(lab, "server").join(" ");
    let mut script = String::from("at_once() { \"$@\" >/dev/null 2>&1 || echo \"FAILED: $*\"; }\n");
    for to in SERVER {
        let curl = downloader(to, "secret", "--max-time 20");
        script.push_str(&format!(
            "at_once ping -c 2 -i 0.1 -W 3 {to} &\n\
             at_once bash -c '[ \"$({{ {}; }})\" = {hash} ]' &\n\
             at_once dig +time=3 +tries=2 @{to} web.test &\n\
             at_once dig +tcp +time=3 +tries=2 @{to} web.test &\n\
             at_once ssh {ssh} {to} true &\n",
            curl.replace('\'', "'\\''")
        ));
    }
    // Its server serves one at a time, and is busy for a moment after each.
    let iperf = |to: &str| format!("for i in 1 2 3 4 5; do iperf3 -n 256K -c {to} && break; sleep 0.2; done");
    let both = format!("{} && {}", iperf(SERVER[0]), iperf(SERVER[1]));
    script.push_str(&format!("at_once bash -c '{both}' &\nwait\n"));
    script
}

/// Lets programs run, and looks at the sessions they had.
fn works(lab: &Lab, hash: &str, member: Option<Member>, what: &str) {
    let done = lab.run("client", &["bash", "-c", &script(lab, hash)]).ok();
    assert!(!done.stdout.contains("FAILED"), "{what}: {}", done.text());
    let sessions = lab.sessions("branch", &["--service", "web"]);
    assert_eq!(sessions.len(), 2, "{what}: {sessions:?}");
    let Some(Member { suite, waypoints, transform }) = member else { return };
    for session in &sessions {
        let local = session["responder"]["local"].as_str().unwrap();
        assert_eq!(local.starts_with('['), waypoints == 6, "{what}: {session}");
        let carried = if transform == "always" { "udp" } else { "tcp" };
        assert_eq!(session["responder"]["protocol"], carried, "{what}: {session}");
        match SUITES[suite].protection {
            None => assert!(session["protection"].is_null(), "{what}: {session}"),
            Some(name) => {
                let protection = &session["protection"];
                assert_eq!(protection["cipher"], name, "{what}: {session}");
                assert_eq!(
                    [&protection["forward"], &protection["reverse"]],
                    ["sealed"; 2],
                    "{what}: {session}"
                );
            }
        }
    }
}

/// The members for one fabric.
fn members() -> Vec<Member> {
    let mut members = Vec::new();
    for waypoints in [4, 6] {
        for transform in TRANSFORMS {
            members.extend((0..SUITES.len()).map(|suite| Member { suite, waypoints, transform }));
        }
    }
    // Captures end before payload may be read.
    members.sort_by_key(|member| member.suite >= READABLE);
    members
}

fn product(routers: usize) {
    for mtu in MTUS {
        let mut fabric = Fabric::new(routers);
        let wans = ["wan1", "wan2"].into_iter().take(routers - 1);
        for link in ["lan", "guests", "servers"].into_iter().chain(wans) {
            fabric = fabric.link(link, json!({ "mtu": mtu }));
        }
        let Some(lab) = fabric.raise(&format!("all-{routers}-{mtu}")) else { return };
        let file = lab.path("server/www/secret");
        lab.run("server", &["bash", "-c", &format!("yes {SECRET} | head -c 1000000 > {file}")]).ok();
        let hash = hash(&lab, "secret");
        if routers == 1 {
            works(&lab, &hash, None, &format!("one router, MTU {mtu}"));
            continue;
        }
        let mut original = Value::Null;
        lab.configure(|authority| original = authority.clone());
        let members = members();
        let (unreadable, readable) = members.split_at(members.partition_point(|m| m.suite < READABLE));
        let name = |member: &Member| {
            let Member { suite, waypoints, transform } = *member;
            let suite = SUITES[suite].name;
            format!("{suite}, {routers} routers, IPv{waypoints} waypoints, MTU {mtu}, TCP as UDP {transform}")
        };
        let mut captures = Vec::new();
        for member in unreadable {
            change(&lab, &original, *member);
            if captures.is_empty() {
                captures.push(Capture::start(&lab, "branch", "wan1"));
                captures.extend((routers == 3).then(|| Capture::start(&lab, "dc", "wan2")));
            }
            works(&lab, &hash, Some(*member), &name(member));
        }
        for packets in captures.into_iter().map(Capture::packets) {
            nothing_is_shown(&packets, SECRET, &format!("{routers} routers, MTU {mtu}"));
        }
        for member in readable {
            change(&lab, &original, *member);
            works(&lab, &hash, Some(*member), &name(member));
        }
        eprintln!("{} members with {routers} routers and MTU {mtu}", members.len());
    }
}

/// Asserts that packets between routers show nothing of what hosts say or who they are.
#[track_caller]
pub fn nothing_is_shown(packets: &[Vec<u8>], marker: &str, what: &str) {
    assert!(packets.len() > 100, "{what}: {} packets", packets.len());
    for text in [&marker[..12], "GET /secret", "HTTP/1.1", "Server: nginx", "SSH-2.0", "web\u{4}test"] {
        assert_eq!(showing(packets, text.as_bytes()), 0, "{what}: {text:?} is on a WAN");
    }
    for original in originals() {
        assert_eq!(showing(packets, &original), 0, "{what}: original addresses are on a WAN");
    }
}

/// Addresses of hosts as they are in packets. Four bytes are in ciphertext every now and then, so IPv4
/// addresses are looked for in pairs.
fn originals() -> Vec<Vec<u8>> {
    let bytes = |address: &str| match address.parse().unwrap() {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    };
    let [client, server] = [CLIENT[0], SERVER[0]].map(bytes);
    let pairs = [[client.clone(), server.clone()].concat(), [server, client].concat()];
    [CLIENT[1], SERVER[1]].into_iter().map(bytes).chain(pairs).collect()
}

#[test]
fn every_suite_works_with_every_other_property_over_one_and_two_routers() {
    product(1);
    product(2);
}

#[test]
fn every_suite_works_with_every_other_property_over_three_routers() {
    product(3);
}

/// 100 MB over a path that loses two packets of a hundred and reorders others.
#[test]
fn a_large_file_arrives_whole_over_a_bad_path_with_every_suite() {
    let bad = json!({ "loss": "2%", "reorder": "2%", "delay": "1ms" });
    let Some(lab) = Fabric::new(3).link("wan1", bad).raise("badpath") else { return };
    let large = lab.path("server/www/100m");
    lab.run("server", &["bash", "-c", &format!("head -c 100000000 /dev/urandom > {large}")]).ok();
    let hash = hash(&lab, "100m");
    let mut original = Value::Null;
    lab.configure(|authority| original = authority.clone());
    for suite in 0..SUITES.len() {
        let waypoints = if suite % 2 == 0 { 4 } else { 6 };
        let transform = TRANSFORMS[suite / 2 % 2];
        change(&lab, &original, Member { suite, waypoints, transform });
        // Hosts of the other family than the waypoints, too.
        let to = SERVER[usize::from(suite < 3)];
        let began = std::time::Instant::now();
        let command = downloader(to, "100m", "--max-time 100");
        let done = lab.run_for(110, "client", &["bash", "-c", &command]).ok();
        let name = SUITES[suite].name;
        assert_eq!(done.stdout.trim(), hash, "100 MB with {name} from {}", url(to, "100m"));
        eprintln!("100 MB with {name} over a bad path: {:.1} s", began.elapsed().as_secs_f32());
    }
}
