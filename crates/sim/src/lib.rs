//! A seeded network in virtual time that runs the real engine of any number of routers.
//!
//! [`fabric`] makes the models of chains, [`plan`] writes the configuration of larger authorities,
//! [`topology`] joins their routers. [`network`] moves packets between engines and hosts with loss,
//! duplication, reordering, corruption, restarts and cut links, [`packet`] makes and reads the packets
//! hosts exchange. [`world`] lets hosts converse and holds what is delivered against a reference
//! model; [`wiretap`] holds what an observer may see; [`accounting`] the counters of every engine.
//! [`forge`] speaks as a peer, or as somebody who pretends to be one. Everything follows from the
//! seed: a failure is repeated by running the same seed.

pub mod accounting;
pub mod conversation;
pub mod fabric;
pub mod forge;
pub mod fragments;
pub mod marker;
pub mod network;
mod node;
pub mod packet;
pub mod plan;
pub mod topology;
pub mod wiretap;
pub mod world;

pub use accounting::Books;
pub use fabric::Fabric;
pub use network::{Faults, HostId, Network, NodeId};
pub use plan::Plan;
pub use topology::Topology;
pub use world::World;
