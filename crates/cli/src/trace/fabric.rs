//! All routers of a configuration, compiled, and where a packet enters them.

use core::net::IpAddr;

use fairway_config::Authority;
use fairway_policy::Snapshot;
use fairway_types::model::{Interface, InterfaceKind, RouterModel};
use fairway_types::{InterfaceId, IpNet, TenantId};

use crate::failure::Failure;

/// The routers of an authority, in the order of their names.
#[derive(Debug)]
pub struct Fabric {
    routers: Vec<Snapshot>,
}

/// Where a packet without metadata enters, and whom it says it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The router.
    pub router: String,
    /// The interface.
    pub interface: InterfaceId,
    /// Its name.
    pub interface_name: String,
    /// The sender.
    pub source: IpAddr,
}

impl Entry {
    /// As it is typed to mean exactly this entry.
    pub fn typed(&self) -> String {
        format!("{}/{}:{}", self.router, self.interface_name, self.source)
    }
}

impl Fabric {
    /// Compiles every router.
    ///
    /// # Errors
    /// When a router has no valid model.
    pub fn compile(authority: &Authority) -> Result<Self, Failure> {
        let mut routers = Vec::with_capacity(authority.routers.len());
        for router in &authority.routers {
            let model = authority.router_model(&router.name).map_err(|faults| {
                let list: Vec<String> = faults.iter().map(ToString::to_string).collect();
                Failure::refused(format!("router {} cannot be built:\n{}", router.name, list.join("\n")))
            })?;
            let snapshot = Snapshot::compile(model).map_err(|error| {
                Failure::refused(format!("router {} cannot be compiled: {error}", router.name))
            })?;
            routers.push(snapshot);
        }
        routers.sort_by(|a, b| a.model().router.cmp(&b.model().router));
        Ok(Self { routers })
    }

    /// The router of that name.
    pub fn router(&self, name: &str) -> Option<&Snapshot> {
        self.routers.iter().find(|snapshot| snapshot.model().router == name)
    }

    /// All routers.
    pub fn routers(&self) -> &[Snapshot] {
        &self.routers
    }

    /// The entries of a host: by connected prefix, else by the memberships of tenants.
    pub fn entries_of(&self, source: IpAddr) -> Vec<Entry> {
        let connected = self.entries(source, |_, _, interface| {
            interface.addresses.iter().any(|address| address.address.contains(&source))
        });
        if !connected.is_empty() {
            return connected;
        }
        self.entries(source, |model, id, _| {
            let memberships = &model.memberships;
            memberships.iter().any(|line| line.interface == id && line.prefix.contains(&source))
        })
    }

    /// The entries at which somebody of a tenant may be, each with a sender of the wanted family.
    pub fn entries_of_tenant(&self, tenant: TenantId, v6: bool) -> Vec<Entry> {
        let mut entries = Vec::new();
        for snapshot in &self.routers {
            let model = snapshot.model();
            for (id, interface) in hosts_side(model) {
                let source = if interface.tenant == Some(tenant) {
                    sender_on(interface, v6)
                } else if interface.tenant.is_none() {
                    let mut lines = model.memberships.iter();
                    let line = lines.find(|line| {
                        line.interface == id && line.tenant == tenant && is_v6(&line.prefix) == v6
                    });
                    line.and_then(|line| host_in(line.prefix, &own_addresses(interface)))
                } else {
                    None
                };
                entries.extend(source.map(|source| entry(model, id, interface, source)));
            }
        }
        entries
    }

    /// The entry at an interface that is named.
    ///
    /// # Errors
    /// When there is no such router or interface; says which there are.
    pub fn entry_at(
        &self,
        router: &str,
        interface: &str,
        source: Option<IpAddr>,
        v6: bool,
    ) -> Result<Entry, Failure> {
        let snapshot = self.router(router).ok_or_else(|| {
            let names: Vec<&str> =
                self.routers.iter().map(|snapshot| snapshot.model().router.as_str()).collect();
            Failure::refused(format!("there is no router {router}; there are {}", names.join(", ")))
        })?;
        let model = snapshot.model();
        let found = interfaces(model).find(|(_, candidate)| candidate.name == interface);
        let (id, found) = found.ok_or_else(|| {
            let names: Vec<&str> = model.interfaces.iter().map(|interface| interface.name.as_str()).collect();
            Failure::refused(format!("{router} has no interface {interface}; it has {}", names.join(", ")))
        })?;
        let source = source.or_else(|| sender_on(found, v6)).ok_or_else(|| {
            let family = if v6 { "IPv6" } else { "IPv4" };
            Failure::refused(format!("{router}/{interface} has no {family} prefix to take a sender from"))
                .fix(format!("name the sender: {router}/{interface}:ADDRESS"))
        })?;
        Ok(entry(model, id, found, source))
    }

    /// All interfaces on which hosts may be, as they are typed.
    pub fn typed_entries(&self) -> Vec<String> {
        let of = |snapshot: &Snapshot| -> Vec<String> {
            let model = snapshot.model();
            hosts_side(model).map(|(_, interface)| format!("{}/{}", model.router, interface.name)).collect()
        };
        self.routers.iter().flat_map(of).collect()
    }

    fn entries(
        &self,
        source: IpAddr,
        holds: impl Fn(&RouterModel, InterfaceId, &Interface) -> bool,
    ) -> Vec<Entry> {
        let mut entries = Vec::new();
        for snapshot in &self.routers {
            let model = snapshot.model();
            for (id, interface) in hosts_side(model).filter(|(id, interface)| holds(model, *id, interface)) {
                entries.push(entry(model, id, interface, source));
            }
        }
        entries
    }
}

/// The interfaces with their ids.
pub fn interfaces(model: &RouterModel) -> impl Iterator<Item = (InterfaceId, &Interface)> {
    (0u16..).map(InterfaceId).zip(&model.interfaces)
}

/// The interfaces on which packets without metadata are expected.
fn hosts_side(model: &RouterModel) -> impl Iterator<Item = (InterfaceId, &Interface)> {
    interfaces(model).filter(|(_, interface)| match interface.kind {
        InterfaceKind::External | InterfaceKind::Shared | InterfaceKind::Host => true,
        InterfaceKind::Fabric => false,
    })
}

fn entry(model: &RouterModel, interface: InterfaceId, element: &Interface, source: IpAddr) -> Entry {
    Entry { router: model.router.clone(), interface, interface_name: element.name.clone(), source }
}

fn is_v6(prefix: &IpNet) -> bool {
    prefix.addr().is_ipv6()
}

fn own_addresses(interface: &Interface) -> Vec<IpAddr> {
    interface.addresses.iter().map(|address| address.address.addr()).collect()
}

/// Some sender on the link of an interface; the host itself where it is a TUN.
fn sender_on(interface: &Interface, v6: bool) -> Option<IpAddr> {
    let prefix =
        interface.addresses.iter().map(|address| address.address).find(|prefix| is_v6(prefix) == v6)?;
    match interface.kind {
        InterfaceKind::Host => Some(prefix.addr()),
        InterfaceKind::External | InterfaceKind::Fabric | InterfaceKind::Shared => {
            host_in(prefix, &own_addresses(interface))
        }
    }
}

/// The first host of a prefix that is none of `taken`.
pub fn host_in(prefix: IpNet, taken: &[IpAddr]) -> Option<IpAddr> {
    // A link has few routers, so a few steps find a free host.
    let network = prefix.network();
    let single = prefix.prefix_len() == prefix.max_prefix_len();
    prefix
        .hosts()
        .take(64)
        .find(|host| !taken.contains(host) && (single || !host.is_ipv6() || *host != network))
}
