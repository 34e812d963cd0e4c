//! Header fields the engine writes itself, and whole headers it puts before a packet.
//!
//! Offsets are those of RFC 791, RFC 8200, RFC 768 and RFC 9293. Packets were parsed before, so the
//! headers are known to be there.

use fairway_types::{Checksum, DropReason, PacketBuf, Protocol, Slot};
use fairway_wire::checksum;
use fairway_wire::ip::{self, Parsed};

use crate::key::FlowKey;

pub(crate) mod v4 {
    use core::ops::Range;
    pub(crate) const TOTAL_LENGTH: Range<usize> = 2..4;
    pub(crate) const TTL: usize = 8;
    pub(crate) const CHECKSUM: Range<usize> = 10..12;
    pub(crate) const SOURCE: Range<usize> = 12..16;
    pub(crate) const DESTINATION: Range<usize> = 16..20;
    pub(crate) const LEN: usize = 20;
}

pub(crate) mod v6 {
    use core::ops::Range;
    pub(crate) const PAYLOAD_LENGTH: Range<usize> = 4..6;
    pub(crate) const HOP_LIMIT: usize = 7;
    pub(crate) const SOURCE: Range<usize> = 8..24;
    pub(crate) const DESTINATION: Range<usize> = 24..40;
    pub(crate) const LEN: usize = 40;
}

pub(crate) const UDP_LEN: usize = 8;
pub(crate) const TCP_LEN: usize = 20;
pub(crate) const UDP_CHECKSUM: usize = 6;
/// Where a TCP header has its flags.
pub(crate) const TCP_FLAGS: usize = 13;
pub(crate) const TCP_CHECKSUM: usize = 16;

/// The TTL or hop limit of packets this router makes.
pub(crate) const OWN_TTL: u8 = 64;

/// The length of an IP header without options.
pub(crate) const fn ip_len(ipv6: bool) -> usize {
    if ipv6 { v6::LEN } else { v4::LEN }
}

/// DSCP and ECN of a packet.
pub(crate) fn traffic_class(bytes: &[u8]) -> u8 {
    if bytes[0] >> 4 == 6 { bytes[0] << 4 | bytes[1] >> 4 } else { bytes[1] }
}

#[inline]
pub(crate) fn read_u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[inline]
pub(crate) fn write_u16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[inline]
pub(crate) fn update(bytes: &mut [u8], at: usize, change: impl FnOnce(u16) -> u16) {
    let value = change(read_u16(bytes, at));
    write_u16(bytes, at, value);
}

/// Puts an IP header before what the buffer holds: from `to`'s local end to its remote end.
///
/// IPv4 packets get DF and identification zero (RFC 6864): nothing on the way may fragment them.
pub(crate) fn push_ip(
    packet: &mut PacketBuf,
    to: &FlowKey,
    protocol: Protocol,
    ttl: u8,
    traffic_class: u8,
) -> Result<(), DropReason> {
    let payload = packet.len();
    let length = if to.ipv6 { payload } else { payload + v4::LEN };
    let length = u16::try_from(length).map_err(|_| DropReason::TooBig)?;
    if !packet.grow_front(ip_len(to.ipv6)) {
        return Err(DropReason::TooBig);
    }
    let bytes = packet.bytes_mut();
    if to.ipv6 {
        bytes[..4].copy_from_slice(&(0x6000_0000 | u32::from(traffic_class) << 20).to_be_bytes());
        write_u16(bytes, v6::PAYLOAD_LENGTH.start, length);
        bytes[6] = protocol.0;
        bytes[v6::HOP_LIMIT] = ttl;
        bytes[v6::SOURCE].copy_from_slice(to.local.octets(true));
        bytes[v6::DESTINATION].copy_from_slice(to.remote.octets(true));
    } else {
        const DONT_FRAGMENT: u16 = 0x4000;
        bytes[0] = 0x45;
        bytes[1] = traffic_class;
        write_u16(bytes, v4::TOTAL_LENGTH.start, length);
        write_u16(bytes, 4, 0);
        write_u16(bytes, 6, DONT_FRAGMENT);
        bytes[v4::TTL] = ttl;
        bytes[9] = protocol.0;
        write_u16(bytes, v4::CHECKSUM.start, 0);
        bytes[v4::SOURCE].copy_from_slice(to.local.octets(false));
        bytes[v4::DESTINATION].copy_from_slice(to.remote.octets(false));
        let sum = !checksum::fold(checksum::sum(&bytes[..v4::LEN]));
        write_u16(bytes, v4::CHECKSUM.start, sum);
    }
    Ok(())
}

/// Sets identification and DF of an IPv4 packet that is no fragment.
pub(crate) fn set_identity(bytes: &mut [u8], id: u16, dont_fragment: bool) {
    let word = if dont_fragment { 0x4000 } else { 0 };
    let delta = checksum::Delta::word(read_u16(bytes, 4), id)
        .combine(checksum::Delta::word(read_u16(bytes, 6), word));
    write_u16(bytes, 4, id);
    write_u16(bytes, 6, word);
    update(bytes, v4::CHECKSUM.start, |sum| delta.apply(sum));
}

/// Writes lengths and the transport checksum anew after the packet grew or shrank behind its
/// transport header. `offset` is where the transport begins.
pub(crate) fn finish(packet: &mut PacketBuf, offset: usize, to: &FlowKey) -> Result<(), DropReason> {
    set_lengths(packet, offset, to)?;
    complete_checksum(packet.bytes_mut(), offset, to);
    Ok(())
}

/// Writes lengths anew, but not the transport checksum, which depends on them.
pub(crate) fn set_lengths(packet: &mut PacketBuf, offset: usize, to: &FlowKey) -> Result<(), DropReason> {
    let total = packet.len();
    let bytes = packet.bytes_mut();
    if to.ipv6 {
        let length = u16::try_from(total - v6::LEN).map_err(|_| DropReason::TooBig)?;
        write_u16(bytes, v6::PAYLOAD_LENGTH.start, length);
    } else {
        let length = u16::try_from(total).map_err(|_| DropReason::TooBig)?;
        let old = read_u16(bytes, v4::TOTAL_LENGTH.start);
        write_u16(bytes, v4::TOTAL_LENGTH.start, length);
        let delta = checksum::Delta::word(old, length);
        update(bytes, v4::CHECKSUM.start, |sum| delta.apply(sum));
    }
    if to.protocol == Protocol::UDP {
        let length = u16::try_from(total - offset).map_err(|_| DropReason::TooBig)?;
        write_u16(bytes, offset + 4, length);
    }
    Ok(())
}

/// Computes the checksum of a TCP or UDP packet from `to`'s local end to its remote end.
pub(crate) fn complete_checksum(bytes: &mut [u8], offset: usize, to: &FlowKey) {
    let field = match to.protocol {
        Protocol::TCP => offset + TCP_CHECKSUM,
        Protocol::UDP => offset + UDP_CHECKSUM,
        _ => return,
    };
    write_u16(bytes, field, 0);
    let sum = checksum::transport_checksum(
        to.local.ip(to.ipv6),
        to.remote.ip(to.ipv6),
        to.protocol.0,
        &bytes[offset..],
    );
    write_u16(bytes, field, sum);
}

/// Leaves the checksum of a packet that goes from `to`'s local end to its remote end to whoever puts it
/// on a wire: its field gets the folded sum of the pseudo-header. Nothing of the payload is read.
pub(crate) fn leave_checksum(packet: &mut Slot, to: &FlowKey) {
    let (offset, _) = payload_offsets(packet.packet.bytes(), to);
    let field = match to.protocol {
        Protocol::TCP => offset + TCP_CHECKSUM,
        Protocol::UDP => offset + UDP_CHECKSUM,
        _ => return,
    };
    let length = (packet.packet.len() - offset) as u32;
    let (local, remote) = (to.local.ip(to.ipv6), to.remote.ip(to.ipv6));
    let sum = checksum::fold(checksum::pseudo_header(local, remote, to.protocol.0, length));
    write_u16(packet.packet.bytes_mut(), field, sum);
    packet.checksum = Checksum::Partial;
}

/// Completes a checksum whose field holds the folded pseudo-header sum.
pub(crate) fn complete_partial(bytes: &mut [u8], parsed: &Parsed) {
    let offset = usize::from(parsed.header_len);
    let Some(field) = checksum::field_offset(parsed.protocol) else { return };
    if offset + field + 2 > bytes.len() {
        return;
    }
    // The field's content is part of the sum, as it should be.
    let sum = !checksum::fold(checksum::sum(&bytes[offset..]));
    let sum = if parsed.protocol == Protocol::UDP.0 && sum == 0 { u16::MAX } else { sum };
    write_u16(bytes, offset + field, sum);
}

/// Refuses a packet whose transport checksum nobody vouches for, and which is wrong.
#[inline]
pub(crate) fn check_checksum(packet: &Slot, parsed: &Parsed) -> Result<(), DropReason> {
    let intact = packet.checksum != Checksum::Unverified || checksum_is_valid(packet.packet.bytes(), parsed);
    if intact { Ok(()) } else { Err(DropReason::BadChecksum) }
}

/// Whether the transport checksum is right, or absent by right.
fn checksum_is_valid(bytes: &[u8], parsed: &Parsed) -> bool {
    let offset = usize::from(parsed.header_len);
    bytes.get(offset..).is_some_and(|segment| {
        checksum::transport_checksum_is_valid(parsed.source, parsed.destination, parsed.protocol, segment)
    })
}

/// Where a transport payload begins in a packet that was rewritten for a leg.
pub(crate) fn payload_offsets(packet: &[u8], to: &FlowKey) -> (usize, usize) {
    let transport = if to.ipv6 { ipv6_transport(packet) } else { usize::from(packet[0] & 0x0f) * 4 };
    let length = match to.protocol {
        Protocol::TCP => usize::from(packet[transport + 12] >> 4) * 4,
        Protocol::UDP => UDP_LEN,
        _ => 0,
    };
    (transport, transport + length)
}

fn ipv6_transport(packet: &[u8]) -> usize {
    ip::parse(packet).map_or(v6::LEN, |parsed| usize::from(parsed.header_len))
}
