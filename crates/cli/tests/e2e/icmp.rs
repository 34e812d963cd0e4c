//! ICMP errors: of the routers, of the servers, and about the MTU.

use serde_json::json;

use crate::fabric::{Fabric, SERVER};
use crate::programs::download;

const REFUSED: &str = "
import socket, sys
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(3)
s.connect((sys.argv[1], 9999))
s.send(b'anyone?')
try:
    s.recv(100)
except ConnectionRefusedError:
    print('refused')
";

#[test]
fn every_router_is_a_hop() {
    let Some(lab) = Fabric::new(3).raise("hops") else { return };
    let before = lab.drops();
    let hops = [
        [vec!["10.1.0.1"], vec!["172.16.1.2", "172.16.2.2"], vec!["172.16.2.1", "10.2.0.1"]],
        [vec!["fd00:1::1"], vec!["fd00:101::2", "fd00:102::2"], vec!["fd00:102::1", "fd00:2::1"]],
    ];
    for (to, hops) in SERVER.iter().zip(hops) {
        for (number, addresses) in (1..).zip(hops) {
            let text =
                lab.run("client", &["ping", "-c", "1", "-W", "2", "-t", &format!("{number}"), to]).text();
            let from = |address: &&str| text.contains(&format!("From {address} icmp_seq=1 Time"));
            assert!(addresses.iter().any(from), "hop {number} to {to} is not of {addresses:?}: {text}");
        }
        let text = lab.run("client", &["ping", "-c", "1", "-W", "2", "-t", "4", to]).ok().text();
        assert!(text.contains("64 bytes from"), "{text}");
    }
    lab.assert_moved(&before, &["branch ttl-expired", "dc ttl-expired", "transit ttl-expired"]);
}

#[test]
fn a_closed_port_is_refused_by_the_server() {
    let Some(lab) = Fabric::new(3).raise("closed") else { return };
    let before = lab.drops();
    for to in SERVER {
        assert_eq!(lab.run("client", &["python3", "-c", REFUSED, to]).ok().stdout, "refused\n");
        let tcp = lab.run("client", &["nc", "-w", "3", "-v", to, "9999"]);
        assert!(tcp.text().contains("refused"), "{}", tcp.text());
    }
    lab.assert_moved(&before, &[]);
}

#[test]
fn senders_learn_the_mtu_of_the_path() {
    // ICMP travels behind a UDP header of 8 bytes and a seal of 24, which cost the sender nothing: what
    // does not fit with them crosses in pieces.
    for (family, to, headers) in [(4, SERVER[0], 28), (6, SERVER[1], 48)] {
        let narrow = json!({ "mtu": 1400 });
        let Some(lab) = Fabric::new(3).waypoints(family).link("wan2", narrow).raise("mtu") else { return };
        let before = lab.drops();
        let ping = |length: u32| {
            let size = format!("{}", length - headers);
            lab.run("client", &["ping", "-M", "do", "-c", "1", "-W", "2", "-s", &size, to])
        };
        let text = ping(1500).text();
        assert!(["mtu = 1400", "mtu=1400"].iter().any(|told| text.contains(told)), "{text}");
        for length in [1400, 1399, 1369, 1368, 1367] {
            ping(length).ok();
        }
        download(&lab, to, "10m");
        lab.assert_moved(&before, &["dc too-big?", "transit too-big"]);
    }
}
