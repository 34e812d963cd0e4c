//! Packet I/O on Linux: packet sockets, AF_XDP, the classifier, netlink and TUN.
//!
//! This crate is the shell around the pure engine. Linux keeps interface addresses, ARP and
//! neighbour discovery and its own services; Fairway takes session traffic by the one table of
//! [`classifier`], and the kernel never answers what Fairway took. Nothing here decides what happens
//! to a session.
//!
//! [`Ports`] is what a worker owns. Its loop is `wait`, `receive` into a
//! [`Batch`](fairway_types::Batch), the engine, `transmit`, and `handle_events` when the kernel
//! reported something or [`Ports::poll_timeout`] has come.
//!
//! What the host must know:
//! - While Fairway runs, the host's ephemeral ports are kept out of the waypoints' ranges
//!   (`net.ipv4.ip_local_port_range`) and given back when [`Ports`] is dropped, or by [`release`] after
//!   [`Ports::leave_guarded`]. Programs that choose source
//!   ports themselves, as some DNS resolvers do, must be kept off waypoint addresses or out of the
//!   range: what answers them there is Fairway's.
//! - A packet that the engine leaves to the host (`Punt`) goes into the TUN interface, as if it had
//!   arrived there; without one it is counted and dropped. The classifier keeps the host's own
//!   traffic away from Fairway, so this is rare.
//! - Tags (802.1Q) are the kernel's where it has a VLAN device for a network-interface's tag. Where it
//!   has none, tags are read and written here, and what the kernel does on a link is done here:
//!   ARP, neighbour discovery, and answers to pings (see `ports/tagged.rs`). Nothing else of the host
//!   is on such an interface.
//!
//! Packets go through packet sockets with vnet headers: super-packets and unfinished checksums pass
//! as they are, with every offload setting. Those of a router are at its doors, devices of its own that
//! the program at tc sends through what is not the kernel's (see `ports/door.rs`). Several workers share
//! the devices; [`steering`] says who gets which packet. Where it is wanted and the device allows it, AF_XDP
//! sockets take what they can in front of that (see `ports/xdp.rs`).

pub mod capabilities;
pub mod capture;
pub mod classifier;
pub mod confinement;
mod ephemeral;
pub mod error;
mod frame;
mod guard;
mod kernel;
mod neighbours;
mod netlink;
mod offload;
pub mod ports;
#[cfg(test)]
mod random;
mod resolver;
pub mod spec;
pub mod steering;
mod sys;
pub mod traffic;

pub use capabilities::{Capability, User, become_user, drop_capabilities, is_root, lift_lock_limit};
pub use capture::{CaptureHook, CaptureRecord, Direction, LinkType, PcapngWriter};
pub use confinement::{Program, close_to_others, confine};
pub use ephemeral::host_ports;
pub use error::OpenError;
pub use guard::{Released, release};
pub use kernel::takes_udp_super_packets;
pub use ports::Ports;
pub use spec::{
    IoChoice, IoMethod, LinkStatistics, PortEvent, PortKind, PortSpec, PortStatistics, PortStatus, Ready,
};
pub use steering::{Steering, SteeringError, SteeringStatistics};
pub use sys::poll::Waker;
pub use sys::rights::{receive_with_file, send_with_file};
pub use sys::tun::open as open_tun;
