use core::net::{Ipv4Addr, Ipv6Addr};
use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// RFC 1071 as it is written there: one word at a time.
fn reference(bytes: &[u8]) -> u16 {
    let mut sum = 0u64;
    for pair in bytes.chunks(2) {
        sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

const V4: (IpAddr, IpAddr) =
    (IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)));
const V6: (IpAddr, IpAddr) = (
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1)),
);

#[test]
fn the_example_of_rfc_1071() {
    assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
}

#[test]
fn the_example_of_rfc_1624() {
    // Section 4: HC = 0xDD2F, m = 0x5555, m' = 0x3285 gives 0x0000.
    assert_eq!(Delta::word(0x5555, 0x3285).apply(0xdd2f), 0x0000);
}

#[test]
fn a_sum_of_64_kilobytes_of_ones_does_not_overflow() {
    let bytes = std::vec![0xff; 65_535];
    assert_eq!(fold(sum(&bytes)), reference(&bytes));
}

#[test]
fn udp_zero_means_none_over_ipv4_only() {
    let datagram = [0x12, 0x34, 0x56, 0x78, 0, 8, 0, 0];
    assert!(transport_checksum_is_valid(V4.0, V4.1, protocol::UDP, &datagram));
    assert!(!transport_checksum_is_valid(V6.0, V6.1, protocol::UDP, &datagram));
    assert_eq!(Delta::word(1, 2).apply_udp(0), 0);
}

#[test]
fn a_udp_checksum_that_comes_out_as_zero_is_sent_as_ones() {
    let mut datagram = [0, 0, 0, 0, 0, 10, 0, 0, 0, 0];
    let rest = transport_checksum(V4.0, V4.1, protocol::UDP, &datagram);
    datagram[8..].copy_from_slice(&rest.to_be_bytes());
    assert_eq!(transport_checksum(V4.0, V4.1, protocol::UDP, &datagram), 0xffff);
    // The same by increments: from a checksum of `rest` over zeroes to one over `rest`.
    assert_eq!(Delta::word(0, rest).apply_udp(rest), 0xffff);
}

proptest! {
    #[test]
    fn sum_equals_the_reference_at_any_alignment(bytes in prop::collection::vec(any::<u8>(), 0..300), skip in 0usize..17) {
        let part = &bytes[skip.min(bytes.len())..];
        prop_assert_eq!(fold(sum(part)), reference(part));
    }

    #[test]
    fn parts_at_even_offsets_add_up(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..100) {
        let (a, b) = bytes.split_at((at * 2).min(bytes.len() & !1));
        prop_assert_eq!(fold(sum(a) + sum(b)), reference(&bytes));
    }

    #[test]
    fn a_delta_equals_a_full_recompute(
        mut segment in prop::collection::vec(any::<u8>(), 20..120),
        at in 0usize..50,
        new in prop::collection::vec(any::<u8>(), 0..16),
        proto in prop::sample::select(std::vec![protocol::TCP, protocol::UDP, protocol::ICMPV6]),
        six in any::<bool>(),
    ) {
        let (source, destination) = if six { V6 } else { V4 };
        let field = field_offset(proto).unwrap();
        segment[field..field + 2].fill(0);
        let before = transport_checksum(source, destination, proto, &segment);
        let at = (at * 2).min(segment.len() & !1);
        let end = (at + new.len()).min(segment.len());
        let old = segment[at..end].to_vec();
        segment[at..end].copy_from_slice(&new[..end - at]);
        segment[field..field + 2].fill(0);
        let mut new_without_field = segment[at..end].to_vec();
        let mut old_without_field = old;
        for (index, byte) in new_without_field.iter_mut().enumerate() {
            if (field..field + 2).contains(&(at + index)) { *byte = 0; }
        }
        for (index, byte) in old_without_field.iter_mut().enumerate() {
            if (field..field + 2).contains(&(at + index)) { *byte = 0; }
        }
        let delta = Delta::between(&old_without_field, &new_without_field);
        let after = transport_checksum(source, destination, proto, &segment);
        let changed = if proto == protocol::UDP { delta.apply_udp(before) } else { delta.apply(before) };
        prop_assert_eq!(changed, after);
        segment[field..field + 2].copy_from_slice(&changed.to_be_bytes());
        prop_assert!(transport_checksum_is_valid(source, destination, proto, &segment));
    }

    #[test]
    fn deltas_combine_and_undo(words in prop::array::uniform6(any::<u16>()), checksum in any::<u16>()) {
        let [a, b, c, d, e, f] = words;
        let (first, second) = (Delta::word(a, b), Delta::word(c, d));
        let both = first.combine(second);
        let normal = |value: u16| if value == 0xffff { 0 } else { value };
        prop_assert_eq!(normal(both.apply(checksum)), normal(second.apply(first.apply(checksum))));
        prop_assert_eq!(both.combine(both.inverse()), Delta::NONE);
        prop_assert_eq!(Delta::word(e, f).combine(Delta::word(f, e)), Delta::NONE);
        prop_assert_eq!(Delta::NONE.apply(checksum), checksum);
    }

    #[test]
    fn a_partial_checksum_follows_the_pseudo_header(
        old in any::<[u8; 8]>(), new in any::<[u8; 8]>(), length in 8u32..70_000,
    ) {
        let address = |bytes: &[u8]| IpAddr::V4(Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]));
        let header = |bytes: &[u8; 8]| fold(pseudo_header(address(&bytes[..4]), address(&bytes[4..]), 6, length));
        let changed = Delta::between(&old, &new).apply_partial(header(&old));
        prop_assert_eq!(changed, header(&new));
    }

    #[test]
    fn a_delta_covers_parts_of_different_lengths(old in prop::collection::vec(any::<u8>(), 0..20), new in prop::collection::vec(any::<u8>(), 0..20)) {
        let (mut before, mut after): (Vec<u8>, Vec<u8>) = (std::vec![1, 2, 3, 4], std::vec![1, 2, 3, 4]);
        before.extend(&old);
        after.extend(&new);
        prop_assert_eq!(Delta::between(&old, &new).apply(!reference(&before)), !reference(&after));
    }
}
