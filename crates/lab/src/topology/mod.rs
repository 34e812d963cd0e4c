//! Topologies: what a laboratory consists of, read from a file and checked as a whole.
//!
//! A file is read in two steps: `raw` accepts YAML and knows the line of everything, `check` makes
//! a [`Topology`] of it or names every fault at once. Only a [`Topology`] is ever built.

mod check;
mod raw;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use crate::wire::Settings;

/// A laboratory, checked: every reference is valid and every name fits its use.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    /// The name, first part of every namespace's.
    pub name: String,
    /// Decides the fate of frames on impaired links.
    pub seed: u64,
    /// The authority's configuration, for the routers.
    pub config: Option<Configuration>,
    /// The links, by name.
    pub links: BTreeMap<String, Link>,
    /// Hosts, routers and NAT boxes, by name.
    pub nodes: BTreeMap<String, Node>,
}

/// Where the configuration of the routers is.
#[derive(Clone, Debug, PartialEq)]
pub enum Configuration {
    /// In a file.
    File(PathBuf),
    /// In the topology itself.
    Inline(serde_json::Value),
}

/// A link between two or more nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The longest IP packet, in bytes.
    pub mtu: u16,
    /// Whether its devices do segmentation and checksum offload.
    pub offload: bool,
    /// The nodes on it, by name.
    pub members: Vec<String>,
    /// What happens to the frames of each member, if the link is a wire; otherwise empty.
    pub impaired: BTreeMap<String, Settings>,
}

/// A network namespace with something in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What it is.
    pub role: Role,
    /// Its interfaces, by link.
    pub interfaces: BTreeMap<String, Interface>,
    /// Routes beside the interfaces' gateways.
    pub routes: BTreeMap<IpNet, IpAddr>,
    /// Kernel settings of the namespace (`net.…`).
    pub sysctl: BTreeMap<String, String>,
    /// Files in its directory, by name.
    pub files: BTreeMap<String, String>,
    /// Programs that run in it, by name.
    pub services: BTreeMap<String, Service>,
}

/// How a router exchanges frames with the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Io {
    /// AF_XDP where the driver serves it.
    Auto,
    /// Packet sockets.
    Packet,
    /// AF_XDP wherever the device allows it.
    Xdp,
}

impl Io {
    /// The word of the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Packet => "packet",
            Self::Xdp => "xdp",
        }
    }
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// A host, of a tenant if it is to be shown as one.
    Host {
        /// The tenant's name.
        tenant: Option<String>,
    },
    /// A Fairway router.
    Router {
        /// How many workers it has; as many as it likes if nothing is said.
        workers: Option<u8>,
        /// How it exchanges frames with the kernel (`--io`); as it likes if nothing is said.
        io: Option<Io>,
    },
    /// A box that forwards in the kernel and masquerades what leaves it.
    Nat(Nat),
}

/// A NAT box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nat {
    /// The devices towards the hidden networks.
    pub inside: Vec<String>,
    /// The device towards the rest.
    pub outside: String,
    /// Ports of the outside that lead inside.
    pub forward: Vec<Forward>,
}

/// A port of a NAT box's outside that leads inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// TCP or UDP.
    pub protocol: Transport,
    /// The port outside.
    pub port: u16,
    /// The address inside.
    pub to: IpAddr,
    /// The port inside.
    pub to_port: u16,
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A node's device on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The device's name.
    pub device: String,
    /// Its addresses with their prefixes.
    pub addresses: Vec<IpNet>,
    /// The default routes: at most one of each family.
    pub gateways: Vec<IpAddr>,
}

/// A program in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// What the shell runs; `{dir}` stands for the node's directory.
    pub command: String,
    /// When it counts as started.
    pub ready: Ready,
    /// How long that may take.
    pub deadline: Duration,
}

/// When a service counts as started.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ready {
    /// At once.
    Immediately,
    /// When something listens on the TCP port.
    Tcp(u16),
    /// When something is bound to the UDP port.
    Udp(u16),
    /// When the file exists.
    File(String),
    /// When the command succeeds.
    Command(String),
}

/// A fault in a topology file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The line, from 1; 0 if the fault has no place.
    pub line: u64,
    /// The path of the field, such as `links.wan.delay`.
    pub field: String,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// Why a topology cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is wrong.
    #[error("{}", list(path, faults))]
    Faults {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong with it.
        faults: Vec<Fault>,
    },
}

impl Topology {
    /// Reads and checks a topology file.
    ///
    /// # Errors
    /// When the file cannot be read, or with every fault in it, each with its line and field.
    pub fn read(path: &Path) -> Result<Self, TopologyError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| TopologyError::Unreadable { path: path.to_owned(), source })?;
        let mut topology =
            Self::parse(&text).map_err(|faults| TopologyError::Faults { path: path.to_owned(), faults })?;
        if let (Some(Configuration::File(file)), Some(folder)) = (&mut topology.config, path.parent()) {
            *file = folder.join(&*file);
        }
        Ok(topology)
    }

    /// Reads and checks the text of a topology file. A configuration's path stays as written.
    ///
    /// # Errors
    /// With every fault found, each with its line and field.
    pub fn parse(text: &str) -> Result<Self, Vec<Fault>> {
        check::check(raw::read(text)?)
    }

    /// The names of the routers, in order.
    pub fn routers(&self) -> impl Iterator<Item = &str> {
        self.nodes
            .iter()
            .filter(|(_, node)| matches!(node.role, Role::Router { .. }))
            .map(|(name, _)| name.as_str())
    }
}

impl Link {
    /// Whether frames go through a wire process.
    #[must_use]
    pub fn is_wire(&self) -> bool {
        !self.impaired.is_empty()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => f.write_str(&self.message),
            field => write!(f, "{field}: {}", self.message),
        }
    }
}

fn list(path: &Path, faults: &[Fault]) -> String {
    let line = |fault: &Fault| match fault.line {
        0 => format!("{}: {fault}", path.display()),
        line => format!("{}:{line}: {fault}", path.display()),
    };
    faults.iter().map(line).collect::<Vec<_>>().join("\n")
}
