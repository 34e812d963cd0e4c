//! What the packet backend is asked for, from the model of a router.

use core::net::IpAddr;

use fairway_io::{PortKind, PortSpec};
use fairway_policy::{CandidateHop, FibTenant, Snapshot};
use fairway_types::model::{Interface, InterfaceKind, PeerPath, RouterModel};
use fairway_types::{InterfaceId, IpNet, PortRange};

/// One specification for each interface.
pub(crate) fn specs(snapshot: &Snapshot) -> Vec<PortSpec> {
    let model = snapshot.model();
    (0u16..)
        .map(InterfaceId)
        .zip(&model.interfaces)
        .map(|(id, interface)| spec(snapshot, id, interface))
        .collect()
}

/// Leaves ports to programs of the host that have them now, on addresses that source NAT shares with the
/// host alone. Ports of waypoints are chosen by peers, too.
pub(crate) fn leave_host_ports(model: &mut RouterModel) {
    let RouterModel { interfaces, paths, .. } = model;
    let mut sharing = interfaces.iter_mut().filter(|interface| interface.source_nat).peekable();
    if sharing.peek().is_none() {
        return;
    }
    let ports = fairway_io::host_ports();
    for interface in sharing {
        if !interface.nat_addresses().any(|address| paths.iter().any(|path| path.local == address)) {
            interface.host_ports.clone_from(&ports);
        }
    }
}

fn spec(snapshot: &Snapshot, id: InterfaceId, interface: &Interface) -> PortSpec {
    let mut spec = match interface.kind {
        InterfaceKind::Host => {
            let mut spec = PortSpec::host(id, &interface.name, &interface.device, Vec::new());
            spec.routes = host_routes(snapshot, interface);
            spec
        }
        InterfaceKind::External | InterfaceKind::Fabric | InterfaceKind::Shared => {
            PortSpec::ethernet(id, &interface.name, &interface.device)
        }
    };
    // What the TUN is given; and what is answered for where the kernel has no VLAN device.
    spec.addresses = interface.addresses.iter().map(|address| address.address).collect();
    spec.vlan = interface.vlan;
    spec.mtu = interface.mtu;
    spec.waypoints = local_waypoints(snapshot.model(), id);
    spec.host_ports.clone_from(&interface.host_ports);
    for address in interface.nat_addresses() {
        spec.waypoints.push((address, PortRange::SOURCE_NAT));
        spec.nat.push(address);
    }
    if spec.kind == PortKind::Ethernet {
        for gateway in interface.addresses.iter().filter_map(|address| address.gateway) {
            if !spec.gateways.iter().any(|known| known.is_ipv6() == gateway.is_ipv6()) {
                spec.gateways.push(gateway);
            }
        }
    }
    spec
}

/// The waypoints on an interface with all ports peers may use: those this router chooses for itself,
/// and those it asks its peers to choose from.
fn local_waypoints(model: &RouterModel, interface: InterfaceId) -> Vec<(IpAddr, PortRange)> {
    let paths = model.paths.iter().filter(|path| path.interface == interface);
    let ranges = |path: &PeerPath| [PortRange::WAYPOINTS, path.local_ports.unwrap_or(PortRange::WAYPOINTS)];
    let mut waypoints: Vec<_> =
        paths.flat_map(|path| ranges(path).map(|range| (path.local, range))).collect();
    waypoints.sort_unstable();
    waypoints.dedup();
    waypoints
}

/// The waypoints of all peers.
pub(crate) fn remote_waypoints(model: &RouterModel) -> Vec<IpAddr> {
    let mut waypoints: Vec<IpAddr> = model.paths.iter().map(|path| path.remote).collect();
    waypoints.sort_unstable();
    waypoints.dedup();
    waypoints
}

/// What the host sends into the fabric: the prefixes of services that its tenant may reach and whose
/// best way leads to a peer. A prefix that holds a waypoint, or everything, stays the kernel's: the
/// host would lose its own way out.
fn host_routes(snapshot: &Snapshot, interface: &Interface) -> Vec<IpNet> {
    let model = snapshot.model();
    let within = |tenant| interface.tenant.is_some_and(|own| model.is_within(own, tenant));
    let mut routes: Vec<IpNet> = snapshot
        .fib_rows()
        .filter(|row| row.permit && row.prefix.prefix_len() > 0)
        .filter(|row| match row.tenant {
            FibTenant::Named(tenant, _) => within(tenant),
            FibTenant::Any | FibTenant::Public => true,
        })
        .filter(|row| row.route.is_some_and(|route| matches!(route.hop, CandidateHop::Path(_))))
        .map(|row| row.prefix)
        .collect();
    routes.sort_unstable();
    routes.dedup();
    routes.retain(|prefix| {
        let waypoint = model.paths.iter().any(|path| prefix.contains(&path.remote));
        let own =
            model.interfaces.iter().flat_map(|i| &i.addresses).any(|a| prefix.contains(&a.address.addr()));
        !waypoint && !own
    });
    routes
}

/// The addresses of an interface that its device does not have.
pub(crate) fn missing_addresses(interface: &Interface, present: &[IpNet]) -> Vec<IpNet> {
    let configured = interface.addresses.iter().map(|address| address.address);
    configured.filter(|wanted| !present.iter().any(|have| have.addr() == wanted.addr())).collect()
}
