//! Sessions that the kernel forwards by itself, as a worker sees them; see [`crate::offload`].

use std::collections::HashSet;

use tracing::debug;

use fairway_types::{Egress, InterfaceId, OffloadFlow, OffloadId, OffloadRefusal, OffloadReport, Time};

use super::Ports;
use super::endpoint::{Link, Port};
use super::xdp::Xdp;
use crate::neighbours::Resolution;
use crate::netlink::{self, Change};
use crate::offload::{Route, Way};
use crate::spec::{PortKind, PortSpec};

/// So many sessions follow a change before packets are looked at again.
const FOLLOWING_AT_ONCE: usize = 1024;

impl Ports {
    /// So many sessions in the kernel can be asked what they carried while packets wait. Of more of them,
    /// [`Self::status`] knows what it was at their last reports.
    pub const FEW_OFFLOADS: usize = 4096;

    /// Whether the kernel can forward sessions by itself.
    #[must_use]
    pub fn can_offload(&self) -> bool {
        self.flows.is_available()
    }

    /// How many sessions of this worker the kernel forwards.
    #[must_use]
    pub fn offloaded(&self) -> usize {
        self.flows.len()
    }

    /// Has the kernel forward a session from now on, in both directions, as soon as nothing of it is left
    /// with this worker, to which it leaves what it cannot decide about. `id` must be new.
    ///
    /// # Errors
    /// Why it does not. The session is the worker's as before.
    pub fn offload(
        &mut self,
        now: Time,
        id: OffloadId,
        flows: &[OffloadFlow; 2],
    ) -> Result<(), OffloadRefusal> {
        let routes = [self.route(now, &flows[0])?, self.route(now, &flows[1])?];
        self.flows.install(id, routes)?;
        self.look_at_pending();
        Ok(())
    }

    /// A packet of an offloaded session has come to this worker.
    pub fn offload_touched(&mut self, id: OffloadId) {
        self.flows.touch(id);
        self.look_at_pending();
    }

    /// Whether the kernel waits with a session until nothing of it is left with this worker.
    #[cfg(test)]
    pub(crate) fn has_pending_offloads(&self) -> bool {
        self.flows.has_pending()
    }

    /// The ways of a session in the kernel.
    #[cfg(test)]
    pub(crate) fn offload_ways(&self, id: OffloadId) -> Option<[Way; 2]> {
        self.flows.ways_of(id)
    }

    /// What the kernel has forwarded of a session; `None` if it does not forward it. If it was anything, the
    /// way is held against what it would be now, and next hops are kept alive. So it is to be asked for each
    /// session now and then.
    pub fn offload_report(&mut self, now: Time, id: OffloadId) -> Option<OffloadReport> {
        if self.account(id) {
            self.follow(now, id);
        }
        self.flows.report(id, now)
    }

    /// Takes a session back: all its packets come to the worker again. Says what the kernel has
    /// forwarded, unless it was not at it.
    pub fn end_offload(&mut self, now: Time, id: OffloadId) -> Option<OffloadReport> {
        self.account(id);
        self.flows.end(id, now)
    }

    /// Has all packets of offloaded sessions come to the workers for a while, or no longer.
    pub fn pause_offload(&mut self, paused: bool) {
        self.offload_paused = paused;
        self.pause_for_all();
    }

    /// A capture has to see every packet.
    pub(super) fn pause_for_all(&mut self) {
        self.flows.pause(self.offload_paused || self.tap.is_set());
    }

    /// Whether sessions stay in the kernel when [`Self::apply`] is called with these specifications: each
    /// interface that any of them uses is there, at the same device.
    #[must_use]
    pub fn keeps_offloads(&self, specs: &[PortSpec]) -> bool {
        let stays = |id: InterfaceId| {
            let port = self.ports.iter().find(|port| port.spec.id == id);
            let spec = specs.iter().find(|spec| spec.id == id);
            port.zip(spec).is_some_and(|(port, spec)| port.same_device(spec))
        };
        self.flows.ways().iter().all(|(_, way)| stays(way.interface) && stays(way.egress.interface))
    }

    /// A session that the kernel does not forward any more, because a device or a next hop is not what
    /// it was.
    pub fn poll_offload_ended(&mut self) -> Option<(OffloadId, OffloadReport)> {
        self.offload_ended.pop_front()
    }

    fn route(&mut self, now: Time, flow: &OffloadFlow) -> Result<Route, OffloadRefusal> {
        Ok(Route { flow: *flow, way: self.way(now, flow.interface, flow.egress)? })
    }

    /// All that is known of devices and next hops for a flow.
    fn way(&mut self, now: Time, interface: InterfaceId, egress: Egress) -> Result<Way, OffloadRefusal> {
        let (_, arrival, xdp) = untagged(&self.ports, interface).ok_or(OffloadRefusal::Interface)?;
        // What comes to AF_XDP before the network stack is at no program that could forward it.
        if xdp.is_some_and(|xdp| !xdp.forwards()) {
            return Err(OffloadRefusal::Interface);
        }
        let frames = xdp.is_some();
        let (at, device, _) = untagged(&self.ports, egress.interface).ok_or(OffloadRefusal::Interface)?;
        if frames && !self.ports.get(at).is_some_and(|port| port.takes_frames) {
            return Err(OffloadRefusal::Egress);
        }
        let Self { ports, neighbours, watch, .. } = self;
        let port = ports.get(at).ok_or(OffloadRefusal::Interface)?;
        let target = neighbours.target(watch.state(), device, egress.next_hop, &port.spec.gateways);
        let Resolution::Mac(to) = neighbours.resolve(watch.state(), target, now) else {
            return Err(OffloadRefusal::NextHop);
        };
        Ok(Way { interface, egress, arrival, device, target, link: (to, port.mac) })
    }

    /// Finds out which devices take frames from programs for XDP, if there are any such programs, and takes
    /// back what would leave by one that does not any more.
    pub(super) fn ask_who_takes_frames(&mut self, now: Time) {
        let forwards = |port: &Port| {
            let xdp = port.endpoint.as_ref().and_then(|endpoint| endpoint.link.xdp());
            xdp.is_some_and(|(xdp, _)| xdp.forwards())
        };
        if !self.flows.is_available() || !self.ports.iter().any(forwards) {
            return;
        }
        let mut changed = false;
        for port in self.ports.iter_mut().filter(|port| port.spec.kind == PortKind::Ethernet) {
            let index = port.endpoint.as_ref().filter(|_| port.up).map(|endpoint| endpoint.device);
            let takes = index.is_some_and(|index| netlink::sends_frames(index).unwrap_or(false));
            if std::mem::replace(&mut port.takes_frames, takes) != takes {
                debug!(interface = %port.spec.name, takes, "whether its device takes frames from XDP");
                changed = true;
            }
        }
        if changed {
            self.follow_offloads(now, &[Change::Everything]);
        }
    }

    /// Brings what the kernel forwards by devices or next hops that are others now to those: soon, and some at
    /// a time, see [`Self::follow_some`].
    pub(super) fn follow_offloads(&mut self, now: Time, changes: &[Change]) {
        if self.flows.len() == 0 || changes.is_empty() {
            return;
        }
        let concerned = |way: &Way, change: &Change| match *change {
            Change::Neighbour(index, address) => way.target == (index, address),
            Change::Link(_) | Change::Addresses(_) | Change::Routes | Change::Everything => true,
            // Those that it concerns are asked.
            Change::Abilities => false,
        };
        let ways = self.flows.ways().into_iter();
        let mut others = HashSet::new();
        for (id, way) in ways.filter(|(_, way)| changes.iter().any(|change| concerned(way, change))) {
            if self.way(now, way.interface, way.egress).as_ref() != Ok(&way) {
                others.insert(id);
            }
        }
        if !others.is_empty() {
            self.following.extend(self.flows.ids_by(&others));
            self.follow_some(now);
        }
    }

    /// Lets some of those follow that are to. Packets wait no longer than these take.
    pub(super) fn follow_some(&mut self, now: Time) {
        for _ in 0..FOLLOWING_AT_ONCE {
            let Some(id) = self.following.pop() else { break };
            self.follow(now, id);
        }
    }

    /// Brings a session to the ways that it would take now. Other link addresses the kernel just learns of; where
    /// anything else is another, the session is taken back.
    fn follow(&mut self, now: Time, id: OffloadId) {
        let Some(ways) = self.flows.ways_of(id) else { return };
        for (which, was) in ways.iter().enumerate() {
            match self.way(now, was.interface, was.egress) {
                Ok(way) if way == *was => {}
                Ok(way) if (way.arrival, way.device) == (was.arrival, was.device) => {
                    self.flows.lead(id, which, &way);
                }
                Ok(_) | Err(_) => return self.lose_offload(now, id),
            }
        }
    }

    fn lose_offload(&mut self, now: Time, id: OffloadId) {
        if let Some(report) = self.end_offload(now, id) {
            self.offload_ended.push_back((id, report));
        }
    }

    /// Takes back everything.
    pub(super) fn lose_all_offloads(&mut self, now: Time) {
        self.following.clear();
        for id in self.flows.ids() {
            self.lose_offload(now, id);
        }
    }

    /// Adds what the kernel has forwarded to the statistics of interfaces; says whether it was anything.
    fn account(&mut self, id: OffloadId) -> bool {
        let Some(traffic) = self.flows.account(id) else { return false };
        for direction in &traffic {
            let [arrived, left] = direction.interfaces;
            for port in &mut self.ports {
                if port.spec.id == arrived {
                    port.statistics.rx_packets += direction.packets;
                    port.statistics.rx_bytes += direction.bytes;
                    port.statistics.rx_overruns += direction.lost;
                }
                if port.spec.id == left {
                    port.statistics.tx_packets += direction.packets;
                    port.statistics.tx_bytes += direction.bytes;
                }
            }
        }
        traffic.iter().any(|direction| direction.packets > 0)
    }

    /// Brings the statistics of interfaces to what the kernel has forwarded until now.
    pub(super) fn account_all(&mut self) {
        for id in self.flows.ids() {
            self.account(id);
        }
    }

    /// Has sockets read that flows wait for.
    fn look_at_pending(&mut self) {
        if !self.flows.has_pending() {
            return;
        }
        let Self { ports, flows, doorway, .. } = self;
        doorway.ready = true;
        for port in ports.iter_mut().filter(|port| flows.is_pending(port.spec.id)) {
            port.ready |= port.endpoint.is_some() && (port.at_door().is_none() || port.has_xdp());
        }
    }

    /// The interface at `at` is about to be read, for flows that wait.
    pub(super) fn begin_round(&mut self, at: usize) {
        self.look_at_door();
        let Self { ports, flows, doorway, .. } = self;
        let Some(port) = ports.get_mut(at) else { return };
        port.count_overruns();
        let mark = port.begin_round(&doorway.intake);
        let overruns = port.statistics.rx_overruns + doorway.intake.lost;
        flows.mark(port.spec.id, mark, overruns);
    }

    /// Everything that was received has been sent.
    pub(super) fn settle_offloads(&mut self) {
        if self.flows.has_pending() {
            // What a ring still has is not on its way yet, and would be overtaken.
            if !self.ports.iter().any(Port::is_sending) {
                self.flows.all_sent();
            }
            self.look_at_pending();
        }
    }
}

/// An interface that is up, without a tag of its own: where it is, the number of its device, and AF_XDP there.
fn untagged(ports: &[Port], id: InterfaceId) -> Option<(usize, u32, Option<&Xdp>)> {
    let at = ports.iter().position(|port| port.spec.id == id)?;
    let port = ports.get(at).filter(|port| port.up && port.spec.kind == PortKind::Ethernet)?;
    let endpoint = port.endpoint.as_ref()?;
    let Link::Ethernet(group, _) = &endpoint.link else { return None };
    Some((at, endpoint.index, group.xdp()))
}
