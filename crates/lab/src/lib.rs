//! Laboratories in network namespaces: topologies from files, impaired wires.
pub mod quantity;
pub mod wire;
