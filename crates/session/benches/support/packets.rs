//! Packets of a flow: a header for each, and payload they share.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use fairway_wire::{checksum, protocol};

/// IPv4 and TCP headers without options.
const MAX_HEADER: usize = 40;

/// The headers of one packet of a flow.
#[derive(Clone, Copy)]
pub struct Template {
    bytes: [u8; MAX_HEADER],
    length: u8,
}

impl Template {
    /// A packet of a flow from its host to its server, with right checksums for `payload`.
    pub fn of_flow(flow: u32, protocol: u8, payload: &[u8]) -> Self {
        const HOSTS: u32 = 60_000;
        let host = Ipv4Addr::from_bits(0x0a01_0002 + flow % HOSTS);
        let server = Ipv4Addr::from_bits(0x0a02_0002 + flow / 97 % HOSTS);
        let source = SocketAddr::new(host.into(), 1024 + (flow / HOSTS) as u16);
        Self::new(source, SocketAddr::new(server.into(), 443), protocol, payload)
    }

    fn new(source: SocketAddr, destination: SocketAddr, protocol: u8, payload: &[u8]) -> Self {
        let mut bytes = [0; MAX_HEADER];
        let length = if protocol == protocol::TCP { 40 } else { 28 };
        let total = length + payload.len();
        bytes[..12].copy_from_slice(&[0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, protocol, 0, 0]);
        // A super-packet is longer than the field can say; backends then write what fits.
        bytes[2..4].copy_from_slice(&(total.min(65_535) as u16).to_be_bytes());
        for (at, address) in [(12, source.ip()), (16, destination.ip())] {
            let IpAddr::V4(address) = address else { unreachable!("hosts here speak IPv4") };
            bytes[at..at + 4].copy_from_slice(&address.octets());
        }
        bytes[20..22].copy_from_slice(&source.port().to_be_bytes());
        bytes[22..24].copy_from_slice(&destination.port().to_be_bytes());
        if protocol == protocol::TCP {
            bytes[32..36].copy_from_slice(&[0x50, 0x10, 0xff, 0xff]);
        } else {
            bytes[24..26].copy_from_slice(&(8 + payload.len() as u16).to_be_bytes());
        }
        let mut template = Self { bytes, length: length as u8 };
        template.complete(payload);
        template
    }

    fn complete(&mut self, payload: &[u8]) {
        let header = !checksum::fold(checksum::sum(&self.bytes[..20]));
        self.bytes[10..12].copy_from_slice(&header.to_be_bytes());
        let packet = self.packet(payload);
        let (source, destination) = self.addresses();
        let sum = checksum::transport_checksum(source, destination, self.bytes[9], &packet[20..]);
        let at = if self.bytes[9] == protocol::TCP { 36 } else { 26 };
        self.bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    }

    fn addresses(&self) -> (IpAddr, IpAddr) {
        let address = |at: usize| {
            IpAddr::from([self.bytes[at], self.bytes[at + 1], self.bytes[at + 2], self.bytes[at + 3]])
        };
        (address(12), address(16))
    }

    /// The class that decides which worker has the flow.
    pub fn class(&self) -> u8 {
        let (source, destination) = self.addresses();
        let port = |at: usize| u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]]);
        fairway_types::steering::class_of(&fairway_types::Tuple {
            source: SocketAddr::new(source, port(20)),
            destination: SocketAddr::new(destination, port(22)),
            protocol: fairway_types::Protocol(self.bytes[9]),
        })
    }

    /// The same packet in the opposite direction. Its checksums hold: sums do not depend on order.
    pub fn answer(&self) -> Self {
        let mut answer = *self;
        answer.bytes[12..16].copy_from_slice(&self.bytes[16..20]);
        answer.bytes[16..20].copy_from_slice(&self.bytes[12..16]);
        answer.bytes[20..22].copy_from_slice(&self.bytes[22..24]);
        answer.bytes[22..24].copy_from_slice(&self.bytes[20..22]);
        answer
    }

    /// The headers of a packet.
    pub fn read(packet: &[u8]) -> Self {
        let length = if packet[9] == protocol::TCP { 40 } else { 28 };
        let mut bytes = [0; MAX_HEADER];
        bytes[..length].copy_from_slice(&packet[..length]);
        Self { bytes, length: length as u8 }
    }

    /// The headers.
    pub fn headers(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// Headers and payload.
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        [self.headers(), payload].concat()
    }
}

/// One template for each of the first flows.
pub fn templates(flows: std::ops::Range<u32>, protocol: u8, payload: &[u8]) -> Vec<Template> {
    flows.map(|flow| Template::of_flow(flow, protocol, payload)).collect()
}
