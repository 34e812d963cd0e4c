//! What is up: one JSON file for each laboratory, kept as things come and go.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::LabError;
use crate::process::Record;

/// Where laboratories keep their state: `<root>/<laboratory>/`.
pub const STATE_DIRECTORY: &str = "/run/fairway-lab";
const FILE: &str = "state.json";

/// Everything a laboratory put into the system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The laboratory's name.
    pub name: String,
    /// The topology file.
    pub file: PathBuf,
    /// The boot during which all this holds.
    pub boot: String,
    /// When it was raised, in seconds since the Unix epoch.
    pub since: u64,
    /// Hosts, routers and NAT boxes.
    pub nodes: BTreeMap<String, NodeState>,
    /// Links.
    pub links: BTreeMap<String, LinkState>,
    /// The namespaces that were made.
    pub namespaces: Vec<String>,
    /// The processes that were started.
    pub processes: Vec<Record>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeState {
    /// `host`, `router` or `nat`.
    pub role: String,
    pub tenant: Option<String>,
    /// `device address` for each address.
    pub addresses: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LinkState {
    pub members: Vec<String>,
    pub mtu: u16,
    /// Of a wire: its control socket.
    pub control: Option<PathBuf>,
    /// The namespace of a wire or bridge.
    pub namespace: Option<String>,
}

/// The directory of a laboratory.
pub(crate) fn directory(name: &str) -> PathBuf {
    Path::new(STATE_DIRECTORY).join(name)
}

/// The name of the namespace of a node or link.
pub(crate) fn namespace_name(lab: &str, part: &str) -> String {
    format!("{lab}-{part}")
}

/// Identifies the time since the last boot.
pub(crate) fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// The names of all laboratories that are up, or were left half up.
pub(crate) fn names() -> Vec<String> {
    let entries = fs::read_dir(STATE_DIRECTORY).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The laboratory that is meant: the one named, or the only one.
pub(crate) fn choose(name: Option<&str>) -> Result<String, LabError> {
    let mut known = names();
    match name {
        Some(name) if known.iter().any(|known| known == name) => Ok(name.to_owned()),
        Some(name) => Err(LabError::NotRunning { name: name.to_owned(), known }),
        None if known.len() == 1 => Ok(known.remove(0)),
        None => Err(LabError::Unnamed { known }),
    }
}

impl State {
    /// Makes the directory of a new laboratory, which must not exist.
    pub(crate) fn claim(name: &str) -> Result<(), LabError> {
        let failed = |what: &Path| LabError::system(format!("making {}", what.display()));
        fs::create_dir_all(STATE_DIRECTORY).map_err(failed(Path::new(STATE_DIRECTORY)))?;
        let own = directory(name);
        match fs::create_dir(&own) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(LabError::Running { name: name.to_owned() })
            }
            result => result.map_err(failed(&own)),
        }
    }

    /// Reads a laboratory's state; one that was claimed and nothing more has an empty state.
    pub(crate) fn load(name: &str) -> Result<Self, LabError> {
        let path = directory(name).join(FILE);
        let what = || format!("reading {}", path.display());
        match fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice(&text).map_err(io::Error::from).map_err(LabError::system(what()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(Self { name: name.to_owned(), ..Self::default() })
            }
            Err(error) => Err(LabError::system(what())(error)),
        }
    }

    /// Writes the state, whole or not at all.
    pub(crate) fn save(&self) -> Result<(), LabError> {
        let path = directory(&self.name).join(FILE);
        let draft = path.with_extension("new");
        let write = || {
            fs::write(&draft, serde_json::to_vec_pretty(self)?)?;
            fs::rename(&draft, &path)
        };
        write().map_err(LabError::system(format!("writing {}", path.display())))
    }

    /// Removes the laboratory's directory, and the common one with the last of them.
    pub(crate) fn remove(&self) -> Result<(), LabError> {
        let own = directory(&self.name);
        match fs::remove_dir_all(&own) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(LabError::system(format!("removing {}", own.display()))(error));
            }
            _ => {}
        }
        // Not empty means that another laboratory is up.
        let _ = fs::remove_dir(STATE_DIRECTORY);
        Ok(())
    }
}
