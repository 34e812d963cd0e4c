//! Following the kernel: devices that come and go, addresses, next hops.

use std::io;
use std::time::Duration;

use fairway_types::{DropReason, Time, Verdict};
use tracing::{debug, info, warn};

use super::Ports;
use super::endpoint::Port;
use super::rounds::Rounds;
use crate::neighbours::Released;
use crate::netlink::{Change, State};
use crate::spec::{PortEvent, PortKind};

/// How often devices are tried again and sockets are asked for their losses.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

impl Ports {
    /// Takes in what the kernel reported, without acting on it.
    pub(super) fn read_changes(&mut self) -> io::Result<()> {
        let Self { watch, changes, .. } = self;
        watch.update(&mut |change| changes.push(change))
    }

    /// Acts on what [`Self::read_changes`] found.
    pub(super) fn act_on_changes(&mut self, now: Time) {
        let changes = std::mem::take(&mut self.changes);
        let mut released = Released::default();
        let (mut devices, mut addresses, mut routes, mut abilities) = (false, false, false, false);
        for change in &changes {
            match *change {
                Change::Link(_) => devices = true,
                Change::Addresses(_) => addresses = true,
                Change::Routes => routes = true,
                Change::Abilities => abilities = true,
                Change::Neighbour(index, address) => {
                    let state = self.watch.state();
                    self.neighbours.reported(state, (index, address), now, &mut released);
                }
                Change::Everything => {
                    (devices, addresses, routes, abilities) = (true, true, true, true);
                    self.neighbours.reported_all(self.watch.state(), now, &mut released);
                }
            }
        }
        if devices || addresses {
            self.update_tables();
            self.refresh_ports();
        }
        if devices {
            self.keep_door();
        }
        if devices || abilities {
            self.ask_who_takes_frames(now);
        }
        if devices || addresses || routes {
            self.neighbours.forget_targets();
        }
        self.follow_offloads(now, &changes);
        self.release(now, released);
        // The list keeps its room.
        self.changes = changes;
        self.changes.clear();
    }

    /// What is due with time alone.
    pub(super) fn keep_house(&mut self, now: Time) {
        let mut released = Released::default();
        self.neighbours.handle_timeout(self.watch.state(), now, &mut released);
        self.release(now, released);
        self.keep_own_links();
        self.follow_some(now);
        if now < self.next_housekeeping {
            return;
        }
        self.next_housekeeping = now + HOUSEKEEPING;
        self.keep_door();
        self.doorway.pass_second();
        self.count_overruns();
        self.ask_who_takes_frames(now);
        // A device that could not be attached to is tried again.
        if self.ports.iter().any(|port| port.endpoint.is_none()) {
            self.refresh_ports();
        }
    }

    /// Sends what waited for its next hop, or drops it.
    fn release(&mut self, now: Time, mut released: Released) {
        if !released.resolved.is_empty() {
            self.tap.begin();
            self.sender().send(now, &mut released.resolved);
        }
        for slot in released.unresolved {
            let Verdict::Forward(egress) = slot.verdict else { continue };
            if let Some(port) = self.ports.iter_mut().find(|port| port.spec.id == egress.interface) {
                port.statistics.drop_one(DropReason::NextHopUnresolved);
            }
        }
    }

    /// Brings every interface to the state of its device: attaches, detaches, and says what changed.
    pub(super) fn refresh_ports(&mut self) {
        for index in 0..self.ports.len() {
            self.reattach(index);
            let Self { ports, watch, events, .. } = self;
            let Some(port) = ports.get_mut(index) else { continue };
            for event in observe(port, watch.state()) {
                debug!(interface = %port.spec.name, ?event, "interface changed");
                events.push_back(event);
            }
        }
        self.forget_own_links();
    }

    /// Lets go of a device that is gone, and attaches to one that came. Where the kernel's VLAN device
    /// comes or goes, the interface moves over.
    fn reattach(&mut self, index: usize) {
        let Self { ports, watch, .. } = self;
        let Some(port) = ports.get_mut(index) else { return };
        let present = watch.state().place(&port.spec.device, port.spec.vlan);
        match &port.endpoint {
            Some(endpoint) if present.is_some_and(|place| endpoint.is_attached_to(place)) => return,
            Some(_) => {
                info!(interface = %port.spec.name, device = %port.device, "the device is gone, or is another");
                port.endpoint = None;
                port.rounds = Rounds::default();
                port.ready = false;
            }
            None => {}
        }
        if present.is_none() && port.spec.kind == PortKind::Ethernet {
            return;
        }
        let spec = port.spec.clone();
        match self.open_endpoint(&spec) {
            Ok(endpoint) => {
                if let Some(port) = self.ports.get_mut(index) {
                    port.endpoint = endpoint;
                }
            }
            Err(error) => warn!(interface = %spec.name, %error, "could not attach; trying again"),
        }
    }
}

/// Takes over what the kernel has on the device, and says what is different.
fn observe(port: &mut Port, state: &State) -> Vec<PortEvent> {
    let id = port.spec.id;
    let mut events = Vec::new();
    let link = port.endpoint.as_ref().and_then(|endpoint| state.link(endpoint.device));
    let up = link.is_some_and(|link| link.up);
    if up != port.up {
        port.up = up;
        events.push(if up { PortEvent::Up(id) } else { PortEvent::Down(id) });
    }
    let device_mtu = link.map_or(0, |link| u16::try_from(link.mtu).unwrap_or(u16::MAX));
    let mtu = port.spec.mtu.map_or(device_mtu, |mtu| mtu.min(device_mtu));
    if mtu != port.mtu {
        port.mtu = mtu;
        events.push(PortEvent::MtuChanged(id));
    }
    let index = port.endpoint.as_ref().filter(|_| link.is_some()).map(|endpoint| endpoint.index);
    let addresses = index.map(|index| state.addresses_on(index)).unwrap_or_default();
    if addresses != port.addresses {
        port.addresses = addresses;
        events.push(PortEvent::AddressesChanged(id));
    }
    if let Some(link) = link {
        port.mac = if link.ethernet { link.mac } else { [0; 6] };
        port.device.clone_from(&link.name);
        if let Some((xdp, _)) = port.endpoint.as_ref().and_then(|endpoint| endpoint.link.xdp()) {
            xdp.follow(link);
        }
    }
    events
}
