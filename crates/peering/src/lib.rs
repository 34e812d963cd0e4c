//! Peer paths: liveness, restart detection and signed messages between waypoints.
