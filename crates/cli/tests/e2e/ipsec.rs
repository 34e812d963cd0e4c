//! IPsec across the fabric: what hosts encrypted is carried as it is, and not encrypted again.

use serde_json::{Value, json};

use crate::fabric::{CLIENT, Fabric, SERVER};
use crate::lab::{Lab, poll};
use crate::pcap::Capture;
use crate::protection::showing;

/// Something that only the hosts may see.
const SECRET: &str = "what-two-hosts-say-to-each-other";
/// A port that is not that of ESP inside UDP.
const OTHER: u16 = 4501;
const SPEAKER: &str = include_str!("esp.py");

fn python<'a>(words: &[&'a str]) -> Vec<&'a str> {
    // The one that the distribution's libraries are for.
    [&["/usr/bin/python3", "-c", SPEAKER], words].concat()
}

/// Both hosts exchange ESP: what was on their links, forth and back.
fn exchange(lab: &Lab, to: &str, port: u16) -> Vec<[Vec<u8>; 2]> {
    let number = port.to_string();
    let server = lab.start("server", &python(&["serve", to, &number]));
    let table = match (port, to.contains(':')) {
        (0, false) => "/proc/net/raw",
        (0, true) => "/proc/net/raw6",
        (_, false) => "/proc/net/udp",
        (_, true) => "/proc/net/udp6",
    };
    let bound = format!(":{:04X} ", if port == 0 { 50 } else { port });
    assert!(
        poll(10, || lab.run("server", &["cat", table]).stdout.contains(&bound)),
        "{table} has no {bound}"
    );
    let done = lab.run("client", &python(&["talk", to, &number, SECRET])).ok();
    drop(server);
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
    };
    let pair = |line: &str| {
        let (forth, back) = line.split_once(' ').unwrap();
        [bytes(forth), bytes(back)]
    };
    done.stdout.lines().map(pair).collect()
}

/// The one session of a protocol to a port.
fn session(lab: &Lab, router: &str, to: &str, protocol: &str, port: u16) -> Value {
    let mut arguments = vec!["--destination", to, "--protocol", protocol];
    let number = port.to_string();
    if port > 0 {
        arguments.extend(["--port", &number]);
    }
    let sessions = lab.sessions(router, &arguments);
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    sessions[0].clone()
}

#[test]
fn esp_is_carried_as_it_is_and_not_encrypted_twice() {
    let off = json!({ "offload": "off" });
    let fabric = Fabric::new(3).link("wan1", off.clone()).link("wan2", off);
    let Some(lab) = fabric.raise("esp") else { return };
    eprintln!("ESP is spoken by a program of the test (esp.py, AES-128-GCM), not by the kernel");
    let before = lab.drops();
    for to in SERVER {
        for (protocol, port) in [("esp", 0), ("udp", 4500), ("udp", OTHER)] {
            let wans =
                [("branch", "wan1"), ("dc", "wan2")].map(|(node, dev)| Capture::start(&lab, node, dev));
            let said = exchange(&lab, to, port);
            assert_eq!(said.len(), 7);
            let left = port != OTHER;
            for router in ["branch", "dc"] {
                let protection = &session(&lab, router, to, protocol, port)["protection"];
                for way in ["forward", "reverse"] {
                    let expected = if left { "clear" } else { "sealed" };
                    assert_eq!(
                        protection[way], expected,
                        "{protocol} {port} to {to}, {router}: {protection}"
                    );
                }
            }
            for packets in wans.map(Capture::packets) {
                for packet in said.iter().flatten() {
                    // From the SPI to the last byte of the ICV, once, with nothing in between.
                    let shown = showing(&packets, packet);
                    assert_eq!(shown, usize::from(left), "{protocol} {port} to {to}: {} bytes", packet.len());
                }
                assert_eq!(showing(&packets, &SECRET.as_bytes()[..12]), 0);
                for address in CLIENT.iter().chain(&SERVER).filter(|address| address.contains(':')) {
                    let address: std::net::Ipv6Addr = address.parse().unwrap();
                    assert_eq!(showing(&packets, &address.octets()), 0, "an original address");
                }
            }
        }
    }
    lab.assert_moved(&before, &[]);
}
