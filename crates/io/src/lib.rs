//! Packet I/O on Linux: packet sockets, the classifier, netlink and TUN.
//!
//! This crate is the shell around the pure engine. Linux keeps interface addresses, ARP and
//! neighbour discovery and its own services; Fairway takes session traffic by the one table of
//! [`classifier`], and the kernel never answers what Fairway took. Nothing here decides what happens
//! to a session.
//!
//! [`Ports`] is what a worker owns. Its loop is `wait`, `receive` into a
//! [`Batch`](fairway_types::Batch), the engine, `transmit`, and `handle_events` when the kernel
//! reported something or [`Ports::poll_timeout`] has come.

pub mod capabilities;
pub mod capture;
pub mod classifier;
mod ephemeral;
pub mod error;
mod frame;
mod neighbours;
mod netlink;
pub mod ports;
pub mod spec;
mod sys;

pub use capabilities::{Capability, drop_capabilities};
pub use capture::{CaptureHook, CaptureRecord, Direction, LinkType, PcapngWriter};
pub use error::OpenError;
pub use ports::Ports;
pub use spec::{PortEvent, PortKind, PortSpec, PortStatistics, PortStatus, Ready};
pub use sys::poll::Waker;
