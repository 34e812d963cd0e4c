//! The maximum segment size that a SYN announces (RFC 9293, section 3.7.1), made to fit the fabric.
//!
//! What a router adds to packets is no business of hosts: a segment must fit with it. So the option
//! is lowered, never raised, in both directions, as if everything were encrypted.

use fairway_types::{Checksum, Slot};
use fairway_wire::checksum::Delta;
use fairway_wire::ip::Parsed;

use crate::headers::{self, TCP_CHECKSUM, TCP_LEN};

/// Lowers the announcement of a SYN to `limit` bytes. The packet is native TCP, as `parsed` says.
/// Says whether it was changed.
pub(crate) fn clamp(slot: &mut Slot, parsed: &Parsed, limit: usize) -> bool {
    let partial = slot.checksum == Checksum::Partial;
    let offset = usize::from(parsed.header_len);
    let Some(header) = slot.packet.bytes_mut().get_mut(offset..usize::from(parsed.payload_offset)) else {
        return false;
    };
    let Some(at) = option_offset(header) else { return false };
    let (announced, limit) = (headers::read_u16(header, at), u16::try_from(limit).unwrap_or(u16::MAX));
    if announced <= limit {
        return false;
    }
    headers::write_u16(header, at, limit);
    if !partial {
        // The option may stand at an odd offset: its bytes count in the other halves of their words.
        let delta = if at.is_multiple_of(2) {
            Delta::word(announced, limit)
        } else {
            Delta::word(announced.swap_bytes(), limit.swap_bytes())
        };
        headers::update(header, TCP_CHECKSUM, |sum| delta.apply(sum));
    }
    true
}

/// Where the value of the option is in a TCP header.
fn option_offset(header: &[u8]) -> Option<usize> {
    let mut at = TCP_LEN;
    loop {
        match *header.get(at..)? {
            [2, 4, _, _, ..] => return Some(at + 2),
            [1, ..] => at += 1,
            [0, ..] | [] | [_] => return None,
            [_, length, ..] => at += usize::from(length.max(2)),
        }
    }
}

#[cfg(test)]
mod tests {
    use fairway_types::{InterfaceId, PacketBuf};
    use fairway_wire::{checksum, ip};

    use super::*;

    /// A SYN from 10.0.0.1 to 10.0.0.2 with options.
    fn syn(options: &[u8]) -> Slot {
        let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        bytes.extend([
            0,
            1,
            0,
            2,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            0,
            (((20 + options.len()) / 4) << 4) as u8,
            2,
            1,
            1,
            0,
            0,
            0,
            0,
        ]);
        bytes.extend_from_slice(options);
        let length = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        let sum = !checksum::fold(checksum::sum(&bytes[..20]));
        bytes[10..12].copy_from_slice(&sum.to_be_bytes());
        let (from, to) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let sum = checksum::transport_checksum(from, to, 6, &bytes[20..]);
        bytes[36..38].copy_from_slice(&sum.to_be_bytes());
        let mut packet = PacketBuf::with_capacity(200);
        assert!(packet.fill(&bytes));
        let (interface, checksum) = (InterfaceId(0), Checksum::Unverified);
        Slot { interface, checksum, ..Slot::new(packet) }
    }

    fn clamped(options: &[u8], limit: usize) -> (bool, Vec<u8>) {
        let mut slot = syn(options);
        let parsed = ip::parse(slot.packet.bytes()).unwrap();
        let changed = clamp(&mut slot, &parsed, limit);
        let segment = &slot.packet.bytes()[20..];
        let (from, to) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        assert!(checksum::transport_checksum_is_valid(from, to, 6, segment));
        (changed, segment[20..].to_vec())
    }

    #[test]
    fn an_announcement_is_lowered_and_never_raised() {
        assert_eq!(clamped(&[2, 4, 5, 180], 1436), (true, vec![2, 4, 5, 156]));
        assert_eq!(clamped(&[2, 4, 5, 180], 1460), (false, vec![2, 4, 5, 180]));
        assert_eq!(clamped(&[2, 4, 5, 180], 70_000), (false, vec![2, 4, 5, 180]));
        assert_eq!(clamped(&[1, 2, 4, 5, 180, 1, 1, 0], 1000), (true, vec![1, 2, 4, 3, 232, 1, 1, 0]));
        assert_eq!(clamped(&[4, 2, 3, 3, 7, 2, 4, 5, 180, 0, 0, 0], 1000).1[5..9], [2, 4, 3, 232]);
    }

    #[test]
    fn hostile_options_end_the_search() {
        for options in
            [&[2, 3, 5, 180][..], &[0, 0, 2, 4, 5, 180, 0, 0], &[9, 0, 9, 0], &[8, 255, 2, 4], &[1, 1, 1, 2]]
        {
            assert_eq!(clamped(options, 500), (false, options.to_vec()));
        }
    }
}
