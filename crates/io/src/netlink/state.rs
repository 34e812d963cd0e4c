//! The copy of the kernel's tables, and the questions asked of it.
//!
//! Beside the kernel's there are *own* links: tags that the kernel has no device for. Their numbers are
//! beyond those of devices, their addresses are those of the configuration, and their neighbours are
//! what this process found out ([`crate::resolver`]). Reading the kernel's tables anew leaves them.

use core::net::IpAddr;
use std::collections::{HashMap, HashSet};

use fairway_types::IpNet;

use super::message::{Address, Link, Neighbour, Report, Route};

/// Numbers from here on are own links; the kernel's are positive 32-bit integers.
const OWN: u32 = 1 << 31;

/// Whether a link is one of this process, and not of the kernel.
pub(crate) const fn is_own(index: u32) -> bool {
    index >= OWN
}

/// Where the frames of an interface are read and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The device of the kernel.
    pub(crate) device: u32,
    /// The tag that this process reads and writes there; `None` when the kernel does, or there is none.
    pub(crate) tag: Option<u16>,
}

/// What a report was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A device.
    Link(u32),
    /// The addresses of a device.
    Addresses(u32),
    /// Routes.
    Routes,
    /// A neighbour on a device.
    Neighbour(u32, IpAddr),
    /// What some device can do.
    Abilities,
    /// Possibly all of it.
    Everything,
}

/// Devices, addresses, routes of the main table, neighbours.
#[derive(Debug, Default)]
pub(crate) struct State {
    links: HashMap<u32, Link>,
    addresses: HashSet<Address>,
    routes: HashSet<Route>,
    neighbours: HashMap<(u32, IpAddr), Neighbour>,
    routes_doubtful: bool,
}

impl State {
    /// Forgets what is the kernel's.
    pub(crate) fn clear(&mut self) {
        self.links.clear();
        self.addresses.retain(|address| is_own(address.index));
        self.neighbours.retain(|&(index, _), _| is_own(index));
        self.clear_routes();
    }

    /// The number of the own link with this serial number.
    pub(crate) const fn own(serial: u32) -> u32 {
        OWN | serial
    }

    /// Gives an own link these addresses and no others.
    pub(crate) fn set_own_addresses(&mut self, index: u32, addresses: &[IpNet]) {
        self.addresses.retain(|address| address.index != index);
        self.addresses.extend(addresses.iter().map(|&network| Address { index, network }));
    }

    /// Every own link that has addresses or neighbours.
    pub(crate) fn own_links(&self) -> HashSet<u32> {
        let addresses = self.addresses.iter().map(|address| address.index);
        addresses.chain(self.neighbours.keys().map(|key| key.0)).filter(|&index| is_own(index)).collect()
    }

    /// Forgets an own link.
    pub(crate) fn forget_own(&mut self, index: u32) {
        self.addresses.retain(|address| address.index != index);
        self.neighbours.retain(|&(at, _), _| at != index);
    }

    pub(crate) fn clear_routes(&mut self) {
        self.routes.clear();
        self.routes_doubtful = false;
    }

    /// Whether routes may have gone without a report: the kernel removes IPv4 routes of a device that
    /// goes down in silence.
    pub(crate) fn routes_doubtful(&self) -> bool {
        self.routes_doubtful
    }

    /// Takes in one report; `None` when nothing changed.
    pub(crate) fn apply(&mut self, report: Report) -> Option<Change> {
        match report {
            Report::Link(link) => {
                let index = link.index;
                let before = self.links.insert(index, link);
                let after = self.links.get(&index);
                self.routes_doubtful |= before.as_ref().map(|link| link.up) != after.map(|link| link.up);
                (before.as_ref() != after).then_some(Change::Link(index))
            }
            Report::LinkGone(index) => {
                self.links.remove(&index)?;
                self.addresses.retain(|address| address.index != index);
                self.routes.retain(|route| route.index != index);
                self.neighbours.retain(|&(at, _), _| at != index);
                Some(Change::Link(index))
            }
            Report::Address(address) => {
                self.addresses.insert(address).then_some(Change::Addresses(address.index))
            }
            Report::AddressGone(address) => {
                // Routes by way of the address go in silence.
                self.routes_doubtful = true;
                self.addresses.remove(&address).then_some(Change::Addresses(address.index))
            }
            Report::Routes { routes, replace } => {
                if let Some(first) = routes.first().filter(|_| replace) {
                    let same = |r: &Route| r.destination == first.destination && r.metric == first.metric;
                    self.routes.retain(|route| !same(route));
                }
                self.routes.extend(routes);
                Some(Change::Routes)
            }
            Report::RoutesGone(routes) => {
                self.routes.retain(|route| !routes.contains(route));
                Some(Change::Routes)
            }
            Report::Neighbour(neighbour) => {
                let key = (neighbour.index, neighbour.address);
                let before = self.neighbours.insert(key, neighbour);
                // A second failure is news too: packets may have begun to wait in between.
                let failed = neighbour.state & libc::NUD_FAILED != 0;
                (failed || before != Some(neighbour)).then_some(Change::Neighbour(key.0, key.1))
            }
            Report::NeighbourGone(neighbour) => {
                let key = (neighbour.index, neighbour.address);
                self.neighbours.remove(&key)?;
                Some(Change::Neighbour(key.0, key.1))
            }
            Report::Done | Report::Answer(_) => None,
        }
    }

    /// A device by its number.
    pub(crate) fn link(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    /// The device that carries `device` with a tag: the device itself without one, else the kernel's
    /// VLAN device.
    pub(crate) fn link_for(&self, device: &str, vlan: u16) -> Option<&Link> {
        let named = self.links.values().find(|link| link.name == device)?;
        if vlan == 0 || named.vlan == Some(vlan) {
            return Some(named);
        }
        self.links.values().find(|link| link.vlan == Some(vlan) && link.parent == Some(named.index))
    }

    /// Where the frames of an interface are: on the device itself without a tag; with one on the
    /// kernel's VLAN device, or if there is none, tagged on the device.
    pub(crate) fn place(&self, device: &str, vlan: u16) -> Option<Place> {
        match self.link_for(device, vlan) {
            Some(link) => Some(Place { device: link.index, tag: None }),
            None => {
                let carrier = self.link_for(device, 0).filter(|_| vlan != 0)?;
                Some(Place { device: carrier.index, tag: Some(vlan) })
            }
        }
    }

    /// The addresses on a device, sorted.
    pub(crate) fn addresses_on(&self, index: u32) -> Vec<IpNet> {
        let on = self.addresses.iter().filter(|address| address.index == index);
        let mut networks: Vec<_> = on.map(|address| address.network).collect();
        networks.sort_unstable();
        networks
    }

    /// Every address of the host.
    pub(crate) fn own_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses.iter().map(|address| address.network.addr())
    }

    /// What is known of a neighbour.
    pub(crate) fn neighbour(&self, index: u32, address: IpAddr) -> Option<&Neighbour> {
        self.neighbours.get(&(index, address))
    }

    /// Whose link address packets for `next_hop` get on a device: its own when it is on the link, else
    /// that of a gateway; `gateways` come before the kernel's default routes. Without any route, the
    /// next hop is taken to be on the link.
    pub(crate) fn link_target(&self, index: u32, next_hop: IpAddr, gateways: &[IpAddr]) -> IpAddr {
        let over_device = self.routes.iter().filter(|route| route.index == index);
        let best = over_device
            .filter(|route| route.destination.contains(&next_hop))
            .max_by_key(|route| (route.destination.prefix_len(), std::cmp::Reverse(route.metric)));
        let on_link = self.addresses.iter().any(|address| {
            address.index == index && address.network.prefix_len() > 0 && address.network.contains(&next_hop)
        });
        let configured = gateways.iter().find(|gateway| gateway.is_ipv4() == next_hop.is_ipv4());
        match best {
            Some(route) if route.gateway.is_none() && route.destination.prefix_len() > 0 => next_hop,
            _ if on_link => next_hop,
            Some(Route { destination, gateway: Some(gateway), .. }) if destination.prefix_len() > 0 => {
                *gateway
            }
            _ => match (configured, best.and_then(|route| route.gateway)) {
                (Some(gateway), _) if *gateway != next_hop => *gateway,
                (None, Some(gateway)) => gateway,
                _ => next_hop,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn route(destination: &str, index: u32, gateway: Option<&str>, metric: u32) -> Report {
        let route = Route { destination: net(destination), index, gateway: gateway.map(ip), metric };
        Report::Routes { routes: vec![route], replace: false }
    }

    #[test]
    fn the_most_specific_route_over_the_device_names_the_target() {
        let mut state = State::default();
        state.apply(Report::Address(Address { index: 2, network: net("192.0.2.1/24") }));
        state.apply(route("192.0.2.0/24", 2, None, 0));
        state.apply(route("0.0.0.0/0", 2, Some("192.0.2.254"), 100));
        state.apply(route("0.0.0.0/0", 2, Some("192.0.2.253"), 50));
        state.apply(route("198.51.100.0/24", 2, Some("192.0.2.7"), 0));
        state.apply(route("198.51.100.0/25", 3, Some("10.0.0.1"), 0));
        let target = |to: &str| state.link_target(2, ip(to), &[]);
        assert_eq!(target("192.0.2.9"), ip("192.0.2.9"));
        assert_eq!(target("198.51.100.1"), ip("192.0.2.7"));
        assert_eq!(target("203.0.113.1"), ip("192.0.2.253"));
        let gateway = [ip("2001:db8::1"), ip("192.0.2.1")];
        assert_eq!(state.link_target(2, ip("203.0.113.1"), &gateway), ip("192.0.2.1"));
        assert_eq!(state.link_target(2, ip("192.0.2.9"), &gateway), ip("192.0.2.9"));
        assert_eq!(state.link_target(4, ip("203.0.113.1"), &[]), ip("203.0.113.1"));
    }

    #[test]
    fn a_replaced_route_leaves_nothing_behind() {
        let mut state = State::default();
        state.apply(route("0.0.0.0/0", 2, Some("192.0.2.254"), 0));
        let Report::Routes { routes, .. } = route("0.0.0.0/0", 2, Some("192.0.2.253"), 0) else { return };
        state.apply(Report::Routes { routes, replace: true });
        assert_eq!(state.link_target(2, ip("203.0.113.1"), &[]), ip("192.0.2.253"));
        assert_eq!(state.routes.len(), 1);
    }
}
