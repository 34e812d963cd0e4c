//! Fragments of IP packets (RFC 791, section 3.2; RFC 8200, section 4.5): read, put together, cut.
//!
//! Packets were read by [`crate::ip::parse`] before. Of a packet that is put together, the headers are
//! those of its first fragment; an IPv6 fragment header is taken out.

use crate::bytes::{be16, be32, byte, put};
use crate::ip::{Fragment, Parsed, Version};
use crate::{ipv4, ipv6};

/// Bytes of an IPv6 fragment header.
const HEADER_LEN: usize = 8;
/// Fragments but the last are a multiple of this long.
const UNIT: usize = 8;
/// The bits of ECN that say "congestion experienced" (RFC 3168).
const CONGESTION: u8 = 3;

/// A view of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View<'a> {
    version: Version,
    /// Names the packet, with its addresses and, of IPv4, its protocol.
    pub id: u32,
    /// The protocol, or the extension header, that the fragments are of.
    pub protocol: u8,
    /// Where its data belongs in the packet, behind the headers that all fragments have, in bytes.
    pub offset: usize,
    /// Whether more follow.
    pub more: bool,
    /// The headers that all fragments have.
    head: &'a [u8],
    /// Where in them the fragment header is named.
    named_at: usize,
    /// Its part of the packet.
    pub data: &'a [u8],
}

impl<'a> View<'a> {
    /// Reads the fragment that `parsed` describes; `None` when it is none.
    #[must_use]
    pub fn of(packet: &'a [u8], parsed: &Parsed) -> Option<Self> {
        if parsed.fragment == Fragment::No {
            return None;
        }
        let packet = packet.get(..parsed.total_len as usize)?;
        match parsed.version {
            Version::V4 => {
                let view = ipv4::Packet::new_unchecked(packet);
                let (head, data) = packet.split_at_checked(view.header_len())?;
                Some(Self {
                    version: Version::V4,
                    id: u32::from(view.identification()),
                    protocol: parsed.protocol,
                    offset: usize::from(view.fragment_offset()),
                    more: view.more_fragments(),
                    head,
                    named_at: 0,
                    data,
                })
            }
            Version::V6 => {
                let place = ipv6::find_fragment(packet)?;
                let (head, rest) = packet.split_at_checked(place.at)?;
                let (header, data) = rest.split_at_checked(HEADER_LEN)?;
                let word = be16(header, 2);
                Some(Self {
                    version: Version::V6,
                    id: be32(header, 4),
                    protocol: byte(header, 0),
                    offset: usize::from(word & !7),
                    more: word & 1 != 0,
                    head,
                    named_at: place.named_at,
                    data,
                })
            }
        }
    }

    /// Bytes of the headers that the whole packet begins with.
    #[must_use]
    pub const fn head_len(&self) -> usize {
        self.head.len()
    }

    /// How many bytes may follow these headers in a whole packet.
    #[must_use]
    pub const fn most(&self) -> usize {
        let counted = match self.version {
            Version::V4 => self.head.len(),
            Version::V6 => self.head.len() - ipv6::HEADER_LEN,
        };
        u16::MAX as usize - counted
    }

    /// Whether a router on the way had to delay it.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        let class = match self.version {
            Version::V4 => byte(self.head, 1),
            Version::V6 => byte(self.head, 1) >> 4,
        };
        class & CONGESTION == CONGESTION
    }

    /// Writes the headers as those of a whole packet, whose lengths and checksum [`complete`] sets.
    pub fn emit_head(&self, out: &mut [u8]) {
        put(out, 0, self.head);
        match self.version {
            Version::V4 => put(out, 6, &[byte(self.head, 6) & 0x40, 0]),
            Version::V6 => put(out, self.named_at, &[self.protocol]),
        }
    }
}

/// Sets the lengths of a packet that was put together, its IPv4 checksum, and the sign of congestion if
/// one of its fragments had it. `None` when it is too long.
#[must_use]
pub fn complete(packet: &mut [u8], congested: bool) -> Option<()> {
    let length = packet.len();
    if byte(packet, 0) >> 4 == 6 {
        let length = u16::try_from(length.checked_sub(ipv6::HEADER_LEN)?).ok()?;
        let mut view = ipv6::Packet::new_unchecked(packet);
        view.set_payload_len(length);
        if congested {
            view.set_traffic_class(view.traffic_class() | CONGESTION);
        }
        return Some(());
    }
    let mut view = ipv4::Packet::new_unchecked(packet);
    view.set_total_len(u16::try_from(length).ok()?);
    if congested {
        view.set_traffic_class(view.traffic_class() | CONGESTION);
    }
    view.fill_checksum();
    Some(())
}

/// A whole packet that is to be cut.
#[derive(Clone, Copy, Debug)]
pub struct Cut<'a> {
    version: Version,
    head: &'a [u8],
    named_at: usize,
    data: &'a [u8],
    size: usize,
    id: u32,
}

impl<'a> Cut<'a> {
    /// Reads a packet that is to become fragments of at most `mtu` bytes, named by `id`. Whether it may
    /// be cut is the caller's business. `None` when there is no room for data beside the headers, when
    /// it is a fragment, or when it has an IPv6 fragment header.
    #[must_use]
    pub fn new(packet: &'a [u8], mtu: usize, id: u32) -> Option<Self> {
        let version = if byte(packet, 0) >> 4 == 6 { Version::V6 } else { Version::V4 };
        let (head_len, named_at, added) = match version {
            Version::V4 => {
                let view = ipv4::Packet::new_unchecked(packet);
                if view.more_fragments() || view.fragment_offset() != 0 {
                    return None;
                }
                (view.header_len(), 0, 0)
            }
            Version::V6 => {
                let (end, named_at) = ipv6::unfragmentable(packet)?;
                (end, named_at, HEADER_LEN)
            }
        };
        let (head, data) = packet.split_at_checked(head_len)?;
        let size = mtu.checked_sub(head_len + added)? / UNIT * UNIT;
        (size > 0).then_some(Self { version, head, named_at, data, size, id })
    }

    /// How many fragments it becomes.
    #[must_use]
    pub const fn count(&self) -> usize {
        let count = self.data.len().div_ceil(self.size);
        if count == 0 { 1 } else { count }
    }

    /// Writes a fragment, counted from zero, into `out`. Gives its length, or `None` when there is no
    /// such fragment or no room for it.
    #[must_use]
    pub fn emit(&self, index: usize, out: &mut [u8]) -> Option<usize> {
        if index >= self.count() {
            return None;
        }
        let start = index * self.size;
        let end = self.data.len().min(start + self.size);
        let data = self.data.get(start..end)?;
        let more = end < self.data.len();
        let added = if self.version == Version::V6 { HEADER_LEN } else { 0 };
        let length = self.head.len() + added + data.len();
        let out = out.get_mut(..length)?;
        put(out, 0, self.head);
        put(out, self.head.len() + added, data);
        match self.version {
            Version::V4 => {
                let word = (start / UNIT) as u16 | u16::from(more) << 13;
                put(out, 4, &(self.id as u16).to_be_bytes());
                put(out, 6, &word.to_be_bytes());
                if index > 0 {
                    blank_options(out.get_mut(ipv4::HEADER_LEN..self.head.len())?);
                }
                complete(out, false)?;
            }
            Version::V6 => {
                let mut header = [0; HEADER_LEN];
                put(&mut header, 0, &[byte(self.head, self.named_at)]);
                put(&mut header, 2, &(start as u16 | u16::from(more)).to_be_bytes());
                put(&mut header, 4, &self.id.to_be_bytes());
                put(out, self.named_at, &[ipv6::extension::FRAGMENT]);
                put(out, self.head.len(), &header);
                complete(out, false)?;
            }
        }
        Some(length)
    }
}

/// Overwrites IPv4 options that only the first fragment has with "no operation".
fn blank_options(options: &mut [u8]) {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const COPIED: u8 = 0x80;
    let mut at = 0;
    while let Some(&kind) = options.get(at) {
        let length = match kind {
            END => return,
            NO_OPERATION => 1,
            _ => usize::from(byte(options, at + 1)).max(2),
        };
        if kind & COPIED == 0
            && let Some(option) = options.get_mut(at..at + length)
        {
            option.fill(NO_OPERATION);
        }
        at += length;
    }
}

#[cfg(test)]
mod tests;
