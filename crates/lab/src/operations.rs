//! Raising, changing, entering and removing laboratories.

use std::convert::Infallible;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::time::{ClockId, clock_gettime};

use crate::error::LabError;
use crate::namespace;
use crate::network;
use crate::process::{self, Record};
use crate::programs;
use crate::state::{self, LinkState, NodeState, State, choose, directory, namespace_name};
use crate::status::{self, Status};
use crate::topology::{Link, Node, Role, Topology};
use crate::wire::{self, Change, Report};

/// What [`down`] could not or would not remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DownReport {
    /// The laboratory that is gone.
    pub name: String,
    /// Processes that others started in its namespaces. They still run, without a network.
    pub strangers: Vec<u32>,
}

/// Raises the laboratory of a topology file, and waits until every program in it is ready.
///
/// `executable` is the `fairway` command, for routers and wires. Needs root.
///
/// # Errors
/// When the file is wrong, the laboratory is up already, or something does not start; then
/// everything that was done is undone.
pub fn up(file: &Path, executable: &Path) -> Result<Status, LabError> {
    let topology = Topology::read(file)?;
    let file = std::path::absolute(file).map_err(LabError::system("finding the topology"))?;
    let namespaces = network::namespaces(&topology);
    if state::names().contains(&topology.name) {
        return Err(LabError::Running { name: topology.name });
    }
    namespaces.iter().try_for_each(|name| network::check_free(name))?;
    State::claim(&topology.name)?;
    let mut state = describe(&topology, &file);
    match raise(&topology, namespaces, executable, &mut state) {
        Ok(()) => status::of(&topology.name),
        Err(error) => {
            // The first error is the one that explains; what cannot be undone stays in the state.
            let _ = remove(&state);
            Err(error)
        }
    }
}

fn raise(
    topology: &Topology,
    namespaces: Vec<String>,
    executable: &Path,
    state: &mut State,
) -> Result<(), LabError> {
    for name in namespaces {
        state.namespaces.push(name.clone());
        state.save()?;
        namespace::add(&name)?;
    }
    network::build(topology)?;
    programs::prepare(topology)?;
    programs::start_all(topology, executable, state)
}

fn describe(topology: &Topology, file: &Path) -> State {
    let node = |(name, node): (&String, &Node)| (name.clone(), describe_node(node));
    let link = |(name, link): (&String, &Link)| (name.clone(), describe_link(&topology.name, name, link));
    State {
        name: topology.name.clone(),
        file: file.to_owned(),
        boot: state::boot(),
        since: clock_gettime(ClockId::CLOCK_REALTIME)
            .map_or(0, |time| u64::try_from(time.tv_sec()).unwrap_or(0)),
        nodes: topology.nodes.iter().map(node).collect(),
        links: topology.links.iter().map(link).collect(),
        namespaces: Vec::new(),
        processes: Vec::new(),
    }
}

fn describe_node(node: &Node) -> NodeState {
    let (role, tenant) = match &node.role {
        Role::Host { tenant } => ("host", tenant.clone()),
        Role::Router { .. } => ("router", None),
        Role::Nat(_) => ("nat", None),
    };
    let addresses = node.interfaces.values().flat_map(|interface| {
        interface.addresses.iter().map(|address| format!("{} {address}", interface.device))
    });
    NodeState { role: role.to_owned(), tenant, addresses: addresses.collect() }
}

fn describe_link(lab: &str, name: &str, link: &Link) -> LinkState {
    LinkState {
        members: link.members.clone(),
        mtu: link.mtu,
        control: link.is_wire().then(|| programs::wire_socket(&directory(lab), name)),
        namespace: network::link_namespace(lab, name, link),
    }
}

/// Replaces this process by a command inside a host, router, NAT box, or the namespace of a link.
/// Without a laboratory's name, the only one that is up is meant.
///
/// # Errors
/// Returns only when there is no such place, or the command cannot be run.
pub fn exec(lab: Option<&str>, host: &str, command: &[OsString]) -> Result<Infallible, LabError> {
    let state = State::load(&choose(lab)?)?;
    let namespace = namespace_name(&state.name, host);
    if !state.namespaces.contains(&namespace) {
        let inside_links = state.links.iter().filter(|(_, link)| link.namespace.is_some());
        let known = state.nodes.keys().chain(inside_links.map(|(name, _)| name)).cloned().collect();
        return Err(LabError::NoSuchPart { lab: state.name, name: host.to_owned(), known });
    }
    namespace::enter(&namespace).map_err(LabError::system(format!("entering namespace {namespace}")))?;
    let (program, arguments) = match command {
        [program, arguments @ ..] => (program.clone(), arguments),
        [] => (std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into()), command),
    };
    let error = Command::new(&program).args(arguments).exec();
    Err(LabError::system(format!("running {}", program.to_string_lossy()))(error))
}

/// What is up: one laboratory, or all of them.
///
/// # Errors
/// When the one that is named is not up.
pub fn status(name: Option<&str>) -> Result<Vec<Status>, LabError> {
    match name {
        Some(name) => Ok(vec![status::of(&choose(Some(name))?)?]),
        None => state::names().iter().map(|name| status::of(name)).collect(),
    }
}

/// Changes what an impaired link does to the frames of `from`, or of every member, and tells how it
/// is then. An empty change only tells. Without a laboratory's name, the only one that is up is
/// meant.
///
/// # Errors
/// When there is no such link, it is not impaired, or the settings contradict each other.
pub fn link(lab: Option<&str>, name: &str, from: Option<&str>, change: &Change) -> Result<Report, LabError> {
    let state = State::load(&choose(lab)?)?;
    let Some(link) = state.links.get(name) else {
        let known = state.links.keys().cloned().collect();
        return Err(LabError::NoSuchPart { lab: state.name, name: name.to_owned(), known });
    };
    let Some(control) = &link.control else {
        return Err(LabError::NotAWire { link: name.to_owned() });
    };
    if change.is_empty() {
        return Ok(wire::report(control)?);
    }
    Ok(wire::change(control, from, change)?)
}

/// Ends a program of a node and starts it again, and waits until it is ready: that of the name, or
/// the node's only one. Without a laboratory's name, the only one that is up is meant.
///
/// # Errors
/// When there is no such program, or it does not end or start.
pub fn restart(lab: Option<&str>, node: &str, program: Option<&str>) -> Result<(), LabError> {
    let mut state = State::load(&choose(lab)?)?;
    let own: Vec<Record> =
        state.processes.iter().filter(|process| process.launch.owner == node).cloned().collect();
    let chosen = match program {
        Some(program) => own.iter().find(|process| process.launch.what == program),
        None => own.first().filter(|_| own.len() == 1),
    };
    let Some(record) = chosen else {
        let name = program.map_or_else(|| node.to_owned(), |program| format!("{node} {program}"));
        let pairs = state.processes.iter().map(|process| &process.launch);
        let known = pairs.map(|launch| format!("{} {}", launch.owner, launch.what)).collect();
        return Err(LabError::NoSuchPart { lab: state.name, name, known });
    };
    programs::restart(record, &mut state)
}

/// Removes a laboratory: ends its processes, then its namespaces, then its files. Without a name,
/// the only one that is up is meant.
///
/// # Errors
/// When it is not up, or something does not go; then the rest is still there, and the command can
/// be repeated.
pub fn down(name: Option<&str>) -> Result<DownReport, LabError> {
    remove(&State::load(&choose(name)?)?)
}

fn remove(state: &State) -> Result<DownReport, LabError> {
    // After a reboot the process ids mean nothing.
    if state.boot == state::boot() {
        let (wires, others): (Vec<_>, Vec<_>) =
            state.processes.iter().partition(|process| process.launch.what == programs::WIRE);
        process::end(&others)?;
        process::end(&wires)?;
    }
    let mut strangers = Vec::new();
    for name in &state.namespaces {
        strangers.extend(process::inside(name));
        namespace::delete(name)?;
    }
    state.remove()?;
    Ok(DownReport { name: state.name.clone(), strangers })
}
