//! The API server: a Unix socket for the router's operators.
//!
//! The socket belongs to root and, where it exists, to the group `fairway`; nobody else may connect.
//! Clients, the length of requests and the time they take are bounded.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Group, chown};

use super::types::{ErrorBody, Response};
use super::{MAX_REQUEST, Request, answer, capture};
use crate::control::Control;
use crate::files::Files;
use crate::stop::Stop;

/// Clients served at once.
const CLIENTS: usize = 16;
/// How long a client may keep its connection without asking anything.
const IDLE: Duration = Duration::from_secs(60);
/// How long a client may take to read an answer.
const SLOW: Duration = Duration::from_secs(10);
/// Whose members may connect, beside root.
const GROUP: &str = "fairway";

/// The socket; its file goes when this is dropped.
pub(crate) struct Listener {
    listener: UnixListener,
    files: Files,
}

impl Drop for Listener {
    fn drop(&mut self) {
        // It may have been removed already.
        let _ = self.files.remove_socket();
    }
}

impl Listener {
    /// Makes the socket, in place of one that nobody listens on any more.
    pub(crate) fn bind(path: &Path, files: Files) -> anyhow::Result<Self> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).with_context(|| format!("make the directory {}", parent.display()))?;
        }
        remove_stale(path)?;
        // From the start nobody else may connect.
        let mask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
        let listener = UnixListener::bind(path);
        nix::sys::stat::umask(mask);
        let listener = listener.with_context(|| format!("listen on {}", path.display()))?;
        files.claim_socket().with_context(|| format!("look at {}", path.display()))?;
        let bound = Self { listener, files };
        if let Ok(Some(group)) = Group::from_name(GROUP) {
            chown(path, None, Some(group.gid))
                .with_context(|| format!("give {} to group {GROUP}", path.display()))?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))
            .with_context(|| format!("set the permissions of {}", path.display()))?;
        bound.listener.set_nonblocking(true).context("set up the API socket")?;
        Ok(bound)
    }

    /// Serves clients, each on a thread of its own, until told to stop.
    pub(crate) fn serve(&self, control: &Arc<Control>, stop: &Stop) {
        let clients = Arc::new(AtomicUsize::new(0));
        loop {
            let mut entries = [
                PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
                PollFd::new(stop.as_fd(), PollFlags::POLLIN),
            ];
            // An interrupted wait is just another round.
            let _ = poll(&mut entries, PollTimeout::NONE);
            if stop.is_told() {
                return;
            }
            if let Ok((client, _)) = self.listener.accept() {
                admit(client, control, &clients);
            }
        }
    }
}

fn remove_stale(path: &Path) -> anyhow::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("look at {}", path.display())),
    };
    if !metadata.file_type().is_socket() {
        bail!(
            "{} exists and is not a socket: remove it, or choose another path with --socket",
            path.display()
        );
    }
    if UnixStream::connect(path).is_ok() {
        bail!(
            "a router is listening on {} already: stop it, or choose another path with --socket",
            path.display()
        );
    }
    fs::remove_file(path).with_context(|| format!("remove the old {}", path.display()))
}

fn admit(client: UnixStream, control: &Arc<Control>, clients: &Arc<AtomicUsize>) {
    // An accepted socket does not inherit the listener's mode everywhere.
    let prepared = client
        .set_nonblocking(false)
        .and_then(|()| client.set_read_timeout(Some(IDLE)))
        .and_then(|()| client.set_write_timeout(Some(SLOW)));
    if prepared.is_err() {
        return;
    }
    let place = Place::take(clients);
    let Some(place) = place else {
        let error =
            ErrorBody::new(format!("{CLIENTS} clients are connected already"), "try again in a moment");
        // It may have gone already.
        let _ = send(&client, &Response::Error(error));
        return;
    };
    let control = Arc::clone(control);
    let spawned = std::thread::Builder::new().name("api-client".into()).spawn(move || {
        let _place = place;
        if let Err(error) = attend(&client, &control) {
            tracing::debug!(%error, "a client of the API is gone");
        }
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "no thread for a client of the API");
    }
}

/// One of the places for clients.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(clients: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self(Arc::clone(clients));
        // Dropping the place gives it back.
        (clients.fetch_add(1, Ordering::AcqRel) < CLIENTS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Answers one client's requests, one after the other, until it hangs up or misbehaves.
fn attend(client: &UnixStream, control: &Control) -> io::Result<()> {
    let mut reader = BufReader::new(client);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(MAX_REQUEST as u64).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        if line.last() != Some(&b'\n') && read == MAX_REQUEST {
            let message = format!("the request is longer than {MAX_REQUEST} bytes");
            return send(client, &Response::Error(ErrorBody::new(message, "ask for less at once")));
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        match Request::parse(&line) {
            Ok(Request::Capture(request)) => capture::stream(control, &request, client)?,
            Ok(request) => send(client, &answer::answer(control, request))?,
            Err(error) => send(client, &Response::Error(error))?,
        }
    }
}

/// Sends one answer.
pub(crate) fn send(mut client: &UnixStream, response: &Response) -> io::Result<()> {
    let mut line = serde_json::to_vec(response)?;
    line.push(b'\n');
    client.write_all(&line)
}
