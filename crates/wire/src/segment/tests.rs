use core::net::{Ipv4Addr, Ipv6Addr};
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::{ParseError, tcp, udp};

/// A packet whose transport checksum field is garbage.
fn super_packet(version: Version, protocol: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut transport = std::vec![0u8; if protocol == protocol::TCP { 32 } else { 8 }];
    if protocol == protocol::TCP {
        let header = tcp::Repr {
            source_port: 1,
            destination_port: 2,
            sequence: u32::MAX - 100,
            acknowledgement: 77,
            flags,
            window: 500,
        };
        header.emit(&mut transport).unwrap();
        transport[12] = 8 << 4;
        transport[20..32].copy_from_slice(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        transport[16..18].copy_from_slice(&[0xba, 0xad]);
    } else {
        let header = udp::Repr { source_port: 1, destination_port: 2, payload_len: payload.len() as u16 };
        header.emit(&mut transport).unwrap();
        transport[6..8].copy_from_slice(&[0xba, 0xad]);
    }
    transport.extend_from_slice(payload);
    let payload_len = transport.len() as u16;
    let mut packet = std::vec![0; version.header_len()];
    match version {
        Version::V4 => ipv4::Repr {
            source: Ipv4Addr::new(10, 0, 0, 1),
            destination: Ipv4Addr::new(10, 0, 0, 2),
            protocol,
            ttl: 64,
            traffic_class: 2,
            identification: 0xfffe,
            dont_fragment: true,
            payload_len,
        }
        .emit(&mut packet)
        .unwrap(),
        Version::V6 => ipv6::Repr {
            source: Ipv6Addr::LOCALHOST,
            destination: Ipv6Addr::new(1, 2, 3, 4, 5, 6, 7, 8),
            next_header: protocol,
            hop_limit: 64,
            traffic_class: 2,
            flow_label: 5,
            payload_len,
        }
        .emit(&mut packet)
        .unwrap(),
    };
    packet.extend_from_slice(&transport);
    packet
}

const FLAGS: u8 = flag::ACK | flag::PSH | flag::FIN | flag::CWR | flag::ECE;

#[test]
fn flags_identification_and_sequence_follow_the_segment() {
    let packet = super_packet(Version::V4, protocol::TCP, FLAGS, &[7; 250]);
    let whole = SuperPacket::new(&packet, 100).unwrap();
    assert_eq!((whole.count(), whole.headers_len()), (3, 52));
    let mut out = [0; 200];
    for (index, length, identification, sequence, flags) in [
        (0, 152, 0xfffe, u32::MAX - 100, flag::ACK | flag::CWR | flag::ECE),
        (1, 152, 0xffff, u32::MAX, flag::ACK | flag::ECE),
        (2, 102, 0, 99, flag::ACK | flag::PSH | flag::FIN | flag::ECE),
    ] {
        assert_eq!(whole.emit(index, &mut out), Ok(length));
        let ip = ipv4::Packet::new_checked(&out[..length]).unwrap();
        assert!(ip.checksum_is_valid());
        assert_eq!(ip.identification(), identification);
        let segment = tcp::Packet::new_checked(ip.payload()).unwrap();
        assert_eq!((segment.sequence(), segment.flags()), (sequence, flags));
    }
    assert_eq!(whole.emit(3, &mut out), Err(SegmentError::NoSuchSegment));
    assert_eq!(whole.emit(0, &mut out[..151]), Err(SegmentError::BufferTooSmall));
}

#[test]
fn what_cannot_be_cut() {
    let packet = super_packet(Version::V4, protocol::UDP, 0, &[7; 250]);
    assert_eq!(segment_count(&packet, 0), Err(SegmentError::ZeroSize));
    assert_eq!(segment_count(&packet[..100], 10), Err(SegmentError::Malformed(ParseError::IpTotalLength)));
    assert_eq!(segment_count(&packet, 250), Ok(1));
    let packet = super_packet(Version::V4, 47, 0, &[7; 250]);
    assert_eq!(segment_count(&packet, 10), Err(SegmentError::NotSegmentable));
    let empty = super_packet(Version::V6, protocol::TCP, flag::SYN, &[]);
    assert_eq!(segment_count(&empty, 10), Ok(1));
}

proptest! {
    #[test]
    fn segments_are_whole_packets_that_add_up(
        six: bool, is_tcp: bool, payload in prop::collection::vec(any::<u8>(), 0..3000), size in 1usize..1500,
    ) {
        let version = if six { Version::V6 } else { Version::V4 };
        let proto = if is_tcp { protocol::TCP } else { protocol::UDP };
        let packet = super_packet(version, proto, FLAGS, &payload);
        let count = segment_count(&packet, size).unwrap();
        let mut joined = Vec::new();
        let mut out = [0xee; 1600];
        for index in 0..count {
            let length = emit_segment(&packet, size, index, &mut out).unwrap();
            let piece = &out[..length];
            let parsed = ip::parse(piece).unwrap();
            prop_assert_eq!(parsed.total_len as usize, length);
            prop_assert_eq!(parsed.payload_end as usize, length);
            let (source, destination) = (parsed.source, parsed.destination);
            prop_assert!(checksum::transport_checksum_is_valid(source, destination, proto, parsed.segment(piece)));
            joined.extend_from_slice(parsed.payload(piece));
        }
        prop_assert_eq!(joined, payload);
    }
}
