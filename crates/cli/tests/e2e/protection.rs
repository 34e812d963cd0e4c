//! Protected payload: every way to protect it, over every kind of path, and what the WAN shows of it.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::fabric::{CLIENT, Fabric, SERVER, interfaces};
use crate::lab::{Background, Lab, poll};
use crate::pcap::Capture;
use crate::product::nothing_is_shown;
use crate::programs::{self, download, page, shell, url};

/// Something that no packet on a WAN may contain.
const SECRET: &str = "the-quick-brown-fox-of-the-payload";

/// The policy for all payload, and how TCP travels.
fn protect(fabric: Fabric, policy: &Value, transform: &str) -> Fabric {
    let policy = policy.clone();
    let transform = transform.to_owned();
    fabric.config(move |authority| {
        let mut default = policy;
        default["name"] = "default".into();
        authority["security"] = json!([default]);
        for interface in interfaces(authority).filter(|interface| interface["type"] == "fabric") {
            interface["neighborhood"][0]["udp-transform"] = transform.clone().into();
        }
    })
}

fn cipher(name: &str) -> Value {
    json!({ "encryption-cipher": name, "adaptive-encryption": false })
}

/// Programs, a large file, and nothing dropped but what is expected.
fn programs_work(name: &str, routers: usize, family: u8, policy: &Value, transform: &str) {
    let fabric = protect(Fabric::new(routers).waypoints(family), policy, transform);
    let Some(lab) = fabric.raise(name) else { return };
    let before = lab.drops();
    for to in SERVER {
        programs::all(&lab, to);
    }
    let large = lab.path("server/www/100m");
    lab.run("server", &["bash", "-c", &format!("head -c 100000000 /dev/urandom > {large}")]).ok();
    download(&lab, SERVER[0], "100m");
    // The download's session may be over by the time its hash is known.
    programs::page(&lab, SERVER[0]);
    let web = lab.sessions("branch", &["--service", "web"]);
    assert!(!web.is_empty());
    for session in &web {
        let protected = policy["encrypt"] != false || policy["hmac-mode"] != "disabled";
        assert_eq!(!session["protection"].is_null(), protected, "{session}");
        let carried = transform == "always" || (transform == "encrypted" && protected);
        let expected = if carried { "udp" } else { "tcp" };
        assert_eq!(session["responder"]["protocol"], expected, "{session}");
        if protected {
            assert_eq!(session["protection"]["forward"], "sealed", "{session}");
            assert_eq!(session["protection"]["reverse"], "sealed", "{session}");
        }
    }
    lab.assert_moved(&before, &[]);
}

#[test]
fn gcm_in_native_tcp_over_ipv6_waypoints() {
    programs_work("gcm-tcp", 2, 6, &cipher("aes-gcm-256"), "never");
}

#[test]
fn cbc_256_as_udp_over_three_routers() {
    programs_work("cbc256", 3, 4, &cipher("aes-cbc-256"), "encrypted");
}

#[test]
fn cbc_128_in_native_tcp() {
    programs_work("cbc128", 2, 4, &cipher("aes-cbc-128"), "never");
}

#[test]
fn hmac_as_udp_over_three_routers_with_ipv6_waypoints() {
    programs_work("hmac", 3, 6, &json!({ "encrypt": false }), "always");
}

#[test]
fn plain_as_udp() {
    programs_work("plain-udp", 2, 4, &json!({ "encrypt": false, "hmac-mode": "disabled" }), "always");
}

#[test]
fn adaptive_in_native_tcp_over_three_routers() {
    programs_work("adaptive-tcp", 3, 4, &json!({ "adaptive-encryption": true }), "never");
}

/// Links of 1280 next to 9000 bytes, with loss and reordering on the first.
#[test]
fn programs_work_over_unequal_and_lossy_links() {
    let lossy = json!({ "mtu": 1280, "loss": "2%", "reorder": "1%", "delay": "2ms" });
    for transform in ["encrypted", "never"] {
        let fabric = Fabric::new(3).link("lan", json!({ "mtu": 9000 })).link("wan1", lossy.clone());
        let fabric = protect(fabric.link("servers", json!({ "mtu": 9000 })), &json!({}), transform);
        let Some(lab) = fabric.raise(&format!("unequal-{transform}")) else { return };
        for to in SERVER {
            page(&lab, to);
            download(&lab, to, "10m");
            assert!(shell(&lab, to, "echo done").stdout.contains("done"));
        }
    }
}

/// The number of packets that contain a text.
pub fn showing(packets: &[Vec<u8>], text: &[u8]) -> usize {
    packets.iter().filter(|packet| packet.windows(text.len()).any(|window| window == text)).count()
}

fn addresses() -> Vec<Vec<u8>> {
    let octets = |address: &&str| match address.parse::<IpAddr>().unwrap() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    // Four bytes of ciphertext are an IPv4 address every now and then: only IPv6 proves anything.
    CLIENT.iter().chain(&SERVER).map(octets).filter(|address| address.len() == 16).collect()
}

/// Starts a program on the server and waits until it listens.
fn serve(lab: &Lab, command: &str, protocol: &str, port: u16) -> Background {
    let server = lab.start("server", &["bash", "-c", &format!("exec {command} >/dev/null 2>&1 </dev/zero")]);
    let (socket, filter) = (if protocol == "tcp" { "-Hltn" } else { "-Hlun" }, format!(":{port}"));
    let listens = || lab.run("server", &["ss", socket, "sport", "=", &filter]).stdout.contains(&filter);
    assert!(poll(10, listens), "{command} does not start");
    server
}

/// The protection of the newest session to a port, at the ingress.
fn protection(lab: &Lab, to: &str, protocol: &str, port: u16) -> Value {
    let port = port.to_string();
    let arguments = ["--destination", to, "--protocol", protocol, "--port", &port, "--sort", "age"];
    let sessions = lab.sessions("branch", &arguments);
    sessions.first().unwrap_or_else(|| panic!("no session to {protocol} {port}"))["protection"].clone()
}

#[test]
fn what_is_encrypted_already_is_left_so_and_nothing_else() {
    let off = json!({ "offload": "off" });
    let Some(lab) = Fabric::new(2).link("wan1", off).raise("adaptive") else { return };
    let before = lab.drops();
    let (key, cert) = (lab.path("server/tls.key"), lab.path("server/tls.crt"));
    let make = format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=server \
         -keyout {key} -out {cert} && echo {SECRET} > {}",
        lab.path("server/www/secret")
    );
    lab.run("server", &["bash", "-c", &make]).ok();
    let www = lab.path("server/www");
    let tls = |family| {
        format!("env -C {www} openssl s_server -{family} -accept 443 -cert {cert} -key {key} -WWW -quiet")
    };
    let dtls =
        |family| format!("openssl s_server -{family} -dtls -accept 4434 -cert {cert} -key {key} -quiet");
    let _servers = [
        serve(&lab, &tls(4), "tcp", 443),
        serve(&lab, &tls(6), "tcp", 443),
        serve(&lab, &dtls(4), "udp", 4434),
        serve(&lab, &dtls(6), "udp", 4434),
        serve(&lab, &format!("gtlsserver -q -d {www} '*' 4433 {key} {cert}"), "udp", 4433),
        serve(&lab, "redis-server --port 6379 --protected-mode no --save '' --bind '* -::*'", "tcp", 6379),
    ];
    for to in SERVER {
        let wan = Capture::start(&lab, "branch", "wan1");
        let bracketed = if to.contains(':') { format!("[{to}]") } else { to.to_owned() };
        let run = |command: &str| lab.run("client", &["bash", "-c", command]).ok().stdout;
        // Encrypted by the hosts.
        assert!(run(&format!("curl -gsSk --max-time 10 https://{bracketed}/secret")).contains(SECRET));
        run(&format!("gtlsclient -q --exit-on-all-streams-close {to} 4433 https://server:4433/secret"));
        run(&format!(
            "(sleep 0.5; echo {SECRET}; sleep 0.5) | openssl s_client -dtls -connect {bracketed}:4434"
        ));
        // Encrypted by the routers.
        assert!(run(&format!("curl -gsS --max-time 10 {}", url(to, "secret"))).contains(SECRET));
        assert_eq!(run(&format!("redis-cli -h {to} set key {SECRET}")), "OK\n");
        assert!(shell(&lab, to, &format!("echo {SECRET}")).stdout.contains(SECRET));
        for (protocol, port, cover) in [
            ("tcp", 443, "clear"),
            ("udp", 4433, "clear"),
            ("udp", 4434, "clear"),
            ("tcp", 80, "sealed"),
            ("tcp", 6379, "sealed"),
            ("tcp", 22, "sealed"),
        ] {
            let protection = protection(&lab, to, protocol, port);
            assert_eq!(protection["forward"], cover, "{protocol} {port} to {to}: {protection}");
            assert_eq!(protection["reverse"], cover, "{protocol} {port} to {to}: {protection}");
        }
        let packets = wan.packets();
        assert!(packets.len() > 50, "{} packets", packets.len());
        for text in [SECRET.as_bytes(), b"HTTP/1.1", b"redis", b"SSH-2.0"] {
            assert_eq!(showing(&packets, text), 0, "{:?} to {to}", String::from_utf8_lossy(text));
        }
        for address in addresses() {
            assert_eq!(showing(&packets, &address), 0, "an original address of {to}");
        }
        // Left as it is, TLS shows what it always shows.
        assert!(showing(&packets, &[0x16, 3, 1]) > 0, "the ClientHello is in the clear");
    }
    lab.assert_moved(&before, &[]);
}

/// From the first packet, through a change of policy that ends and begins sessions again.
#[test]
fn no_byte_of_payload_is_seen_whatever_the_policy_changes_to() {
    let off = json!({ "offload": "off" });
    let fabric = Fabric::new(3).link("wan1", off.clone()).link("wan2", off);
    let Some(lab) = protect(fabric, &cipher("aes-gcm-256"), "encrypted").raise("unseen") else { return };
    let text = lab.path("server/www/secret");
    lab.run("server", &["bash", "-c", &format!("yes {SECRET} | head -c 3000000 > {text}")]).ok();
    let captures =
        [("branch", "wan1"), ("dc", "wan2")].map(|(node, device)| Capture::start(&lab, node, device));
    let slow = format!("curl -gsS --max-time 30 --limit-rate 500K {} | wc -c", url(SERVER[0], "secret"));
    let download = lab.start("client", &["bash", "-c", &slow]);
    let policies = [
        cipher("aes-cbc-256"),
        json!({ "adaptive-encryption": true }),
        cipher("aes-cbc-128"),
        cipher("aes-gcm-256"),
    ];
    for mut policy in policies {
        crate::lab::pass(std::time::Duration::from_millis(1000));
        policy["name"] = "default".into();
        lab.configure(|authority| authority["security"] = json!([policy]));
        for router in lab.routers() {
            lab.reload(&router).ok();
        }
    }
    let done = download.wait(40);
    assert_eq!(done.stdout.trim(), "3000000", "{}", done.text());
    for packets in captures.map(Capture::packets) {
        assert!(packets.len() > 1000, "{} packets", packets.len());
        nothing_is_shown(&packets, SECRET, "while policies change");
    }
}
