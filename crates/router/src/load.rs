//! From files to what a router runs on: the configuration, compiled, and the keys of its peers.
//!
//! Loading changes nothing: it happens beside the worker, and what it finds wrong is listed whole.

use core::net::IpAddr;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fairway_config::{Authority, Severity};
use fairway_crypto::{Keyring, KeyringEntry, PeerKey};
use fairway_io::PortSpec;
use fairway_policy::Snapshot;
use fairway_types::PeerId;
use fairway_types::model::RouterModel;
use zeroize::Zeroizing;

use crate::api::{Fault, Refused};
use crate::files::{Files, key_path};
use crate::interfaces;

/// The longest key file that is read, in bytes.
const MAX_KEY_FILE: u64 = 4096;
/// How many faults are told.
const MAX_FAULTS: usize = 200;

/// Everything a router runs on.
pub(crate) struct Loaded {
    pub(crate) snapshot: Arc<Snapshot>,
    /// One entry for each peer, with a fresh salt.
    pub(crate) keys: Vec<KeyringEntry>,
    pub(crate) ports: Vec<PortSpec>,
    /// Waypoints of other routers.
    pub(crate) waypoints: Vec<IpAddr>,
    pub(crate) warnings: Vec<Fault>,
}

/// Reads the configuration, finds the router in it and reads the keys of its peers.
pub(crate) fn load(files: &Files, config: &Path, name: &str) -> Result<Loaded, Refused> {
    let loaded = load_all(files, config, name);
    fairway_crypto::scrub_stack();
    loaded.map_err(|mut faults| {
        let more = faults.len().saturating_sub(MAX_FAULTS) as u64;
        faults.truncate(MAX_FAULTS);
        Refused { faults, more }
    })
}

fn load_all(files: &Files, config: &Path, name: &str) -> Result<Loaded, Vec<Fault>> {
    let text = read_document(files, config).map_err(|fault| vec![fault])?;
    let authority = Authority::parse(&text).map_err(faults)?;
    let warnings = authority.warnings().iter().take(MAX_FAULTS).map(fault).collect();
    let mut model = authority.router_model(name).map_err(faults)?;
    interfaces::leave_host_ports(&mut model);
    drop(authority);
    let keys = read_keys(files, config, &model)?;
    check_keyring(&model, &keys).map_err(|fault| vec![fault])?;
    let snapshot = Snapshot::compile(model).map_err(|error| {
        vec![error_at(display(config), error.to_string(), "correct the configuration; nothing was changed")]
    })?;
    Ok(Loaded {
        ports: interfaces::specs(&snapshot),
        waypoints: interfaces::remote_waypoints(snapshot.model()),
        snapshot: Arc::new(snapshot),
        keys,
        warnings,
    })
}

fn read_document(files: &Files, path: &Path) -> Result<String, Fault> {
    let refuse = |problem: String, fix: &str| error_at(display(path), problem, fix);
    let limit = fairway_config::MAX_DOCUMENT as u64;
    let file = files
        .configuration()
        .map_err(|error| refuse(format!("cannot be opened: {error}"), "check its path and permissions"))?;
    let mut bytes = Vec::new();
    file.take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| refuse(format!("cannot be read: {error}"), "check that it is a regular file"))?;
    if bytes.len() as u64 > limit {
        return Err(refuse(format!("is longer than {limit} bytes"), "split the authority"));
    }
    String::from_utf8(bytes)
        .map_err(|_| refuse("is not UTF-8".into(), "save it as UTF-8 (RFC 8259, section 8.1)"))
}

/// The keys of all peers; relative files are beside the document.
fn read_keys(files: &Files, config: &Path, model: &RouterModel) -> Result<Vec<KeyringEntry>, Vec<Fault>> {
    let mut keys = Vec::with_capacity(model.peers.len());
    let mut faults = Vec::new();
    for (id, peer) in (0u16..).map(PeerId).zip(&model.peers) {
        let file = key_path(config, &peer.key_file);
        let mut sender_salt = [0; fairway_crypto::SALT_LENGTH];
        let key = read_key(files, &file).and_then(|key| match getrandom::fill(&mut sender_salt) {
            Ok(()) => Ok(key),
            Err(error) => Err((format!("no random numbers: {error}"), "check the kernel".to_owned())),
        });
        match key {
            Ok(key) => keys.push(KeyringEntry { peer: id, name: peer.name.clone(), key, sender_salt }),
            Err((problem, fix)) => {
                let problem = format!("the key shared with {}: {}: {problem}", peer.name, display(&file));
                faults.push(error_at(peer.origin.clone(), problem, fix));
            }
        }
    }
    if faults.is_empty() { Ok(keys) } else { Err(faults) }
}

/// One key, or what is wrong with its file and how to mend it.
fn read_key(files: &Files, path: &Path) -> Result<PeerKey, (String, String)> {
    let shown = display(path);
    let file = files.key(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => (
            "does not exist".to_owned(),
            "make the missing keys with `fairway key generate --for FILE` and copy each to both routers"
                .to_owned(),
        ),
        _ => (format!("cannot be opened: {error}"), format!("chown root {shown}; chmod 600 {shown}")),
    })?;
    let metadata =
        file.metadata().map_err(|error| (format!("cannot be examined: {error}"), String::new()))?;
    if !metadata.is_file() {
        return Err(("is not a regular file".into(), "name a file with one key".into()));
    }
    if metadata.mode() & 0o007 != 0 {
        let problem = format!("is open to every user (mode {:03o})", metadata.mode() & 0o777);
        return Err((problem, format!("chmod 600 {shown}, and make a new key if others had access")));
    }
    if metadata.len() > MAX_KEY_FILE {
        return Err((format!("is longer than {MAX_KEY_FILE} bytes"), "name a file with one key".into()));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE as usize));
    file.take(MAX_KEY_FILE)
        .read_to_end(&mut text)
        .map_err(|error| (format!("cannot be read: {error}"), "check the file".to_owned()))?;
    PeerKey::parse(&text).map_err(|error| {
        (error.to_string(), "make a new one with `fairway key generate --for FILE`".to_owned())
    })
}

/// Whether a keyring can hold these peers, before anything changes.
fn check_keyring(model: &RouterModel, keys: &[KeyringEntry]) -> Result<(), Fault> {
    let mut trial = Keyring::new();
    trial.replace(&model.router, keys.iter().cloned(), 0).map_err(|error| {
        error_at("/fairway:authority/router".into(), error.to_string(), "rename one of the two routers")
    })
}

fn faults(faults: Vec<fairway_config::Fault>) -> Vec<Fault> {
    faults.iter().map(fault).collect()
}

fn fault(fault: &fairway_config::Fault) -> Fault {
    Fault {
        severity: fault.severity.name().to_owned(),
        path: fault.path.clone(),
        value: fault.value.clone(),
        problem: fault.problem.clone(),
        fix: fault.fix.clone(),
    }
}

/// An error that the configuration's own checks do not know.
pub(crate) fn error_at(path: String, problem: String, fix: impl Into<String>) -> Fault {
    Fault { severity: Severity::Error.name().to_owned(), path, value: None, problem, fix: fix.into() }
}

fn display(path: &Path) -> String {
    let absolute = fs::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path));
    absolute.display().to_string()
}

#[cfg(test)]
pub(crate) mod tests;
