//! Protocols, port ranges and tuples.

use core::fmt;
use core::net::{IpAddr, SocketAddr};

/// An IP protocol number (IANA "Assigned Internet Protocol Numbers").
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    /// ICMP for IPv4 (RFC 792).
    pub const ICMP: Self = Self(1);
    /// TCP (RFC 9293).
    pub const TCP: Self = Self(6);
    /// UDP (RFC 768).
    pub const UDP: Self = Self(17);
    /// GRE (RFC 2784).
    pub const GRE: Self = Self(47);
    /// IPsec ESP (RFC 4303).
    pub const ESP: Self = Self(50);
    /// ICMP for IPv6 (RFC 4443).
    pub const ICMPV6: Self = Self(58);
    /// SCTP (RFC 9260). Treated as portless: its ports stay inside its own checksum.
    pub const SCTP: Self = Self(132);

    /// Whether packets of this protocol carry ports that waypoints may replace: TCP and UDP.
    #[must_use]
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP)
    }

    /// Whether this is ICMP or ICMPv6.
    #[must_use]
    pub const fn is_icmp(self) -> bool {
        matches!(self, Self::ICMP | Self::ICMPV6)
    }

    /// The protocol a session of this one travels in between waypoints: TCP in TCP, all else in
    /// UDP (spec section 2).
    #[must_use]
    pub const fn on_waypoints(self) -> Self {
        match self {
            Self::TCP => Self::TCP,
            _ => Self::UDP,
        }
    }

    /// The lower-case name used in configurations and on screens, if the protocol has one.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::ICMP => "icmp",
            Self::TCP => "tcp",
            Self::UDP => "udp",
            Self::GRE => "gre",
            Self::ESP => "esp",
            Self::ICMPV6 => "icmp6",
            Self::SCTP => "sctp",
            _ => return None,
        })
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.pad(name),
            None => f.pad(&format!("{}", self.0)),
        }
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An inclusive range of ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };
    /// The ports waypoints are taken from when nothing else is configured (spec section 4).
    pub const WAYPOINTS: Self = Self { first: 16_384, last: 65_534 };
    /// The ports that source NAT takes: beside those of servers and, once these were moved, of the
    /// host's own connections.
    pub const SOURCE_NAT: Self = Self::WAYPOINTS;
    /// The identifiers that source NAT gives to echo requests. They are few, because the host's own
    /// pings choose theirs from all: one in 64 would meet one of these.
    pub const ECHO_NAT: Self = Self { first: 64_512, last: 65_535 };

    /// A range, or `None` when it would be empty.
    #[must_use]
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first <= last { Some(Self { first, last }) } else { None }
    }

    /// One port.
    #[must_use]
    pub const fn single(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// The lowest port in the range.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The highest port in the range.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }

    /// How many ports the range holds: 1–65536.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.last as u32 - self.first as u32 + 1
    }

    /// Whether `port` is inside.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            f.pad(&format!("{}", self.first))
        } else {
            f.pad(&format!("{}-{}", self.first, self.last))
        }
    }
}

/// What identifies a flow on one interface: both ends and the protocol.
///
/// ICMP echo carries its identifier in *both* ports; protocols without ports carry zero in both.
/// Both addresses are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Where the packet comes from.
    pub source: SocketAddr,
    /// Where it goes.
    pub destination: SocketAddr,
    /// The IP protocol.
    pub protocol: Protocol,
}

impl Tuple {
    /// The tuple of packets in the opposite direction.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { source: self.destination, destination: self.source, protocol: self.protocol }
    }

    /// Whether the addresses are IPv6.
    #[must_use]
    pub const fn is_ipv6(&self) -> bool {
        matches!(self.destination.ip(), IpAddr::V6(_))
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.protocol, self.source, self.destination)
    }
}
