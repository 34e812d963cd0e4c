//! Laboratories in network namespaces: topologies from files, impaired wires.
//!
//! A topology file names hosts, routers, NAT boxes and links ([`topology`]); [`up`] makes a network
//! namespace of each node, joins them, starts the routers and services, and waits until all are
//! ready; [`exec`] runs a command in one; [`status`] tells how things are; [`down`] removes it all
//! and leaves nothing. Links with delay, loss or a rate are carried by a [`wire`]: a process of the
//! laboratory's own, because the kernel may lack netem. What is up is kept in
//! [`STATE_DIRECTORY`], so that each command can be another process.
//!
//! Two invariants: only processes that the laboratory started are ever ended, and a laboratory
//! that fails to rise is removed again. Everything here needs root.

mod command;
mod error;
mod ethtool;
mod namespace;
mod network;
mod operations;
mod process;
mod programs;
pub mod quantity;
mod starting;
mod state;
mod status;
pub mod topology;
pub mod wire;

pub use command::{LabCommand, run};
pub use error::LabError;
pub use operations::{DownReport, down, exec, link, restart, status, up};
pub use state::STATE_DIRECTORY;
pub use status::{LinkStatus, NodeStatus, ProgramStatus, Status};
