//! One router: its machine, its peers, where its sessions go, and its limits.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::interface::{DeniedResponse, DeviceInterface, NetworkInterface};
use super::policy::Quota;

/// A router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Router {
    /// The name it finds itself by.
    pub name: String,
    /// Free text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The machines it consists of; at most one.
    #[serde(rename = "node", default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<Node>,
    /// TUN devices by which the router's own host enters the fabric.
    #[serde(rename = "host-interface", default, skip_serializing_if = "Vec::is_empty")]
    pub host_interfaces: Vec<HostInterface>,
    /// The routers it shares keys with.
    #[serde(rename = "peer", default, skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<Peer>,
    /// Where sessions of services go.
    #[serde(rename = "service-route", default, skip_serializing_if = "Vec::is_empty")]
    pub service_routes: Vec<ServiceRoute>,
    /// Limits and rates.
    pub limits: Limits,
}

/// A machine of a router.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Node {
    /// The name.
    pub name: String,
    /// Its devices.
    #[serde(rename = "device-interface", default, skip_serializing_if = "Vec::is_empty")]
    pub device_interfaces: Vec<DeviceInterface>,
}

/// A TUN device by which the router's own host enters the fabric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HostInterface {
    /// The name, unique among all interfaces of the router.
    pub name: String,
    /// The Linux name; `None` means the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The tenant of what the host sends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The host's addresses on it.
    #[serde(rename = "address", default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<HostAddress>,
    /// What the host gets to see when it is denied.
    pub denied_response: DeniedResponse,
}

/// One address of a host-interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HostAddress {
    /// The address.
    pub ip_address: IpAddr,
    /// The length of its prefix, in bits.
    pub prefix_length: u8,
}

/// Another router that this one shares a key with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Peer {
    /// Its router name.
    pub name: String,
    /// Whether a neighborhood made it.
    pub generated: bool,
    /// The file that holds the key, relative to the document; `None` means the default of
    /// [`Peer::default_key_file`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
    /// The tenants it may claim, children included; empty means all.
    #[serde(rename = "allowed-tenant", default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_tenants: Vec<String>,
    /// How much of this router the sessions that it brings may have.
    pub limits: Quota,
}

impl Peer {
    /// The key file of two routers, relative to the document: `keys/<a>--<b>.key`, the names in
    /// alphabetical order, so that both routers find the same file.
    #[must_use]
    pub fn default_key_file(one: &str, other: &str) -> String {
        let (first, second) = if one <= other { (one, other) } else { (other, one) };
        format!("keys/{first}--{second}.key")
    }
}

/// Where sessions of a service go from a router. Exactly one of `peer`, `next_hop` and `local` is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ServiceRoute {
    /// The name.
    pub name: String,
    /// The service.
    pub service_name: String,
    /// Whether it was generated from the service-route of an egress router.
    pub generated: bool,
    /// To a peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// Out of an interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hop: Option<NextHop>,
    /// To a destination on the prefix of one of the router's interfaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<Local>,
    /// Lower is better.
    pub cost: u32,
    /// The configuration line it was generated from.
    #[serde(skip)]
    pub(crate) origin: Option<String>,
}

/// The next hop of a service-route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct NextHop {
    /// The network-interface.
    pub interface: String,
    /// The gateway; `None` when destinations are on the link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// Marks a service-route to destinations on the router's own prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Local {}

/// Limits and rates of a router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Limits {
    /// Sessions held at once.
    pub sessions: u32,
    /// TCP sessions that wait for their handshake.
    pub half_open: u32,
    /// Sessions that hosts may begin a second.
    pub session_rate: u32,
    /// First packets with metadata verified a second.
    pub first_packet_rate: u32,
    /// Answers a second.
    pub answer_rate: u32,
    /// How much of it each tenant may have.
    pub per_tenant: Quota,
    /// How much of it each source may have.
    pub per_source: Quota,
    /// How much of it the sessions that each peer brings may have.
    pub per_peer: Quota,
}

impl Router {
    /// All network-interfaces with the node and the device they are on.
    pub fn network_interfaces(
        &self,
    ) -> impl Iterator<Item = (&Node, &DeviceInterface, &NetworkInterface)> + '_ {
        self.nodes.iter().flat_map(|node| {
            node.device_interfaces.iter().flat_map(move |device| {
                device.network_interfaces.iter().map(move |interface| (node, device, interface))
            })
        })
    }
}

impl HostInterface {
    /// The Linux name.
    #[must_use]
    pub fn linux_name(&self) -> &str {
        self.device.as_deref().unwrap_or(&self.name)
    }
}
