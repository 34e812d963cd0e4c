//! The classifier: which packets are Fairway's, and which are the kernel's.
//!
//! One eBPF program is loaded twice with shared maps. At the tc ingress of every Ethernet interface
//! it drops what is Fairway's, so the kernel never answers it; as the filter of Fairway's packet
//! sockets, which see packets before tc does, it accepts exactly the same packets. The rows of the
//! table, in the order in which they decide:
//!
//! | packet | owner | [`Rule`] |
//! |---|---|---|
//! | not sent to this host on layer 2 (broadcast, multicast, another host) | kernel | `NotForHost` |
//! | with an 802.1Q tag other than 0 (the kernel's VLAN device receives it again, untagged) | kernel | `Tagged` |
//! | not IPv4 or IPv6, or a header that is none | kernel | `NotIp` |
//! | to IPv4 224.0.0.0 and above, IPv6 `ff00::/8`, or the unspecified address | kernel | `GroupAddress` |
//! | from or to IPv6 `fe80::/10` | kernel | `LinkLocal` |
//! | not to one of the host's own addresses, whole or fragment | Fairway | `Forwarded` |
//! | to an own address that is no waypoint | kernel | `Own` |
//! | a fragment other than the first, from a peer's waypoint | Fairway | `PeerFragment` |
//! | any other fragment but the first | kernel | `Own` |
//! | UDP to port 1280 | Fairway | `WaypointBfd` |
//! | TCP or UDP to a port of the waypoint's range | Fairway | `WaypointPort` |
//! | ICMP 3, 11, 12 or ICMPv6 1–4 quoting TCP or UDP from a waypoint and a port of its range, or UDP from its port 1280 | Fairway | `WaypointError` |
//! | everything else | kernel | `Own` |
//!
//! [`classify`] is the same table in plain Rust; a test holds the program to it.
//!
//! On Linux 6.6 and later the tc program is attached by a tcx link whose descriptor this process
//! holds: when the process ends, however it ends, its traffic belongs to the kernel again. Older
//! kernels get a filter under a clsact queueing discipline, which is removed on a clean shutdown
//! only; after a crash it stays until the next start replaces it or
//! `tc qdisc del dev DEVICE clsact` removes it.

pub(crate) mod asm;
mod program;
mod rule;
#[cfg(test)]
mod tests;

use core::net::IpAddr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use fairway_types::PortRange;

use self::asm::Instruction;
use self::program::{Answer, MapFds, assemble, value};
pub use self::rule::{Rule, Tables, classify};
use crate::error::{Context, OpenError};
use crate::netlink;
use crate::sys::bpf::{Map, Program, ProgramKind, possible_cpus};

/// How many own addresses the kernel's table holds.
const LOCAL_ENTRIES: u32 = 16_384;
/// How many peers' waypoints the kernel's table holds.
const PEER_ENTRIES: u32 = 65_536;

/// The loaded programs and their maps.
#[derive(Debug)]
pub(crate) struct Classifier {
    tables: Tables,
    local: Map<16, { value::SIZE }>,
    peers: Map<16, 4>,
    counters: Map<4, 8>,
    tc: Program,
    filter: Program,
    cpus: usize,
}

/// What keeps the program on one device; dropping it takes the program off.
#[derive(Debug)]
pub(crate) enum Attachment {
    /// A tcx link.
    Tcx(#[expect(dead_code, reason = "held open, never read")] OwnedFd),
    /// A filter under clsact.
    Clsact {
        /// The device.
        ifindex: u32,
    },
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if let Self::Clsact { ifindex } = self {
            // The device may be gone, and the filter with it.
            let _ = netlink::remove_filter(*ifindex);
        }
    }
}

impl Classifier {
    /// Loads the programs with empty tables.
    pub(crate) fn load() -> Result<Self, OpenError> {
        let local = Map::hash("fw_local", LOCAL_ENTRIES).context("create the classifier's maps")?;
        let peers = Map::hash("fw_peers", PEER_ENTRIES).context("create the classifier's maps")?;
        let counters =
            Map::per_cpu_array("fw_rules", Rule::ALL.len() as u32).context("create the classifier's maps")?;
        let maps = MapFds { local: local.fd(), peers: peers.fd(), counters: counters.fd() };
        let tc = load_program(ProgramKind::SchedCls, maps, Answer::Drop)?;
        let filter = load_program(ProgramKind::SocketFilter, maps, Answer::Accept)?;
        Ok(Self { tables: Tables::default(), local, peers, counters, tc, filter, cpus: possible_cpus() })
    }

    /// Brings the kernel's tables to `wanted`, touching only what differs. New entries come before old
    /// ones go.
    pub(crate) fn update(&mut self, wanted: &Tables) -> io::Result<()> {
        for (&address, &ports) in &wanted.local {
            if self.tables.local.get(&address) != Some(&ports) {
                self.local.insert(&key(address), &local_value(ports))?;
                self.tables.local.insert(address, ports);
            }
        }
        for &peer in &wanted.peers {
            if !self.tables.peers.contains(&peer) {
                self.peers.insert(&key(peer), &[1, 0, 0, 0])?;
                self.tables.peers.insert(peer);
            }
        }
        let gone: Vec<_> =
            self.tables.local.keys().filter(|a| !wanted.local.contains_key(a)).copied().collect();
        for address in gone {
            self.local.remove(&key(address))?;
            self.tables.local.remove(&address);
        }
        let gone: Vec<_> = self.tables.peers.difference(&wanted.peers).copied().collect();
        for peer in gone {
            self.peers.remove(&key(peer))?;
            self.tables.peers.remove(&peer);
        }
        Ok(())
    }

    /// Takes Fairway's packets away from the kernel on one device.
    pub(crate) fn attach(&self, ifindex: u32) -> io::Result<Attachment> {
        match self.tc.attach_tcx(ifindex) {
            Ok(link) => Ok(Attachment::Tcx(link)),
            // Before Linux 6.6 there is no such link.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                netlink::install_filter(ifindex, self.tc.fd())?;
                Ok(Attachment::Clsact { ifindex })
            }
            Err(error) => Err(error),
        }
    }

    /// The program for tc.
    #[cfg(test)]
    pub(crate) fn program(&self) -> BorrowedFd<'_> {
        self.tc.fd()
    }

    /// The program for packet sockets.
    pub(crate) fn filter(&self) -> BorrowedFd<'_> {
        self.filter.fd()
    }

    /// How many packets each rule has decided about.
    pub(crate) fn counts(&self) -> io::Result<Vec<(Rule, u64)>> {
        Rule::ALL.iter().map(|&rule| Ok((rule, self.counters.sum(rule as u32, self.cpus)?))).collect()
    }
}

fn load_program(kind: ProgramKind, maps: MapFds, answer: Answer) -> Result<Program, OpenError> {
    let code: Vec<Instruction> = assemble(maps, answer).map_err(|error| OpenError::Classifier {
        source: io::Error::new(io::ErrorKind::InvalidData, error),
        log: String::new(),
    })?;
    Program::load(kind, "fairway", &code).map_err(|(source, log)| OpenError::Classifier { source, log })
}

/// Addresses are keys as IPv6, IPv4 ones mapped.
fn key(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn local_value(ports: Option<PortRange>) -> [u8; value::SIZE] {
    let mut bytes = [0; value::SIZE];
    if let Some(ports) = ports {
        let fields = [
            (value::IS_WAYPOINT, 1),
            (value::FIRST_PORT, u32::from(ports.first())),
            (value::LAST_PORT, u32::from(ports.last())),
        ];
        for (at, number) in fields {
            bytes[at..at + 4].copy_from_slice(&number.to_ne_bytes());
        }
    }
    bytes
}
