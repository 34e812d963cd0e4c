//! What is up, for a screen or a program.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::error::LabError;
use crate::process::Record;
use crate::state::{LinkState, NodeState, State, namespace_name};
use crate::wire::{self, SenderReport};

/// A laboratory that is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// The topology it was made from.
    pub file: PathBuf,
    /// When, in seconds since the Unix epoch.
    pub since: u64,
    /// Hosts, routers and NAT boxes, by name.
    pub nodes: Vec<NodeStatus>,
    /// Links, by name.
    pub links: Vec<LinkStatus>,
}

/// A node of a laboratory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// `host`, `router` or `nat`.
    pub role: String,
    /// The tenant of a host.
    pub tenant: Option<String>,
    /// Its network namespace.
    pub namespace: String,
    /// `device address/prefix` of each address.
    pub addresses: Vec<String>,
    /// What runs in it.
    pub programs: Vec<ProgramStatus>,
}

/// A program of a laboratory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProgramStatus {
    /// `router`, `wire` or the service's name.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// Whether it still runs.
    pub running: bool,
    /// Where its output is.
    pub log: PathBuf,
}

/// A link of a laboratory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LinkStatus {
    /// Its name.
    pub name: String,
    /// The nodes on it.
    pub members: Vec<String>,
    /// The longest IP packet, in bytes.
    pub mtu: u16,
    /// Whether it is impaired.
    pub wire: bool,
    /// Of a wire: settings and counters of each direction.
    pub senders: Vec<SenderReport>,
    /// Of a wire that does not answer: why.
    pub fault: Option<String>,
}

/// The status of one laboratory.
pub(crate) fn of(name: &str) -> Result<Status, LabError> {
    let state = State::load(name)?;
    let nodes = state.nodes.iter().map(|(name, node)| node_status(&state, name, node)).collect();
    let links = state.links.iter().map(|(name, link)| link_status(name, link)).collect();
    Ok(Status { name: state.name, file: state.file, since: state.since, nodes, links })
}

fn node_status(state: &State, name: &str, node: &NodeState) -> NodeStatus {
    let own = state.processes.iter().filter(|process| process.launch.owner == name);
    NodeStatus {
        name: name.to_owned(),
        role: node.role.clone(),
        tenant: node.tenant.clone(),
        namespace: namespace_name(&state.name, name),
        addresses: node.addresses.clone(),
        programs: own.map(program_status).collect(),
    }
}

fn program_status(record: &Record) -> ProgramStatus {
    ProgramStatus {
        name: record.launch.what.clone(),
        pid: record.pid,
        running: record.is_running(),
        log: record.launch.log(),
    }
}

fn link_status(name: &str, link: &LinkState) -> LinkStatus {
    let answer = link.control.as_ref().map(|control| wire::report(control));
    let (senders, fault) = match answer {
        None => (Vec::new(), None),
        Some(Ok(report)) => (report.senders, None),
        Some(Err(error)) => (Vec::new(), Some(error.to_string())),
    };
    let (members, mtu, wire) = (link.members.clone(), link.mtu, link.control.is_some());
    LinkStatus { name: name.to_owned(), members, mtu, wire, senders, fault }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "laboratory {}  ({})", self.name, self.file.display())?;
        writeln!(f, "\n{:<16} {:<7} {:<10} {:<38} PROGRAMS", "NODE", "ROLE", "TENANT", "ADDRESSES")?;
        for node in &self.nodes {
            node.fmt(f)?;
        }
        writeln!(f, "\n{:<16} {:<34} {:>6}  FRAMES", "LINK", "MEMBERS", "MTU")?;
        self.links.iter().try_for_each(|link| link.fmt(f))
    }
}

impl fmt::Display for NodeStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let programs: Vec<String> = self.programs.iter().map(ProgramStatus::to_string).collect();
        let tenant = self.tenant.as_deref().unwrap_or("-");
        let first = self.addresses.first().map_or("-", String::as_str);
        let line =
            format!("{:<16} {:<7} {tenant:<10} {first:<38} {}", self.name, self.role, programs.join(", "));
        writeln!(f, "{}", line.trim_end())?;
        self.addresses.iter().skip(1).try_for_each(|address| writeln!(f, "{:35} {address}", ""))
    }
}

impl fmt::Display for ProgramStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.running {
            true => write!(f, "{} ({})", self.name, self.pid),
            false => write!(f, "{} ENDED, see {}", self.name, self.log.display()),
        }
    }
}

impl fmt::Display for LinkStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match (&self.fault, self.wire) {
            (Some(fault), _) => fault.as_str(),
            (None, true) => "impaired, by sender:",
            (None, false) => "plain",
        };
        writeln!(f, "{:<16} {:<34} {:>6}  {state}", self.name, self.members.join(" – "), self.mtu)?;
        self.senders.iter().try_for_each(|sender| writeln!(f, "  {sender}"))
    }
}

impl fmt::Display for SenderReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stats = &self.stats;
        write!(f, "{:<14} {} in, {} out", self.sender, stats.received, stats.sent)?;
        for (count, name) in [
            (stats.lost, "lost"),
            (stats.duplicated, "duplicated"),
            (stats.reordered, "reordered"),
            (stats.corrupted, "corrupted"),
            (stats.queue_full, "dropped (queue full)"),
            (stats.overrun, "OVERRUN"),
            (stats.queued, "queued"),
        ] {
            if count > 0 {
                write!(f, ", {count} {name}")?;
            }
        }
        write!(f, "  [{}]", self.settings.describe())
    }
}
