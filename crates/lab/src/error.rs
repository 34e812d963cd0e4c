//! Everything that can keep a laboratory from doing what was asked, with the way out.

use std::io;
use std::path::PathBuf;

use crate::topology::TopologyError;
use crate::wire::{ControlError, WireError};

/// Why a laboratory command failed.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The topology file is unreadable or wrong.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// A wire does not answer or refuses a change.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// This process is a wire, and cannot run.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The laboratory is up already, or was left half up.
    #[error("laboratory {name} is up already, or was left half up: `fairway lab down {name}` removes it")]
    Running {
        /// Its name.
        name: String,
    },
    /// A namespace of that name belongs to something else.
    #[error(
        "network namespace {name} exists and is not of this laboratory: `ip netns del {name}` removes it"
    )]
    NamespaceTaken {
        /// The namespace.
        name: String,
    },
    /// The laboratory is not up.
    #[error("laboratory {name} is not up; {}", running(known))]
    NotRunning {
        /// The name asked for.
        name: String,
        /// Those that are up.
        known: Vec<String>,
    },
    /// The command needs a laboratory, and none was named.
    #[error("say which laboratory is meant; {}", running(known))]
    Unnamed {
        /// Those that are up.
        known: Vec<String>,
    },
    /// There is no such host, router, NAT box or link.
    #[error("laboratory {lab} has no `{name}`; it has {}", known.join(", "))]
    NoSuchPart {
        /// The laboratory.
        lab: String,
        /// The name asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// The link is not impaired, so nothing can change it.
    #[error(
        "link {link} is a plain link; give it any impairment in the topology, such as `delay: 0`, to make it a wire"
    )]
    NotAWire {
        /// The link.
        link: String,
    },
    /// The routers' configuration cannot be used.
    #[error("configuration {path}: {reason}")]
    Configuration {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A program that builds the laboratory failed.
    #[error("`{command}` failed: {output}")]
    Tool {
        /// The command.
        command: String,
        /// What it said.
        output: String,
    },
    /// A router, wire or service did not start.
    #[error("{what} did not start: {reason}\n--- the end of {}\n{tail}", log.display())]
    NotStarted {
        /// The program.
        what: String,
        /// Why it counts as not started.
        reason: String,
        /// Its log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },
    /// Programs that did not end even when killed.
    #[error("these processes do not end: {}", pids.iter().map(u32::to_string).collect::<Vec<_>>().join(", "))]
    Unending {
        /// Their process ids.
        pids: Vec<u32>,
    },
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl LabError {
    /// For `map_err`: an I/O error with what was being done.
    pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}

fn running(known: &[String]) -> String {
    match known {
        [] => "none is up: `fairway lab up FILE` raises one".to_owned(),
        known => format!("up: {}", known.join(", ")),
    }
}
