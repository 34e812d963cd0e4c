//! What is done with hostile bytes, by the fuzz targets and by the seeded test of `crates/wire`.
//!
//! Each function takes any bytes, must not panic inside the crate, and asserts what has to hold for
//! whatever was accepted.

use fairway_wire::fragment::{Cut, View};
use fairway_wire::ip::{self, Fragment, Version};
use fairway_wire::segment::SuperPacket;
use fairway_wire::svr::{HEADER_LEN, Header, HeaderTlvs, PayloadTlvs, RelayedError, emit_header};
use fairway_wire::{bfd, checksum, icmp, ipv4, ipv6, tcp, udp};

/// Parses the bytes as a packet, as a quoted packet and with every view.
pub fn ip_parse(bytes: &[u8]) {
    if let Ok(parsed) = ip::parse(bytes) {
        let (header, payload) = (usize::from(parsed.header_len), usize::from(parsed.payload_offset));
        let (end, total) = (parsed.payload_end as usize, parsed.total_len as usize);
        assert!(header >= 20 && header <= payload && payload <= total && total <= bytes.len());
        assert!(end <= total);
        assert!(payload <= end || parsed.fragment == Fragment::First);
        assert_eq!(parsed.segment(bytes).len(), total - header);
        assert_eq!(parsed.payload(bytes).len(), end.saturating_sub(payload));
        let view = View::of(bytes, &parsed);
        assert_eq!(view.is_some(), parsed.fragment != Fragment::No);
        if let Some(view) = view {
            let mut head = vec![0; view.head_len()];
            view.emit_head(&mut head);
            assert!(head.len() + view.data.len() <= total && view.offset % 8 == 0);
        } else if let Some(cut) = Cut::new(&bytes[..total], total.max(100) - 9, 1) {
            let length = (0..cut.count()).map(|index| cut.emit(index, &mut [0; 70_000]).expect("it fits"));
            assert!(length.max() <= Some(total.max(100) - 9));
        }
        if parsed.fragment == Fragment::No {
            let quoted = ip::parse_quoted(bytes).expect("a whole packet can be quoted");
            assert_eq!((quoted.source, quoted.destination), (parsed.source, parsed.destination));
            assert_eq!(quoted.source_port, parsed.source_port);
            assert_eq!(quoted.destination_port, parsed.destination_port);
        }
        let _ = checksum::transport_checksum_is_valid(
            parsed.source,
            parsed.destination,
            parsed.protocol,
            parsed.segment(bytes),
        );
    }
    let _ = ip::parse_quoted(bytes);
    views(bytes);
}

/// Reads every field of every view.
fn views(bytes: &[u8]) {
    let mut copy = bytes.to_vec();
    if let Ok(mut packet) = ipv4::Packet::new_checked(&mut copy[..]) {
        let _ = (ipv4::Repr::parse(&packet), packet.payload().len());
        packet.decrement_ttl();
        packet.fill_checksum();
        assert!(packet.checksum_is_valid());
    }
    if let Ok(packet) = ipv6::Packet::new_checked(bytes) {
        let _ = (ipv6::Repr::parse(&packet), packet.payload().len(), packet.upper());
    }
    let mut copy = bytes.to_vec();
    let any = [10, 0, 0, 1].into();
    if let Ok(mut packet) = tcp::Packet::new_checked(&mut copy[..]) {
        let _ = (tcp::Repr::parse(&packet), packet.payload().len(), packet.mss());
        packet.fill_checksum(any, any);
        let change = packet.clamp_mss(536);
        let checksum = change.unwrap_or_default().apply(packet.checksum());
        packet.set_checksum(checksum);
        assert!(checksum::transport_checksum_is_valid(any, any, 6, packet.into_inner()));
    }
    if let Ok(packet) = udp::Packet::new_checked(bytes) {
        let _ = (udp::Repr::parse(&packet), packet.payload().len(), packet.checksum_is_valid(any, any));
    }
    if let Ok(packet) = bfd::Packet::new_checked(bytes) {
        let mut made = [0; bfd::LEN];
        let repr = bfd::Repr::parse(&packet);
        assert_eq!(repr.emit(&mut made), Some(bfd::LEN));
        assert_eq!(bfd::Packet::new_checked(made).map(|packet| bfd::Repr::parse(&packet)), Ok(repr));
    }
    for version in [Version::V4, Version::V6] {
        if let Ok(packet) = icmp::Packet::new_checked(version, bytes) {
            let _ = (packet.mtu(), packet.kind(), packet.payload().len());
        }
        if let Ok(relayed) = RelayedError::parse(version, bytes) {
            let mut made = [0; 128];
            for protocol in [1, 6, 17, 50, 58] {
                let length = relayed.emit(protocol, &mut made).expect("72 bytes at most");
                assert!(RelayedError::parse(version, &made[..length]).is_ok());
            }
        }
    }
}

/// Parses the bytes as metadata, and as a section of either kind.
pub fn svr_metadata(bytes: &[u8]) {
    if let Ok(header) = Header::parse(bytes) {
        let lengths = header.header_tlvs().len() + header.payload_section().len() + header.rest().len();
        assert_eq!(lengths + HEADER_LEN, bytes.len());
        sections(header.header_tlvs(), header.payload_section());
    }
    sections(bytes, bytes);
}

/// Whatever is accepted is written again and reads the same.
fn sections(header: &[u8], payload: &[u8]) {
    if let Ok(mut tlvs) = HeaderTlvs::parse(header) {
        tlvs.unknown = 0;
        let mut made = vec![0; tlvs.encoded_len()];
        assert!(made.len() <= header.len());
        assert_eq!(tlvs.emit(&mut made), Some(made.len()));
        assert_eq!(HeaderTlvs::parse(&made), Ok(tlvs));
        let mut whole = vec![0; HEADER_LEN + made.len()];
        assert_eq!(emit_header(&mut whole, &tlvs, 0), Some(whole.len()));
        assert!(Header::parse(&whole).is_ok());
    }
    if let Ok(mut tlvs) = PayloadTlvs::parse(payload) {
        tlvs.unknown = 0;
        let mut made = vec![0; tlvs.encoded_len()];
        assert!(made.len() <= payload.len());
        assert_eq!(tlvs.emit(&mut made), Some(made.len()));
        assert_eq!(PayloadTlvs::parse(&made).as_ref(), Ok(&tlvs));
        if let Some(list) = tlvs.multicast_egress {
            assert!(list.iter().all(|name| !name.is_empty()));
        }
    }
}

/// Cuts the bytes as a super-packet; the first two are the size of a segment.
pub fn segment(bytes: &[u8]) {
    let Some((size, packet)) = bytes.split_first_chunk::<2>() else { return };
    let Ok(whole) = SuperPacket::new(packet, usize::from(u16::from_be_bytes(*size))) else { return };
    let parsed = ip::parse(packet).expect("it was read before");
    let mut out = vec![0; packet.len()];
    let (mut joined, count) = (0, whole.count());
    for index in 0..count.min(64) {
        let length = whole.emit(index, &mut out).expect("a segment is no longer than the whole");
        let piece = ip::parse(&out[..length]).expect("a segment is a whole packet");
        assert_eq!(piece.total_len as usize, length);
        let segment = piece.segment(&out[..length]);
        let (source, destination) = (piece.source, piece.destination);
        assert!(checksum::transport_checksum_is_valid(source, destination, piece.protocol, segment));
        joined += piece.payload(&out[..length]).len();
    }
    if count <= 64 {
        assert_eq!(joined, parsed.payload(packet).len());
    }
    assert!(whole.emit(count, &mut out).is_err());
}
