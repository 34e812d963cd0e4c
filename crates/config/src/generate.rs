//! Neighborhoods become peer paths, and an authority is expanded with what follows from them.
//!
//! An operator's own element always wins: an own adjacency of the same peer and address, an own peer
//! of the same name and an own service-route of the same name replace the generated ones.

use core::net::IpAddr;
use std::collections::{BTreeMap, HashSet};

use crate::elements::{
    Adjacency, Authority, Bfd, InterfaceType, Neighborhood, NetworkInterface, Peer, Quota, Router,
    UdpTransform, WaypointRange,
};
use crate::graph::Graph;
use crate::routes::{self, Egresses};

/// One interface in a neighborhood.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attachment<'a> {
    /// The router's position in [`Fabric::routers`].
    pub(crate) router: usize,
    pub(crate) interface: &'a NetworkInterface,
    pub(crate) neighborhood: &'a Neighborhood,
}

/// One peer path from a router's view, from an own adjacency or from a neighborhood.
#[derive(Clone, Debug)]
pub(crate) struct PathSpec<'a> {
    pub(crate) interface: &'a NetworkInterface,
    /// The peer's position in [`Fabric::routers`].
    pub(crate) peer: usize,
    pub(crate) local: Option<IpAddr>,
    pub(crate) remote: IpAddr,
    pub(crate) cost: u32,
    pub(crate) port_range: Option<WaypointRange>,
    pub(crate) max_way_points: u32,
    pub(crate) security: Option<&'a str>,
    pub(crate) udp_transform: UdpTransform,
    pub(crate) bfd: Bfd,
    /// The neighborhood and the peer's interface, when a neighborhood made it.
    pub(crate) made_by: Option<(&'a str, &'a str)>,
}

/// All routers, by name, and the neighborhoods that join them.
pub(crate) struct Fabric<'a> {
    pub(crate) routers: Vec<&'a Router>,
    pub(crate) neighborhoods: BTreeMap<&'a str, Vec<Attachment<'a>>>,
}

impl<'a> Fabric<'a> {
    pub(crate) fn new(authority: &'a Authority) -> Self {
        let mut routers: Vec<&Router> = authority.routers.iter().collect();
        routers.sort_by(|a, b| a.name.cmp(&b.name));
        let mut neighborhoods: BTreeMap<&str, Vec<Attachment>> = BTreeMap::new();
        for (router, element) in routers.iter().enumerate() {
            for (_, _, interface) in element.network_interfaces() {
                for neighborhood in interface.neighborhoods.iter().filter(|_| makes_peers(interface)) {
                    let attachment = Attachment { router, interface, neighborhood };
                    neighborhoods.entry(&neighborhood.name).or_default().push(attachment);
                }
            }
        }
        Self { routers, neighborhoods }
    }

    /// The position of a router.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.routers.binary_search_by(|router| router.name.as_str().cmp(name)).ok()
    }

    /// An upper bound of the peer paths that neighborhoods make on all routers together.
    pub(crate) fn expected_paths(&self) -> u64 {
        let paths = |attachments: &Vec<Attachment>| {
            let (mut mesh, mut hub, mut spoke) = (0u64, 0u64, 0u64);
            for attachment in attachments {
                match attachment.neighborhood.topology {
                    crate::elements::Topology::Mesh => mesh += 1,
                    crate::elements::Topology::Hub => hub += 1,
                    crate::elements::Topology::Spoke => spoke += 1,
                }
            }
            2 * (mesh * mesh + 2 * hub * (mesh + spoke))
        };
        self.neighborhoods.values().map(paths).sum()
    }

    /// All peer paths of a router: own adjacencies as they are, then what neighborhoods add.
    pub(crate) fn paths_of(&self, position: usize) -> Vec<PathSpec<'a>> {
        let Some(router) = self.routers.get(position) else { return Vec::new() };
        let mut paths = Vec::new();
        for (_, _, interface) in router.network_interfaces() {
            let mut taken = HashSet::new();
            for adjacency in interface.adjacencies.iter().filter(|adjacency| !adjacency.generated) {
                let Some(peer) = self.position(&adjacency.peer) else { continue };
                taken.insert((peer, adjacency.ip_address));
                paths.push(PathSpec::configured(interface, peer, adjacency));
            }
            if makes_peers(interface) {
                self.add_neighbors(position, interface, &mut taken, &mut paths);
            }
        }
        paths
    }

    fn add_neighbors(
        &self,
        position: usize,
        interface: &'a NetworkInterface,
        taken: &mut HashSet<(usize, IpAddr)>,
        paths: &mut Vec<PathSpec<'a>>,
    ) {
        let mut memberships: Vec<&Neighborhood> = interface.neighborhoods.iter().collect();
        memberships.sort_by(|a, b| a.name.cmp(&b.name));
        for own in memberships {
            for other in self.neighborhoods.get(own.name.as_str()).map_or(&[][..], Vec::as_slice) {
                if other.router == position || !own.topology.pairs_with(other.neighborhood.topology) {
                    continue;
                }
                for (local, remote) in interface.waypoints().into_iter().zip(other.interface.waypoints()) {
                    let (Some(local), Some(remote)) = (local, remote) else { continue };
                    if taken.insert((other.router, remote)) {
                        paths.push(PathSpec::neighboring(interface, own, other, local, remote));
                    }
                }
            }
        }
    }
}

/// Whether neighborhoods of the interface make peers; on external ones they only group sources.
pub(crate) fn makes_peers(interface: &NetworkInterface) -> bool {
    match interface.kind {
        InterfaceType::Fabric | InterfaceType::Shared => true,
        InterfaceType::External => false,
    }
}

impl<'a> PathSpec<'a> {
    fn configured(interface: &'a NetworkInterface, peer: usize, adjacency: &'a Adjacency) -> Self {
        let [v4, v6] = interface.waypoints();
        Self {
            interface,
            peer,
            local: if adjacency.ip_address.is_ipv6() { v6 } else { v4 },
            remote: adjacency.ip_address,
            cost: adjacency.cost,
            port_range: adjacency.port_range,
            max_way_points: adjacency.max_way_points,
            security: adjacency.security.as_deref(),
            udp_transform: adjacency.udp_transform,
            bfd: adjacency.bfd,
            made_by: None,
        }
    }

    fn neighboring(
        interface: &'a NetworkInterface,
        own: &'a Neighborhood,
        other: &Attachment<'a>,
        local: IpAddr,
        remote: IpAddr,
    ) -> Self {
        Self {
            interface,
            peer: other.router,
            local: Some(local),
            remote,
            cost: own.cost,
            port_range: other.neighborhood.port_range,
            max_way_points: own.max_way_points,
            security: own.security.as_deref(),
            udp_transform: own.udp_transform,
            bfd: own.bfd,
            made_by: Some((&own.name, &other.interface.name)),
        }
    }

    fn adjacency(&self, fabric: &Fabric) -> Option<Adjacency> {
        self.made_by?;
        Some(Adjacency {
            peer: fabric.routers.get(self.peer)?.name.clone(),
            ip_address: self.remote,
            generated: true,
            cost: self.cost,
            port_range: self.port_range,
            max_way_points: self.max_way_points,
            security: self.security.map(str::to_owned),
            udp_transform: self.udp_transform,
            bfd: self.bfd,
        })
    }
}

impl Authority {
    /// The authority with everything that follows from its neighborhoods and egress routers: peers,
    /// adjacencies and service-routes, each marked `generated`.
    ///
    /// It grows with routers times services; [`Self::generate_router`] does it for one router.
    #[must_use]
    pub fn generate(&self) -> Self {
        self.expand(|_| true)
    }

    /// As [`Self::generate`], but only the elements of one router; the others stay as they are.
    #[must_use]
    pub fn generate_router(&self, name: &str) -> Self {
        self.expand(|router| router == name)
    }

    fn expand(&self, wanted: impl Fn(&str) -> bool) -> Self {
        let mut base = self.clone();
        base.drop_generated();
        let mut expanded = base.clone();
        let fabric = Fabric::new(&base);
        let graph = Graph::new(&fabric);
        let egresses = Egresses::new(&base, &fabric);
        for router in expanded.routers.iter_mut().filter(|router| wanted(&router.name)) {
            let Some(position) = fabric.position(&router.name) else { continue };
            add_adjacencies(router, &fabric, position);
            let generated = routes::generate(&base, &fabric, &graph, &egresses, position);
            router.service_routes.extend(generated);
        }
        expanded
    }

    /// Removes every element that is marked as generated.
    pub(crate) fn drop_generated(&mut self) {
        for router in &mut self.routers {
            router.peers.retain(|peer| !peer.generated);
            router.service_routes.retain(|route| !route.generated);
            for interface in router.interfaces_mut() {
                interface.adjacencies.retain(|adjacency| !adjacency.generated);
            }
        }
    }
}

fn add_adjacencies(router: &mut Router, fabric: &Fabric, position: usize) {
    let paths = fabric.paths_of(position);
    let known: HashSet<String> = router.peers.iter().map(|peer| peer.name.clone()).collect();
    let peers: BTreeMap<usize, &Router> =
        paths.iter().filter_map(|path| Some((path.peer, *fabric.routers.get(path.peer)?))).collect();
    let missing = peers.values().filter(|peer| !known.contains(&peer.name));
    router.peers.extend(missing.map(|peer| Peer {
        name: peer.name.clone(),
        generated: true,
        key_file: None,
        allowed_tenants: Vec::new(),
        limits: Quota::default(),
    }));
    let mut added: BTreeMap<&str, Vec<Adjacency>> = BTreeMap::new();
    for path in &paths {
        if let Some(adjacency) = path.adjacency(fabric) {
            added.entry(path.interface.name.as_str()).or_default().push(adjacency);
        }
    }
    for interface in router.interfaces_mut() {
        interface.adjacencies.extend(added.remove(interface.name.as_str()).unwrap_or_default());
    }
}

impl Router {
    fn interfaces_mut(&mut self) -> impl Iterator<Item = &mut NetworkInterface> {
        self.nodes
            .iter_mut()
            .flat_map(|node| node.device_interfaces.iter_mut())
            .flat_map(|device| device.network_interfaces.iter_mut())
    }
}
