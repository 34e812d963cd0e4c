//! Laboratories in network namespaces: topologies from files, impaired wires.
