use core::net::IpAddr;

use super::*;
use crate::ip;

const V4: [IpAddr; 2] =
    [IpAddr::V4(core::net::Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V4(core::net::Ipv4Addr::new(10, 0, 0, 1))];
const V6: [IpAddr; 2] =
    [IpAddr::V6(core::net::Ipv6Addr::LOCALHOST), IpAddr::V6(core::net::Ipv6Addr::UNSPECIFIED)];

#[test]
fn errors_are_whole_packets_with_right_checksums() {
    for (version, [source, destination], limit) in
        [(Version::V4, V4, MAX_ERROR_V4), (Version::V6, V6, MAX_ERROR_V6)]
    {
        for repr in [
            ErrorRepr::time_exceeded(version),
            ErrorRepr::too_big(version, 1400),
            ErrorRepr::no_route(version),
            ErrorRepr::prohibited(version),
            ErrorRepr::port_unreachable(version),
        ] {
            for quoted in [&[0x45u8; 28][..], &[0x45; 2000]] {
                let mut buffer = [0; 2000];
                let length = repr.emit_packet(source, destination, quoted, &mut buffer).unwrap();
                assert_eq!(length, limit.min(version.header_len() + 8 + quoted.len()));
                let packet = &buffer[..length];
                let parsed = ip::parse(packet).unwrap();
                assert_eq!(parsed.icmp, Some(IcmpKind::Error));
                let message = parsed.segment(packet);
                assert!(checksum::transport_checksum_is_valid(source, destination, version.icmp(), message));
                let view = Packet::new_checked(version, message).unwrap();
                assert_eq!(ErrorRepr::parse(&view), Some(repr));
                assert_eq!(view.quoted_offset(), Some(8));
                assert!(quoted.starts_with(view.payload()));
            }
        }
        let repr = ErrorRepr::too_big(version, 1400);
        let mut message = [0; 36];
        repr.emit(source, destination, &[0x45; 28], &mut message).unwrap();
        assert_eq!(Packet::new_unchecked(version, &message[..]).mtu(), Some(1400));
        assert_eq!(repr.emit(source, destination, &[0x45; 29], &mut message), None);
    }
    assert_eq!(
        ErrorRepr::no_route(Version::V4).emit_packet(V6[0], V6[1], &[], &mut [0; 100]),
        None,
        "addresses of the other version"
    );
}

#[test]
fn an_echo_is_not_an_error() {
    let view = Packet::new_checked(Version::V4, [8, 0, 0, 0, 1, 2, 3, 4]).unwrap();
    assert_eq!((view.identifier(), view.sequence()), (0x0102, 0x0304));
    assert!(!view.is_error());
    assert_eq!(ErrorRepr::parse(&view), None);
    assert!(Packet::new_checked(Version::V4, [8; 7]).is_err());
}
