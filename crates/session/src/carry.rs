//! TCP as UDP: the TCP header keeps its length and, but for eight bytes, its content (svr-wire,
//! section 7).
//!
//! Since no word changes its parity, each checksum follows from the other one (RFC 1624): nothing of
//! the payload is read. The urgent pointer does not cross; URG is cleared (RFC 6093 advises against
//! its use).

use fairway_types::{Checksum, DropReason, Protocol, Slot};
use fairway_wire::checksum::Delta;
use fairway_wire::svr::{self, CARRIED_SEQUENCE, tcp_header_len};

use crate::headers::{self, TCP_CHECKSUM, UDP_CHECKSUM};
use crate::key::FlowKey;
use crate::tcp::{Segment, flags, window_scale};

/// Offsets in the header of a carried segment.
const SEQUENCE: usize = 4;
const ACKNOWLEDGEMENT: usize = 8;
const DATA_OFFSET: usize = 12;
const WINDOW: usize = 14;
const OPTIONS: usize = 20;
/// What the TCP state needs to know of the carried segment that a datagram's payload is.
pub(crate) fn tcp_segment(datagram: &[u8]) -> Result<Segment, DropReason> {
    let length = svr::carried_header_len(datagram).ok_or(DropReason::MalformedTransport)?;
    // Offsets are those of the header with its ports.
    let at = |offset: usize| offset - headers::UDP_LEN;
    let flags = datagram[at(DATA_OFFSET + 1)];
    let syn = flags & flags::SYN != 0;
    Ok(Segment {
        flags,
        sequence: read_u32(datagram, at(svr::CARRIED_SEQUENCE)),
        acknowledgement: read_u32(datagram, at(ACKNOWLEDGEMENT)),
        window: headers::read_u16(datagram, at(WINDOW)),
        length: (datagram.len() - length) as u32,
        scale: if syn { window_scale(&datagram[at(OPTIONS)..length]) } else { None },
    })
}

/// Makes a TCP segment that already has its new IP header, ports and (by difference) checksum one
/// that is carried. `offset` is where its header begins.
pub(crate) fn carry(slot: &mut Slot, offset: usize) -> Result<(), DropReason> {
    let length = u16::try_from(slot.packet.len() - offset).map_err(|_| DropReason::TooBig)?;
    let segment = &mut slot.packet.bytes_mut()[offset..];
    let mut delta = Delta::word(u16::from(Protocol::TCP.0), u16::from(Protocol::UDP.0));
    let tcp = headers::read_u16(segment, TCP_CHECKSUM);
    let sum = match slot.checksum {
        Checksum::Partial => delta.apply_partial(tcp),
        Checksum::Unverified | Checksum::Valid => {
            delta = delta.combine(Delta::word(0, length)).combine(clear_urgent(segment));
            // A checksum of zero is sent as its other form (RFC 768).
            match delta.apply(tcp) {
                0 => u16::MAX,
                sum => sum,
            }
        }
    };
    if slot.checksum == Checksum::Partial {
        clear_urgent(segment);
    }
    segment.copy_within(SEQUENCE..SEQUENCE + 4, CARRIED_SEQUENCE);
    headers::write_u16(segment, SEQUENCE, length);
    headers::write_u16(segment, UDP_CHECKSUM, sum);
    Ok(())
}

/// The reverse of [`carry`].
pub(crate) fn restore(slot: &mut Slot, offset: usize, to: &FlowKey) -> Result<(), DropReason> {
    let bytes = slot.packet.bytes_mut();
    let segment = &mut bytes[offset..];
    tcp_header_len(segment).ok_or(DropReason::MalformedTransport)?;
    let length = headers::read_u16(segment, SEQUENCE);
    if usize::from(length) != segment.len() {
        return Err(DropReason::MalformedTransport);
    }
    let udp = headers::read_u16(segment, UDP_CHECKSUM);
    let delta = Delta::word(u16::from(Protocol::UDP.0), u16::from(Protocol::TCP.0));
    segment.copy_within(CARRIED_SEQUENCE..CARRIED_SEQUENCE + 4, SEQUENCE);
    headers::write_u16(segment, TCP_CHECKSUM + 2, 0);
    match slot.checksum {
        Checksum::Partial => headers::write_u16(segment, TCP_CHECKSUM, delta.apply_partial(udp)),
        // Without a checksum there is nothing to derive one from.
        Checksum::Unverified | Checksum::Valid if udp == 0 => headers::complete_checksum(bytes, offset, to),
        Checksum::Unverified | Checksum::Valid => {
            let sum = delta.combine(Delta::word(length, 0)).apply(udp);
            headers::write_u16(segment, TCP_CHECKSUM, sum);
        }
    }
    Ok(())
}

/// Clears URG and what the pointer was, and says how that changes the checksum.
fn clear_urgent(segment: &mut [u8]) -> Delta {
    const URGENT_POINTER: usize = TCP_CHECKSUM + 2;
    const URG: u16 = 0x20;
    let (pointer, word) =
        (headers::read_u16(segment, URGENT_POINTER), headers::read_u16(segment, DATA_OFFSET));
    headers::write_u16(segment, DATA_OFFSET, word & !URG);
    Delta::word(pointer, 0).combine(Delta::word(word, word & !URG))
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr};

    use fairway_types::{InterfaceId, PacketBuf};
    use fairway_wire::{checksum, ip};
    use proptest::prelude::*;

    use super::*;
    use crate::key::End;

    fn key(protocol: Protocol) -> FlowKey {
        let end = |last, port| End::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), port);
        FlowKey {
            remote: end(2, 16387),
            local: end(1, 16386),
            interface: InterfaceId(0),
            protocol,
            ipv6: false,
        }
    }

    /// A TCP packet with a right checksum, as it would leave by `key(TCP)`.
    fn packet(flags: u8, options: &[u8], payload: &[u8]) -> Slot {
        let to = key(Protocol::TCP);
        let mut segment =
            vec![0x40, 2, 0x40, 3, 1, 2, 3, 4, 5, 6, 7, 8, 0, flags, 0x12, 0x34, 0, 0, 0xab, 0xcd];
        segment[12] = (((20 + options.len()) / 4) << 4) as u8;
        segment.extend_from_slice(options);
        segment.extend_from_slice(payload);
        let mut buffer = PacketBuf::with_capacity(2000);
        assert!(buffer.fill(&segment));
        headers::push_ip(&mut buffer, &to, Protocol::TCP, 64, 0).unwrap();
        headers::finish(&mut buffer, 20, &to).unwrap();
        Slot::new(buffer)
    }

    fn is_valid(slot: &Slot, protocol: Protocol) -> bool {
        let segment = &slot.packet.bytes()[20..];
        let to = key(protocol);
        checksum::transport_checksum_is_valid(to.local.ip(false), to.remote.ip(false), protocol.0, segment)
    }

    proptest! {
        #[test]
        fn a_segment_is_carried_and_restored_without_reading_its_payload(
            flags in any::<u8>(),
            options in prop::collection::vec(any::<u8>(), 0..10),
            payload in prop::collection::vec(any::<u8>(), 0..1400),
        ) {
            let options: Vec<u8> = options.iter().flat_map(|&byte| [byte; 4]).collect();
            let mut slot = packet(flags, &options, &payload);
            prop_assert!(is_valid(&slot, Protocol::TCP));
            let before = slot.packet.bytes().to_vec();
            carry(&mut slot, 20).unwrap();
            prop_assert!(is_valid(&slot, Protocol::UDP));
            prop_assert_eq!(&slot.packet.bytes()[36..40], &before[24..28]);
            let bytes = slot.packet.bytes();
            prop_assert_eq!(tcp_header_len(&bytes[20..]), Some(20 + options.len()));
            restore(&mut slot, 20, &key(Protocol::TCP)).unwrap();
            prop_assert!(is_valid(&slot, Protocol::TCP));
            let mut expected = before;
            expected[33] &= !0x20;
            expected[38..40].fill(0);
            let after = slot.packet.bytes();
            prop_assert_eq!(&after[20..36], &expected[20..36]);
            prop_assert_eq!(&after[38..], &expected[38..]);
        }

        #[test]
        fn a_wrong_checksum_stays_wrong(payload in prop::collection::vec(any::<u8>(), 1..100), bit in 0usize..8) {
            let mut slot = packet(0x10, &[], &payload);
            slot.packet.bytes_mut()[40] ^= 1 << bit;
            carry(&mut slot, 20).unwrap();
            prop_assert!(!is_valid(&slot, Protocol::UDP));
            restore(&mut slot, 20, &key(Protocol::TCP)).unwrap();
            prop_assert!(!is_valid(&slot, Protocol::TCP));
        }

        #[test]
        fn hostile_headers_are_refused(segment in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(length) = tcp_header_len(&segment) {
                prop_assert!((20..=60).contains(&length) && length <= segment.len());
            }
        }
    }

    #[test]
    fn a_carried_syn_is_witnessed_like_any_other() {
        let mut slot = packet(flags::SYN, &[3, 3, 7, 0], &[]);
        carry(&mut slot, 20).unwrap();
        let to = key(Protocol::UDP);
        slot.packet.bytes_mut()[9] = 17;
        headers::finish(&mut slot.packet, 20, &to).unwrap();
        // The IP header's checksum was made for TCP.
        slot.packet.bytes_mut()[10..12].fill(0);
        let sum = !checksum::fold(checksum::sum(&slot.packet.bytes()[..20]));
        slot.packet.bytes_mut()[10..12].copy_from_slice(&sum.to_be_bytes());
        let parsed = ip::parse(slot.packet.bytes()).unwrap();
        let segment = tcp_segment(parsed.payload(slot.packet.bytes())).unwrap();
        assert_eq!((segment.sequence, segment.acknowledgement), (0x0102_0304, 0x0506_0708));
        assert_eq!((segment.window, segment.length, segment.scale), (0x1234, 0, Some(7)));
    }
}
