//! A seeded network in virtual time that runs the real engine of any number of routers.
//!
//! [`fabric`] makes the models of whole topologies, [`network`] moves packets between engines and
//! hosts with loss, duplication, reordering and corruption, [`packet`] makes and reads the packets
//! hosts exchange. Everything follows from the seed: a failure is repeated by running the same seed.

pub mod fabric;
pub mod network;
pub mod packet;

pub use fabric::Fabric;
pub use network::{Faults, HostId, Network, NodeId};
