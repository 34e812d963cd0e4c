//! Links between routers and to hosts, and their faults.

use std::net::IpAddr;

use fairway_types::{Egress, InterfaceId, Slot, Time, Verdict};
use fairway_wire::icmp::ErrorRepr;
use fairway_wire::ip::Version;
use rand_core::RngCore;

use super::{Arrival, Far, LINK_DELAY, Network, NodeId};
use crate::fragments::cut;
use crate::packet::{IcmpError, is_intact, on_the_wire};

impl Network {
    pub(super) fn transmit(&mut self, index: usize, slot: &Slot) {
        let Verdict::Forward(egress) = slot.verdict else { return };
        for packet in on_the_wire(slot) {
            self.put(index, egress, packet);
        }
    }

    /// Puts a packet on the link it leaves by.
    fn put(&mut self, index: usize, egress: Egress, packet: Vec<u8>) {
        let at = self.now + std::time::Duration::from_nanos(LINK_DELAY);
        if let Some(&far) = self.far.get(&(index, egress.interface.0)) {
            if let Some(tap) = &mut self.tap {
                tap(NodeId(index), &packet);
            }
            if let Some(wiretap) = &mut self.wiretap {
                wiretap.see(NodeId(index), NodeId(far.node), &packet, self.seed);
            }
            return self.enter(index, egress.interface, at, far, packet);
        }
        let host = self.hosts.iter().position(|host| {
            (host.node, host.interface) == (index, egress.interface)
                && host.addresses.contains(&egress.next_hop)
        });
        if let Some(host) = host {
            self.schedule(at, Arrival::AtHost(host, packet));
        }
    }

    /// The router in the middle of a link, if there is one.
    fn enter(&mut self, index: usize, interface: InterfaceId, at: Time, far: Far, packet: Vec<u8>) {
        /// The address of such routers.
        const ISSUER: [IpAddr; 2] = [
            IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 1)),
            IpAddr::V6(std::net::Ipv6Addr::new(0x2001, 0xdb8, 0xff, 0, 0, 0, 0, 1)),
        ];
        let Some(&mtu) = self.narrow.get(&far.link).filter(|&&mtu| packet.len() > mtu) else {
            return self.cross(index, at, far, packet);
        };
        let ipv6 = packet[0] >> 4 == 6;
        if !ipv6 && packet[6] & 0x40 == 0 {
            let id = u32::from(u16::from_be_bytes([packet[4], packet[5]]));
            return cut(&packet, mtu, id).into_iter().for_each(|part| self.cross(index, at, far, part));
        }
        let version = if ipv6 { Version::V6 } else { Version::V4 };
        let error = ErrorRepr::too_big(version, mtu as u16);
        let error = IcmpError::bytes(ISSUER[usize::from(ipv6)], &packet, &error);
        self.schedule(at, Arrival::AtNode(index, interface.0, error));
    }

    /// A link between routers, with its faults.
    fn cross(&mut self, from: usize, at: Time, far: Far, mut packet: Vec<u8>) {
        if self.translated {
            translate(&mut packet, from < far.node);
        }
        if self.cut[far.link] || self.happens(self.faults.loss) {
            return;
        }
        // No packet is damaged twice: the second bit could hide the first from any checksum.
        if self.happens(self.faults.replay) {
            let later = at + std::time::Duration::from_millis(self.rng.next_u64() % 8000);
            self.schedule(later, Arrival::AtNode(far.node, far.interface.0, packet.clone()));
        }
        if self.happens(self.faults.corrupt) && is_intact(&packet) {
            let bit = self.rng.next_u32() as usize % (packet.len() * 8);
            packet[bit / 8] ^= 1 << (bit % 8);
        }
        let copies = 1 + usize::from(self.happens(self.faults.duplicate));
        for _ in 0..copies {
            let extra = if self.happens(self.faults.reorder) { self.rng.next_u64() % 20_000_000 } else { 0 };
            let at = at + std::time::Duration::from_nanos(extra);
            self.schedule(at, Arrival::AtNode(far.node, far.interface.0, packet.clone()));
        }
    }

    fn happens(&mut self, per_thousand: u32) -> bool {
        per_thousand > 0 && self.rng.next_u32() % 1000 < per_thousand
    }
}

/// What a NAT does to a waypoint flow: on the way out it has another source port, on the way back
/// another destination port (RFC 1624 for the checksum).
fn translate(packet: &mut [u8], outward: bool) {
    const CHANGE: u16 = 0x0e3c;
    let transport = if packet[0] >> 4 == 4 { 20 } else { 40 };
    let port = transport + if outward { 0 } else { 2 };
    let checksum = transport + if packet[transport - 11] == 6 && transport == 20 { 16 } else { 6 };
    let word = |packet: &[u8], at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    let old = word(packet, port);
    if old == fairway_wire::svr::BFD_PORT {
        return;
    }
    let new = old ^ CHANGE;
    let mut sum = u32::from(!word(packet, checksum)) + u32::from(!old) + u32::from(new);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    packet[port..port + 2].copy_from_slice(&new.to_be_bytes());
    // Zero would say that there is none.
    let sum = if sum as u16 == u16::MAX { 0 } else { sum as u16 };
    packet[checksum..checksum + 2].copy_from_slice(&(!sum).to_be_bytes());
}
