//! What can go wrong when interfaces are opened. Packets never make errors: they are dropped with a
//! reason ([`fairway_types::DropReason`]) and counted.

use std::io;

/// Why interfaces could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The kernel refused something that Fairway needs.
    #[error("{action}: {source}")]
    System {
        /// What was tried, as a phrase.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A router takes this namespace's traffic already.
    #[error("another router runs in this network namespace; stop it first")]
    AnotherRouter,
    /// The kernel refused something for one interface.
    #[error("interface {interface}: {action}: {source}")]
    Interface {
        /// The name of the network-interface.
        interface: String,
        /// What was tried, as a phrase.
        action: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel's verifier refused the classifier.
    #[error("the kernel refused the classifier: {source}\n{log}")]
    Classifier {
        /// The kernel's answer.
        source: io::Error,
        /// The verifier's log.
        log: String,
    },
    /// The kernel's verifier refused the program that steers packets to workers.
    #[error("the kernel refused the program that steers packets to workers: {source}\n{log}")]
    Steering {
        /// The kernel's answer.
        source: io::Error,
        /// The verifier's log.
        log: String,
    },
    /// There can't be so many workers.
    #[error("{workers} workers were asked for; there can be 1 to {most}", most = fairway_types::steering::CLASSES)]
    Workers {
        /// How many were asked for.
        workers: u8,
    },
    /// The device does not carry Ethernet frames.
    #[error("interface {interface}: device {device} does not carry Ethernet frames")]
    NotEthernet {
        /// The name of the network-interface.
        interface: String,
        /// The device.
        device: String,
    },
    /// Two network-interfaces name the same device and tag.
    #[error("interfaces {first} and {second} name the same device and VLAN")]
    SharedDevice {
        /// One of them.
        first: String,
        /// The other.
        second: String,
    },
}

/// Adds what was tried to an error of the kernel.
pub(crate) trait Context<T> {
    /// Names the action that failed.
    fn context(self, action: &'static str) -> Result<T, OpenError>;
    /// Names the action and the interface it failed for.
    fn on(self, interface: &str, action: &'static str) -> Result<T, OpenError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: &'static str) -> Result<T, OpenError> {
        self.map_err(|source| OpenError::System { action, source })
    }

    fn on(self, interface: &str, action: &'static str) -> Result<T, OpenError> {
        self.map_err(|source| OpenError::Interface { interface: interface.to_owned(), action, source })
    }
}
