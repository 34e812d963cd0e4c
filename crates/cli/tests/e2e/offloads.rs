//! Files arrive as they are, with every offload of the devices on, off, and some of each.

use crate::fabric::{Fabric, SERVER};
use crate::lab::{Lab, poll};
use crate::programs::{download, hash, ssh_options};

/// Where the devices of the fabric of two routers are.
const HOSTS: [(&str, &str); 2] = [("client", "lan"), ("server", "servers")];
const ROUTERS: [(&str, &str); 4] = [("branch", "lan"), ("branch", "wan1"), ("dc", "wan1"), ("dc", "servers")];

/// Sends a file as datagrams of 1200 bytes, ten to a super-packet where the kernel can.
const SEND: &str = "
import socket, sys, time
path, to = sys.argv[1:]
s = socket.socket(socket.AF_INET6 if ':' in to else socket.AF_INET, socket.SOCK_DGRAM)
s.connect((to, 9000))
s.setsockopt(17, 103, 1192)
data = open(path, 'rb').read()
number = 0
for start in range(0, len(data), 11840):
    chunk = data[start:start + 11840]
    message = b''
    for i in range(0, len(chunk), 1184):
        message += number.to_bytes(8, 'big') + chunk[i:i + 1184]
        number += 1
    s.send(message)
    time.sleep(0.0008)
try:
    for _ in range(20):
        s.send(b'end')
        time.sleep(0.01)
except ConnectionRefusedError:
    pass
";
/// Puts the datagrams in order and prints the hash.
const RECEIVE: &str = "
import hashlib, socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)
s.settimeout(20)
s.bind(('::', 9000))
parts = {}
while True:
    message = s.recv(65536)
    if message == b'end': break
    parts[int.from_bytes(message[:8], 'big')] = message[8:]
print(len(parts), hashlib.sha256(b''.join(parts[i] for i in sorted(parts))).hexdigest())
";

#[test]
fn files_arrive_whatever_is_offloaded() {
    let Some(lab) = Fabric::new(2).raise("offload") else { return };
    let before = lab.drops();
    let cases = [
        ("on", "on", "off"),
        ("on", "on", "on"),
        ("off", "off", "off"),
        ("off", "off", "on"),
        ("on", "off", "off"),
        ("off", "on", "on"),
    ];
    for (hosts, routers, gro) in cases {
        eprintln!("offloads of hosts {hosts}, of routers {routers}, GRO {gro}");
        HOSTS.iter().for_each(|&(node, device)| set(&lab, node, device, hosts, gro));
        ROUTERS.iter().for_each(|&(node, device)| set(&lab, node, device, routers, gro));
        let whole = super_packets(&lab);
        for to in SERVER {
            download(&lab, to, "20m");
            upload(&lab, to);
            datagrams(&lab, to);
        }
        // What hosts send in super-packets is sealed in super-packets, and opened so where the device
        // between did not cut them.
        let more = super_packets(&lab).iter().zip(&whole).map(|(now, then)| now - then).collect::<Vec<_>>();
        assert!(hosts == "off" || more[0] > 100, "sealed and opened: {more:?}");
        assert!(hosts == "off" || routers == "off" || more[1] > 100, "sealed and opened: {more:?}");
    }
    lab.assert_moved(&before, &[]);
}

/// How many super-packets routers sealed, and opened.
fn super_packets(lab: &Lab) -> [u64; 2] {
    let count = |name: &str| {
        let count = |router: &String| {
            let counters = lab.show(router, &["counters"]);
            let of_name = |counter: &&serde_json::Value| counter["name"] == name;
            counters.as_array().unwrap().iter().find(of_name).map_or(0, |c| c["value"].as_u64().unwrap())
        };
        lab.routers().iter().map(count).sum()
    };
    ["super-packets-sealed", "super-packets-opened"].map(count)
}

fn set(lab: &Lab, node: &str, device: &str, state: &str, gro: &str) {
    for (feature, state) in [("tx", state), ("tso", state), ("gso", state), ("gro", gro)] {
        lab.run(node, &["ethtool", "-K", device, feature, state]).ok();
    }
}

/// TCP from the client to the server.
fn upload(lab: &Lab, to: &str) {
    let options = ssh_options(lab, "server").join(" ");
    let command = format!("ssh {options} {to} sha256sum < {}", lab.path("server/www/20m"));
    let done = lab.run("client", &["bash", "-c", &command]).ok();
    assert_eq!(done.stdout.split(' ').next(), Some(hash(lab, "20m").as_str()));
}

/// UDP from the client to the server.
fn datagrams(lab: &Lab, to: &str) {
    let receiver = lab.start("server", &["python3", "-c", RECEIVE]);
    let bound = || lab.run("server", &["ss", "-Hlun", "sport", "=", ":9000"]).stdout.contains(":9000");
    assert!(poll(10, bound), "the receiver does not start");
    lab.run("client", &["python3", "-c", SEND, &lab.path("server/www/20m"), to]).ok();
    let done = receiver.wait(30).ok();
    let (count, digest) = done.stdout.trim().split_once(' ').unwrap();
    assert_eq!(count, "17713", "datagrams of {to} that arrived");
    assert_eq!(digest, hash(lab, "20m"));
}
