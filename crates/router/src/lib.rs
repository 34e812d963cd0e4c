//! The router daemon: workers, configuration, API and wiring.
