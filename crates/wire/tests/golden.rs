//! Every golden vector is parsed, and made again byte by byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests")]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use fairway_wire::icmp::ErrorRepr;
use fairway_wire::ip::{self, Fragment as IpFragment, Version};
use fairway_wire::svr::*;
use fairway_wire::{bfd, checksum, icmp};

struct Vector(HashMap<String, String>);

impl Vector {
    fn load(name: &str) -> Self {
        let path = format!("{}/vectors/{name}.hex", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            lines
                .map(|line| {
                    let (name, value) = line.split_once(' ').unwrap();
                    (name.to_owned(), value.to_owned())
                })
                .collect(),
        )
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let text = &self.0[name];
        (0..text.len() / 2).map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap()).collect()
    }

    fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        self.bytes(name).try_into().unwrap()
    }
}

/// The header TLVs of every signed packet that has any.
fn keyed(vector: &Vector, sequence: u64) -> HeaderTlvs {
    HeaderTlvs {
        security_id: Some(u32::from_be_bytes(vector.array("security-id"))),
        key_salt: Some(vector.array("key-salt")),
        sequence: Some(sequence),
        ..HeaderTlvs::default()
    }
}

/// Checks a packet with metadata in both directions, and gives the parsed outer packet.
fn check(vector: &Vector, header_tlvs: &HeaderTlvs, payload_tlvs: &PayloadTlvs<'_>) -> ip::Parsed {
    let packet = vector.bytes("packet");
    let parsed = ip::parse(&packet).unwrap();
    let segment = parsed.segment(&packet);
    assert!(checksum::transport_checksum_is_valid(
        parsed.source,
        parsed.destination,
        parsed.protocol,
        segment
    ));
    let payload = parsed.payload(&packet);
    assert_eq!(payload, vector.bytes("l4-payload"));
    assert!(starts_with_cookie(payload));

    let header = Header::parse(payload).unwrap();
    assert_eq!(header.header_tlvs(), vector.bytes("header-tlvs"));
    assert_eq!(header.payload_section(), vector.bytes("payload-section"));
    let (rest, tag) = header.rest().split_at(header.rest().len() - TAG_LEN);
    assert_eq!(rest, vector.bytes("rest"));
    assert_eq!(tag, vector.bytes("tag"));
    assert_eq!(HeaderTlvs::parse(header.header_tlvs()).as_ref(), Ok(header_tlvs));
    let clear = vector.bytes("payload-tlvs");
    assert_eq!(PayloadTlvs::parse(&clear).as_ref(), Ok(payload_tlvs));

    let mut made = vec![0xee; payload_tlvs.encoded_len()];
    assert_eq!(payload_tlvs.emit(&mut made), Some(made.len()));
    assert_eq!(made, clear);
    let mut made = vec![0xee; HEADER_LEN + header_tlvs.encoded_len()];
    assert_eq!(emit_header(&mut made, header_tlvs, header.payload_len()), Some(made.len()));
    assert_eq!(made, payload[..header.header_len()]);
    parsed
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

const UUID: [u8; 16] =
    [0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x46, 0x67, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];

fn salt(first: u8) -> [u8; 16] {
    std::array::from_fn(|at| first + at as u8)
}

fn forward(source: &str, destination: &str, protocol: u8) -> PayloadTlvs<'static> {
    PayloadTlvs {
        forward: Some(Context { source: address(source), destination: address(destination), protocol }),
        uuid: Some(UUID),
        tenant: Some("staff"),
        service: Some("web"),
        source_router: Some("branch"),
        security_policy: Some("aes1"),
        pathway: Some(b"wan0"),
        sender_salt: Some(salt(0x60)),
        epoch: Some(1),
        ..PayloadTlvs::default()
    }
}

#[test]
fn plain_packets_have_no_metadata() {
    for name in ["plain", "plain-tagged"] {
        let vector = Vector::load(name);
        let packet = vector.bytes("packet");
        let payload = ip::parse(&packet).unwrap().payload(&packet);
        assert!(payload.starts_with(b"hello"));
        assert!(!starts_with_cookie(payload));
        assert_eq!(Header::parse(payload), Err(MetadataError::Truncated));
    }
}

#[test]
fn forward_clear() {
    let vector = Vector::load("forward-clear");
    let payload = forward("10.1.0.10:51000", "10.2.0.20:443", 6);
    let parsed = check(&vector, &keyed(&vector, 1), &payload);
    assert_eq!((parsed.protocol, parsed.tcp_flags, parsed.payload_offset), (6, 2, 44));
    assert_eq!((parsed.source_port, parsed.destination_port), (16386, 16387));
}

#[test]
fn forward_encrypted() {
    let vector = Vector::load("forward-encrypted");
    let key: [u8; 32] = std::array::from_fn(|at| 0x80 + at as u8);
    let payload = PayloadTlvs {
        session_encrypted: true,
        session_key: Some(&key),
        ..forward("[2001:db8:a::10]:51000", "[2001:db8:b::20]:443", 17)
    };
    let header = HeaderTlvs { metadata_encrypted: true, ..keyed(&vector, 2) };
    assert_eq!(check(&vector, &header, &payload).version, Version::V6);
    assert_eq!(vector.bytes("payload-section").len(), encrypted_len(payload.encoded_len()));
}

#[test]
fn reverse_clear() {
    let vector = Vector::load("reverse-clear");
    let payload = PayloadTlvs {
        reverse: Some(Context {
            source: address("10.2.0.20:443"),
            destination: address("10.1.0.10:51000"),
            protocol: 17,
        }),
        uuid: Some(UUID),
        tenant: Some("staff"),
        sessions_in_service: Some(7),
        pathway: Some(b"wan0"),
        sender_salt: Some(salt(0x70)),
        epoch: Some(1),
        ..PayloadTlvs::default()
    };
    check(&vector, &keyed(&vector, 1), &payload);
}

#[test]
fn control() {
    let vector = Vector::load("control");
    let header = HeaderTlvs { control: Some(Control::EnableMetadata), ..keyed(&vector, 2) };
    check(&vector, &header, &PayloadTlvs { boot_id: Some(0x1122_3344_5566_7788), ..PayloadTlvs::default() });
}

#[test]
fn false_positive() {
    let vector = Vector::load("false-positive");
    check(&vector, &HeaderTlvs::default(), &PayloadTlvs::default());
    let payload = vector.bytes("l4-payload");
    let header = Header::parse(&payload).unwrap();
    assert!(header.is_false_positive());
    assert!(starts_with_cookie(header.rest()));
}

#[test]
fn icmp_in_udp() {
    let vector = Vector::load("icmp-in-udp");
    check(&vector, &keyed(&vector, 3), &forward("10.1.0.10:17185", "10.2.0.20:17185", 1));
    let rest = vector.bytes("rest");
    let message = icmp::Packet::new_checked(Version::V4, &rest[..]).unwrap();
    assert_eq!(message.identifier(), 0x4321);
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    assert!(checksum::transport_checksum_is_valid(any, any, 1, &rest));
}

#[test]
fn icmp_error() {
    let vector = Vector::load("icmp-error");
    let header = HeaderTlvs { icmp_location: Some("10.2.0.1".parse().unwrap()), ..keyed(&vector, 3) };
    check(&vector, &header, &PayloadTlvs { uuid: Some(UUID), ..PayloadTlvs::default() });
    let rest = vector.bytes("rest");
    let relayed = RelayedError::parse(Version::V4, &rest).unwrap();
    assert_eq!(relayed.error, ErrorRepr::too_big(Version::V4, 1400));
    assert_eq!(relayed.transport.len(), 20);

    let mut original = relayed.transport.to_vec();
    original[..4].copy_from_slice(&[0xc7, 0x38, 0x01, 0xbb]);
    original[16..18].copy_from_slice(&[0xab, 0xcd]);
    let mut made = [0xee; 28];
    assert_eq!(RelayedError { transport: &original, ..relayed }.emit(6, &mut made), Some(28));
    assert_eq!(made, rest[..]);
}

#[test]
fn fragment() {
    let vector = Vector::load("fragment");
    let fragment = Fragment {
        extended_id: 0xdead_beef,
        original_id: 0x1234,
        dont_fragment: true,
        more_fragments: false,
        offset: 171,
        largest: 1368,
    };
    let metrics = PathMetrics {
        tx_color: 0,
        tx_time: 0x012_3456,
        rx_color: 0,
        rx_time: 0,
        drop: false,
        previous_rx_color_count: 0,
    };
    let header = HeaderTlvs { fragment: Some(fragment), path_metrics: Some(metrics), ..keyed(&vector, 4) };
    let parsed = check(&vector, &header, &PayloadTlvs::default());
    assert_eq!(parsed.fragment, IpFragment::No);
}

#[test]
fn bfd_between_waypoints() {
    let vector = Vector::load("bfd");
    let payload = PayloadTlvs {
        source_router: Some("branch"),
        pathway: Some(b"wan0"),
        boot_id: Some(0x8877_6655_4433_2211),
        ..PayloadTlvs::default()
    };
    let parsed = check(&vector, &keyed(&vector, 5), &payload);
    assert_eq!(parsed.destination_port, BFD_PORT);
    let rest = vector.bytes("rest");
    let repr = bfd::Repr::parse(&bfd::Packet::new_checked(&rest[..]).unwrap());
    assert_eq!((repr.state, repr.desired_min_tx), (bfd::State::Up, 1_000_000));
    let mut made = [0; bfd::LEN];
    repr.emit(&mut made).unwrap();
    assert_eq!(made, rest[..]);
}

#[test]
fn every_header_tlv() {
    let section = Vector::load("all-header-tlvs").bytes("header-tlvs");
    let tlvs = HeaderTlvs {
        fragment: Some(Fragment {
            extended_id: 1,
            original_id: 2,
            dont_fragment: true,
            more_fragments: true,
            offset: 5,
            largest: 1400,
        }),
        security_id: Some(7),
        disable_forward: true,
        icmp_location: Some("2001:db8::1".parse().unwrap()),
        control: Some(Control::KeepAlive),
        path_metrics: Some(PathMetrics {
            tx_color: 3,
            tx_time: 0x0ab_cdef,
            rx_color: 5,
            rx_time: 0x012_3456,
            drop: true,
            previous_rx_color_count: 99,
        }),
        modify: Some(ModifyRequest { forward: true, done: false, sequence: 0x123 }),
        health_check: Some(HealthCheck::RequestAfterTimeout),
        sequence_repair: Some(SequenceRepair { block: 9, index: 1, k: 4, m: 2, sequence: 77 }),
        key_salt: Some(salt(0x50)),
        sequence: Some(1 << 40),
        metadata_encrypted: true,
        unknown: 0,
    };
    assert_eq!(HeaderTlvs::parse(&section), Ok(tlvs));
    let mut made = vec![0; tlvs.encoded_len()];
    assert_eq!(tlvs.emit(&mut made), Some(section.len()));
    assert_eq!(made, section);
}

#[test]
fn every_payload_tlv() {
    let section = Vector::load("all-payload-tlvs").bytes("payload-tlvs");
    let key: [u8; 32] = std::array::from_fn(|at| at as u8);
    let mut egress = [0; 32];
    let tlvs = PayloadTlvs {
        forward: Some(Context {
            source: address("10.1.0.10:51000"),
            destination: address("10.2.0.20:443"),
            protocol: 6,
        }),
        reverse: Some(Context {
            source: address("[2001:db8:b::20]:443"),
            destination: address("[2001:db8:a::10]:51000"),
            protocol: 6,
        }),
        uuid: Some(UUID),
        tenant: Some("staff"),
        global_interface: Some(3),
        service: Some("web"),
        session_encrypted: true,
        tcp_syn: true,
        sessions_in_service: Some(7),
        source_router: Some("branch"),
        security_policy: Some("aes1"),
        destination_router: Some("hub"),
        disable_forward: true,
        pathway: Some(&[0, 0xff]),
        source_nat: Some(Ipv4Addr::new(203, 0, 113, 9)),
        application: Some("wÿrd"),
        remaining_session_time: Some(1800),
        session_key: Some(&key),
        multicast: Some(MulticastContext {
            flags: 0,
            source: "10.1.0.10".parse().unwrap(),
            group: "239.1.2.3".parse().unwrap(),
            protocol: 17,
        }),
        multicast_egress: EgressList::write(&["hub", "edge"], &mut egress),
        sender_salt: Some(salt(0x40)),
        epoch: Some(2),
        boot_id: Some(5),
        unknown: 0,
    };
    let parsed = PayloadTlvs::parse(&section).unwrap();
    assert_eq!(parsed, tlvs);
    assert_eq!(parsed.multicast_egress.unwrap().iter().collect::<Vec<_>>(), ["hub", "edge"]);
    let mut made = vec![0; tlvs.encoded_len()];
    assert_eq!(tlvs.emit(&mut made), Some(section.len()));
    assert_eq!(made, section);
    assert!(!format!("{tlvs:?}").contains("session_key"));
}
