//! Internet breakout: sessions leave the fabric under the address of the router, toward a server that
//! has no way back to anybody else.

use serde_json::Value;

use crate::fabric::{Fabric, SERVER, interfaces};
use crate::lab::Lab;
use crate::programs;

/// A fabric whose last router gives its address on the servers' link.
fn fabric(routers: usize) -> Fabric {
    Fabric::new(routers).without_way_back().config(|authority| {
        for interface in interfaces(authority).filter(|interface| interface["name"] == "servers") {
            interface["source-nat"] = true.into();
        }
    })
}

/// Ports in use by protocol, of both families, and what was refused.
fn usage(lab: &Lab, router: &str) -> Vec<(String, u64, u64)> {
    let rows = lab.show(router, &["nat"]);
    let row = |row: &Value| {
        let number = |key: &str| row[key].as_u64().unwrap();
        (row["protocol"].as_str().unwrap().to_owned(), number("given"), number("refused"))
    };
    rows.as_array().unwrap().iter().map(row).collect()
}

#[test]
fn a_server_that_knows_no_inside_address_is_reached_by_all_programs() {
    for routers in 1..=2 {
        let Some(lab) = fabric(routers).raise(&format!("breakout{routers}")) else { return };
        let last = if routers == 1 { "branch" } else { "dc" };
        let before = lab.drops();
        for (to, own) in SERVER.iter().zip(["10.2.0.1", "fd00:2::1"]) {
            programs::ping(&lab, to);
            programs::page(&lab, to);
            programs::download(&lab, to, "10m");
            programs::lookup(&lab, to, &["+notcp"]);
            programs::lookup(&lab, to, &["+tcp"]);
            let greeting = programs::shell(&lab, to, "echo from $SSH_CONNECTION").stdout;
            assert!(greeting.starts_with(&format!("from {own} ")), "{greeting}");
            // An error of the server's: nobody listens there.
            let refused = lab.run("client", &["nc", "-w", "3", "-v", to, "9999"]);
            assert!(refused.text().contains("refused"), "{}", refused.text());
        }
        lab.assert_moved(&before, &[]);
        for (protocol, given, refused) in usage(&lab, last) {
            assert!(given > 0 && refused == 0, "{protocol}: {given} given, {refused} refused");
        }
    }
}

#[test]
fn the_routers_own_connections_go_on_beside_it() {
    let Some(lab) = fabric(2).raise("breakout-host") else { return };
    let before = lab.drops();
    let busy = lab.start("client", &["iperf3", "-c", SERVER[0], "-t", "6"]);
    for _ in 0..10 {
        let page = lab.run("dc", &["curl", "-gsS", "--max-time", "5", &programs::url(SERVER[0], "")]).ok();
        assert_eq!(page.stdout, "hello from the data centre\n");
        let name = lab.run("dc", &["dig", "+short", "+time=3", "+tries=1", "@10.2.0.10", "web.test"]).ok();
        assert_eq!(name.stdout, "10.2.0.10\n");
    }
    // Identifiers of source NAT's and others.
    for identifier in ["5", "64511", "64512", "65000", "65535"] {
        for to in SERVER {
            lab.run("dc", &["ping", "-e", identifier, "-c", "1", "-W", "2", to]).ok();
        }
    }
    busy.wait(20).ok();
    lab.assert_moved(&before, &["dc unknown-waypoint?"]);
}

/// Sends from a port of its own to an outside endpoint until it hears from there, and a little longer; says
/// what it heard from whom.
const PUNCH: &str = "
import socket, sys, time
own, address, port = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ':' in address else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
s.bind(('', own))
s.settimeout(0.2)
heard = set()
until = time.monotonic() + 10
while time.monotonic() < until:
    s.sendto(b'from %d' % own, (address, port))
    try:
        text, sender = s.recvfrom(100)
        if not heard:
            until = time.monotonic() + 1
        heard.add((text.decode(), sender[0], sender[1]))
    except (socket.timeout, ConnectionRefusedError):
        pass
print(sorted(heard))
";

#[test]
fn inside_hosts_meet_by_the_outside_address() {
    let nat = fabric(2).with_flooder();
    let Some(lab) = nat.raise("breakout-hairpin") else { return };
    let before = lab.drops();
    for outside in ["10.2.0.1", "fd00:2::1"] {
        let one = lab.start("client", &["python3", "-c", PUNCH, "40000", outside, "40001"]);
        let other = lab.start("flooder", &["python3", "-c", PUNCH, "40001", outside, "40000"]);
        let heard = [one, other].map(|punch| punch.wait(20).ok().stdout);
        assert_eq!(heard[0].trim(), format!("[('from 40001', '{outside}', 40001)]"));
        assert_eq!(heard[1].trim(), format!("[('from 40000', '{outside}', 40000)]"));
    }
    // Who has not talked to it is not let in: the first datagrams, until both had sent.
    lab.assert_moved(&before, &["dc unknown-waypoint?"]);
    let given: u64 = usage(&lab, "dc").iter().filter(|row| row.0 == "udp").map(|row| row.1).sum();
    assert!(given >= 4, "{given}");
}

/// Answers one datagram after the other.
const ECHO: &str = "
import socket, sys
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.bind(('::', int(sys.argv[1])))
while True:
    text, sender = s.recvfrom(2000)
    s.sendto(text, sender)
";
/// Whether an answer comes.
const QUESTION: &str = "
import socket, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
s.settimeout(1)
s.sendto(b'question', (sys.argv[1], int(sys.argv[2])))
assert s.recv(100) == b'question'
";

#[test]
fn a_server_of_the_host_keeps_its_port_after_a_reload() {
    let Some(lab) = fabric(2).raise("breakout-server") else { return };
    let _echo = lab.start("dc", &["python3", "-c", ECHO, "51820"]);
    let bound = || lab.run("dc", &["ss", "-Hlun", "sport", "=", ":51820"]).stdout.contains(":51820");
    assert!(crate::lab::poll(10, bound));
    let answers = |to: &str| lab.run("server", &["python3", "-c", QUESTION, to, "51820"]).code == 0;
    assert!(!answers("10.2.0.1"), "nobody told the router");
    assert_eq!(lab.reload("dc").code, 0);
    for own in ["10.2.0.1", "fd00:2::1"] {
        assert!(answers(own), "{own}");
    }
    let before = lab.drops();
    programs::page(&lab, SERVER[0]);
    programs::lookup(&lab, SERVER[0], &["+notcp"]);
    lab.assert_moved(&before, &[]);
}
