//! The compact key of a flow.

use core::hash::{Hash, Hasher};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use fairway_types::steering::{self, Classes};
use fairway_types::{InterfaceId, Protocol, Tuple};
use fairway_wire::ip::{Parsed, Version};

/// One end of a flow: an address and a port, 18 bytes. IPv4 is kept as an IPv4-mapped address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct End {
    address: [u8; 16],
    port: u16,
}

impl End {
    #[inline]
    pub(crate) fn new(address: IpAddr, port: u16) -> Self {
        const MAPPED: u128 = 0xffff << 32;
        let address = match address {
            IpAddr::V4(v4) => (MAPPED | u128::from(v4.to_bits())).to_be_bytes(),
            IpAddr::V6(v6) => v6.octets(),
        };
        Self { address, port }
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The address, of IPv4 as an IPv4-mapped one.
    pub(crate) const fn address(&self) -> [u8; 16] {
        self.address
    }

    pub(crate) fn ip(&self, ipv6: bool) -> IpAddr {
        if ipv6 {
            IpAddr::V6(Ipv6Addr::from(self.address))
        } else {
            let [.., a, b, c, d] = self.address;
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
    }

    /// The address as it stands in a header of its family.
    pub(crate) fn octets(&self, ipv6: bool) -> &[u8] {
        if ipv6 { &self.address } else { &self.address[12..] }
    }
}

/// What identifies a flow: the interface it arrives on, both ends, protocol and family.
///
/// The interface is part of the key, so that tenants whose prefixes overlap never meet. A waypoint
/// flow is kept under the interface that holds the waypoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FlowKey {
    /// Where its packets come from.
    pub(crate) remote: End,
    /// Where they go.
    pub(crate) local: End,
    pub(crate) interface: InterfaceId,
    pub(crate) protocol: Protocol,
    pub(crate) ipv6: bool,
}

impl Hash for FlowKey {
    /// Three words, which hash much faster than twice sixteen bytes and their neighbours.
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Self { remote, local, interface, protocol, ipv6 } = self;
        state.write_u128(u128::from_ne_bytes(remote.address));
        state.write_u128(u128::from_ne_bytes(local.address));
        let ports = u64::from(remote.port) << 48 | u64::from(local.port) << 32;
        state.write_u64(ports | u64::from(interface.0) << 16 | u64::from(protocol.0) << 8 | u64::from(*ipv6));
    }
}

impl FlowKey {
    /// The flow of a packet that arrived on an interface.
    #[inline]
    pub(crate) fn of_packet(interface: InterfaceId, parsed: &Parsed) -> Self {
        Self {
            remote: End::new(parsed.source, parsed.source_port),
            local: End::new(parsed.destination, parsed.destination_port),
            interface,
            protocol: Protocol(parsed.protocol),
            ipv6: parsed.version == Version::V6,
        }
    }

    pub(crate) fn new(interface: InterfaceId, tuple: &Tuple) -> Self {
        Self {
            remote: End::new(tuple.source.ip(), tuple.source.port()),
            local: End::new(tuple.destination.ip(), tuple.destination.port()),
            interface,
            protocol: tuple.protocol,
            // A v4-mapped address inside an IPv6 packet is still an IPv6 packet.
            ipv6: tuple.is_ipv6(),
        }
    }

    /// The tuple of packets that arrive on this flow.
    pub(crate) fn tuple(&self) -> Tuple {
        Tuple {
            source: SocketAddr::new(self.remote.ip(self.ipv6), self.remote.port),
            destination: SocketAddr::new(self.local.ip(self.ipv6), self.local.port),
            protocol: self.protocol,
        }
    }

    /// The class that steers its packets to a worker.
    #[inline]
    pub(crate) fn class(&self) -> u8 {
        let ports = (self.remote.port, self.local.port);
        steering::class(&self.remote.address, &self.local.address, ports, self.protocol)
    }

    /// The classes of flows that differ from this one in their ports.
    pub(crate) fn classes(&self) -> Classes {
        Classes::between(&self.remote.address, &self.local.address, self.protocol)
    }

    /// The key of the opposite direction on the same interface.
    pub(crate) fn reversed(&self) -> Self {
        Self { remote: self.local, local: self.remote, ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuple_survives_the_key() {
        for (a, b) in [("10.0.0.1:80", "10.0.0.2:90"), ("[fd00::1]:80", "[::ffff:10.0.0.1]:1")] {
            let tuple = Tuple {
                source: a.parse().unwrap(),
                destination: b.parse().unwrap(),
                protocol: Protocol::UDP,
            };
            let key = FlowKey::new(InterfaceId(3), &tuple);
            assert_eq!(key.tuple(), tuple);
            assert_eq!(key.reversed().tuple(), tuple.reversed());
        }
        assert!(core::mem::size_of::<FlowKey>() <= 40);
    }
}
