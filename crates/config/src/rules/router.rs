//! Rules for one router.

use core::net::IpAddr;
use std::collections::{HashMap, HashSet};

use ipnet::IpNet;

use super::kind_name;
use super::service::reversed;
use crate::elements::{
    DeviceInterface, InterfaceAddress, InterfaceType, NetworkInterface, Router, WaypointRange,
};
use crate::fault::Fault;
use crate::model::interface_path;
use crate::path;

/// The longest name Linux gives a device.
const MAX_DEVICE: usize = 15;

/// Checks one router by itself.
pub(super) fn check(router: &Router, faults: &mut Vec<Fault>) {
    let mut checker = Checker { router, path: path::router(&router.name), faults };
    checker.devices();
    checker.interfaces();
    checker.peers();
    checker.routes();
}

struct Checker<'a, 'f> {
    router: &'a Router,
    path: String,
    faults: &'f mut Vec<Fault>,
}

/// What is in use on the router already, with the path of its user.
#[derive(Default)]
struct InUse<'a> {
    names: HashMap<&'a str, String>,
    addresses: HashMap<IpAddr, String>,
}

impl<'a> Checker<'a, '_> {
    fn devices(&mut self) {
        let mut taken: HashMap<&str, String> = HashMap::new();
        let mut devices: Vec<(String, &str)> = Vec::new();
        for node in &self.router.nodes {
            let node_path = path::entry(&self.path, "node", &[("name", &node.name)]);
            for device in &node.device_interfaces {
                let path = path::entry(&node_path, "device-interface", &[("name", &device.name)]);
                self.vlans(device, &path);
                devices.push((path, device.linux_name()));
            }
        }
        for host in &self.router.host_interfaces {
            let path = path::entry(&self.path, "host-interface", &[("name", &host.name)]);
            devices.push((path, host.linux_name()));
        }
        for (path, name) in devices {
            let leaf = path::child(&path, "device");
            if name.len() > MAX_DEVICE {
                let problem = format!(
                    "missing, and the name is longer than the {MAX_DEVICE} characters of a Linux device"
                );
                self.faults.push(Fault::error(
                    leaf,
                    problem,
                    "add \"device\" with the name that Linux shows",
                ));
            } else if let Some(other) = taken.get(name) {
                let fix = "put the network-interfaces of one device under one device-interface";
                let fault = Fault::error(leaf, format!("is the device of {other} too"), fix);
                self.faults.push(fault.with_value(format_args!("'{name}'")));
            } else {
                taken.insert(name, path);
            }
        }
    }

    fn vlans(&mut self, device: &DeviceInterface, path: &str) {
        let mut taken: HashMap<u16, &str> = HashMap::new();
        for interface in &device.network_interfaces {
            if let Some(other) = taken.insert(interface.vlan, &interface.name) {
                let path = path::entry(path, "network-interface", &[("name", &interface.name)]);
                let fault = Fault::error(
                    path::child(&path, "vlan"),
                    format!("is the vlan of '{other}' on the same device too"),
                    "give each network-interface of a device its own vlan; 0 means untagged",
                );
                self.faults.push(fault.with_value(interface.vlan));
            }
        }
    }

    fn interfaces(&mut self) {
        let mut used = InUse::default();
        for (node, device, interface) in self.router.network_interfaces() {
            let path = interface_path(&self.router.name, &node.name, &device.name, &interface.name);
            self.name(&mut used, &interface.name, &path);
            for address in &interface.addresses {
                self.address(&mut used, address, &path);
            }
            self.neighborhoods(interface, &path);
            self.adjacencies(interface, &path);
            if interface.kind == InterfaceType::Fabric
                && let Some(tenant) = &interface.tenant
            {
                let fix = "take it out, or make the type shared if hosts are connected here";
                let problem = "has no effect: nothing without metadata is accepted on a fabric interface";
                let fault = Fault::warning(path::child(&path, "tenant"), problem, fix);
                self.faults.push(fault.with_value(format_args!("'{tenant}'")));
            }
        }
        for host in &self.router.host_interfaces {
            let path = path::entry(&self.path, "host-interface", &[("name", &host.name)]);
            self.name(&mut used, &host.name, &path);
            for address in &host.addresses {
                let (ip_address, prefix_length) = (address.ip_address, address.prefix_length);
                self.address(
                    &mut used,
                    &InterfaceAddress { ip_address, prefix_length, gateway: None },
                    &path,
                );
            }
        }
    }

    fn name(&mut self, used: &mut InUse<'a>, name: &'a str, path: &str) {
        if let Some(other) = used.names.get(name) {
            let problem = format!("is the name of {other} too");
            let fix = "rename one of them: names of interfaces are unique on a router";
            let fault = Fault::error(path::child(path, "name"), problem, fix);
            self.faults.push(fault.with_value(format_args!("'{name}'")));
        } else {
            used.names.insert(name, path.to_owned());
        }
    }

    fn address(&mut self, used: &mut InUse, address: &InterfaceAddress, interface: &str) {
        let ip = address.ip_address;
        let path = path::entry(interface, "address", &[("ip-address", &ip)]);
        if let Some(kind) = unusable(ip) {
            let fault = Fault::error(
                path::child(&path, "ip-address"),
                format!("is {kind}"),
                "write the interface's own address",
            );
            self.faults.push(fault.with_value(ip));
        }
        if let Some(other) = used.addresses.insert(ip, path.clone()) {
            let fault =
                Fault::error(&path, format!("is configured at {other} too"), "keep it on one interface");
            self.faults.push(fault.with_value(ip));
        }
        let Ok(net) = IpNet::new(ip, address.prefix_length) else {
            let fault = Fault::error(
                path::child(&path, "prefix-length"),
                "is longer than an IPv4 address",
                "write 1 to 32",
            );
            self.faults.push(fault.with_value(address.prefix_length));
            return;
        };
        let Some(gateway) = address.gateway else { return };
        if gateway == ip {
            let fix = "write the address of the next router on this link, or leave it out";
            self.faults.push(
                Fault::error(path::child(&path, "gateway"), "is the interface's own address", fix)
                    .with_value(gateway),
            );
        } else if !net.contains(&gateway) {
            let problem = format!("is not on the prefix of the interface, {}", net.trunc());
            let fix = format!("write an address in {}, or mend prefix-length", net.trunc());
            self.faults.push(Fault::error(path::child(&path, "gateway"), problem, fix).with_value(gateway));
        }
    }

    fn neighborhoods(&mut self, interface: &NetworkInterface, path: &str) {
        for neighborhood in &interface.neighborhoods {
            let path = path::entry(path, "neighborhood", &[("name", &neighborhood.name)]);
            self.waypoint_range(neighborhood.port_range, &path);
        }
    }

    fn adjacencies(&mut self, interface: &NetworkInterface, path: &str) {
        let [v4, v6] = interface.waypoints();
        for adjacency in &interface.adjacencies {
            let (peer, remote) = (&adjacency.peer, adjacency.ip_address);
            let path = path::entry(path, "adjacency", &[("peer", peer), ("ip-address", &remote)]);
            self.waypoint_range(adjacency.port_range, &path);
            self.not_oneself(peer, &path::child(&path, "peer"));
            if interface.kind == InterfaceType::External {
                let problem =
                    format!("the interface is {}: no metadata is accepted on it", kind_name(interface.kind));
                self.faults.push(Fault::error(
                    &path,
                    problem,
                    "make the type of the interface fabric or shared",
                ));
            }
            if let Some(kind) = unusable(remote) {
                let fault = Fault::error(
                    path::child(&path, "ip-address"),
                    format!("is {kind}"),
                    "write the peer's waypoint",
                );
                self.faults.push(fault.with_value(remote));
            } else if (if remote.is_ipv6() { v6 } else { v4 }).is_none() {
                let family = if remote.is_ipv6() { "IPv6" } else { "IPv4" };
                let problem = format!("the interface has no {family} address to reach it from");
                let fix = format!(
                    "add an {family} address to the interface, or write a waypoint of the other family"
                );
                self.faults
                    .push(Fault::error(path::child(&path, "ip-address"), problem, fix).with_value(remote));
            }
        }
    }

    fn waypoint_range(&mut self, range: Option<WaypointRange>, owner: &str) {
        if range.is_some_and(|range| range.range().is_none()) {
            self.faults.push(reversed(&path::child(owner, "port-range")));
        }
    }

    fn not_oneself(&mut self, peer: &str, path: &str) {
        if peer == self.router.name {
            let fault = Fault::error(path, "is this router itself", "name another router of the authority");
            self.faults.push(fault.with_value(format_args!("'{peer}'")));
        }
    }

    fn peers(&mut self) {
        for peer in &self.router.peers {
            let path = path::entry(&self.path, "peer", &[("name", &peer.name)]);
            self.not_oneself(&peer.name, &path::child(&path, "name"));
        }
    }

    fn routes(&mut self) {
        let interfaces: HashMap<&str, &NetworkInterface> = self
            .router
            .network_interfaces()
            .map(|(_, _, interface)| (interface.name.as_str(), interface))
            .collect();
        let mut targets = HashSet::new();
        for route in self.router.service_routes.iter().filter(|route| !route.generated) {
            let path = path::entry(&self.path, "service-route", &[("name", &route.name)]);
            if let Some(peer) = &route.peer {
                self.not_oneself(peer, &path::child(&path, "peer"));
            }
            if let Some(hop) = &route.next_hop
                && let Some(gateway) = hop.gateway
                && let Some(interface) = interfaces.get(hop.interface.as_str())
            {
                self.gateway(interface, gateway, &path::child(&path, "next-hop/gateway"));
            }
            let target = (
                &route.service_name,
                &route.peer,
                &route.next_hop.as_ref().map(|h| (&h.interface, h.gateway)),
            );
            if !targets.insert(format!("{target:?}")) {
                let fix = "keep one of the two";
                self.faults.push(Fault::warning(
                    path,
                    "leads where another service-route of this service leads",
                    fix,
                ));
            }
        }
    }

    fn gateway(&mut self, interface: &NetworkInterface, gateway: IpAddr, path: &str) {
        let prefixes: Vec<IpNet> = interface
            .addresses
            .iter()
            .filter_map(|a| IpNet::new(a.ip_address, a.prefix_length).ok())
            .collect();
        if interface.addresses.iter().any(|address| address.ip_address == gateway) {
            let fix = "write the address of the next router or server on that link";
            self.faults.push(Fault::error(path, "is the interface's own address", fix).with_value(gateway));
        } else if !prefixes.iter().any(|prefix| prefix.contains(&gateway)) {
            let listed =
                prefixes.iter().map(|prefix| prefix.trunc().to_string()).collect::<Vec<_>>().join(" or ");
            let problem = format!("is not on a prefix of interface '{}'", interface.name);
            let fix = if listed.is_empty() {
                "give the interface an address first".to_owned()
            } else {
                format!("write an address in {listed}, or name the interface that has it")
            };
            self.faults.push(Fault::error(path, problem, fix).with_value(gateway));
        }
    }
}

/// Why an address cannot be that of an interface.
fn unusable(address: IpAddr) -> Option<&'static str> {
    let broadcast = matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    if address.is_unspecified() {
        Some("the unspecified address")
    } else if address.is_loopback() {
        Some("a loopback address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else if broadcast {
        Some("the broadcast address")
    } else if link_local {
        Some("a link-local address, which means nothing on another link")
    } else if mapped {
        Some("an IPv4 address in IPv6 form")
    } else {
        None
    }
}
