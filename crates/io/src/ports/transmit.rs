//! Sending: from slots with a verdict to frames on devices.

use core::net::IpAddr;

use fairway_types::{DropReason, Egress, InterfaceId, Slot, Time, Verdict};

use super::endpoint::{Link, Port, send_failure};
use super::tap::Tap;
use crate::capture::Direction;
use crate::frame::{ETHERNET, TAG, TAG_8021Q, VNET, ethernet, write_vnet};
use crate::neighbours::{Neighbours, Resolution};
use crate::netlink::State;
use crate::spec::PortKind;
use crate::sys::packet::{BATCH, FEW, Outgoing, OutgoingHeader};

/// A slot that is ready to go out of an Ethernet interface.
#[derive(Clone, Copy, Debug)]
struct Prepared {
    slot: usize,
    port: usize,
    header: OutgoingHeader,
}

/// What became of a slot on its way out.
enum Outcome {
    /// It goes with a batch of frames.
    Frame(Prepared),
    /// It is on its way.
    Sent,
    /// It waits for its next hop.
    Held,
    /// It is dropped.
    Dropped(DropReason),
}

/// The link address found last: neighbouring packets often share it.
type Recent = Option<(Egress, [u8; 6])>;

/// Lists that are kept to save their allocation.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    prepared: Vec<Prepared>,
    failed: Vec<(usize, DropReason)>,
}

/// What sending needs of a worker's state.
pub(super) struct Sender<'a> {
    pub(super) ports: &'a mut [Port],
    pub(super) state: &'a State,
    pub(super) neighbours: &'a mut Neighbours,
    pub(super) tap: &'a mut Tap,
    pub(super) scratch: &'a mut Scratch,
}

impl Sender<'_> {
    /// Sends what has the verdict `Forward`, in order for each interface, and hands over what has the
    /// verdict `Punt`.
    pub(super) fn send(&mut self, now: Time, slots: &mut [Slot]) {
        self.scratch.prepared.clear();
        let mut recent: Recent = None;
        for (at, slot) in slots.iter_mut().enumerate() {
            match slot.verdict {
                Verdict::Forward(egress) => match self.prepare(now, at, slot, egress, &mut recent) {
                    Outcome::Frame(prepared) => self.scratch.prepared.push(prepared),
                    Outcome::Sent => {}
                    Outcome::Held => slot.verdict = Verdict::Consumed,
                    Outcome::Dropped(reason) => self.dropped(slot, egress.interface, reason),
                },
                Verdict::Punt => self.punt(slot),
                Verdict::Pending | Verdict::Drop(_) | Verdict::Consumed | Verdict::HandOver(_) => {}
            }
        }
        for port in 0..self.ports.len() {
            self.send_from(port, slots);
        }
    }

    fn dropped(&mut self, slot: &mut Slot, interface: InterfaceId, reason: DropReason) {
        slot.verdict = Verdict::Drop(reason);
        if let Some(port) = self.ports.iter_mut().find(|port| port.spec.id == interface) {
            port.statistics.drop_one(reason);
        }
    }

    fn prepare(
        &mut self,
        now: Time,
        at: usize,
        slot: &mut Slot,
        egress: Egress,
        recent: &mut Recent,
    ) -> Outcome {
        let found = self.ports.iter().position(|port| port.spec.id == egress.interface);
        let Some((index, port)) = found.and_then(|index| Some((index, self.ports.get(index)?))) else {
            return Outcome::Dropped(DropReason::InterfaceDown);
        };
        let link = match &port.endpoint {
            Some(endpoint) if port.up => endpoint.index,
            _ => return Outcome::Dropped(DropReason::InterfaceDown),
        };
        if port.spec.kind == PortKind::Host {
            return self.send_to_host(index, slot);
        }
        let (from, tag) = (port.mac, port.tag());
        let to = match *recent {
            Some((same, mac)) if same == egress => mac,
            _ => match self.resolve(now, index, link, egress.next_hop, slot) {
                Ok(mac) => mac,
                Err(outcome) => return outcome,
            },
        };
        *recent = Some((egress, to));
        match frame_header(slot, to, from, tag) {
            Some(header) => Outcome::Frame(Prepared { slot: at, port: index, header }),
            None => Outcome::Dropped(DropReason::MalformedTransport),
        }
    }

    fn resolve(
        &mut self,
        now: Time,
        index: usize,
        device: u32,
        next_hop: IpAddr,
        slot: &Slot,
    ) -> Result<[u8; 6], Outcome> {
        let gateways = self.ports.get(index).map_or(&[][..], |port| &port.spec.gateways);
        let target = self.neighbours.target(self.state, device, next_hop, gateways);
        match self.neighbours.resolve(self.state, target, now) {
            Resolution::Mac(mac) => Ok(mac),
            Resolution::Pending if self.neighbours.hold(target, slot, now) => {
                if let Some(port) = self.ports.get_mut(index) {
                    port.statistics.held += 1;
                }
                Err(Outcome::Held)
            }
            Resolution::Pending | Resolution::Unreachable => {
                Err(Outcome::Dropped(DropReason::NextHopUnresolved))
            }
        }
    }

    fn send_to_host(&mut self, index: usize, slot: &mut Slot) -> Outcome {
        let Some(header) = write_vnet(slot, 0) else {
            return Outcome::Dropped(DropReason::MalformedTransport);
        };
        let Some(port) = self.ports.get_mut(index) else {
            return Outcome::Dropped(DropReason::InterfaceDown);
        };
        let result = match port.endpoint.as_ref().map(|endpoint| &endpoint.link) {
            Some(Link::Host(device)) => device.send(&header, slot.packet.bytes()),
            _ => return Outcome::Dropped(DropReason::InterfaceDown),
        };
        match result {
            Ok(()) => {
                port.statistics.tx_packets += 1;
                port.statistics.tx_bytes += slot.packet.len() as u64;
                self.tap.record(port.spec.id, Direction::Outbound, &[], slot.packet.bytes(), slot.gso);
                Outcome::Sent
            }
            Err(error) => Outcome::Dropped(send_failure(&error)),
        }
    }

    /// The classifier has decided before Fairway sees a packet, so one that the engine leaves to the
    /// host can only reach it through a TUN, as if it had arrived there.
    fn punt(&mut self, slot: &mut Slot) {
        let host = self.ports.iter().position(|port| port.spec.kind == PortKind::Host && port.up);
        let sent = host.is_some_and(|index| matches!(self.send_to_host(index, slot), Outcome::Sent));
        if let Some(port) = self.ports.iter_mut().find(|port| port.spec.id == slot.interface) {
            let count = if sent { &mut port.statistics.punted } else { &mut port.statistics.punts_discarded };
            *count += 1;
        }
    }

    /// Sends what was prepared for one interface.
    fn send_from(&mut self, index: usize, slots: &mut [Slot]) {
        match self.scratch.prepared.iter().filter(|prepared| prepared.port == index).count() {
            0 => {}
            1..=FEW => self.send_some::<FEW>(index, slots),
            _ => self.send_some::<BATCH>(index, slots),
        }
    }

    /// The same, up to `MOST` at a time.
    fn send_some<const MOST: usize>(&mut self, index: usize, slots: &mut [Slot]) {
        let Self { ports, tap, scratch, .. } = self;
        let Some(port) = ports.get_mut(index) else { return };
        let Scratch { prepared, failed } = &mut **scratch;
        let mut own = prepared.iter().filter(|prepared| prepared.port == index).peekable();
        while own.peek().is_some() {
            failed.clear();
            let mut frames = [Outgoing::EMPTY; MOST];
            let mut places = [0; MOST];
            let mut count = 0;
            for (prepared, (frame, place)) in own.by_ref().take(MOST).zip(frames.iter_mut().zip(&mut places))
            {
                let Some(slot) = slots.get(prepared.slot) else { continue };
                (*frame, *place) =
                    (Outgoing { header: prepared.header, packet: slot.packet.bytes() }, prepared.slot);
                count += 1;
            }
            let frames = frames.get(..count).unwrap_or_default();
            port.send_frames(frames, |at, reason| failed.push((at, reason)));
            let mut bad = failed.iter().peekable();
            for (at, frame) in frames.iter().enumerate() {
                if bad.next_if(|&&(failed_at, _)| failed_at == at).is_some() {
                    continue;
                }
                port.statistics.tx_packets += 1;
                port.statistics.tx_bytes += frame.packet.len() as u64;
                let link_header = frame.header.bytes().get(VNET..).unwrap_or_default();
                let gso = places.get(at).and_then(|&place| slots.get(place)).and_then(|slot| slot.gso);
                tap.record(port.spec.id, Direction::Outbound, link_header, frame.packet, gso);
            }
            for &(at, reason) in failed.iter() {
                port.statistics.drop_one(reason);
                if let Some(slot) = places.get(at).and_then(|&place| slots.get_mut(place)) {
                    slot.verdict = Verdict::Drop(reason);
                }
            }
        }
    }
}

/// The vnet and Ethernet headers of a slot, with a tag or without.
fn frame_header(slot: &mut Slot, to: [u8; 6], from: [u8; 6], tag: Option<u16>) -> Option<OutgoingHeader> {
    let vnet = write_vnet(slot, ETHERNET + if tag.is_some() { TAG } else { 0 })?;
    let link = ethernet(slot.packet.bytes(), to, from)?;
    let Some(tag) = tag else { return Some(OutgoingHeader::new(&[&vnet, &link])) };
    let (addresses, kind) = link.split_at_checked(ETHERNET - 2)?;
    Some(OutgoingHeader::new(&[&vnet, addresses, &TAG_8021Q, &tag.to_be_bytes(), kind]))
}
