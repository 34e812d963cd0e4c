//! The packets that hosts of the simulation exchange.

use std::net::{IpAddr, SocketAddr};

use fairway_types::{Checksum, Slot};
use fairway_wire::icmp::{self, ErrorRepr};
use fairway_wire::ip::{self, Parsed};
use fairway_wire::segment::SuperPacket;
use fairway_wire::{checksum, protocol};

/// An IP packet with a transport header, both without options, and all checksums right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source; the port is the identifier of an ICMP echo.
    pub source: SocketAddr,
    /// Destination.
    pub destination: SocketAddr,
    /// TCP, UDP, ICMP, ICMPv6 or one without ports.
    pub protocol: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Flags, sequence and acknowledgement numbers of TCP.
    pub tcp: (u8, u32, u32),
    /// Whether an ICMP echo is a reply.
    pub reply: bool,
    /// What follows the transport header.
    pub payload: Vec<u8>,
}

impl Packet {
    /// A UDP packet.
    #[must_use]
    pub fn udp(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Self {
        Self {
            source,
            destination,
            protocol: protocol::UDP,
            traffic_class: 0,
            ttl: 64,
            tcp: (0, 0, 0),
            reply: false,
            payload: payload.into(),
        }
    }

    /// A TCP segment.
    #[must_use]
    pub fn tcp(source: SocketAddr, destination: SocketAddr, tcp: (u8, u32, u32), payload: &[u8]) -> Self {
        Self { protocol: protocol::TCP, tcp, ..Self::udp(source, destination, payload) }
    }

    /// An echo request; both ports are to be the identifier.
    #[must_use]
    pub fn echo(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Self {
        let protocol = if source.is_ipv6() { protocol::ICMPV6 } else { protocol::ICMP };
        Self { protocol, ..Self::udp(source, destination, payload) }
    }

    /// A packet of a protocol without ports or checksum.
    #[must_use]
    pub fn portless(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Self {
        let (source, destination) = (SocketAddr::new(source, 0), SocketAddr::new(destination, 0));
        Self { protocol, ..Self::udp(source, destination, payload) }
    }

    /// The same packet without PSH, which routers set where metadata went with a segment.
    #[must_use]
    pub const fn without_push(mut self) -> Self {
        const PSH: u8 = 8;
        self.tcp.0 &= !PSH;
        self
    }

    /// The same packet in the opposite direction, as a server would answer it.
    #[must_use]
    pub fn answer(&self, payload: &[u8]) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            ttl: 64,
            reply: !self.reply && matches!(self.protocol, protocol::ICMP | protocol::ICMPV6),
            payload: payload.into(),
            ..self.clone()
        }
    }

    /// The bytes on the wire.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut segment = self.transport();
        segment.extend_from_slice(&self.payload);
        if self.protocol == protocol::UDP {
            let length = segment.len() as u16;
            segment[4..6].copy_from_slice(&length.to_be_bytes());
        }
        let (source, destination) = (self.source.ip(), self.destination.ip());
        let sum = checksum::transport_checksum(source, destination, self.protocol, &segment);
        if let Some(at) = checksum::field_offset(self.protocol) {
            segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        let mut bytes = self.ip_header(segment.len());
        bytes.extend_from_slice(&segment);
        bytes
    }

    fn transport(&self) -> Vec<u8> {
        let (from, to) = (self.source.port().to_be_bytes(), self.destination.port().to_be_bytes());
        match self.protocol {
            protocol::TCP => {
                let (flags, sequence, acknowledgement) = self.tcp;
                let numbers = [sequence.to_be_bytes(), acknowledgement.to_be_bytes()].concat();
                [&from[..], &to, &numbers, &[0x50, flags, 0xff, 0xff, 0, 0, 0, 0]].concat()
            }
            protocol::UDP => [&from[..], &to, &[0; 4]].concat(),
            protocol::ICMP => [&[if self.reply { 0 } else { 8 }, 0, 0, 0], &from[..], &[0, 1]].concat(),
            protocol::ICMPV6 => [&[if self.reply { 129 } else { 128 }, 0, 0, 0], &from[..], &[0, 1]].concat(),
            _ => Vec::new(),
        }
    }

    fn ip_header(&self, payload: usize) -> Vec<u8> {
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = vec![0x45, self.traffic_class];
                header.extend_from_slice(&((20 + payload) as u16).to_be_bytes());
                header.extend_from_slice(&[0, 1, 0x40, 0, self.ttl, self.protocol, 0, 0]);
                header.extend_from_slice(&source.octets());
                header.extend_from_slice(&destination.octets());
                let sum = !checksum::fold(checksum::sum(&header));
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                header
            }
            (source, destination) => {
                let mut header = (0x6000_0000 | u32::from(self.traffic_class) << 20).to_be_bytes().to_vec();
                header.extend_from_slice(&(payload as u16).to_be_bytes());
                header.extend_from_slice(&[self.protocol, self.ttl]);
                for address in [source, destination] {
                    if let IpAddr::V6(address) = address {
                        header.extend_from_slice(&address.octets());
                    }
                }
                header
            }
        }
    }

    /// Reads a packet; `None` when it is malformed or its checksum is wrong.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let parsed: Parsed = ip::parse(bytes).ok()?;
        let segment = parsed.segment(bytes);
        let (source, destination) = (parsed.source, parsed.destination);
        checksum::transport_checksum_is_valid(source, destination, parsed.protocol, segment).then_some(())?;
        let icmp = matches!(parsed.protocol, protocol::ICMP | protocol::ICMPV6);
        let word =
            |at: usize| segment.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        let tcp =
            if parsed.protocol == protocol::TCP { (parsed.tcp_flags, word(4), word(8)) } else { (0, 0, 0) };
        let payload = if icmp { segment.get(8..)? } else { parsed.payload(bytes) };
        Some(Self {
            source: SocketAddr::new(source, parsed.source_port),
            destination: SocketAddr::new(destination, parsed.destination_port),
            protocol: parsed.protocol,
            traffic_class: if source.is_ipv6() { bytes[0] << 4 | bytes[1] >> 4 } else { bytes[1] },
            ttl: parsed.ttl,
            tcp,
            reply: icmp && matches!(segment[0], 0 | 129),
            payload: payload.into(),
        })
    }
}

/// The packet of a slot as it is on a wire: with its checksum finished.
#[must_use]
pub fn finished(slot: &Slot) -> Vec<u8> {
    let mut packet = slot.packet.bytes().to_vec();
    if slot.checksum == Checksum::Partial
        && let Ok(parsed) = ip::parse(&packet)
        && let Some(at) = checksum::field_offset(parsed.protocol)
    {
        let transport = usize::from(parsed.header_len);
        // What the field holds is the sum of the pseudo-header.
        let sum = match !checksum::fold(checksum::sum(&packet[transport..])) {
            0 if parsed.protocol == protocol::UDP => u16::MAX,
            sum => sum,
        };
        packet[transport + at..transport + at + 2].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// The packets that a device makes of what a slot holds.
pub(crate) fn on_the_wire(slot: &Slot) -> Vec<Vec<u8>> {
    let bytes = slot.packet.bytes();
    let Some(Ok(whole)) = slot.gso.map(|gso| SuperPacket::new(bytes, usize::from(gso.size))) else {
        return vec![finished(slot)];
    };
    let cut = |number| {
        let mut packet = vec![0; bytes.len()];
        let length = whole.emit(number, &mut packet).unwrap_or(0);
        packet.truncate(length);
        packet
    };
    (0..whole.count()).map(cut).collect()
}

/// Whether the transport checksum of a packet is right.
#[must_use]
pub fn is_intact(packet: &[u8]) -> bool {
    ip::parse(packet).is_ok_and(|parsed| {
        let (source, destination) = (parsed.source, parsed.destination);
        let segment = parsed.segment(packet);
        checksum::transport_checksum_is_valid(source, destination, parsed.protocol, segment)
    })
}

/// An ICMP error, and whom it quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// Who issued it.
    pub source: IpAddr,
    /// Whose packet it is about.
    pub destination: IpAddr,
    /// Type, code and the four bytes after the checksum.
    pub error: ErrorRepr,
    /// Source of the quoted packet.
    pub quoted_source: SocketAddr,
    /// Destination of the quoted packet.
    pub quoted_destination: SocketAddr,
    /// Protocol of the quoted packet.
    pub quoted_protocol: u8,
}

impl IcmpError {
    /// The bytes of an error from `source` to the sender of `about`.
    #[must_use]
    pub fn bytes(source: IpAddr, about: &[u8], error: &ErrorRepr) -> Vec<u8> {
        let mut buffer = vec![0; 2048];
        let host = ip::parse(about).map(|parsed| parsed.source);
        let length = host.ok().and_then(|host| error.emit_packet(source, host, about, &mut buffer));
        buffer.truncate(length.unwrap_or(0));
        buffer
    }

    /// Reads an ICMP error; `None` when it is something else, malformed, or its checksum is wrong.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let parsed: Parsed = ip::parse(bytes).ok()?;
        (parsed.icmp == Some(ip::IcmpKind::Error)).then_some(())?;
        let segment = parsed.segment(bytes);
        let (source, destination) = (parsed.source, parsed.destination);
        checksum::transport_checksum_is_valid(source, destination, parsed.protocol, segment).then_some(())?;
        let view = icmp::Packet::new_checked(parsed.version, segment).ok()?;
        let quoted = ip::parse_quoted(view.payload()).ok()?;
        Some(Self {
            source,
            destination,
            error: ErrorRepr::parse(&view)?,
            quoted_source: SocketAddr::new(quoted.source, quoted.source_port),
            quoted_destination: SocketAddr::new(quoted.destination, quoted.destination_port),
            quoted_protocol: quoted.protocol,
        })
    }

    /// Whether it says that nobody listens on the port.
    #[must_use]
    pub fn is_port_unreachable(&self) -> bool {
        self.error.message_type == 3 && self.error.code == 3 && self.source.is_ipv4()
            || self.error.message_type == 1 && self.error.code == 4 && self.source.is_ipv6()
    }

    /// Whether it says that a packet is administratively prohibited.
    #[must_use]
    pub fn is_prohibited(&self) -> bool {
        self.error.message_type == 3 && self.error.code == 13 && self.source.is_ipv4()
            || self.error.message_type == 1 && self.error.code == 1 && self.source.is_ipv6()
    }
}
