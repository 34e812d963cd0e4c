//! `fairway key generate`: files with the keys that neighbouring routers share.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use fairway_config::Authority;
use fairway_config::elements::Peer;
use fairway_crypto::PeerKey;
use zeroize::Zeroizing;

use crate::args::{KeyCommand, KeyGenerate};
use crate::failure::{self, Failure, Outcome};
use crate::{config, output, units};

/// Runs one of the commands.
pub fn run(command: KeyCommand) -> Outcome {
    match command {
        KeyCommand::Generate(args) => generate(&args),
    }
}

fn generate(args: &KeyGenerate) -> Outcome {
    let files: Vec<PathBuf> = match &args.configuration {
        Some(configuration) => {
            let authority = config::load(configuration)?;
            let directory = match &args.dir {
                Some(directory) => directory.clone(),
                None => configuration.parent().unwrap_or(Path::new("")).join("keys"),
            };
            needed(&authority).into_keys().map(|file| place(&directory, &file)).collect()
        }
        None if args.files.is_empty() => {
            output::text(&random_key()?.to_file_text())?;
            return Ok(failure::OK);
        }
        None => args.files.clone(),
    };
    if files.is_empty() {
        output::note("no two routers of this configuration are peers: no keys are needed");
        return Ok(failure::OK);
    }
    write_all(&files, args.configuration.is_some())
}

/// The key files that a configuration names, with the pairs of routers that share each.
pub fn needed(authority: &Authority) -> BTreeMap<String, BTreeSet<(String, String)>> {
    let mut files: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
    // Neighborhoods make most peers.
    for router in &authority.generate().routers {
        for peer in &router.peers {
            let file =
                peer.key_file.clone().unwrap_or_else(|| Peer::default_key_file(&router.name, &peer.name));
            let (one, other) = (router.name.clone(), peer.name.clone());
            let pair = if one <= other { (one, other) } else { (other, one) };
            files.entry(file).or_default().insert(pair);
        }
    }
    files
}

/// Where a key file named in a configuration is, when the keys are in `directory`.
pub fn place(directory: &Path, file: &str) -> PathBuf {
    let path = Path::new(file);
    // A configuration says keys/a--b.key, relative to itself; --dir names the directory of the keys.
    directory.join(path.strip_prefix("keys").ok().or(path.file_name().map(Path::new)).unwrap_or(path))
}

fn random_key() -> Result<PeerKey, Failure> {
    let mut bytes = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(bytes.as_mut_slice())
        .map_err(|_| Failure::refused("the kernel gave no random numbers; no key was made"))?;
    Ok(PeerKey::from_bytes(*bytes))
}

/// Writes a key into each file. With `keep`, files that exist are left alone and counted; without,
/// they are refused before anything is written.
fn write_all(files: &[PathBuf], keep: bool) -> Outcome {
    if let Some(existing) = files.iter().find(|file| !keep && file.exists()) {
        return Err(Failure::refused(format!("{} exists; a key is never overwritten", existing.display()))
            .fix("to replace a key, move the file away first and restart both routers with the new one"));
    }
    let mut made = 0;
    for file in files {
        made += usize::from(write_new(file)?);
    }
    let kept = files.len() - made;
    let mut line = format!("{} made", units::counted(made, "key file", "key files"));
    if kept > 0 {
        line.push_str(&format!(", {kept} kept as they were"));
    }
    output::note(&line);
    Ok(failure::OK)
}

/// Writes a new key with mode 0600; false when the file is already there.
fn write_new(file: &Path) -> Result<bool, Failure> {
    let refused = |why: std::io::Error| Failure::refused(format!("cannot write {}: {why}", file.display()));
    if let Some(directory) = file.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(refused)?;
    }
    let mut handle = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(handle) => handle,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(refused(error)),
    };
    let written = handle.write_all(random_key()?.to_file_text().as_bytes()).and_then(|()| handle.sync_all());
    if let Err(error) = written {
        // Half a key is worse than none.
        let _ = fs::remove_file(file);
        return Err(refused(error));
    }
    output::text(&format!("{}\n", file.display()))?;
    Ok(true)
}
