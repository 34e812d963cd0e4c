//! The programs of a laboratory: wires, routers and services, what they are and what they need.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::LabError;
use crate::process::{self, Launch, Record};
use crate::starting::{Starting, wait_for};
use crate::state::{State, directory, namespace_name};
use crate::topology::{Configuration, Io, Link, Ready, Role, Service, Topology};
use crate::wire::{PortPlan, Settings, WirePlan};

/// How long a router or a wire may take to start.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// What wires and routers are called among the programs of a laboratory.
pub(crate) const WIRE: &str = "wire";
pub(crate) const ROUTER: &str = "router";
const CONFIG: &str = "config.json";
const KEYS: &str = "keys";
const KEY_BYTES: usize = 32;

/// The command line of a router: the only place that knows it.
fn router_command(executable: &Path, lab: &Path, name: &str) -> Vec<String> {
    let (config, socket) = (lab.join(CONFIG), router_socket(lab, name));
    let words =
        [&executable.to_string_lossy(), "router", "--config", &config.to_string_lossy(), "--name", name];
    let mut command: Vec<String> = words.into_iter().map(str::to_owned).collect();
    command.extend(["--socket".to_owned(), socket.to_string_lossy().into_owned()]);
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
    fs::DirBuilder::new().mode(0o700).create(folder)?;
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
        wires.push(Starting::start(wire(topology, name, link, executable)?, state)?);
    }
    wait_for(wires)?;
    let mut programs = Vec::new();
    for (name, node) in &topology.nodes {
        if let Role::Router { workers, io } = node.role {
            programs.push(Starting::start(router(&topology.name, name, (workers, io), executable), state)?);
        }
        for (service_name, wanted) in &node.services {
            programs.push(Starting::start(service(&topology.name, name, service_name, wanted), state)?);
        }
    }
    wait_for(programs)
}

/// Ends a program of a laboratory and starts it again, and waits until it is ready.
pub(crate) fn restart(record: &Record, state: &mut State) -> Result<(), LabError> {
    process::end(&[record])?;
    state.processes.retain(|other| other != record);
    wait_for(vec![Starting::start(record.launch.clone(), state)?])
}

fn wire(topology: &Topology, name: &str, link: &Link, executable: &Path) -> Result<Launch, LabError> {
    let lab = directory(&topology.name);
    let home = lab.join(name);
    let port = |(sender, settings): (&String, &Settings)| PortPlan {
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
    let words = [&executable.to_string_lossy(), "lab", "wire", &plan_file.to_string_lossy()];
    Ok(Launch {
        owner: name.to_owned(),
        what: WIRE.to_owned(),
        namespace: namespace_name(&topology.name, name),
        command: words.into_iter().map(str::to_owned).collect(),
        home,
        ready: Ready::Immediately,
        socket: Some(control),
        limit: START_DEADLINE,
    })
}

fn router(lab: &str, name: &str, (workers, io): (Option<u8>, Option<Io>), executable: &Path) -> Launch {
    let folder = directory(lab);
    let mut command = router_command(executable, &folder, name);
    if let Some(workers) = workers {
        command.extend(["--workers".to_owned(), workers.to_string()]);
    }
    if let Some(io) = io {
        command.extend(["--io".to_owned(), io.word().to_owned()]);
    }
    Launch {
        owner: name.to_owned(),
        what: ROUTER.to_owned(),
        namespace: namespace_name(lab, name),
        home: folder.join(name),
        command,
        ready: Ready::Immediately,
        socket: Some(router_socket(&folder, name)),
        limit: START_DEADLINE,
    }
}

fn service(lab: &str, node: &str, name: &str, service: &Service) -> Launch {
    let home = directory(lab).join(node);
    let shell = ["/bin/sh".to_owned(), "-c".to_owned(), expand(&service.command, &home)];
    Launch {
        owner: node.to_owned(),
        what: name.to_owned(),
        namespace: namespace_name(lab, node),
        command: shell.to_vec(),
        ready: match &service.ready {
            Ready::File(path) => Ready::File(expand(path, &home)),
            Ready::Command(text) => Ready::Command(expand(text, &home)),
            other => other.clone(),
        },
        home,
        socket: None,
        limit: service.deadline,
    }
}
