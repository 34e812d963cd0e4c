//! What others see of a session is alike whether workers forward it or the kernel: packets on the wire,
//! counts, and its end.

use std::net::IpAddr;

use fairway_wire::{checksum, ip, protocol, svr};
use serde_json::{Value, json};

use crate::fabric::{Fabric, SERVER};
use crate::kernel::{count, forwarded_by, plain, switch};
use crate::lab::{Lab, poll};
use crate::operator::log_sessions;
use crate::pcap::Capture;

/// Answers every datagram and every line of a connection with the same.
const ECHO: &str = "
import socket, threading
u = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
u.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
u.bind(('::', 7))
def datagrams():
    while True:
        text, sender = u.recvfrom(2000)
        u.sendto(text, sender)
threading.Thread(target=datagrams, daemon=True).start()
t = socket.create_server(('::', 7), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    c, _ = t.accept()
    while text := c.recv(2000): c.sendall(text)
    c.close()
";
/// Says one thing after the other, over UDP or TCP, and waits for the echo of each.
const ASK: &str = "
import socket, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
kind = socket.SOCK_STREAM if sys.argv[2] == 'tcp' else socket.SOCK_DGRAM
s = socket.socket(family, kind)
s.settimeout(5)
s.connect((sys.argv[1], 7))
if kind == socket.SOCK_STREAM: s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
for i in range(int(sys.argv[3])):
    text = b'part %d ' % i + b'x' * (i % 100 * 13)
    s.send(text)
    got = b''
    while len(got) < len(text): got += s.recv(2000)
    assert got == text
";

fn serve(lab: &Lab) -> crate::lab::Background {
    let echo = lab.start("server", &["python3", "-c", ECHO]);
    let bound = || lab.run("server", &["ss", "-Hltn", "sport", "=", ":7"]).stdout.contains(":7");
    assert!(poll(10, bound), "the echo server does not start");
    echo
}

/// A packet without what differs from one session to the next: ports, sequence numbers, options, what hosts
/// count, and the checksums over all that, which have to be right.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    forth: bool,
    protocol: u8,
    /// Traffic class, flags and TTL of IPv4, or version, traffic class and hop limit of IPv6.
    header: [u8; 3],
    length: usize,
    payload: Vec<u8>,
}

/// What a session of the protocol has on a WAN behind its handshake, empty segments apart: those depend on
/// when programs get a processor.
fn shapes(packets: &[Vec<u8>], wanted: u8) -> Vec<Shape> {
    let branch: [IpAddr; 2] = ["172.16.1.1".parse().unwrap(), "fd00:101::1".parse().unwrap()];
    let shape = |packet: &Vec<u8>| {
        let parsed = ip::parse(packet).ok()?;
        let payload = parsed.payload(packet);
        let liveness = parsed.destination_port == svr::BFD_PORT;
        if parsed.protocol != wanted || liveness || payload.is_empty() || svr::starts_with_cookie(payload) {
            return None;
        }
        let segment = parsed.segment(packet);
        let right = checksum::transport_checksum_is_valid(parsed.source, parsed.destination, wanted, segment);
        assert!(right, "a wrong checksum: {parsed:?}");
        let four = parsed.source.is_ipv4();
        assert!(
            !four || checksum::fold(checksum::sum(&packet[..20])) == 0xffff,
            "a wrong header: {parsed:?}"
        );
        let header =
            if four { [packet[1], packet[6], packet[8]] } else { [packet[0], packet[1] & 0xf0, packet[7]] };
        let (forth, length) = (branch.contains(&parsed.source), packet.len());
        Some(Shape { forth, protocol: wanted, header, length, payload: payload.to_vec() })
    };
    packets.iter().filter_map(shape).collect()
}

#[test]
fn the_wan_shows_the_same_packets_whoever_forwards_them() {
    for (family, to) in [(4, SERVER[0]), (6, SERVER[1])] {
        // Single packets, as a wire has them.
        let links = ["lan", "wan1", "servers"];
        let single = |fabric: Fabric, link: &'static str| fabric.link(link, json!({ "offload": "off" }));
        let fabric = links.into_iter().fold(plain(2).waypoints(family), single);
        let Some(lab) = fabric.raise("alike") else { return };
        let _echo = serve(&lab);
        let drops = lab.drops();
        for (name, number) in [("udp", protocol::UDP), ("tcp", protocol::TCP)] {
            let [by_kernel, by_workers] = ["on", "off"].map(|state| said(&lab, state, to, name, number));
            assert!(by_kernel.len() > 390, "{to} {name}: {} packets", by_kernel.len());
            assert_eq!(by_kernel.len(), by_workers.len(), "{to} {name}");
            for (one, other) in by_kernel.iter().zip(&by_workers) {
                assert_eq!(one, other, "{to} {name}");
            }
        }
        lab.assert_moved(&drops, &[]);
    }
}

/// What a conversation of 200 parts, and as many answers, has on the WAN, with or without the kernel.
fn said(lab: &Lab, state: &str, to: &str, name: &str, number: u8) -> Vec<Shape> {
    switch(lab, state);
    let before = count(lab, "branch", "packets-offloaded");
    let capture = Capture::start(lab, "branch", "wan1");
    lab.run("client", &["python3", "-c", ASK, to, name, "200"]).ok();
    let seen = shapes(&capture.packets(), number);
    let offloaded = count(lab, "branch", "packets-offloaded") - before;
    assert_eq!(offloaded > 250, state == "on", "{to} {name} {state}: {offloaded} of 400");
    seen
}

#[test]
fn an_idle_session_in_the_kernel_ends_and_is_counted_to_the_byte() {
    let short = json!([{ "name": "udp", "timeout": 4, "initial-timeout": 4 }]);
    let fabric: Fabric = plain(2).config(|authority| authority["session-type"] = short);
    let Some(lab) = fabric.raise("idle") else { return };
    let (router, log) = log_sessions(&lab, "branch");
    switch(&lab, "on");
    let _echo = serve(&lab);
    lab.run("client", &["python3", "-c", ASK, SERVER[0], "udp", "300"]).ok();
    let own = |mut sessions: Vec<Value>| {
        sessions.retain(|session| session["protocol"] == "udp");
        sessions
    };
    for name in ["branch", "dc"] {
        assert_eq!(own(forwarded_by(&lab, name, "7", "kernel")).len(), 1, "{name}: it is in the kernel");
    }
    // It is idle for four seconds, and behind its ingress for three more.
    for name in ["branch", "dc"] {
        let gone = || own(lab.sessions(name, &["--port", "7"])).is_empty();
        assert!(poll(20, gone), "{name}: {:?}", lab.sessions(name, &["--port", "7"]));
    }
    let ended = || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.into_iter().find(|line| line["event"] == "end" && line["protocol"] == "udp")
    };
    assert!(poll(10, || ended().is_some()), "the log has no end");
    let line = ended().unwrap();
    let said: usize = (0..300).map(|i: usize| format!("part {i} ").len() + i % 100 * 13 + 28).sum();
    assert_eq!(line["reason"], "expired", "{line}");
    for way in ["forward", "reverse"] {
        assert_eq!(
            (&line[way]["packets"], &line[way]["bytes"]),
            (&json!(300), &json!(said)),
            "{way}: {line}"
        );
    }
    router.interrupt();
}
