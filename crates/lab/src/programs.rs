//! The programs of a laboratory: wires, routers and services, started and waited for.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use crate::error::LabError;
use crate::namespace::inside;
use crate::network::link_namespace;
use crate::process::{self, Record};
use crate::state::{State, directory, namespace_name};
use crate::topology::{Configuration, Link, Ready, Role, Service, Topology};
use crate::wire::{PortPlan, WirePlan};

/// How long a router or a wire may take to start.
const START_DEADLINE: Duration = Duration::from_secs(10);
const CONFIG: &str = "config.json";
const KEYS: &str = "keys";
const KEY_BYTES: usize = 32;

/// A program that was started and is not ready yet.
struct Starting {
    record: Record,
    child: Child,
    ready: Ready,
    /// A socket that answers when the program is ready.
    socket: Option<PathBuf>,
    deadline: Duration,
}

/// The command line of a router: the only place that knows it.
fn router_command(executable: &Path, lab: &Path, name: &str) -> Command {
    let mut command = Command::new(executable);
    command.arg("router").arg("--config").arg(lab.join(CONFIG)).args(["--name", name]);
    command.arg("--socket").arg(router_socket(lab, name));
    command
}

/// The control socket of a router.
pub(crate) fn router_socket(lab: &Path, name: &str) -> PathBuf {
    lab.join(name).join("api.sock")
}

/// The control socket of a wire.
pub(crate) fn wire_socket(lab: &Path, link: &str) -> PathBuf {
    lab.join(link).join("wire.sock")
}

/// Puts configuration, keys and files where the programs expect them.
pub(crate) fn prepare(topology: &Topology) -> Result<(), LabError> {
    let lab = directory(&topology.name);
    if let Some(configuration) = &topology.config {
        fs::write(lab.join(CONFIG), document(configuration)?)
            .map_err(LabError::system("writing the configuration"))?;
    }
    let routers: Vec<&str> = topology.routers().collect();
    make_keys(&lab.join(KEYS), &routers).map_err(LabError::system("making the routers' keys"))?;
    for (name, node) in &topology.nodes {
        let home = lab.join(name);
        let write = || {
            fs::create_dir(&home)?;
            node.files.iter().try_for_each(|(file, text)| fs::write(home.join(file), expand(text, &home)))
        };
        write().map_err(LabError::system(format!("writing the files of {name}")))?;
    }
    Ok(())
}

/// The configuration's text, which must be JSON: everything else is for the router to judge.
fn document(configuration: &Configuration) -> Result<Vec<u8>, LabError> {
    match configuration {
        Configuration::Inline(value) => Ok(format!("{value:#}\n").into_bytes()),
        Configuration::File(path) => {
            let unusable = |reason: String| LabError::Configuration { path: path.clone(), reason };
            let text = fs::read(path).map_err(|error| unusable(error.to_string()))?;
            serde_json::from_slice::<serde_json::Value>(&text)
                .map_err(|error| unusable(error.to_string()))?;
            Ok(text)
        }
    }
}

/// A key for each pair of routers, in a file that carries both names in alphabetical order.
fn make_keys(folder: &Path, routers: &[&str]) -> io::Result<()> {
    if routers.len() < 2 {
        return Ok(());
    }
    fs::create_dir(folder)?;
    for (index, one) in routers.iter().enumerate() {
        for other in routers.iter().skip(index + 1) {
            let (first, second) = if one < other { (one, other) } else { (other, one) };
            let path = folder.join(format!("{first}--{second}.key"));
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
            file.write_all(random_key()?.as_bytes())?;
        }
    }
    Ok(())
}

/// A fresh key in hexadecimal, with a line end.
fn random_key() -> io::Result<String> {
    let mut key = [0; KEY_BYTES];
    io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut key)?;
    let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(digits + "\n")
}

fn expand(text: &str, home: &Path) -> String {
    text.replace("{dir}", &home.to_string_lossy())
}

/// Starts every wire, router and service, and waits until all are ready. Each is in the state
/// before the next is started.
pub(crate) fn start_all(topology: &Topology, executable: &Path, state: &mut State) -> Result<(), LabError> {
    let mut wires = Vec::new();
    for (name, link) in topology.links.iter().filter(|(_, link)| link.is_wire()) {
        wires.push(start_wire(topology, name, link, executable, state)?);
    }
    wait_for(wires)?;
    let mut programs = Vec::new();
    for (name, node) in &topology.nodes {
        if node.role == Role::Router {
            programs.push(start_router(&topology.name, name, executable, state)?);
        }
        for (service_name, service) in &node.services {
            programs.push(start_service(&topology.name, name, service_name, service, state)?);
        }
    }
    wait_for(programs)
}

fn start_wire(
    topology: &Topology,
    name: &str,
    link: &Link,
    executable: &Path,
    state: &mut State,
) -> Result<Starting, LabError> {
    let lab = directory(&topology.name);
    let home = lab.join(name);
    let port = |(sender, settings): (&String, &crate::wire::Settings)| PortPlan {
        sender: sender.clone(),
        device: sender.clone(),
        settings: settings.clone(),
    };
    let control = wire_socket(&lab, name);
    let ports = link.impaired.iter().map(port).collect();
    let plan = WirePlan { link: name.to_owned(), control: control.clone(), seed: topology.seed, ports };
    let plan_file = home.join("wire.json");
    let write = || {
        fs::create_dir(&home)?;
        fs::write(&plan_file, serde_json::to_vec_pretty(&plan)?)
    };
    write().map_err(LabError::system(format!("writing the plan of wire {name}")))?;
    let mut command = Command::new(executable);
    command.args(["lab", "wire"]).arg(&plan_file);
    let namespace =
        link_namespace(&topology.name, name, link).unwrap_or_else(|| namespace_name(&topology.name, name));
    let place = Place { owner: name, what: "wire", namespace, home: &home };
    start(place, command, Ready::Immediately, Some(control), START_DEADLINE, state)
}

fn start_router(lab: &str, name: &str, executable: &Path, state: &mut State) -> Result<Starting, LabError> {
    let folder = directory(lab);
    let home = folder.join(name);
    let command = router_command(executable, &folder, name);
    let place = Place { owner: name, what: "router", namespace: namespace_name(lab, name), home: &home };
    start(place, command, Ready::Immediately, Some(router_socket(&folder, name)), START_DEADLINE, state)
}

fn start_service(
    lab: &str,
    node: &str,
    name: &str,
    service: &Service,
    state: &mut State,
) -> Result<Starting, LabError> {
    let home = directory(lab).join(node);
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(expand(&service.command, &home));
    let ready = match &service.ready {
        Ready::File(path) => Ready::File(expand(path, &home)),
        Ready::Command(text) => Ready::Command(expand(text, &home)),
        other => other.clone(),
    };
    let place = Place { owner: node, what: name, namespace: namespace_name(lab, node), home: &home };
    start(place, command, ready, None, service.deadline, state)
}

/// Where a program runs, and as what.
struct Place<'a> {
    owner: &'a str,
    what: &'a str,
    namespace: String,
    home: &'a Path,
}

fn start(
    place: Place<'_>,
    mut command: Command,
    ready: Ready,
    socket: Option<PathBuf>,
    limit: Duration,
    state: &mut State,
) -> Result<Starting, LabError> {
    let log = place.home.join(format!("{}.log", place.what));
    command.current_dir(place.home);
    let (child, started) = process::start(&place.namespace, &mut command, &log)?;
    let (owner, what) = (place.owner.to_owned(), place.what.to_owned());
    let record = Record { owner, what, namespace: place.namespace, pid: child.id(), started, log };
    state.processes.push(record.clone());
    state.save()?;
    Ok(Starting { record, child, ready, socket, deadline: process::monotonic() + limit })
}

/// Waits until all are ready; the first that ends badly or takes too long is the error.
fn wait_for(mut starting: Vec<Starting>) -> Result<(), LabError> {
    let mut failed = None;
    // Each program has its own deadline, which ends the loop.
    process::wait_until(Duration::MAX / 4, || {
        starting.retain_mut(|program| match program.progress() {
            Ok(ready) => !ready,
            Err(error) => {
                failed.get_or_insert(error);
                false
            }
        });
        failed.is_some() || starting.is_empty()
    });
    failed.map_or(Ok(()), Err)
}

impl Starting {
    /// Whether it is ready; an error when it never will be.
    fn progress(&mut self) -> Result<bool, LabError> {
        let ended = self.child.try_wait().map_err(LabError::system("waiting for a program"))?;
        if let Some(status) = ended.filter(|status| !status.success()) {
            return Err(self.failure(format!("it ended with {status}")));
        }
        if self.is_ready()? {
            return Ok(true);
        }
        // A service may go on in the background; a wire or router may not.
        if ended.is_some() && self.socket.is_some() {
            return Err(self.failure("it ended".to_owned()));
        }
        if process::monotonic() > self.deadline {
            return Err(self.failure(format!("{} within its deadline", self.missing())));
        }
        Ok(false)
    }

    fn is_ready(&self) -> Result<bool, LabError> {
        if let Some(socket) = &self.socket {
            // Datagram sockets of wires refuse a stream, which tells that they are there.
            return Ok(match UnixStream::connect(socket) {
                Ok(_) => true,
                Err(error) => error.raw_os_error() == Some(nix::errno::Errno::EPROTOTYPE as i32),
            });
        }
        match &self.ready {
            Ready::Immediately => Ok(true),
            Ready::File(path) => Ok(Path::new(path).exists()),
            Ready::Tcp(port) => self.has_socket("tcp", *port),
            Ready::Udp(port) => self.has_socket("udp", *port),
            Ready::Command(text) => inside(&self.record.namespace, || {
                let mut command = Command::new("/bin/sh");
                command.arg("-c").arg(text).stdin(std::process::Stdio::null());
                let output = command.output().map_err(LabError::system("running a readiness command"))?;
                Ok(output.status.success())
            }),
        }
    }

    /// Whether something in the namespace listens (TCP) or is bound (UDP) to the port, by the
    /// kernel's own list: no connection is made.
    fn has_socket(&self, protocol: &str, port: u16) -> Result<bool, LabError> {
        inside(&self.record.namespace, || {
            let tables = [protocol.to_owned(), format!("{protocol}6")];
            let read = |table: &String| fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok();
            let waiting = if protocol == "tcp" { "0A" } else { "07" };
            Ok(tables.iter().filter_map(read).any(|table| lists(&table, port, waiting)))
        })
    }

    fn missing(&self) -> String {
        match (&self.socket, &self.ready) {
            (Some(socket), _) => format!("its socket {} did not answer", socket.display()),
            (None, Ready::Tcp(port)) => format!("nothing listened on TCP port {port}"),
            (None, Ready::Udp(port)) => format!("nothing was bound to UDP port {port}"),
            (None, Ready::File(path)) => format!("there was no {path}"),
            (None, Ready::Command(text)) => format!("`{text}` did not succeed"),
            (None, Ready::Immediately) => "it did not start".to_owned(),
        }
    }

    fn failure(&self, reason: String) -> LabError {
        let Record { owner, what, log, .. } = &self.record;
        LabError::NotStarted {
            what: format!("{what} of {owner}"),
            reason,
            log: log.clone(),
            tail: process::tail(log),
        }
    }
}

/// Whether a table of `/proc/net` has a socket with that local port and state.
fn lists(table: &str, port: u16, state: &str) -> bool {
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next().and_then(|local| local.rsplit_once(':'));
        let found = fields.nth(1);
        local.is_some_and(|(_, digits)| u16::from_str_radix(digits, 16) == Ok(port)) && found == Some(state)
    })
}

#[cfg(test)]
mod tests {
    use super::lists;

    #[test]
    fn a_listener_is_found_by_port_and_state() {
        let table = "  sl  local_address rem_address   st tx_queue\n   \
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n   \
                     1: 0100007F:0050 0100007F:D431 01 00000000:00000000\n";
        assert!(lists(table, 8080, "0A"));
        assert!(!lists(table, 80, "0A"), "an established connection is no listener");
        assert!(!lists(table, 81, "0A"));
    }
}
