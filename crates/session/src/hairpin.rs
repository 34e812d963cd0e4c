//! Hairpins: inside hosts that reach one another by the outside address of source NAT (RFC 4787 REQ-9,
//! RFC 5382 REQ-8).
//!
//! Each of them has a session of its own, which leaves the fabric under the outside address, as it would
//! toward anybody out there. A packet from one outside endpoint to another comes back at once, on the
//! *other side* of the interface ([`InterfaceId::hairpin`]), and is looked at as one that arrives. It
//! reaches a host by the same rule as what comes from outside: if that host talks to the sender. Source
//! and destination are outside addresses in both directions.

use core::net::IpAddr;

use fairway_types::{DropReason, InterfaceId, Now, Outlet, PortRange, Protocol, Slot, Verdict};

use crate::engine::Engine;
use crate::key::FlowKey;

impl Engine {
    /// Whether a host asks for an endpoint of source NAT, and not for one of this router's waypoints:
    /// it is not on the side where such endpoints are waited for.
    pub(crate) fn asks_for_outside(&self, key: &FlowKey) -> bool {
        let protocol = key.protocol == Protocol::TCP || key.protocol == Protocol::UDP;
        protocol
            && !key.interface.is_hairpin()
            && PortRange::SOURCE_NAT.contains(key.local.port())
            && self.outside_of(key.local.ip(key.ipv6)).is_some_and(|interface| interface != key.interface)
    }

    /// The interface that gives an address to sessions.
    fn outside_of(&self, address: IpAddr) -> Option<InterfaceId> {
        let mut interfaces = (0u16..).map(InterfaceId).zip(&self.snapshot.model().interfaces);
        let found =
            interfaces.find(|(_, interface)| interface.nat_address(address.is_ipv6()) == Some(address));
        found.map(|(id, _)| id)
    }

    /// A packet that left for the outside address arrives there.
    pub(crate) fn turn_around(
        &mut self,
        now: Now,
        packet: &mut Slot,
        side: InterfaceId,
        outlet: &mut Outlet<'_>,
    ) -> Verdict {
        if packet.interface.is_hairpin() {
            // Where sessions enter is never the other side, so one turn is all there can be.
            self.drops.record(now.mono, DropReason::RouteLoop, packet.interface, None, packet.packet.len());
            return Verdict::Drop(DropReason::RouteLoop);
        }
        packet.interface = side;
        self.arrived(now, packet, outlet)
    }

    /// The same for packets of this router's own making: errors about such packets.
    pub(crate) fn turn_emitted(&mut self, now: Now, from: usize, outlet: &mut Outlet<'_>) {
        let mut at = from;
        while let Some(emitted) = outlet.get_mut(at) {
            at += 1;
            let Verdict::Forward(egress) = emitted.verdict else { continue };
            if !egress.interface.is_hairpin() {
                continue;
            }
            let Some(mut packet) = self.segment.take() else { return };
            emitted.verdict = Verdict::Consumed;
            packet.packet.clear();
            let copied = packet.packet.fill(emitted.packet.bytes());
            (packet.interface, packet.checksum, packet.gso) =
                (egress.interface.straight(), emitted.checksum, emitted.gso);
            (packet.handed, packet.genuine) = (emitted.handed, false);
            if copied {
                packet.verdict = self.turn_around(now, &mut packet, egress.interface, outlet);
            }
            if copied && matches!(packet.verdict, Verdict::Forward(_) | Verdict::HandOver(_)) {
                self.emit_copy(now, &packet, outlet);
            }
            self.segment = Some(packet);
        }
    }
}
