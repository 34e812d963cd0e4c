use core::net::IpAddr;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::{ipv4, tcp, udp};

fn ipv4_packet(protocol: u8, body: &[u8]) -> Vec<u8> {
    let header = ipv4::Repr {
        source: Ipv4Addr::new(10, 0, 0, 1),
        destination: Ipv4Addr::new(10, 0, 0, 2),
        protocol,
        ttl: 64,
        traffic_class: 0xb8,
        identification: 7,
        dont_fragment: true,
        payload_len: body.len() as u16,
    };
    let mut packet = std::vec![0; 20];
    header.emit(&mut packet).unwrap();
    packet.extend_from_slice(body);
    packet
}

fn ipv6_packet(next_header: u8, body: &[u8]) -> Vec<u8> {
    let header = ipv6::Repr {
        source: Ipv6Addr::LOCALHOST,
        destination: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9),
        next_header,
        hop_limit: 3,
        traffic_class: 0xb9,
        flow_label: 0x12345,
        payload_len: body.len() as u16,
    };
    let mut packet = std::vec![0; 40];
    header.emit(&mut packet).unwrap();
    packet.extend_from_slice(body);
    packet
}

fn udp_datagram(payload: &[u8]) -> Vec<u8> {
    let header = udp::Repr { source_port: 1, destination_port: 2, payload_len: payload.len() as u16 };
    let mut datagram = std::vec![0; 8];
    header.emit(&mut datagram).unwrap();
    datagram.extend_from_slice(payload);
    datagram
}

fn reseal(packet: &mut [u8]) {
    ipv4::Packet::new_unchecked(packet).fill_checksum();
}

#[test]
fn a_udp_packet_with_trailing_bytes() {
    let mut packet = ipv4_packet(17, &udp_datagram(b"hello"));
    packet.extend_from_slice(&[0; 13]);
    let parsed = parse(&packet).unwrap();
    assert_eq!(parsed.total_len, 33);
    assert_eq!((parsed.source_port, parsed.destination_port), (1, 2));
    assert_eq!((parsed.header_len, parsed.payload_offset), (20, 28));
    assert_eq!(parsed.payload(&packet), b"hello");
    assert_eq!(parsed.source, IpAddr::from([10, 0, 0, 1]));
    assert_eq!((parsed.ttl, parsed.fragment, parsed.icmp), (64, Fragment::No, None));
}

#[test]
fn a_udp_length_shorter_than_the_packet_ends_the_payload() {
    let mut body = udp_datagram(b"hello");
    body[5] = 10;
    let packet = ipv4_packet(17, &body);
    let parsed = parse(&packet).unwrap();
    assert_eq!(parsed.payload(&packet), b"he");
}

#[test]
fn a_tcp_packet_with_options() {
    let mut body = std::vec![0u8; 24];
    tcp::Repr {
        source_port: 5,
        destination_port: 6,
        sequence: 1,
        acknowledgement: 2,
        flags: tcp::flag::SYN | tcp::flag::ECE,
        window: 9,
    }
    .emit(&mut body)
    .unwrap();
    body[12] = 6 << 4;
    body.push(0xaa);
    let packet = ipv6_packet(6, &body);
    let parsed = parse(&packet).unwrap();
    assert_eq!((parsed.version, parsed.tcp_flags), (Version::V6, 0x42));
    assert_eq!((parsed.header_len, parsed.payload_offset), (40, 64));
    assert_eq!(parsed.payload(&packet), [0xaa]);
}

#[test]
fn extension_headers_are_walked_and_ah_is_not() {
    let mut body = std::vec![60, 0, 0, 0, 0, 0, 0, 0, 17, 1];
    body.extend_from_slice(&[0; 14]);
    body.extend_from_slice(&udp_datagram(b"x"));
    let parsed = parse(&ipv6_packet(0, &body)).unwrap();
    assert_eq!((parsed.protocol, parsed.header_len, parsed.destination_port), (17, 64, 2));
    let parsed = parse(&ipv6_packet(51, &[17, 4, 0, 0, 0, 0, 0, 0])).unwrap();
    assert_eq!((parsed.protocol, parsed.header_len, parsed.source_port), (51, 40, 0));
}

#[test]
fn fragments() {
    let datagram = udp_datagram(&[0; 64]);
    let mut packet = ipv4_packet(17, &datagram[..40]);
    packet[6..8].copy_from_slice(&[0x20, 0]);
    reseal(&mut packet);
    let parsed = parse(&packet).unwrap();
    assert_eq!((parsed.fragment, parsed.source_port), (Fragment::First, 1));
    packet[6..8].copy_from_slice(&[0, 5]);
    reseal(&mut packet);
    let parsed = parse(&packet).unwrap();
    assert_eq!((parsed.fragment, parsed.source_port, parsed.payload_offset), (Fragment::Later, 0, 20));

    let with = |word: u16| {
        let mut body = std::vec![17, 0, (word >> 8) as u8, word as u8, 0, 0, 0, 1];
        body.extend_from_slice(&udp_datagram(b"x"));
        parse(&ipv6_packet(44, &body)).unwrap()
    };
    assert_eq!((with(0).fragment, with(0).destination_port), (Fragment::No, 2));
    assert_eq!((with(1).fragment, with(1).destination_port), (Fragment::First, 2));
    assert_eq!((with(8).fragment, with(8).destination_port), (Fragment::Later, 0));
    assert_eq!(with(8).header_len, 48);
}

#[test]
fn an_icmp_echo_has_its_identifier_in_both_ports() {
    let parsed = parse(&ipv4_packet(1, &[8, 0, 0, 0, 0x12, 0x34, 0, 1])).unwrap();
    assert_eq!(parsed.icmp, Some(IcmpKind::EchoRequest));
    assert_eq!((parsed.source_port, parsed.destination_port), (0x1234, 0x1234));
    assert_eq!(parsed.payload_offset, parsed.header_len);
    let parsed = parse(&ipv6_packet(58, &[129, 0, 0, 0, 0x12, 0x34, 0, 1])).unwrap();
    assert_eq!((parsed.icmp, parsed.source_port), (Some(IcmpKind::EchoReply), 0x1234));
    let parsed = parse(&ipv6_packet(58, &[2, 0, 0, 0, 0, 0, 5, 0])).unwrap();
    assert_eq!((parsed.icmp, parsed.source_port), (Some(IcmpKind::Error), 0));
    let parsed = parse(&ipv6_packet(58, &[135, 0, 0, 0])).unwrap();
    assert_eq!(parsed.icmp, Some(IcmpKind::Other));
    let parsed = parse(&ipv4_packet(1, &[5, 0, 0, 0, 0, 0, 0, 0])).unwrap();
    assert_eq!(parsed.icmp, Some(IcmpKind::Other), "a redirect");
    assert_eq!(parse(&ipv4_packet(1, &[8, 0, 0, 0])), Err(ParseError::TransportTooShort));
}

#[test]
fn every_error_of_ip() {
    let good = ipv4_packet(17, &udp_datagram(b"hello"));
    let broken = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        parse(&packet)
    };
    assert_eq!(parse(&[]), Err(ParseError::IpTooShort));
    assert_eq!(parse(&good[..19]), Err(ParseError::IpTooShort));
    assert_eq!(broken(0, 0x55), Err(ParseError::IpVersion));
    assert_eq!(broken(0, 0x44), Err(ParseError::IpHeaderLength));
    assert_eq!(broken(0, 0x4f), Err(ParseError::IpHeaderLength));
    assert_eq!(broken(3, 34), Err(ParseError::IpTotalLength));
    assert_eq!(broken(3, 19), Err(ParseError::IpTotalLength));
    assert_eq!(broken(8, 63), Err(ParseError::IpChecksum));
    assert_eq!(parse(&ipv6_packet(17, &[])[..39]), Err(ParseError::IpTooShort));
    assert_eq!(parse(&ipv6_packet(17, &[0; 8])[..47]), Err(ParseError::IpTotalLength));
    let mut jumbo = ipv6_packet(0, &[17, 0, 0xc2, 4, 0, 1, 0, 0]);
    jumbo[4..6].fill(0);
    assert_eq!(parse(&jumbo), Err(ParseError::Jumbogram));
    let options = [60, 0, 0, 0, 0, 0, 0, 0].repeat(9);
    assert_eq!(parse(&ipv6_packet(60, &options)), Err(ParseError::ExtensionHeaders));
    assert_eq!(parse(&ipv6_packet(60, &[17, 1, 0, 0, 0, 0, 0, 0])), Err(ParseError::ExtensionHeaders));
    assert_eq!(parse(&ipv6_packet(60, &[0, 0, 0, 0, 0, 0, 0, 0])), Err(ParseError::ExtensionHeaders));
    assert!(!ParseError::ExtensionHeaders.is_transport());
}

#[test]
fn every_error_of_transport() {
    for (packet, error) in [
        (ipv4_packet(17, &[0; 7]), ParseError::TransportTooShort),
        (ipv4_packet(17, &[0, 0, 0, 0, 0, 7, 0, 0]), ParseError::UdpLength),
        (ipv4_packet(17, &[0, 0, 0, 0, 0, 9, 0, 0]), ParseError::UdpLength),
        (ipv4_packet(6, &[0; 19]), ParseError::TransportTooShort),
        (ipv4_packet(6, &[0x40; 20]), ParseError::TcpDataOffset),
        (ipv6_packet(6, &[0x60; 20]), ParseError::TcpDataOffset),
        (ipv4_packet(1, &[]), ParseError::TransportTooShort),
        (ipv6_packet(58, &[1, 0, 0, 0, 0]), ParseError::TransportTooShort),
    ] {
        assert_eq!(parse(&packet), Err(error));
        assert!(error.is_transport());
    }
}

#[test]
fn a_quoted_packet_may_be_cut_short() {
    let packet = ipv4_packet(17, &udp_datagram(&[0; 100]));
    let quoted = parse_quoted(&packet[..28]).unwrap();
    assert_eq!((quoted.source_port, quoted.destination_port, quoted.total_len), (1, 2, 128));
    assert_eq!(parse_quoted(&packet[..23]), Err(ParseError::TransportTooShort));
    let packet = ipv6_packet(58, &[128, 0, 0, 0, 0, 7, 0, 1]);
    let quoted = parse_quoted(&packet).unwrap();
    assert_eq!((quoted.protocol, quoted.source_port, quoted.header_len), (58, 7, 40));
    assert_eq!(parse_quoted(&[]), Err(ParseError::IpVersion));
}

#[test]
fn a_ttl_is_decremented_with_its_checksum() {
    let mut packet = ipv4_packet(17, &udp_datagram(b"hello"));
    for ttl in (0..64).rev() {
        ipv4::Packet::new_unchecked(&mut packet[..]).decrement_ttl();
        assert_eq!(parse(&packet).unwrap().ttl, ttl);
    }
}

proptest! {
    #[test]
    fn headers_survive_a_round_trip(
        addresses in any::<[u8; 8]>(), protocol: u8, ttl: u8, traffic_class: u8, identification: u16,
        dont_fragment: bool, payload_len in 0u16..100, flow_label in 0u32..=0x000f_ffff, wide in any::<[u128; 2]>(),
    ) {
        let [a, b, c, d, e, f, g, h] = addresses;
        let four = ipv4::Repr {
            source: Ipv4Addr::new(a, b, c, d), destination: Ipv4Addr::new(e, f, g, h),
            protocol, ttl, traffic_class, identification, dont_fragment, payload_len,
        };
        let mut buffer = [0xee; 200];
        prop_assert_eq!(four.emit(&mut buffer), Some(20));
        let view = ipv4::Packet::new_checked(&buffer[..]).unwrap();
        prop_assert_eq!(ipv4::Repr::parse(&view), Ok(four));
        let six = ipv6::Repr {
            source: wide[0].into(), destination: wide[1].into(),
            next_header: protocol.max(1), hop_limit: ttl, traffic_class, flow_label, payload_len,
        };
        prop_assert_eq!(six.emit(&mut buffer), Some(40));
        let view = ipv6::Packet::new_checked(&buffer[..]).unwrap();
        prop_assert_eq!(ipv6::Repr::parse(&view), six);
    }

    #[test]
    fn transport_headers_survive_a_round_trip(
        ports in any::<[u16; 2]>(), numbers in any::<[u32; 2]>(), flags: u8, window: u16, payload_len in 0u16..60,
    ) {
        let mut buffer = [0xee; 80];
        let header = tcp::Repr {
            source_port: ports[0], destination_port: ports[1], sequence: numbers[0],
            acknowledgement: numbers[1], flags, window,
        };
        prop_assert_eq!(header.emit(&mut buffer), Some(20));
        prop_assert_eq!(tcp::Repr::parse(&tcp::Packet::new_checked(&buffer[..]).unwrap()), header);
        let header = udp::Repr { source_port: ports[0], destination_port: ports[1], payload_len };
        prop_assert_eq!(header.emit(&mut buffer), Some(8));
        prop_assert_eq!(udp::Repr::parse(&udp::Packet::new_checked(&buffer[..]).unwrap()), header);
    }

    #[test]
    fn clamping_an_mss_keeps_the_checksum_right(nops in 0usize..4, mss: u16, limit: u16) {
        let (source, destination) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let mut segment = [0u8; 28];
        segment[12] = 7 << 4;
        segment[20..20 + nops].fill(1);
        segment[20 + nops..22 + nops].copy_from_slice(&[2, 4]);
        segment[22 + nops..24 + nops].copy_from_slice(&mss.to_be_bytes());
        let mut view = tcp::Packet::new_checked(&mut segment[..]).unwrap();
        view.fill_checksum(source, destination);
        prop_assert_eq!(view.mss(), Some(mss));
        let delta = view.clamp_mss(limit);
        prop_assert_eq!(delta.is_some(), mss > limit);
        prop_assert_eq!(view.mss(), Some(mss.min(limit)));
        let checksum = delta.unwrap_or_default().apply(view.checksum());
        view.set_checksum(checksum);
        prop_assert!(checksum::transport_checksum_is_valid(source, destination, 6, &segment));
    }
}
