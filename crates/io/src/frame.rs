//! Link headers and vnet headers: what travels beside the packet between the kernel and a slot.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fairway_types::{Checksum, Gso, GsoKind, Slot};
use fairway_wire::checksum;

/// Bytes of a vnet header (`struct virtio_net_hdr`, OASIS virtio 1.2, 5.1.6), in host byte order on
/// packet sockets and TUN.
pub(crate) const VNET: usize = 10;
/// Bytes of an Ethernet header.
pub(crate) const ETHERNET: usize = 14;
/// Bytes of an 802.1Q tag, and its EtherType.
pub(crate) const TAG: usize = 4;
pub(crate) const TAG_8021Q: [u8; 2] = [0x81, 0x00];

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// A vnet header that can't be acted on: an offload of a kind that is unknown here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnknownOffload;

/// What a vnet header says about a received packet.
pub(crate) fn read_vnet(header: &[u8; VNET]) -> Result<(Checksum, Option<Gso>), UnknownOffload> {
    let [flags, kind, _, _, size_low, size_high, ..] = *header;
    let checksum = match flags & (NEEDS_CSUM | DATA_VALID) {
        0 => Checksum::Unverified,
        DATA_VALID => Checksum::Valid,
        _ => Checksum::Partial,
    };
    let kind = match kind & !GSO_ECN {
        GSO_NONE => return Ok((checksum, None)),
        GSO_TCPV4 => GsoKind::TcpV4,
        GSO_TCPV6 => GsoKind::TcpV6,
        GSO_UDP_L4 => GsoKind::Udp,
        _ => return Err(UnknownOffload),
    };
    let size = u16::from_ne_bytes([size_low, size_high]);
    Ok((checksum, Some(Gso { kind, size, ecn: header[1] & GSO_ECN != 0 })))
}

/// The transport header of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Transport {
    protocol: u8,
    offset: usize,
}

impl Transport {
    /// Where the checksum is in the transport header.
    fn checksum_offset(self) -> Option<usize> {
        match self.protocol {
            TCP => Some(16),
            UDP => Some(6),
            _ => None,
        }
    }
}

fn transport(packet: &[u8]) -> Option<Transport> {
    match packet.first()? >> 4 {
        4 => {
            let header = packet.first_chunk::<20>()?;
            Some(Transport { protocol: header[9], offset: usize::from(header[0] & 15) * 4 })
        }
        6 => {
            let mut found = Transport { protocol: packet.first_chunk::<40>()?[6], offset: 40 };
            while matches!(found.protocol, 0 | 43 | 44 | 60) {
                let &[next, units] = packet.get(found.offset..)?.first_chunk::<2>()?;
                // A fragment header has one length; what follows it here is a whole packet.
                let units = if found.protocol == 44 { 0 } else { usize::from(units) };
                found = Transport { protocol: next, offset: found.offset + units * 8 + 8 };
            }
            Some(found)
        }
        _ => None,
    }
}

/// The vnet header for a packet to be sent behind `link` bytes of link header; `None` when the slot
/// asks for something its bytes do not allow. A super-packet gets an unfinished checksum, since the
/// kernel accepts no other.
pub(crate) fn write_vnet(slot: &mut Slot, link: usize) -> Option<[u8; VNET]> {
    let mut header = [0; VNET];
    if slot.gso.is_none() && slot.checksum != Checksum::Partial {
        return Some(header);
    }
    let at = transport(slot.packet.bytes())?;
    let field = at.checksum_offset()?;
    if slot.packet.len() < at.offset + field + 2 {
        return None;
    }
    if slot.checksum != Checksum::Partial {
        unfinish(slot.packet.bytes_mut(), at, field)?;
        slot.checksum = Checksum::Partial;
    }
    let mut put = |offset: usize, value: usize| {
        header[offset..offset + 2].copy_from_slice(&(value as u16).to_ne_bytes());
    };
    put(6, link + at.offset);
    put(8, field);
    if let Some(gso) = slot.gso {
        put(2, link + at.offset + transport_length(slot.packet.bytes(), at)?);
        put(4, usize::from(gso.size));
        header[1] = match gso.kind {
            GsoKind::TcpV4 => GSO_TCPV4,
            GsoKind::TcpV6 => GSO_TCPV6,
            GsoKind::Udp => GSO_UDP_L4,
        } | if gso.ecn { GSO_ECN } else { 0 };
    }
    header[0] = NEEDS_CSUM;
    Some(header)
}

fn transport_length(packet: &[u8], at: Transport) -> Option<usize> {
    match at.protocol {
        TCP => Some(usize::from(packet.get(at.offset + 12)? >> 4) * 4),
        _ => Some(8),
    }
}

/// Replaces a finished checksum by the folded sum of the pseudo-header.
fn unfinish(packet: &mut [u8], at: Transport, field: usize) -> Option<()> {
    let addresses = if packet.first()? >> 4 == 4 { packet.get(12..20)? } else { packet.get(8..40)? };
    let length = packet.len().checked_sub(at.offset)?;
    let words = addresses.chunks_exact(2).map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u64 = words.sum::<u64>() + u64::from(at.protocol) + length as u64;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let place = packet.get_mut(at.offset + field..)?.first_chunk_mut::<2>()?;
    *place = (sum as u16).to_be_bytes();
    Some(())
}

/// What the bytes of a packet say about its checksum where nobody else can: it is unfinished when its
/// field holds the sum of the pseudo-header, and it would not be right as it is.
pub(crate) fn guess_checksum(packet: &[u8]) -> Checksum {
    if is_unfinished(packet).unwrap_or(false) { Checksum::Partial } else { Checksum::Unverified }
}

fn is_unfinished(packet: &[u8]) -> Option<bool> {
    let at = transport(packet)?;
    let field = at.checksum_offset()?;
    let (source, destination): (IpAddr, IpAddr) = if packet.first()? >> 4 == 4 {
        // The kernel finishes a checksum before it cuts a packet.
        if u16::from_be_bytes(*packet.get(6..)?.first_chunk()?) & 0x3fff != 0 {
            return None;
        }
        let address = |at: usize| Some(Ipv4Addr::from(*packet.get(at..)?.first_chunk::<4>()?).into());
        (address(12)?, address(16)?)
    } else {
        let address = |at: usize| Some(Ipv6Addr::from(*packet.get(at..)?.first_chunk::<16>()?).into());
        (address(8)?, address(24)?)
    };
    let segment = packet.get(at.offset..)?;
    let value = u16::from_be_bytes(*segment.get(field..)?.first_chunk()?);
    let length = u32::try_from(segment.len()).ok()?;
    let pseudo = checksum::fold(checksum::pseudo_header(source, destination, at.protocol, length));
    Some(value == pseudo && checksum::fold(u32::from(pseudo) + checksum::sum(segment)) != 0xffff)
}

/// Finishes the checksum of a frame as its vnet header asks for, since what it goes to can't; `None` when
/// the header contradicts the frame.
pub(crate) fn finish_checksum(vnet: &[u8; VNET], frame: &mut [u8]) -> Option<()> {
    if vnet[0] & NEEDS_CSUM == 0 {
        return Some(());
    }
    let word = |at: usize| usize::from(u16::from_ne_bytes([vnet[at], vnet[at + 1]]));
    let (start, field) = (word(6), word(8));
    let part = frame.get_mut(start..)?;
    // None at all would be a checksum of 0; its other form means the same (RFC 768).
    let sum = match !checksum::fold(checksum::sum(part)) {
        0 => 0xffff,
        sum => sum,
    };
    *part.get_mut(field..)?.first_chunk_mut::<2>()? = sum.to_be_bytes();
    Some(())
}

/// Whether a vnet header stands for a frame that is to be cut.
pub(crate) fn is_super_packet(vnet: &[u8; VNET]) -> bool {
    vnet[1] != GSO_NONE
}

/// The Ethernet header for a packet; `None` when it is neither IPv4 nor IPv6.
pub(crate) fn ethernet(packet: &[u8], to: [u8; 6], from: [u8; 6]) -> Option<[u8; ETHERNET]> {
    let kind: [u8; 2] = match packet.first()? >> 4 {
        4 => [0x08, 0x00],
        6 => [0x86, 0xdd],
        _ => return None,
    };
    let mut header = [0; ETHERNET];
    header[..6].copy_from_slice(&to);
    header[6..12].copy_from_slice(&from);
    header[12..].copy_from_slice(&kind);
    Some(header)
}

/// How long the packet is by its own header. Short frames are padded by Ethernet; the padding is not
/// part of the packet.
pub(crate) fn ip_length(packet: &[u8]) -> Option<usize> {
    match packet.first()? >> 4 {
        4 => Some(usize::from(u16::from_be_bytes(*packet.get(2..)?.first_chunk()?))),
        6 => match u16::from_be_bytes(*packet.get(4..)?.first_chunk()?) {
            // A jumbogram (RFC 2675), which is how Linux forms super-packets beyond 64 KiB.
            0 => None,
            length => Some(40 + usize::from(length)),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fairway_types::Batch;

    fn slot_with(packet: &[u8]) -> Slot {
        let mut batch = Batch::new(1, 0, 0);
        let slot = batch.receive().unwrap();
        assert!(slot.packet.fill(packet));
        slot.clone()
    }

    fn udp_v4() -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        packet.extend_from_slice(&[0, 1, 0, 2, 0, 16, 0xab, 0xcd]);
        packet.extend_from_slice(&[0; 8]);
        packet
    }

    #[test]
    fn a_super_packet_gets_an_unfinished_checksum() {
        let mut slot = slot_with(&udp_v4());
        slot.gso = Some(Gso { kind: GsoKind::Udp, size: 4, ecn: false });
        let header = write_vnet(&mut slot, ETHERNET).unwrap();
        let word = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        assert_eq!((header[0], header[1]), (NEEDS_CSUM, GSO_UDP_L4));
        assert_eq!((word(2), word(4), word(6), word(8)), (14 + 28, 4, 34, 6));
        // 0xc000 + 0x0201 + 0xc000 + 0x0202 + 17 + 16, folded.
        assert_eq!(slot.packet.bytes()[26..28], [0x84, 0x25]);
        assert_eq!(read_vnet(&header), Ok((Checksum::Partial, slot.gso)));
    }

    #[test]
    fn a_fragment_header_of_a_whole_packet_is_passed_over() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 24, 44, 64];
        packet.extend([0; 32]);
        packet.extend([17, 0xff, 0, 0, 1, 2, 3, 4]);
        packet.extend([0, 1, 0, 2, 0, 16, 0xab, 0xcd, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut slot = slot_with(&packet);
        slot.checksum = Checksum::Partial;
        let header = write_vnet(&mut slot, ETHERNET).unwrap();
        assert_eq!(u16::from_ne_bytes([header[6], header[7]]), 14 + 48);
    }

    #[test]
    fn an_ordinary_packet_gets_an_empty_header() {
        let mut slot = slot_with(&udp_v4());
        assert_eq!(write_vnet(&mut slot, ETHERNET), Some([0; VNET]));
        assert_eq!(slot.packet.bytes(), udp_v4());
    }

    #[test]
    fn nothing_is_sent_that_contradicts_its_bytes() {
        for (packet, length) in [(udp_v4(), 27), (udp_v4(), 19), (vec![0x60; 30], 30), (vec![], 0)] {
            let mut slot = slot_with(&packet[..length]);
            slot.checksum = Checksum::Partial;
            assert_eq!(write_vnet(&mut slot, ETHERNET), None);
        }
    }

    #[test]
    fn an_unfinished_checksum_is_found_and_finished() {
        let mut slot = slot_with(&udp_v4());
        slot.packet.bytes_mut()[28..36].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(guess_checksum(slot.packet.bytes()), Checksum::Unverified);
        slot.checksum = Checksum::Partial;
        unfinish(slot.packet.bytes_mut(), Transport { protocol: UDP, offset: 20 }, 6).unwrap();
        assert_eq!(guess_checksum(slot.packet.bytes()), Checksum::Partial);
        let vnet = write_vnet(&mut slot, ETHERNET).unwrap();
        let mut frame = [&[0; ETHERNET], slot.packet.bytes()].concat();
        assert_eq!(finish_checksum(&vnet, &mut frame), Some(()));
        let segment = &frame[ETHERNET + 20..];
        let pseudo = checksum::pseudo_header(
            "192.0.2.1".parse().unwrap(),
            "192.0.2.2".parse().unwrap(),
            UDP,
            segment.len() as u32,
        );
        assert_eq!(checksum::fold(pseudo + checksum::sum(segment)), 0xffff);
        assert_eq!(guess_checksum(&frame[ETHERNET..]), Checksum::Unverified);
        assert_eq!(finish_checksum(&vnet, &mut frame[..36]), None, "shorter than its header says");
    }

    #[test]
    fn padding_is_not_part_of_the_packet() {
        let mut packet = udp_v4();
        packet.resize(46, 0);
        assert_eq!(ip_length(&packet), Some(36));
        assert_eq!(ip_length(&[0x60, 0, 0, 0, 0, 5]), Some(45));
        assert_eq!(ip_length(&[0x45]), None);
    }
}
