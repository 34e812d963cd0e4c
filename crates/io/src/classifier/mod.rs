//! The classifier: which packets are Fairway's, and which are the kernel's.
//!
//! One table is made into several eBPF programs over the same maps. While a router runs, the program at the tc
//! ingress of every Ethernet interface sends what is Fairway's through the door of a worker
//! (`program::serve`), after it has forwarded what the kernel is to forward. While none runs, and where a
//! packet socket on the device itself takes a copy, it drops exactly that, so the kernel never answers it.
//! Where there are no doors, the table is the filter of packet sockets, too, which see packets before tc does;
//! with AF_XDP it is in front of all (`program::xdp`). The rows of the table, in the order in which they decide:
//!
//! | packet | owner | [`Rule`] |
//! |---|---|---|
//! | not sent to this host on layer 2 (broadcast, multicast, another host) | kernel | `NotForHost` |
//! | with an 802.1Q tag other than 0 (the kernel's VLAN device receives it again, untagged; or see below) | kernel | `Tagged` |
//! | not IPv4 or IPv6, or a header that is none | kernel | `NotIp` |
//! | to IPv4 224.0.0.0 and above, IPv6 `ff00::/8`, or the unspecified address | kernel | `GroupAddress` |
//! | from or to IPv6 `fe80::/10` | kernel | `LinkLocal` |
//! | not to one of the host's own addresses, whole or fragment | Fairway | `Forwarded` |
//! | to an own address that is no waypoint | kernel | `Own` |
//! | a fragment other than the first, from a peer's waypoint | Fairway | `PeerFragment` |
//! | any other fragment but the first | kernel | `Own` |
//! | UDP to port 1280 | Fairway | `WaypointBfd` |
//! | TCP or UDP to a port of an address of source NAT that a program of the host has bound | kernel | `Own` |
//! | TCP or UDP to a port of the waypoint's range | Fairway | `WaypointPort` |
//! | ICMP 3, 11, 12 or ICMPv6 1–4 quoting TCP or UDP from a waypoint and a port of its range, or UDP from its port 1280 | Fairway | `WaypointError` |
//! | ICMP 0 or ICMPv6 129 to an address of source NAT, with an identifier that NAT gives out | both | `NatEcho` |
//! | an ICMP error quoting an echo from such an address, with such an identifier | both | `NatEcho` |
//! | everything else | kernel | `Own` |
//!
//! [`classify`] is the same table in plain Rust; a test holds the program to it.
//!
//! Where the kernel has no VLAN device for an interface with a tag, a pair of programs of the same
//! table, one for tc and one for a packet socket, is attached to the device that carries it. It decides about frames with such a tag
//! only, and first of all:
//!
//! | packet | owner | [`Rule`] |
//! |---|---|---|
//! | with another tag, a tag of a provider (802.1ad), or two | kernel | `OtherTag` |
//! | for another host on layer 2 | kernel | `NotForHost` |
//! | ARP, neighbour solicitations and advertisements, groups included | Fairway | `TaggedLink` |
//! | what the table above leaves as `Own` | Fairway | `TaggedOwn` |
//!
//! The kernel would throw all of these away: it has nothing that receives such a tag.
//!
//! The tc program that drops stays when this process ends, however it ends, and the next start replaces it
//! without a gap (tcx on Linux 6.6 and later, else a filter under a clsact queueing discipline). It calls the
//! one that serves a router by an array of programs, which the kernel empties when the process that made it
//! is gone. If the classifier went with the process, the kernel would answer the packets of all sessions with resets, and a
//! restart would end them. `fairway release` takes it off; so does removing the interface from the
//! configuration.

pub(crate) mod asm;
mod program;
mod rule;
#[cfg(test)]
mod tests;

use core::net::IpAddr;
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use fairway_types::PortRange;

use self::asm::{AssemblyError, Instruction};
use self::program::{Answer, MapFds, Serve, assemble, assemble_redirect, assemble_serve, value};
pub(crate) use self::program::{DEVICE_BYTES, Frames, Redirect};
pub(crate) use self::rule::BFD_PORT;
pub use self::rule::{Rule, Tables, classify};
use crate::error::{Context, OpenError};
use crate::netlink;
use crate::offload;
use crate::steering::Parameters;
use crate::sys::bpf::{Map, Program, ProgramKind, possible_cpus};

/// How many own addresses the kernel's table holds.
const LOCAL_ENTRIES: u32 = 16_384;
/// How many peers' waypoints the kernel's table holds.
const PEER_ENTRIES: u32 = 65_536;
/// How many tags of all devices the kernel's table holds.
const TAG_ENTRIES: u32 = 4096;
/// How many ports of the host the kernel's table holds.
const HOST_PORT_ENTRIES: u32 = 8192;

/// The loaded programs and their maps.
#[derive(Debug)]
pub(crate) struct Classifier {
    tables: Mutex<Tables>,
    local: Map<16, { value::SIZE }>,
    peers: Map<16, 4>,
    counters: Map<4, 8>,
    tags: Map<8, 4>,
    host_ports: Map<4, 4>,
    untagged: Pair,
    tagged: Pair,
    cpus: usize,
    attached: Attached,
    service: Option<Service>,
}

/// What a router that runs does at tc beside keeping the kernel from its packets.
#[derive(Debug)]
struct Service {
    kernel: Arc<offload::Kernel>,
    /// The program, which is reached by this array alone: the kernel empties it when this process is gone.
    _programs: Map<4, 4>,
    #[cfg_attr(not(test), expect(dead_code, reason = "held; only tests run it by hand"))]
    program: Program,
}

impl Service {
    fn open(maps: MapFds, entrance: &Entrance, programs: Map<4, 4>) -> Result<Self, OpenError> {
        let Entrance { kernel, doors, steering } = entrance;
        let serve = Serve { flows: kernel.fds(), doors: *doors, steering: *steering };
        let program = load(ProgramKind::SchedCls, "fairway_serve", assemble_serve(maps, serve))?;
        let value = program.fd().as_raw_fd().to_ne_bytes();
        programs.insert(&[0; 4], &value).context("enter the program for tc")?;
        Ok(Self { kernel: Arc::clone(kernel), _programs: programs, program })
    }
}

/// What packets go through to their workers, and what flows are kept in that the kernel forwards.
#[derive(Clone, Debug)]
pub(crate) struct Entrance {
    pub(crate) kernel: Arc<offload::Kernel>,
    /// See [`Serve::doors`].
    pub(crate) doors: i32,
    /// For several workers.
    pub(crate) steering: Option<Parameters>,
}

#[cfg(test)]
impl Classifier {
    /// That of a router whose doors nobody has made.
    pub(crate) fn serving(kernel: &Arc<offload::Kernel>, steering: Option<Parameters>) -> Self {
        let doors = Map::<4, 4>::array("fw_test", 8).unwrap();
        let entrance = Entrance { kernel: Arc::clone(kernel), doors: doors.fd(), steering };
        Self::load(Some(&entrance)).unwrap()
    }
}

/// The two forms of one program.
#[derive(Debug)]
struct Pair {
    tc: Program,
    filter: Program,
}

/// How many attachments each device has: one that replaces another outlives it, and the last takes the
/// program off.
type Attached = Arc<Mutex<HashMap<(u32, Frames), u32>>>;

impl Frames {
    const ALL: [Self; 2] = [Self::Untagged, Self::Tagged];

    /// The name of the program in the kernel.
    const fn program(self) -> &'static str {
        match self {
            Self::Untagged => "fairway",
            Self::Tagged => "fairway_tags",
        }
    }

    /// The number of the filter where there is no tcx.
    const fn handle(self) -> u32 {
        match self {
            Self::Untagged => 1,
            Self::Tagged => 2,
        }
    }
}

/// The program on one device; dropping this takes it off, [`Attachment::leave`] does not.
#[derive(Debug)]
pub(crate) struct Attachment {
    ifindex: u32,
    frames: Frames,
    program: Program,
    attached: Attached,
}

impl Attachment {
    /// Lets the program stay when this process is gone.
    pub(crate) fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (self.ifindex, self.frames);
        if let Some(count) = attached.get_mut(&key).filter(|count| **count > 1) {
            *count -= 1;
            return;
        }
        attached.remove(&key);
        // The device may be gone, and the program with it. Before Linux 6.6 there is no tcx.
        if self.program.detach_tcx(self.ifindex).is_err() {
            let _ = netlink::remove_filter(self.ifindex, self.frames.handle());
        }
    }
}

/// Takes the program off a device, whoever attached it; says whether it was there.
///
/// # Errors
/// Those of bpf(2).
pub(crate) fn release(ifindex: u32) -> io::Result<bool> {
    let mut released = false;
    for frames in Frames::ALL {
        let attached = match Program::attached(ifindex, frames.program()) {
            Ok(attached) => attached,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                released |= netlink::remove_filter(ifindex, frames.handle()).is_ok();
                continue;
            }
            Err(error) => return Err(error),
        };
        for program in &attached {
            program.detach_tcx(ifindex)?;
        }
        released |= !attached.is_empty();
    }
    Ok(released)
}

impl Classifier {
    /// Loads the programs with empty tables. With an entrance, packets of untagged frames come by it, and
    /// flows can be left to the kernel.
    pub(crate) fn load(entrance: Option<&Entrance>) -> Result<Self, OpenError> {
        const MAPS: &str = "create the classifier's maps";
        let local = Map::hash("fw_local", LOCAL_ENTRIES).context(MAPS)?;
        let peers = Map::hash("fw_peers", PEER_ENTRIES).context(MAPS)?;
        let counters = Map::per_cpu_array("fw_rules", Rule::ALL.len() as u32).context(MAPS)?;
        let tags = Map::hash("fw_tags", TAG_ENTRIES).context(MAPS)?;
        let host_ports = Map::hash("fw_host_ports", HOST_PORT_ENTRIES).context(MAPS)?;
        let maps = map_fds(&local, &peers, &counters, &tags, &host_ports);
        let programs = match entrance {
            Some(_) => Some(Map::programs("fw_programs", 1).context(MAPS)?),
            None => None,
        };
        let pair = |frames| -> Result<Pair, OpenError> {
            let unless = programs.as_ref().filter(|_| frames == Frames::Untagged).map(Map::fd);
            let tc = load_program(ProgramKind::SchedCls, maps, frames, Answer::Drop { unless })?;
            let filter = load_program(ProgramKind::SocketFilter, maps, frames, Answer::Accept)?;
            Ok(Pair { tc, filter })
        };
        let (untagged, tagged) = (pair(Frames::Untagged)?, pair(Frames::Tagged)?);
        let service = match (entrance, programs) {
            (Some(entrance), Some(programs)) => Some(Service::open(maps, entrance, programs)?),
            _ => None,
        };
        let (tables, attached, cpus) = (Mutex::default(), Attached::default(), possible_cpus());
        Ok(Self {
            tables,
            local,
            peers,
            counters,
            tags,
            host_ports,
            untagged,
            tagged,
            cpus,
            attached,
            service,
        })
    }

    /// What flows that the kernel forwards are kept in, if it does.
    pub(crate) fn offload(&self) -> Option<Arc<offload::Kernel>> {
        self.service.as_ref().map(|service| Arc::clone(&service.kernel))
    }

    const fn pair(&self, frames: Frames) -> &Pair {
        match frames {
            Frames::Untagged => &self.untagged,
            Frames::Tagged => &self.tagged,
        }
    }

    /// Brings the kernel's tables to `wanted`, touching only what differs. New entries come before old
    /// ones go.
    pub(crate) fn update(&self, wanted: &Tables) -> io::Result<()> {
        let mut tables = self.tables.lock().unwrap_or_else(PoisonError::into_inner);
        for &port in &wanted.host_ports {
            if !tables.host_ports.contains(&port) {
                self.host_ports.insert(&host_port_key(port), &[1, 0, 0, 0])?;
                tables.host_ports.insert(port);
            }
        }
        for (&address, &ports) in &wanted.local {
            let kind = |of: &Tables| (of.nat.contains(&address), of.shared.contains(&address));
            let before = tables.local.get(&address).map(|&ports| (ports, kind(&tables)));
            if before != Some((ports, kind(wanted))) {
                self.local.insert(&key(address), &local_value(ports, kind(wanted)))?;
                tables.local.insert(address, ports);
            }
        }
        tables.nat = wanted.nat.clone();
        tables.shared = wanted.shared.clone();
        for &peer in &wanted.peers {
            if !tables.peers.contains(&peer) {
                self.peers.insert(&key(peer), &[1, 0, 0, 0])?;
                tables.peers.insert(peer);
            }
        }
        for &tag in &wanted.tags {
            if !tables.tags.contains(&tag) {
                self.tags.insert(&tag_key(tag), &[1, 0, 0, 0])?;
                tables.tags.insert(tag);
            }
        }
        let gone: Vec<_> = tables.local.keys().filter(|a| !wanted.local.contains_key(a)).copied().collect();
        for address in gone {
            self.local.remove(&key(address))?;
            tables.local.remove(&address);
        }
        let gone: Vec<_> = tables.peers.difference(&wanted.peers).copied().collect();
        for peer in gone {
            self.peers.remove(&key(peer))?;
            tables.peers.remove(&peer);
        }
        let gone: Vec<_> = tables.host_ports.difference(&wanted.host_ports).copied().collect();
        for port in gone {
            self.host_ports.remove(&host_port_key(port))?;
            tables.host_ports.remove(&port);
        }
        let gone: Vec<_> = tables.tags.difference(&wanted.tags).copied().collect();
        for tag in gone {
            self.tags.remove(&tag_key(tag))?;
            tables.tags.remove(&tag);
        }
        Ok(())
    }

    /// Takes Fairway's packets away from the kernel on one device.
    pub(crate) fn attach(&self, ifindex: u32, frames: Frames) -> io::Result<Attachment> {
        let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        match self.install(ifindex, frames) {
            // The same program, for an attachment that is to go.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            installed => installed?,
        }
        *attached.entry((ifindex, frames)).or_default() += 1;
        let attached = Arc::clone(&self.attached);
        Ok(Attachment { ifindex, frames, program: self.pair(frames).tc.try_clone()?, attached })
    }

    fn install(&self, ifindex: u32, frames: Frames) -> io::Result<()> {
        let Pair { tc, .. } = self.pair(frames);
        match Program::attached(ifindex, frames.program()) {
            Ok(old) => {
                tc.attach_tcx(ifindex, old.first())?;
                for program in old.iter().skip(1) {
                    program.detach_tcx(ifindex)?;
                }
            }
            // After start this process may not look at programs it did not attach itself. One more
            // beside an old one is harmless: what either drops is dropped.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => tc.attach_tcx(ifindex, None)?,
            // Before Linux 6.6 there is no tcx.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                netlink::install_filter(ifindex, frames.handle(), tc.fd())?;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The program for XDP on one device. What it takes counts like the rest. If it `forwards`, it does so
    /// with the flows that are the kernel's to forward.
    pub(crate) fn redirect(&self, redirect: Redirect, forwards: bool) -> Result<Program, OpenError> {
        let Self { local, peers, counters, tags, host_ports, .. } = self;
        let offload = self.service.as_ref().filter(|_| forwards).map(|service| service.kernel.fds());
        let maps = MapFds { offload, ..map_fds(local, peers, counters, tags, host_ports) };
        load(ProgramKind::Xdp, "fairway_xdp", assemble_redirect(maps, redirect))
    }

    /// The program for tc.
    #[cfg(test)]
    pub(crate) fn program(&self) -> BorrowedFd<'_> {
        self.untagged.tc.fd()
    }

    /// The program that serves workers, to be run by hand.
    #[cfg(test)]
    pub(crate) fn serving_program(&self) -> Option<&Program> {
        self.service.as_ref().map(|service| &service.program)
    }

    /// The program for packet sockets, to be run by hand.
    #[cfg(test)]
    pub(crate) fn filter_program(&self) -> &Program {
        &self.untagged.filter
    }

    /// The program for packet sockets.
    pub(crate) fn filter(&self, frames: Frames) -> BorrowedFd<'_> {
        self.pair(frames).filter.fd()
    }

    /// How many packets each rule has decided about.
    pub(crate) fn counts(&self) -> io::Result<Vec<(Rule, u64)>> {
        Rule::ALL.iter().map(|&rule| Ok((rule, self.counters.sum(rule as u32, self.cpus)?))).collect()
    }
}

fn load_program(
    kind: ProgramKind,
    maps: MapFds,
    frames: Frames,
    answer: Answer,
) -> Result<Program, OpenError> {
    load(kind, frames.program(), assemble(maps, frames, answer))
}

fn load(
    kind: ProgramKind,
    name: &str,
    code: Result<Vec<Instruction>, AssemblyError>,
) -> Result<Program, OpenError> {
    let code = code.map_err(|error| OpenError::Classifier {
        source: io::Error::new(io::ErrorKind::InvalidData, error),
        log: String::new(),
    })?;
    Program::load(kind, name, &code).map_err(|(source, log)| OpenError::Classifier { source, log })
}

fn map_fds(
    local: &Map<16, { value::SIZE }>,
    peers: &Map<16, 4>,
    counters: &Map<4, 8>,
    tags: &Map<8, 4>,
    host_ports: &Map<4, 4>,
) -> MapFds {
    MapFds {
        local: local.fd(),
        peers: peers.fd(),
        counters: counters.fd(),
        tags: tags.fd(),
        host_ports: host_ports.fd(),
        offload: None,
    }
}

fn host_port_key((protocol, port): (u8, u16)) -> [u8; 4] {
    (u32::from(protocol) << 16 | u32::from(port)).to_ne_bytes()
}

fn tag_key((device, tag): (u32, u16)) -> [u8; 8] {
    let mut key = [0; 8];
    key[..4].copy_from_slice(&device.to_ne_bytes());
    key[4..].copy_from_slice(&u32::from(tag).to_ne_bytes());
    key
}

/// Addresses are keys as IPv6, IPv4 ones mapped.
pub(crate) fn key(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn local_value(ports: Option<PortRange>, (nat, shared): (bool, bool)) -> [u8; value::SIZE] {
    let mut bytes = [0; value::SIZE];
    if let Some(ports) = ports {
        let first_echo = if nat { u32::from(PortRange::ECHO_NAT.first()) } else { u32::MAX };
        let fields = [
            (value::FIRST_ECHO, first_echo),
            (value::IS_WAYPOINT, if shared { 2 } else { 1 }),
            (value::FIRST_PORT, u32::from(ports.first())),
            (value::LAST_PORT, u32::from(ports.last())),
        ];
        for (at, number) in fields {
            bytes[at..at + 4].copy_from_slice(&number.to_ne_bytes());
        }
    }
    bytes
}
