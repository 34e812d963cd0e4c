//! What a stranger on the WAN can do with packets it has seen, and a peer with a tenant that is not its own.

use serde_json::{Value, json};

use fairway_wire::{ip, svr};

use crate::fabric::{Fabric, SERVER, named};
use crate::lab::{Lab, poll};
use crate::pcap::Capture;

/// Sends IP packets, given in hexadecimal, to a MAC.
const SEND: &str = "
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(('wan1', 0))
to = bytes.fromhex(sys.argv[1].replace(':', ''))
for packet in sys.argv[2:]:
    s.send(to + s.getsockname()[4] + b'\\x08\\x00' + bytes.fromhex(packet))
";

/// The first packet of a ping's session, as router branch sends it to router dc.
fn first_packet(lab: &Lab) -> Vec<u8> {
    first_packet_in(lab, Capture::start(lab, "branch", "wan1"))
}

fn first_packet_in(lab: &Lab, capture: Capture) -> Vec<u8> {
    lab.run("client", &["ping", "-c", "1", "-W", "2", SERVER[0]]).ok();
    let first = |packet: &Vec<u8>| {
        let parsed = ip::parse(packet).unwrap();
        let liveness = parsed.destination_port == svr::BFD_PORT;
        !liveness
            && parsed.source.to_string() == "172.16.1.1"
            && svr::starts_with_cookie(parsed.payload(packet))
    };
    capture.packets().into_iter().find(first).expect("a packet with metadata")
}

/// A first packet so fresh that its time slot still holds when it is sent again: a capture that took
/// long is made anew.
fn fresh_first_packet(lab: &Lab) -> Vec<u8> {
    let mut packet = Vec::new();
    let quick = (0..10).any(|_| {
        let capture = Capture::start(lab, "branch", "wan1");
        #[allow(clippy::disallowed_methods, reason = "real programs take real time")]
        let sent = std::time::Instant::now();
        packet = first_packet_in(lab, capture);
        sent.elapsed() < std::time::Duration::from_millis(1200)
    });
    assert!(quick, "every capture took longer than the packet is believed");
    packet
}

/// Sends a packet to router dc from the stranger.
fn send(lab: &Lab, mut packet: Vec<u8>) {
    // The UDP checksum is left out, the one of the IPv4 header mended: neither is to be what protects.
    packet[26..28].fill(0);
    packet[10..12].fill(0);
    let sum: u32 = packet[..20].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    packet[10..12]
        .copy_from_slice(&(!u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap()).to_be_bytes());
    let interfaces = lab.show("dc", &["interfaces"]);
    let wan = interfaces.as_array().unwrap().iter().find(|interface| interface["name"] == "wan1").unwrap();
    let digits: String = packet.iter().map(|byte| format!("{byte:02x}")).collect();
    lab.run("stranger", &["python3", "-c", SEND, wan["mac"].as_str().unwrap(), &digits]).ok();
}

/// Sends a changed copy of a first packet, and asserts why it was refused.
#[track_caller]
fn refused(lab: &Lab, packet: &[u8], reason: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let before = lab.drops();
    let sessions = lab.sessions("dc", &[]).len();
    let mut packet = packet.to_vec();
    change(&mut packet);
    send(lab, packet);
    assert!(poll(5, || !lab.moved(&before).is_empty()), "{reason} is not counted");
    lab.assert_moved(&before, &[&format!("dc {reason}")]);
    assert_eq!(lab.sessions("dc", &[]).len(), sessions, "{reason}: no session is made or lost");
}

#[test]
fn packets_that_were_seen_are_of_no_use_to_a_stranger() {
    let Some(lab) = Fabric::new(2).waypoints(4).with_stranger().raise("stranger") else { return };
    let first = first_packet(&lab);
    // What follows the UDP header: cookie 8, version and header length 2, payload length 2.
    refused(&lab, &first, "bad-tag", |packet| *packet.last_mut().unwrap() ^= 1);
    refused(&lab, &first, "metadata-length", |packet| packet[38..40].copy_from_slice(&[0xff, 0xff]));
    refused(&lab, &first, "metadata-version", |packet| packet[36] ^= 0x20);
    // Copies that are genuine, from the router's address and from the stranger's own.
    for last in [1, 66] {
        let first = fresh_first_packet(&lab);
        refused(&lab, &first, "metadata-replayed", |packet| packet[15] = last);
    }
}

#[test]
fn a_peer_may_not_speak_for_a_tenant_that_is_not_its_own() {
    let only_guests = |authority: &mut Value| {
        let dc = named(&mut authority["router"], "dc");
        dc["peer"] = json!([{ "name": "branch", "allowed-tenant": ["guest"] }]);
    };
    let Some(lab) = Fabric::new(2).config(only_guests).raise("tenant") else { return };
    let before = lab.drops();
    for to in SERVER {
        assert_ne!(lab.run("client", &["ping", "-c", "2", "-i", "0.2", "-W", "1", to]).code, 0);
    }
    lab.assert_moved(&before, &["dc tenant-not-allowed"]);
    assert!(lab.sessions("dc", &[]).is_empty());
}
