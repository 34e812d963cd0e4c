//! Cuts a super-packet into the packets it stands for.
//!
//! A super-packet is one TCP segment, or one UDP datagram (`GSO_UDP_L4`), larger than the path
//! allows. Each piece gets the headers of the whole, with its own lengths, IPv4 identification,
//! sequence number, flags and finished checksums; the checksum field of the whole is not looked at.

use core::net::IpAddr;

use crate::bytes::{be16, be32, put};
use crate::ip::{self, Fragment, Version};
use crate::tcp::flag;
use crate::{checksum, ipv4, ipv6, protocol};

/// Why a packet cannot be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentError {
    /// Its headers are malformed.
    Malformed(crate::ParseError),
    /// It is a fragment, or neither TCP nor UDP.
    NotSegmentable,
    /// The segment size is zero.
    ZeroSize,
    /// There is no segment of that index.
    NoSuchSegment,
    /// The buffer cannot hold the segment.
    BufferTooSmall,
}

impl core::fmt::Display for SegmentError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Malformed(error) => write!(f, "malformed super-packet: {error}"),
            Self::NotSegmentable => f.write_str("neither whole TCP nor whole UDP"),
            Self::ZeroSize => f.write_str("segment size is zero"),
            Self::NoSuchSegment => f.write_str("no such segment"),
            Self::BufferTooSmall => f.write_str("buffer too small for a segment"),
        }
    }
}

impl core::error::Error for SegmentError {}

/// A super-packet, read once, to be cut.
#[derive(Clone, Copy, Debug)]
pub struct SuperPacket<'a> {
    headers: &'a [u8],
    payload: &'a [u8],
    size: usize,
    version: Version,
    protocol: u8,
    source: IpAddr,
    destination: IpAddr,
    transport: usize,
}

impl<'a> SuperPacket<'a> {
    /// Reads a packet that stands for segments of `size` payload bytes; the last may be shorter.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub fn new(packet: &'a [u8], size: usize) -> Result<Self, SegmentError> {
        if size == 0 {
            return Err(SegmentError::ZeroSize);
        }
        let parsed = ip::parse(packet).map_err(SegmentError::Malformed)?;
        let known = matches!(parsed.protocol, protocol::TCP | protocol::UDP);
        if !known || parsed.fragment != Fragment::No {
            return Err(SegmentError::NotSegmentable);
        }
        let headers = packet.get(..usize::from(parsed.payload_offset)).unwrap_or(&[]);
        Ok(Self {
            headers,
            payload: parsed.payload(packet),
            size,
            version: parsed.version,
            protocol: parsed.protocol,
            source: parsed.source,
            destination: parsed.destination,
            transport: usize::from(parsed.header_len),
        })
    }

    /// How many packets it stands for; one, if it has no payload.
    #[must_use]
    pub const fn count(&self) -> usize {
        let count = self.payload.len().div_ceil(self.size);
        if count == 0 { 1 } else { count }
    }

    /// Bytes of the headers in front of each segment's payload.
    #[must_use]
    pub const fn headers_len(&self) -> usize {
        self.headers.len()
    }

    /// Writes segment `index`, counted from zero, into `out`. Gives its length in bytes.
    ///
    /// # Errors
    /// [`SegmentError::NoSuchSegment`] or [`SegmentError::BufferTooSmall`].
    pub fn emit(&self, index: usize, out: &mut [u8]) -> Result<usize, SegmentError> {
        let count = self.count();
        if index >= count {
            return Err(SegmentError::NoSuchSegment);
        }
        let start = index * self.size;
        let end = self.payload.len().min(start.saturating_add(self.size));
        let payload = self.payload.get(start..end).unwrap_or(&[]);
        let length = self.headers.len() + payload.len();
        let out = out.get_mut(..length).ok_or(SegmentError::BufferTooSmall)?;
        let (headers, body) = out.split_at_mut_checked(self.headers.len()).unwrap_or_default();
        headers.copy_from_slice(self.headers);
        body.copy_from_slice(payload);
        self.finish_ip(index, out);
        let segment = out.get_mut(self.transport..).unwrap_or_default();
        self.finish_transport(start, index, index + 1 == count, segment);
        Ok(length)
    }

    /// Lengths, identification and header checksum.
    fn finish_ip(&self, index: usize, out: &mut [u8]) {
        let length = out.len();
        match self.version {
            Version::V4 => {
                let mut packet = ipv4::Packet::new_unchecked(out);
                packet.set_total_len(length as u16);
                packet.set_identification(packet.identification().wrapping_add(index as u16));
                packet.fill_checksum();
            }
            Version::V6 => {
                ipv6::Packet::new_unchecked(out).set_payload_len((length - ipv6::HEADER_LEN) as u16);
            }
        }
    }

    /// Sequence number and flags, or length; then the checksum.
    fn finish_transport(&self, start: usize, index: usize, last: bool, segment: &mut [u8]) {
        if self.protocol == protocol::TCP {
            let sequence = be32(segment, 4).wrapping_add(start as u32);
            put(segment, 4, &sequence.to_be_bytes());
            let mut flags = be16(segment, 12).to_be_bytes()[1];
            if !last {
                flags &= !(flag::FIN | flag::PSH);
            }
            if index > 0 {
                flags &= !flag::CWR;
            }
            put(segment, 13, &[flags]);
        } else {
            put(segment, 4, &(segment.len() as u16).to_be_bytes());
        }
        let Some(at) = checksum::field_offset(self.protocol) else { return };
        put(segment, at, &[0, 0]);
        let checksum = checksum::transport_checksum(self.source, self.destination, self.protocol, segment);
        put(segment, at, &checksum.to_be_bytes());
    }
}

/// How many packets a super-packet stands for, see [`SuperPacket`].
///
/// # Errors
/// [`SegmentError`].
pub fn segment_count(packet: &[u8], size: usize) -> Result<usize, SegmentError> {
    Ok(SuperPacket::new(packet, size)?.count())
}

/// Writes one segment of a super-packet, see [`SuperPacket::emit`]. To cut a whole super-packet,
/// read it once with [`SuperPacket::new`].
///
/// # Errors
/// [`SegmentError`].
pub fn emit_segment(packet: &[u8], size: usize, index: usize, out: &mut [u8]) -> Result<usize, SegmentError> {
    SuperPacket::new(packet, size)?.emit(index, out)
}

#[cfg(test)]
mod tests;
