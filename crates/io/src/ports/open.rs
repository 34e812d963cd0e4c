//! Attaching to interfaces, at first and by difference.

use core::net::IpAddr;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use fairway_types::PortRange;
use fairway_types::steering::WorkerId;
use tracing::{debug, info, warn};

use super::endpoint::{Endpoint, Link, Port};
use super::{NEXT_TOKEN, Ports};
use crate::classifier::{Frames, Tables};
use crate::ephemeral::{EphemeralPorts, warn_of_bound_sockets};
use crate::error::{Context, OpenError};
use crate::netlink::{Change, Place};
use crate::spec::{PortKind, PortSpec};
use crate::sys::tun::Device;

impl Ports {
    pub(super) fn apply_difference(&mut self, specs: &[PortSpec], peers: &[IpAddr]) -> Result<(), OpenError> {
        refuse_shared_devices(specs)?;
        self.read_for_change()?;
        // Both sets count until the new one stands: nothing falls to the kernel in between.
        let own: Vec<PortSpec> = self.ports.iter().map(|port| port.spec.clone()).collect();
        if self.leads() {
            let all_peers: Vec<IpAddr> = self.peers.iter().chain(peers).copied().collect();
            let both = self.tables(specs.iter().chain(&own), &all_peers);
            self.shared.classifier.update(&both).context("fill the classifier's tables")?;
        }
        let mut opened = match self.open_new(specs) {
            Ok(opened) => opened,
            Err(error) => {
                self.update_tables();
                return Err(error);
            }
        };
        if !self.keeps_offloads(specs) {
            self.lose_all_offloads(fairway_types::Time::ZERO);
        }
        let ranges_before = waypoint_ranges(own.iter());
        let mut old = std::mem::take(&mut self.ports);
        for spec in specs {
            let port = self.take_over(spec, &mut old, opened.remove(&spec.id));
            self.ports.push(port);
        }
        drop(old);
        let shared = &self.shared;
        self.steering.follow(
            specs.iter().map(|spec| (spec.id, (spec.kind == PortKind::Ethernet).then(|| shared.token(spec)))),
        );
        self.peers = peers.to_vec();
        self.neighbours.forget_targets();
        self.forget_own_links();
        self.update_tables();
        self.keep_ephemeral_ports_out(&ranges_before);
        self.read_for_change()?;
        self.refresh_ports();
        // Next hops of what the kernel forwards may be others: that is looked at next.
        self.changes.push(Change::Everything);
        Ok(())
    }

    /// Whether this worker does what is done once for all of them.
    pub(super) fn leads(&self) -> bool {
        self.worker == WorkerId(0)
    }

    /// [`Self::read_changes`] for a change of interfaces. Workers that follow must not fail in what
    /// the first has done: they read again later.
    fn read_for_change(&mut self) -> Result<(), OpenError> {
        match self.read_changes() {
            Err(error) if !self.leads() => warn!(%error, "the kernel's interfaces could not be read"),
            result => result.context("read the kernel's interfaces over netlink")?,
        }
        Ok(())
    }

    /// Endpoints for the specifications that no present endpoint serves.
    fn open_new(
        &mut self,
        specs: &[PortSpec],
    ) -> Result<HashMap<fairway_types::InterfaceId, Endpoint>, OpenError> {
        let mut opened = HashMap::new();
        for spec in specs {
            let served = self.ports.iter().any(|port| port.same_device(spec) && port.endpoint.is_some());
            if served {
                continue;
            }
            match self.open_endpoint(spec) {
                Ok(Some(endpoint)) => drop(opened.insert(spec.id, endpoint)),
                Ok(None) => {}
                Err(error) if !self.leads() => {
                    warn!(interface = %spec.name, %error, "could not attach; trying again");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(opened)
    }

    /// The port for `spec`, with what can be kept of the old ones: what is at the same device, the
    /// statistics of the same name.
    fn take_over(&mut self, spec: &PortSpec, old: &mut [Port], opened: Option<Endpoint>) -> Port {
        let mut port = Port::new(spec.clone());
        if let Some(before) = old.iter_mut().find(|port| port.same_device(spec)) {
            port.take_device_of(before);
            match port.endpoint.as_ref() {
                Some(&Endpoint { index, link: Link::Tagged(..), .. }) => {
                    self.watch.state_mut().set_own_addresses(index, &spec.addresses);
                }
                Some(&Endpoint { index, link: Link::Host(_), .. }) if self.leads() => {
                    self.change_host_device(index, &before.spec, spec);
                }
                Some(_) | None => {}
            }
        }
        if let Some(before) = old.iter_mut().find(|port| port.spec.name == spec.name) {
            port.statistics = std::mem::take(&mut before.statistics);
            // Whoever knows the id is told of changes, not of what stays.
            if before.same_device(spec) {
                (port.up, port.mac, port.mtu) = (before.up, before.mac, before.mtu);
                port.addresses = std::mem::take(&mut before.addresses);
            }
        }
        if let Some(endpoint) = opened {
            port.endpoint = Some(endpoint);
        }
        port
    }

    /// Attaches to the device of `spec`; `None` while there is no such device.
    pub(super) fn open_endpoint(&mut self, spec: &PortSpec) -> Result<Option<Endpoint>, OpenError> {
        let (index, link) = match spec.kind {
            PortKind::Host if self.leads() => self.open_host(spec)?,
            PortKind::Host => match self.follow_host(spec) {
                Some(found) => found,
                None => return Ok(None),
            },
            PortKind::Ethernet => {
                let Some(place) = self.place_for(spec)? else { return Ok(None) };
                if let Some(tag) = place.tag {
                    return self.open_tagged(spec, place.device, tag).map(Some);
                }
                let device = self.watch.state().link(place.device);
                let group = self.shared.group(spec, place.device, Frames::Untagged, device)?;
                (place.device, Link::Ethernet(group, self.worker))
            }
        };
        let token = self.next_token;
        self.next_token += NEXT_TOKEN;
        let reads = spec.kind == PortKind::Ethernet || self.leads();
        let mut endpoint =
            Endpoint::new(index, token, link, &self.poller, reads).on(&spec.name, "wait for packets")?;
        endpoint.by_door.taken = self.shared.doors().map_or(0, |doors| doors.given(self.worker, index));
        if self.leads() {
            let io = endpoint.link.method().name();
            info!(interface = %spec.name, device = %spec.device, index, io, "attached");
        } else {
            debug!(interface = %spec.name, index, worker = self.worker.0, "took its seat");
        }
        Ok(Some(endpoint))
    }

    /// The TUN device that worker 0 has made; `None` while it has not, or this worker does not know.
    fn follow_host(&self, spec: &PortSpec) -> Option<(u32, Link)> {
        let index = self.watch.state().link_for(&spec.device, 0)?.index;
        Some((index, Link::Host(self.shared.host(spec, index)?)))
    }

    /// Where the frames of `spec` are; `None` while there is no such device.
    fn place_for(&self, spec: &PortSpec) -> Result<Option<Place>, OpenError> {
        let state = self.watch.state();
        match state.place(&spec.device, spec.vlan) {
            Some(place) if state.link(place.device).is_some_and(|link| link.ethernet) => Ok(Some(place)),
            Some(_) => {
                Err(OpenError::NotEthernet { interface: spec.name.clone(), device: spec.device.clone() })
            }
            None => {
                warn!(interface = %spec.name, device = %spec.device, "the device does not exist yet");
                Ok(None)
            }
        }
    }

    fn open_host(&mut self, spec: &PortSpec) -> Result<(u32, Link), OpenError> {
        let file = (self.open_tun)().on(&spec.name, "open /dev/net/tun")?;
        let device = Arc::new(Device::new(file, &spec.device).on(&spec.name, "make a TUN device")?);
        let index = Device::index_of(&spec.device).on(&spec.name, "find the TUN device")?;
        let requests = self.watch.requests();
        // Without IPv6 in the kernel there is nothing to refuse.
        let _ = requests.refuse_link_local(index);
        requests.set_up(index, spec.mtu).on(&spec.name, "set the TUN device up")?;
        for &address in &spec.addresses {
            requests.add_address(index, address).on(&spec.name, "give the TUN device an address")?;
        }
        for &route in &spec.routes {
            requests.add_route(index, route).on(&spec.name, "route into the TUN device")?;
        }
        self.shared.publish_host(spec, index, &device);
        Ok((index, Link::Host(device)))
    }

    /// Brings addresses, routes and MTU of a TUN device that stays to what is wanted now.
    fn change_host_device(&mut self, index: u32, before: &PortSpec, after: &PortSpec) {
        let requests = self.watch.requests();
        let report = |result: io::Result<()>, what: &str| {
            if let Err(error) = result {
                warn!(interface = %after.name, %error, "could not change the TUN device: {what}");
            }
        };
        for &route in before.routes.iter().filter(|route| !after.routes.contains(route)) {
            report(requests.remove_route(index, route), "remove a route");
        }
        for &address in before.addresses.iter().filter(|address| !after.addresses.contains(address)) {
            report(requests.remove_address(index, address), "remove an address");
        }
        for &address in after.addresses.iter().filter(|address| !before.addresses.contains(address)) {
            report(requests.add_address(index, address), "add an address");
        }
        for &route in after.routes.iter().filter(|route| !before.routes.contains(route)) {
            report(requests.add_route(index, route), "add a route");
        }
        if before.mtu != after.mtu {
            report(requests.set_up(index, after.mtu), "set the MTU");
        }
    }

    /// The classifier's tables for some specifications and peers, with the host's addresses as they
    /// are.
    fn tables<'a>(&self, specs: impl Iterator<Item = &'a PortSpec>, peers: &[IpAddr]) -> Tables {
        let own = self.watch.state().own_addresses().map(|address| (address, None));
        let peers = peers.iter().copied().collect();
        let mut tables = Tables { local: own.collect(), peers, ..Tables::default() };
        for spec in specs {
            if let Some(Place { device, tag: Some(tag) }) = self.watch.state().place(&spec.device, spec.vlan)
            {
                tables.tags.insert((device, tag));
                for address in &spec.addresses {
                    tables.local.entry(address.addr()).or_default();
                }
            }
            for &(address, range) in &spec.waypoints {
                let entry = tables.local.entry(address).or_default();
                *entry = Some(entry.map_or(range, |other| hull(other, range)));
            }
            tables.nat.extend(&spec.nat);
            if !spec.host_ports.is_empty() {
                tables.shared.extend(&spec.nat);
                tables.host_ports.extend(spec.host_ports.iter().map(|&(protocol, port)| (protocol.0, port)));
            }
        }
        tables
    }

    /// Brings the classifier's tables to the present state.
    pub(super) fn update_tables(&mut self) {
        if !self.leads() {
            return;
        }
        let tables = self.tables(self.ports.iter().map(|port| &port.spec), &self.peers);
        if let Err(error) = self.shared.classifier.update(&tables) {
            warn!(%error, "the classifier's tables could not be brought up to date");
        }
    }

    fn keep_ephemeral_ports_out(&mut self, before: &[PortRange]) {
        let ranges = waypoint_ranges(self.ports.iter().map(|port| &port.spec));
        if !self.leads() || ranges == before {
            return;
        }
        self.ephemeral = None;
        match EphemeralPorts::keep_out_of(&self.ephemeral_range, &ranges) {
            Ok(changed) => self.ephemeral = changed,
            Err(error) => warn!(%error, "the host's ephemeral ports could not be moved; some may collide"),
        }
        // On addresses that only source NAT uses, what is bound stays the host's.
        let of_paths = |spec: &&PortSpec| spec.nat.is_empty();
        warn_of_bound_sockets(&waypoint_ranges(self.ports.iter().map(|port| &port.spec).filter(of_paths)));
    }
}

/// The smallest range that holds both: an address has one range, whatever paths share it.
fn hull(a: PortRange, b: PortRange) -> PortRange {
    PortRange::new(a.first().min(b.first()), a.last().max(b.last())).unwrap_or(a)
}

/// Every range once, in order.
fn waypoint_ranges<'a>(specs: impl Iterator<Item = &'a PortSpec>) -> Vec<PortRange> {
    let mut ranges: Vec<_> = specs.flat_map(|spec| &spec.waypoints).map(|&(_, range)| range).collect();
    ranges.sort_unstable();
    ranges.dedup();
    ranges
}

fn refuse_shared_devices(specs: &[PortSpec]) -> Result<(), OpenError> {
    for (at, first) in specs.iter().enumerate() {
        let same = |other: &&PortSpec| other.device == first.device && other.vlan == first.vlan;
        if let Some(second) = specs.iter().skip(at + 1).find(same) {
            return Err(OpenError::SharedDevice { first: first.name.clone(), second: second.name.clone() });
        }
    }
    Ok(())
}
