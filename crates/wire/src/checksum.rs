//! The Internet checksum (RFC 1071) and its incremental change (RFC 1624).
//!
//! Sums are taken over big-endian 16-bit words; a trailing odd byte is the high half of a word.
//! Parts may be summed apart and added as long as each part starts at an even offset of the whole.

use core::net::IpAddr;

use crate::protocol;

/// The one's-complement sum of `bytes`, folded to 16 bits, not complemented.
///
/// Results may be added to each other, up to 65,537 of them, before they are folded.
#[inline]
#[must_use]
pub fn sum(bytes: &[u8]) -> u32 {
    // Of words of 64 bits, the sum of all and that of their upper halves, which give that of the lower
    // halves: fewer steps than taking both apart, and the compiler does several words at once.
    let (mut whole, mut upper) = (0_u64, 0_u64);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let word = u64::from_ne_bytes(*word);
        whole = whole.wrapping_add(word);
        upper = upper.wrapping_add(word >> 32);
    }
    // It has room for 2^32 words, whatever fell out on the way.
    let lower = whole.wrapping_sub(upper << 32);
    let total = fold64(lower) + fold64(upper) + fold64(short(rest));
    u32::from(u16::from_be(fold(total)))
}

/// The sum of fewer than 8 bytes, in native order of bytes.
#[inline]
fn short(rest: &[u8]) -> u64 {
    let mut total = 0;
    let (words, rest) = rest.as_chunks::<4>();
    for word in words {
        total += u64::from(u32::from_ne_bytes(*word));
    }
    let (halves, rest) = rest.as_chunks::<2>();
    for half in halves {
        total += u64::from(u16::from_ne_bytes(*half));
    }
    match rest {
        [last] => total + u64::from(u16::from_ne_bytes([*last, 0])),
        _ => total,
    }
}

/// Brings a sum of 64 bits down to one that can be added to others in 32 bits.
#[inline]
const fn fold64(sum: u64) -> u32 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    sum as u32
}

/// Folds a sum to 16 bits, not complemented.
#[inline]
#[must_use]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// The sum of the pseudo-header of TCP, UDP and ICMPv6 (RFC 9293 3.1, RFC 768, RFC 8200 8.1).
///
/// `length` is that of the transport header and its payload in bytes. Folded, this is what the
/// checksum field of a packet with an unfinished checksum holds.
#[inline]
#[must_use]
pub fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: u32) -> u32 {
    address(source) + address(destination) + u32::from(protocol) + (length >> 16) + (length & 0xffff)
}

#[inline]
fn address(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => sum(&address.octets()),
        IpAddr::V6(address) => sum(&address.octets()),
    }
}

/// The checksum to store in a transport header whose checksum field is zero in `segment`.
///
/// ICMP for IPv4 has no pseudo-header. A UDP checksum of zero is given as `0xffff` (RFC 768).
#[must_use]
pub fn transport_checksum(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let checksum = !fold(covered(source, destination, protocol, segment));
    if protocol == protocol::UDP && checksum == 0 { 0xffff } else { checksum }
}

/// Whether the checksum inside `segment` is right.
///
/// A UDP checksum of zero means there is none: right over IPv4, wrong over IPv6 (RFC 8200 8.1).
/// Protocols without a checksum that this crate knows are always right.
#[must_use]
pub fn transport_checksum_is_valid(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    segment: &[u8],
) -> bool {
    let Some(at) = field_offset(protocol) else { return true };
    let Some(field) = segment.get(at..at + 2) else { return false };
    if protocol == protocol::UDP && field == [0, 0] {
        return source.is_ipv4();
    }
    fold(covered(source, destination, protocol, segment)) == 0xffff
}

fn covered(source: IpAddr, destination: IpAddr, protocol: u8, segment: &[u8]) -> u32 {
    let body = sum(segment);
    if protocol == protocol::ICMP {
        return body;
    }
    let length = u32::try_from(segment.len()).unwrap_or(u32::MAX);
    body + pseudo_header(source, destination, protocol, length)
}

/// Where the checksum field lies in a transport header, in bytes; `None` for protocols without one.
#[inline]
#[must_use]
pub const fn field_offset(protocol: u8) -> Option<usize> {
    match protocol {
        protocol::TCP => Some(16),
        protocol::UDP => Some(6),
        protocol::ICMP | protocol::ICMPV6 => Some(2),
        _ => None,
    }
}

/// How a checksum changes when some of the bytes it covers change (RFC 1624, equation 3).
///
/// Holds `~m + m'` of the changed bytes, folded; "no change" is always zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(u16);

impl Delta {
    /// No change.
    pub const NONE: Self = Self(0);

    /// The change from `old` to `new`, both at an even offset of what is covered. The lengths may
    /// differ when bytes were inserted or removed.
    #[inline]
    #[must_use]
    pub fn between(old: &[u8], new: &[u8]) -> Self {
        Self::from_sums(sum(old), sum(new))
    }

    /// The change from a part that sums to `old` to one that sums to `new`.
    #[inline]
    #[must_use]
    pub const fn from_sums(old: u32, new: u32) -> Self {
        Self::normal(!fold(old) as u32 + fold(new) as u32)
    }

    /// The change from one 16-bit word to another.
    #[inline]
    #[must_use]
    pub const fn word(old: u16, new: u16) -> Self {
        Self::from_sums(old as u32, new as u32)
    }

    /// Both changes.
    #[inline]
    #[must_use]
    pub const fn combine(self, other: Self) -> Self {
        Self::normal(self.0 as u32 + other.0 as u32)
    }

    /// The change that undoes this one.
    #[inline]
    #[must_use]
    pub const fn inverse(self) -> Self {
        Self::normal(!self.0 as u32)
    }

    /// The checksum after the change; `checksum` is a field as it stands in a finished packet.
    #[inline]
    #[must_use]
    pub const fn apply(self, checksum: u16) -> u16 {
        !fold(!checksum as u32 + self.0 as u32)
    }

    /// The UDP checksum after the change: none (zero) stays none, and zero is sent as `0xffff`
    /// (RFC 768).
    #[inline]
    #[must_use]
    pub const fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            return 0;
        }
        match self.apply(checksum) {
            0 => 0xffff,
            changed => changed,
        }
    }

    /// The unfinished checksum after the change: `field` is a folded pseudo-header sum, not
    /// complemented (Linux `CHECKSUM_PARTIAL`). The change must be one of the pseudo-header only:
    /// addresses, protocol, length.
    #[inline]
    #[must_use]
    pub const fn apply_partial(self, field: u16) -> u16 {
        fold(field as u32 + self.0 as u32)
    }

    #[inline]
    const fn normal(sum: u32) -> Self {
        let folded = fold(sum);
        Self(if folded == 0xffff { 0 } else { folded })
    }
}

#[cfg(test)]
mod tests;
