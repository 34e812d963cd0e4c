//! Datagrams longer than any link: in fragments from and to the hosts, in pieces between routers.

use serde_json::json;

use fairway_wire::svr::{self, Header, HeaderTlvs};
use fairway_wire::{fragment, ip};

use crate::fabric::{Fabric, SERVER};
use crate::lab::{Lab, poll};
use crate::pcap::Capture;
use crate::programs::{iperf, ping};

/// Several workers, where a test wants them: fragments meet at one, their session may be another's.
const WORKERS: [(&str, u8); 3] = [("branch", 2), ("transit", 3), ("dc", 4)];

/// Pings of a size, of which none may be lost.
#[track_caller]
fn large_ping(lab: &Lab, to: &str, size: u32) {
    let size = size.to_string();
    let done =
        lab.run("client", &["ping", "-c", "3", "-i", "0.2", "-W", "3", "-s", &size, "-p", "5ec7e7", to]).ok();
    assert!(done.stdout.contains(" 0% packet loss"), "{size} to {to}: {}", done.text());
}

/// UDP in datagrams of 4000 bytes: what is lost, was lost by iperf3 itself.
#[track_caller]
fn large_datagrams(lab: &Lab, to: &str) {
    // What comes back may be under way when the client stops counting.
    for (reverse, late) in [(&[][..], 0), (&["-R"], 1)] {
        let (overrun, overflown) = (lab.overruns(), lab.socket_overflows());
        let options = [&["-t", "1", "-u", "-b", "20M", "-l", "4000"][..], reverse].concat();
        let udp = iperf(lab, to, &options);
        let (overrun, overflown) = (lab.overruns() - overrun, lab.socket_overflows() - overflown);
        let lost = udp["sum"]["lost_packets"].as_u64().unwrap();
        assert!(udp["sum"]["packets"].as_u64().unwrap() > 100, "{}", udp["sum"]);
        assert!(overrun == 0 && lost <= overflown + late, "{lost} lost, {to} {reverse:?}: {}", udp["sum"]);
    }
}

/// Sends fragments of UDP datagrams from 10.1.0.66, made by hand: identification, offset, length, whether
/// more follow, and what byte they are filled with.
const SEND: &str = "
import socket, struct, sys
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
def send(identification, offset, length, more, fill):
    udp = struct.pack('>HHHH', 4000, 9, 2000, 0) if offset == 0 else b''
    data = udp + bytes([fill]) * (length - len(udp))
    word = offset // 8 | (0x2000 if more else 0)
    header = struct.pack('>BBHHHBBH4s4s', 0x45, 0, 20 + length, identification, word, 64, 17, 0,
                         socket.inet_aton('10.1.0.66'), socket.inet_aton('10.2.0.10'))
    s.sendto(header + data, ('10.2.0.10', 0))
";

/// Overlaps, and datagrams without end, while somebody else pings in fragments.
#[test]
fn fragments_that_contradict_each_other_or_never_end_harm_nobody() {
    let Some(lab) = Fabric::new(2).with_flooder().raise("hostile") else { return };
    ping(&lab, SERVER[0]);
    let before = lab.drops();
    let victim = "ping -q -c 60 -i 0.05 -W 3 -s 4000 10.2.0.10";
    let victim = lab.start("client", &["bash", "-c", victim]);
    let attack = "
for n in range(1, 200):
    send(n, 0, 1000, True, 1)
    send(n, 992, 1000, True, 2)
    send(n, 1000, 1000, False, 1)
";
    lab.run("flooder", &["python3", "-c", &format!("{SEND}{attack}")]).ok();
    assert!(poll(5, || !lab.moved(&before).is_empty()), "the overlaps are counted");
    lab.assert_moved(&before, &["branch fragment-overlap"]);
    let overlapped = lab.drops();
    let attack = "
for n in range(1000, 3000):
    send(n, 1000, 1000, True, 3)
";
    lab.run("flooder", &["python3", "-c", &format!("{SEND}{attack}")]).ok();
    let done = victim.wait(20);
    assert!(done.stdout.contains(" 0% packet loss"), "{}", done.text());
    // The share holds some of them, for their time.
    assert!(poll(20, || lab.moved(&overlapped).len() > 1), "{:?}", lab.moved(&overlapped));
    lab.assert_moved(&overlapped, &["branch fragment-evicted", "branch fragment-timeout"]);
    assert!(lab.sessions("branch", &["--protocol", "udp"]).is_empty(), "nothing of it became a session");
    large_ping(&lab, SERVER[0], 4000);
}

#[test]
fn large_datagrams_cross_every_fabric() {
    for (routers, family, workers) in [(1, 4, 0), (2, 6, 0), (3, 4, 0), (3, 6, 3)] {
        let fabric = Fabric::new(routers).waypoints(family).workers(&WORKERS[..workers]);
        let Some(lab) = fabric.raise(&format!("large-{routers}-{workers}")) else { return };
        let before = lab.drops();
        for to in SERVER {
            ping(&lab, to);
            for size in [1452, 1472, 4000, 20_000, 65_000] {
                large_ping(&lab, to, size);
            }
            large_datagrams(&lab, to);
        }
        lab.assert_moved(&before, &[]);
    }
}

#[test]
fn between_routers_a_large_ping_is_sealed_pieces_and_nothing_else() {
    let off = json!({ "offload": "off" });
    let Some(lab) = Fabric::new(2).waypoints(4).link("wan1", off).raise("pieces") else { return };
    ping(&lab, SERVER[0]);
    let capture = Capture::start(&lab, "branch", "wan1");
    large_ping(&lab, SERVER[0], 4000);
    let packets = capture.packets();
    let mut pieces = 0;
    for packet in &packets {
        assert!(packet.len() <= 1500);
        assert!(!packet.windows(6).any(|bytes| bytes == [0x5e, 0xc7, 0xe7, 0x5e, 0xc7, 0xe7]));
        let parsed = ip::parse(packet).unwrap();
        assert_eq!(fragment::View::of(packet, &parsed), None, "no fragment of IP");
        let payload = parsed.payload(packet);
        if svr::starts_with_cookie(payload) {
            let header = Header::parse(payload).unwrap();
            let tlvs = HeaderTlvs::parse(header.header_tlvs()).unwrap();
            pieces += usize::from(tlvs.fragment.is_some());
        }
    }
    assert_eq!(pieces, 3 * 2 * 3, "three pings and their answers, in three pieces each");
}

/// A link to the server that is narrower than all others: what may be cut is cut for it, of the rest
/// the sender is told.
#[test]
fn a_narrow_link_to_the_server_gets_fragments() {
    for routers in [1, 3] {
        let narrow = json!({ "mtu": 1300 });
        let Some(lab) = Fabric::new(routers).link("servers", narrow).raise("narrow") else { return };
        let before = lab.drops();
        for (to, headers) in SERVER.iter().zip([28, 48]) {
            large_ping(&lab, to, 4000);
            let ping = |length: u32| {
                let size = (length - headers).to_string();
                lab.run("client", &["ping", "-M", "do", "-c", "1", "-W", "2", "-s", &size, to])
            };
            let text = ping(1500).text();
            assert!(["mtu = 1300", "mtu=1300"].iter().any(|told| text.contains(told)), "{text}");
            ping(1300).ok();
            large_ping(&lab, to, 4000);
            large_datagrams(&lab, to);
        }
        let edge = if routers == 1 { "branch too-big" } else { "dc too-big" };
        lab.assert_moved(&before, &[edge]);
    }
}

#[test]
fn a_large_answer_of_a_name_server_arrives_by_udp() {
    let Some(lab) = Fabric::new(3).raise("edns") else { return };
    let before = lab.drops();
    let strings: Vec<String> = (0..12).map(|number| format!("{number:x}").repeat(250)).collect();
    let command = format!(
        "exec dnsmasq --keep-in-foreground --port=5353 --conf-file=/dev/null --no-resolv --no-hosts \
         --user=root --pid-file= --edns-packet-max=4096 --txt-record=big.test,{}",
        strings.join(",")
    );
    let _server = lab.start("server", &["bash", "-c", &command]);
    let listens = || lab.run("server", &["ss", "-Hlun", "sport", "=", ":5353"]).stdout.contains(":5353");
    assert!(poll(10, listens), "dnsmasq does not start");
    for to in SERVER {
        let server = format!("@{to}");
        let dig = ["dig", "-p", "5353", "+notcp", "+ignore", "+bufsize=4096", "+time=3", "+tries=1"];
        let answer = lab.run("client", &[&dig[..], &[&server, "big.test", "TXT"]].concat()).ok().stdout;
        assert!(strings.iter().all(|text| answer.contains(text)), "{answer}");
        assert!(!answer.contains("Truncated") && answer.contains("(UDP)"), "{answer}");
    }
    lab.assert_moved(&before, &[]);
}
