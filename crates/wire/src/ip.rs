//! Reads what the fast path needs of an IPv4 or IPv6 packet in one pass.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::bytes::{array, be16, byte};
use crate::{ParseError, checksum, icmp, ipv6, protocol};

/// Version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Version {
    /// The version of an address.
    #[inline]
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Bytes of an IP header without options.
    #[must_use]
    pub const fn header_len(self) -> usize {
        match self {
            Self::V4 => 20,
            Self::V6 => ipv6::HEADER_LEN,
        }
    }

    /// The number of ICMP for this version.
    #[must_use]
    pub const fn icmp(self) -> u8 {
        match self {
            Self::V4 => protocol::ICMP,
            Self::V6 => protocol::ICMPV6,
        }
    }
}

/// Whether a packet is a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// A whole packet. An IPv6 packet with a fragment header that says so is whole (RFC 6946).
    No,
    /// The first fragment of several.
    First,
    /// Any other fragment: there is no transport header in it.
    Later,
}

/// What an ICMP message is to a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpKind {
    /// An echo request.
    EchoRequest,
    /// An echo reply.
    EchoReply,
    /// An error that quotes the packet it is about. Redirects are not counted here: they never
    /// leave a link.
    Error,
    /// Anything else.
    Other,
}

/// What [`parse`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Version of IP.
    pub version: Version,
    /// Where the transport header starts, after options and extension headers, in bytes.
    pub header_len: u16,
    /// Bytes of the packet by its own header; the slice may be longer.
    pub total_len: u32,
    /// The transport protocol; AH counts as one.
    pub protocol: u8,
    /// The source address.
    pub source: IpAddr,
    /// The destination address.
    pub destination: IpAddr,
    /// The source port; the identifier of ICMP echo; else zero.
    pub source_port: u16,
    /// The destination port; the identifier of ICMP echo; else zero.
    pub destination_port: u16,
    /// Whether this is a fragment.
    pub fragment: Fragment,
    /// TTL or hop limit.
    pub ttl: u8,
    /// The flags of TCP (FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128); else zero.
    pub tcp_flags: u8,
    /// Where the payload of TCP or UDP starts; for other protocols, and for fragments that are not
    /// the first, the same as `header_len`.
    pub payload_offset: u16,
    /// Where the payload ends: by the UDP length for UDP, else `total_len`.
    pub payload_end: u32,
    /// What kind of ICMP message it is; `None` for other protocols.
    pub icmp: Option<IcmpKind>,
}

impl Parsed {
    /// The payload of TCP or UDP, or the whole transport part of other protocols, of the packet
    /// that was parsed.
    #[inline]
    #[must_use]
    pub fn payload<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        packet.get(usize::from(self.payload_offset)..self.payload_end as usize).unwrap_or(&[])
    }

    /// The transport header and what follows it, up to the end of the packet by its own header.
    #[inline]
    #[must_use]
    pub fn segment<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        packet.get(usize::from(self.header_len)..self.total_len as usize).unwrap_or(&[])
    }
}

/// Reads a packet from its IP header to the start of its payload.
///
/// Checked are lengths, the IPv4 header checksum, the TCP data offset and the UDP length; transport
/// checksums are not. Bytes after the packet's own length are allowed.
///
/// # Errors
/// [`ParseError`]; [`ParseError::is_transport`] tells whose header was malformed.
#[inline]
pub fn parse(packet: &[u8]) -> Result<Parsed, ParseError> {
    match packet.first().map(|first| first >> 4) {
        Some(4) => {
            let (fixed, network) = parse_ipv4(packet)?;
            let source = IpAddr::V4(Ipv4Addr::from(array::<4>(fixed, 12)));
            let destination = IpAddr::V4(Ipv4Addr::from(array::<4>(fixed, 16)));
            finish(packet, &network, source, destination)
        }
        Some(6) => {
            let (fixed, network) = parse_ipv6(packet)?;
            let source = IpAddr::V6(Ipv6Addr::from(array::<16>(fixed, 8)));
            let destination = IpAddr::V6(Ipv6Addr::from(array::<16>(fixed, 24)));
            finish(packet, &network, source, destination)
        }
        Some(_) => Err(ParseError::IpVersion),
        None => Err(ParseError::IpTooShort),
    }
}

/// What the IP header says, addresses apart.
#[derive(Clone, Copy)]
struct Network {
    version: Version,
    header_len: u16,
    total_len: u32,
    protocol: u8,
    fragment: Fragment,
    ttl: u8,
}

/// What the transport header says.
#[derive(Clone, Copy)]
struct Transport {
    source_port: u16,
    destination_port: u16,
    tcp_flags: u8,
    header_len: u16,
    /// Bytes of header and payload, where the header says so.
    length: Option<u16>,
    icmp: Option<IcmpKind>,
}

impl Transport {
    const NONE: Self =
        Self { source_port: 0, destination_port: 0, tcp_flags: 0, header_len: 0, length: None, icmp: None };
}

#[inline]
fn finish(
    packet: &[u8],
    network: &Network,
    source: IpAddr,
    destination: IpAddr,
) -> Result<Parsed, ParseError> {
    let header_len = network.header_len;
    let segment = packet.get(usize::from(header_len)..network.total_len as usize).unwrap_or(&[]);
    let transport = match network.fragment {
        Fragment::Later => Transport::NONE,
        Fragment::No | Fragment::First => parse_transport(segment, network)?,
    };
    Ok(Parsed {
        version: network.version,
        header_len,
        total_len: network.total_len,
        protocol: network.protocol,
        source,
        destination,
        source_port: transport.source_port,
        destination_port: transport.destination_port,
        fragment: network.fragment,
        ttl: network.ttl,
        tcp_flags: transport.tcp_flags,
        payload_offset: header_len + transport.header_len,
        payload_end: match transport.length {
            Some(length) => u32::from(header_len) + u32::from(length),
            None => network.total_len,
        },
        icmp: transport.icmp,
    })
}

#[inline]
fn parse_ipv4(packet: &[u8]) -> Result<(&[u8; 20], Network), ParseError> {
    let Some(fixed) = packet.first_chunk::<20>() else { return Err(ParseError::IpTooShort) };
    let header_len = usize::from(fixed[0] & 0x0f) * 4;
    if header_len < 20 || header_len > packet.len() {
        return Err(ParseError::IpHeaderLength);
    }
    let total_len = usize::from(be16(fixed, 2));
    if total_len < header_len || total_len > packet.len() {
        return Err(ParseError::IpTotalLength);
    }
    let header_sum = if header_len == 20 {
        sum_20(fixed)
    } else {
        checksum::fold(checksum::sum(packet.get(..header_len).unwrap_or(fixed)))
    };
    if header_sum != 0xffff {
        return Err(ParseError::IpChecksum);
    }
    let fragment = match be16(fixed, 6) & 0x3fff {
        0 => Fragment::No,
        0x2000 => Fragment::First,
        _ => Fragment::Later,
    };
    let network = Network {
        version: Version::V4,
        header_len: header_len as u16,
        total_len: total_len as u32,
        protocol: fixed[9],
        fragment,
        ttl: fixed[8],
    };
    Ok((fixed, network))
}

/// The folded sum of an IPv4 header without options; whether it is `0xffff` does not depend on the
/// order of bytes in a word.
#[inline]
fn sum_20(header: &[u8; 20]) -> u16 {
    let mut sum = 0u64;
    for word in header.as_chunks::<4>().0 {
        sum += u64::from(u32::from_ne_bytes(*word));
    }
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    checksum::fold(((sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32)) as u32)
}

#[inline]
fn parse_ipv6(packet: &[u8]) -> Result<(&[u8; 40], Network), ParseError> {
    let Some(fixed) = packet.first_chunk::<40>() else { return Err(ParseError::IpTooShort) };
    let payload_len = usize::from(be16(fixed, 4));
    let total_len = ipv6::HEADER_LEN + payload_len;
    if total_len > packet.len() {
        return Err(ParseError::IpTotalLength);
    }
    let next_header = fixed[6];
    let upper = if ipv6::is_extension(next_header) {
        if payload_len == 0 && next_header == ipv6::extension::HOP_BY_HOP {
            return Err(ParseError::Jumbogram);
        }
        ipv6::walk(packet.get(..total_len).unwrap_or(&[]))?
    } else {
        ipv6::Upper { protocol: next_header, offset: 40, fragment: Fragment::No }
    };
    let network = Network {
        version: Version::V6,
        header_len: upper.offset,
        total_len: total_len as u32,
        protocol: upper.protocol,
        fragment: upper.fragment,
        ttl: fixed[7],
    };
    Ok((fixed, network))
}

#[inline]
fn parse_transport(segment: &[u8], network: &Network) -> Result<Transport, ParseError> {
    match (network.protocol, network.version) {
        (protocol::TCP, _) => {
            let Some(header) = segment.first_chunk::<20>() else {
                return Err(ParseError::TransportTooShort);
            };
            let length = usize::from(header[12] >> 4) * 4;
            if length < 20 || length > segment.len() {
                return Err(ParseError::TcpDataOffset);
            }
            Ok(Transport {
                source_port: be16(header, 0),
                destination_port: be16(header, 2),
                tcp_flags: header[13],
                header_len: length as u16,
                ..Transport::NONE
            })
        }
        (protocol::UDP, _) => {
            let Some(header) = segment.first_chunk::<8>() else {
                return Err(ParseError::TransportTooShort);
            };
            let length = be16(header, 4);
            let whole = network.fragment == Fragment::No;
            if length < 8 || (whole && usize::from(length) > segment.len()) {
                return Err(ParseError::UdpLength);
            }
            Ok(Transport {
                source_port: be16(header, 0),
                destination_port: be16(header, 2),
                header_len: 8,
                length: whole.then_some(length),
                ..Transport::NONE
            })
        }
        (protocol::ICMP, Version::V4) | (protocol::ICMPV6, Version::V6) => {
            let (kind, identifier) = parse_icmp(network.version, segment)?;
            Ok(Transport {
                source_port: identifier,
                destination_port: identifier,
                icmp: Some(kind),
                ..Transport::NONE
            })
        }
        _ => Ok(Transport::NONE),
    }
}

/// The kind of an ICMP message, and the identifier of an echo.
fn parse_icmp(version: Version, message: &[u8]) -> Result<(IcmpKind, u16), ParseError> {
    let kind = icmp::kind(version, *message.first().ok_or(ParseError::TransportTooShort)?);
    let least = if kind == IcmpKind::Other { 4 } else { icmp::HEADER_LEN };
    if message.len() < least {
        return Err(ParseError::TransportTooShort);
    }
    let identifier = match kind {
        IcmpKind::EchoRequest | IcmpKind::EchoReply => be16(message, 4),
        IcmpKind::Error | IcmpKind::Other => 0,
    };
    Ok((kind, identifier))
}

/// What [`parse_quoted`] found of the packet that an ICMP error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Version of IP.
    pub version: Version,
    /// Where the transport header starts, in bytes.
    pub header_len: u16,
    /// The transport protocol.
    pub protocol: u8,
    /// The source address.
    pub source: IpAddr,
    /// The destination address.
    pub destination: IpAddr,
    /// The source port; the identifier of ICMP echo; else zero.
    pub source_port: u16,
    /// The destination port; the identifier of ICMP echo; else zero.
    pub destination_port: u16,
    /// Bytes of the whole packet, by its own header.
    pub total_len: u32,
}

/// Reads the packet quoted by an ICMP error, which is usually cut short.
///
/// The quoted length may exceed the bytes there are, and the IPv4 checksum is not looked at, since
/// routers on the way may quote a header they already changed. The first 4 bytes of a TCP or UDP
/// header must be there, and the first 8 of ICMP echo.
///
/// # Errors
/// [`ParseError`]; quoted fragments other than the first have no ports and are refused as
/// [`ParseError::TransportTooShort`].
pub fn parse_quoted(quoted: &[u8]) -> Result<Quoted, ParseError> {
    let (version, upper, total_len) = match byte(quoted, 0) >> 4 {
        4 => quoted_ipv4(quoted)?,
        6 => quoted_ipv6(quoted)?,
        _ => return Err(ParseError::IpVersion),
    };
    if upper.fragment == Fragment::Later {
        return Err(ParseError::TransportTooShort);
    }
    let (source, destination): (IpAddr, IpAddr) = match version {
        Version::V4 => (array::<4>(quoted, 12).into(), array::<4>(quoted, 16).into()),
        Version::V6 => (array::<16>(quoted, 8).into(), array::<16>(quoted, 24).into()),
    };
    let transport = quoted.get(usize::from(upper.offset)..).unwrap_or(&[]);
    let (source_port, destination_port) = match (upper.protocol, version) {
        (protocol::TCP | protocol::UDP, _) => match transport.first_chunk::<4>() {
            Some(ports) => (be16(ports, 0), be16(ports, 2)),
            None => return Err(ParseError::TransportTooShort),
        },
        (protocol::ICMP, Version::V4) | (protocol::ICMPV6, Version::V6) => {
            let (_, identifier) = parse_icmp(version, transport)?;
            (identifier, identifier)
        }
        _ => (0, 0),
    };
    Ok(Quoted {
        version,
        header_len: upper.offset,
        protocol: upper.protocol,
        source,
        destination,
        source_port,
        destination_port,
        total_len,
    })
}

fn quoted_ipv4(quoted: &[u8]) -> Result<(Version, ipv6::Upper, u32), ParseError> {
    let header = quoted.first_chunk::<20>().ok_or(ParseError::IpTooShort)?;
    let header_len = u16::from(header[0] & 0x0f) * 4;
    if header_len < 20 || usize::from(header_len) > quoted.len() {
        return Err(ParseError::IpHeaderLength);
    }
    let fragment = if be16(header, 6) & 0x1fff == 0 { Fragment::No } else { Fragment::Later };
    let upper = ipv6::Upper { protocol: header[9], offset: header_len, fragment };
    Ok((Version::V4, upper, u32::from(be16(header, 2))))
}

fn quoted_ipv6(quoted: &[u8]) -> Result<(Version, ipv6::Upper, u32), ParseError> {
    if quoted.len() < ipv6::HEADER_LEN {
        return Err(ParseError::IpTooShort);
    }
    Ok((Version::V6, ipv6::walk(quoted)?, u32::from(be16(quoted, 4)) + 40))
}

#[cfg(test)]
mod tests;
