//! Wire formats: borrowed views and emitters for SVR metadata, IPv4, IPv6, TCP, UDP, ICMP, BFD,
//! ARP and neighbour discovery.
//!
//! Everything here is a pure function over byte slices. Nothing panics on any bytes, nothing is
//! allocated, and nothing is decided: whether a packet is welcome is the engine's business. The
//! layouts, with diagrams and golden vectors, are in `docs/wire.md`.
//!
//! * [`ip::parse`] reads what the fast path needs of a packet in one pass.
//! * [`svr`] reads and writes session metadata.
//! * [`recognise`] tells payload that is encrypted already.
//! * [`segment`] cuts super-packets, [`fragment`] cuts packets and puts them together.
//! * The other modules are views of one header each, for slow paths and emitters.
#![no_std]

#[cfg(test)]
extern crate std;

mod bytes;

pub mod arp;
pub mod bfd;
pub mod checksum;
pub mod fragment;
pub mod icmp;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod ndp;
pub mod recognise;
pub mod segment;
pub mod svr;
pub mod tcp;
pub mod udp;

/// Numbers of the IP protocols this crate knows (IANA "Assigned Internet Protocol Numbers").
pub mod protocol {
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPsec encapsulating security payload.
    pub const ESP: u8 = 50;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
}

/// Why a header of IP, TCP, UDP or ICMP could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// The packet is shorter than an IP header.
    IpTooShort,
    /// The IP version is neither 4 nor 6, or not the one asked for.
    IpVersion,
    /// The header length of IPv4 is below 20 or beyond the packet.
    IpHeaderLength,
    /// The total length contradicts the header or exceeds the bytes there are.
    IpTotalLength,
    /// The checksum of the IPv4 header is wrong.
    IpChecksum,
    /// An IPv6 jumbogram (RFC 2675).
    Jumbogram,
    /// The IPv6 extension headers are cut short, or are more than a packet may have.
    ExtensionHeaders,
    /// The transport header is cut short.
    TransportTooShort,
    /// The data offset of TCP is below 20 or beyond the packet.
    TcpDataOffset,
    /// The UDP length is below 8 or beyond the packet.
    UdpLength,
}

impl ParseError {
    /// Whether the transport header is at fault; otherwise the IP header is.
    #[must_use]
    pub const fn is_transport(self) -> bool {
        matches!(self, Self::TransportTooShort | Self::TcpDataOffset | Self::UdpLength)
    }
}

impl core::fmt::Display for ParseError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::IpTooShort => "shorter than an IP header",
            Self::IpVersion => "wrong IP version",
            Self::IpHeaderLength => "bad IPv4 header length",
            Self::IpTotalLength => "bad IP total length",
            Self::IpChecksum => "bad IPv4 header checksum",
            Self::Jumbogram => "IPv6 jumbogram",
            Self::ExtensionHeaders => "bad IPv6 extension headers",
            Self::TransportTooShort => "transport header cut short",
            Self::TcpDataOffset => "bad TCP data offset",
            Self::UdpLength => "bad UDP length",
        })
    }
}

impl core::error::Error for ParseError {}
