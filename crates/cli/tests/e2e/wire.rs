//! What a capture on a WAN shows: metadata until the handshake is done, then packets that are exactly
//! as long as the originals, and no address of a host.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use fairway_wire::svr::{self, BFD_PORT, Header, HeaderTlvs, PayloadTlvs};
use fairway_wire::{ip, protocol};
use serde_json::json;

use crate::fabric::{CLIENT, Fabric, SERVER};
use crate::lab::{Lab, poll};
use crate::pcap::Capture;
use crate::programs::downloader;

/// Single packets, as a wire has them: no super-packets. Waypoints of one family.
fn fabric(family: u8) -> Fabric {
    let off = json!({ "offload": "off" });
    let links = ["lan", "wan1", "wan2", "servers"];
    links.into_iter().fold(Fabric::new(3).waypoints(family), |fabric, link| fabric.link(link, off.clone()))
}

/// Payload travels as it is.
fn plain(authority: &mut serde_json::Value) {
    authority["security"] = json!([{ "name": "default", "encrypt": false, "hmac-mode": "disabled" }]);
}

/// Sends datagrams of many lengths, and waits for the echo of each.
const DATAGRAMS: &str = "
import socket, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
s.settimeout(5)
s.connect((sys.argv[1], 7))
for i in range(100):
    text = b'datagram %d ' % i + b'x' * (i * 13)
    s.send(text)
    assert s.recv(2000) == text
";
const ECHO: &str = "
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(('::', 7))
while True:
    text, sender = s.recvfrom(2000)
    s.sendto(text, sender)
";

/// A TCP session and a UDP session; what was on the LAN and on both WANs.
fn captured(lab: &Lab, to: &str) -> [Vec<Vec<u8>>; 3] {
    let echo = lab.start("server", &["python3", "-c", ECHO]);
    let bound = || lab.run("server", &["ss", "-Hlun", "sport", "=", ":7"]).stdout.contains(":7");
    assert!(poll(10, bound), "the echo server does not start");
    let captures = [("branch", "lan"), ("branch", "wan1"), ("dc", "wan2")]
        .map(|(node, device)| Capture::start(lab, node, device));
    lab.run("client", &["bash", "-c", &downloader(to, "text", "--max-time 20")]).ok();
    lab.run("client", &["python3", "-c", DATAGRAMS, to]).ok();
    drop(echo);
    captures.map(Capture::packets)
}

/// What identifies a segment whatever its addresses and ports are: everything else in it, without
/// the checksum, which covers them.
fn identity(packet: &[u8]) -> (u8, Vec<u8>) {
    let parsed = ip::parse(packet).unwrap();
    let mut transport = packet[usize::from(parsed.header_len)..].to_vec();
    transport[..4].fill(0);
    let checksum = if parsed.protocol == protocol::TCP { 16..18 } else { 6..8 };
    transport[checksum].fill(0);
    (parsed.protocol, transport)
}

/// Packets of sessions: neither liveness nor what the kernel says.
fn sessions(packets: &[Vec<u8>]) -> impl Iterator<Item = (&Vec<u8>, ip::Parsed)> {
    packets.iter().filter_map(|packet| {
        let parsed = ip::parse(packet).ok()?;
        let carries = [protocol::TCP, protocol::UDP].contains(&parsed.protocol);
        let liveness = [parsed.source_port, parsed.destination_port].contains(&BFD_PORT);
        (carries && !liveness).then_some((packet, parsed))
    })
}

#[test]
fn plain_packets_are_as_long_as_the_originals_and_carry_no_address() {
    for (family, to) in [(4, SERVER[0]), (6, SERVER[1])] {
        let Some(lab) = fabric(family).config(plain).raise("wire") else { return };
        let before = lab.drops();
        let [lan, wan1, wan2] = captured(&lab, to);
        for wan in [&wan1, &wan2] {
            no_metadata_after_the_handshake(wan);
            no_original_address(wan);
            only_originals(wan, &lan);
        }
        lab.assert_moved(&before, &[]);
    }
}

/// Every packet without metadata is one of the originals, byte for byte behind its ports.
fn only_originals(wan: &[Vec<u8>], lan: &[Vec<u8>]) {
    let mut originals: HashMap<(u8, Vec<u8>), HashSet<usize>> = HashMap::new();
    for (packet, _) in sessions(lan) {
        originals.entry(identity(packet)).or_default().insert(packet.len());
    }
    let mut plain = 0;
    for (packet, parsed) in
        sessions(wan).filter(|(packet, parsed)| !svr::starts_with_cookie(parsed.payload(packet)))
    {
        plain += 1;
        let lengths = originals.get(&identity(packet));
        let lengths = lengths.unwrap_or_else(|| panic!("no original of {parsed:?}"));
        assert!(lengths.contains(&packet.len()), "{} bytes, originally {lengths:?}", packet.len());
    }
    let all = sessions(lan).count();
    assert!(plain + 20 > all && plain > 500, "{plain} plain packets of {all}");
}

/// In each direction of each session, metadata comes first and never again.
fn no_metadata_after_the_handshake(wan: &[Vec<u8>]) {
    let mut plain = HashSet::new();
    let mut with_metadata = HashMap::<_, u32>::new();
    for (packet, parsed) in sessions(wan) {
        let flow =
            (parsed.protocol, parsed.source, parsed.source_port, parsed.destination, parsed.destination_port);
        if svr::starts_with_cookie(parsed.payload(packet)) {
            *with_metadata.entry(flow).or_default() += 1;
            assert!(!plain.contains(&flow), "metadata after the handshake: {parsed:?}");
        } else {
            plain.insert(flow);
        }
    }
    // Two sessions, two directions.
    assert_eq!(with_metadata.len(), 4, "{with_metadata:?}");
    assert!(with_metadata.keys().all(|flow| plain.contains(flow)), "{with_metadata:?}");
}

fn no_original_address(wan: &[Vec<u8>]) {
    let addresses: Vec<Vec<u8>> = CLIENT
        .iter()
        .chain(&SERVER)
        .map(|address| match address.parse::<IpAddr>().unwrap() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        })
        .collect();
    for packet in wan {
        for address in &addresses {
            assert!(
                !packet.windows(address.len()).any(|bytes| bytes == address),
                "{address:?} in {packet:02x?}"
            );
        }
    }
}

#[test]
fn metadata_is_readable_where_policy_only_signs_it() {
    let signed_only = |authority: &mut serde_json::Value| {
        plain(authority);
        authority["security"][0]["encrypt-metadata"] = false.into();
    };
    for (family, to) in [(4, SERVER[0]), (6, SERVER[1])] {
        let Some(lab) = fabric(family).config(signed_only).raise("signed") else { return };
        let [_, wan1, _] = captured(&lab, to);
        let found: HashSet<(String, String)> =
            sessions(&wan1).filter_map(|(packet, parsed)| forward(parsed.payload(packet))).collect();
        let expected = [(80, "web"), (7, "servers")].map(|(port, service)| {
            (SocketAddr::new(to.parse().unwrap(), port).to_string(), service.to_owned())
        });
        assert_eq!(found, expected.into());
    }
}

/// Destination and service of a packet that carries forward metadata in the clear.
fn forward(payload: &[u8]) -> Option<(String, String)> {
    if !svr::starts_with_cookie(payload) {
        return None;
    }
    let header = Header::parse(payload).unwrap();
    assert!(!HeaderTlvs::parse(header.header_tlvs()).unwrap().metadata_encrypted);
    let names = PayloadTlvs::parse(header.payload_section()).unwrap();
    let context = names.forward?;
    assert_eq!((names.tenant, names.source_router), (Some("corp"), Some("branch")));
    assert!(CLIENT.contains(&context.source.ip().to_string().as_str()), "{context:?}");
    Some((context.destination.to_string(), names.service.unwrap_or_default().to_owned()))
}
