//! The process that opens files for a router.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::Context;
use fairway_config::Authority;
use fairway_io::{Program, close_to_others, confine, drop_capabilities, receive_with_file};
use nix::sys::signal::{SigSet, Signal};

use super::link::{self, MAX_REQUEST};
use super::{Opener, Places, Request};

/// What this program is told to do nothing but serve files.
pub(super) const COMMAND: &str = "serve-files";

/// What the process that opens files is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileServer {
    /// The authority's configuration.
    pub config: PathBuf,
    /// The router's name in it.
    pub name: String,
    /// The API socket.
    pub socket: PathBuf,
    /// The session log, if there is one.
    pub session_log: Option<PathBuf>,
}

/// Opens files for the router at the other end of standard input, until that has ended.
///
/// # Errors
/// When it cannot give up its privileges, or standard input is no such socket.
pub fn serve_files(options: FileServer) -> anyhow::Result<()> {
    // Whoever ends the router ends this, too: by closing the socket.
    let signals = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE];
    signals.into_iter().collect::<SigSet>().thread_block().context("block signals")?;
    close_to_others().context("close the process to others")?;
    drop_capabilities(&[]).context("give up privileges")?;
    match confine(Program::Files) {
        // The router tells the operator.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
        result => result.context("confine the process")?,
    }
    let FileServer { config, name, socket, session_log } = options;
    let mut server = Server {
        opener: Opener { places: Places { config, socket, session_log }, socket: None },
        router: name,
        named: HashSet::new(),
    };
    let result = server.run(io::stdin().as_fd());
    // However the router ended.
    let _ = server.opener.serve(Request::RemoveSocket);
    result.context("serve files")
}

struct Server {
    opener: Opener,
    router: String,
    /// The key files that the configuration names.
    named: HashSet<PathBuf>,
}

impl Server {
    fn run(&mut self, router: impl AsFd) -> io::Result<()> {
        let mut datagram = [0; MAX_REQUEST];
        loop {
            // A router has nothing to hand over.
            let (length, _) = receive_with_file(router.as_fd(), &mut datagram)?;
            if length == 0 {
                return Ok(());
            }
            let answer = match datagram.get(..length).and_then(link::decode) {
                Some(request) => self.serve(request),
                None => Err(io::ErrorKind::InvalidInput.into()),
            };
            link::answer(router.as_fd(), answer)?;
        }
    }

    fn serve(&mut self, request: Request<'_>) -> io::Result<Option<File>> {
        if let Request::Key(path) = request
            && !self.named.contains(path)
        {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut answer = self.opener.serve(request)?;
        if request == Request::Configuration
            && let Some(file) = &mut answer
        {
            // Of one that is no configuration the router says so itself.
            if let Some(named) = named_keys(file, &self.opener.places.config, &self.router) {
                self.named = named;
            }
            file.rewind()?;
        }
        Ok(answer)
    }
}

/// The key files that the configuration in a file names for a router.
fn named_keys(file: &mut File, config: &Path, router: &str) -> Option<HashSet<PathBuf>> {
    let mut text = String::new();
    file.take(fairway_config::MAX_DOCUMENT as u64).read_to_string(&mut text).ok()?;
    let model = Authority::parse(&text).ok()?.router_model(router).ok()?;
    Some(model.peers.iter().map(|peer| key_path(config, &peer.key_file)).collect())
}

/// Where a key file is that a configuration names: relative ones are beside it.
pub(crate) fn key_path(config: &Path, key_file: &Path) -> PathBuf {
    config.parent().unwrap_or(Path::new("")).join(key_file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn only_key_files_of_the_configuration_are_opened() {
        let directory = crate::load::tests::Directory::new("served");
        let config = directory.write("acme.json", &crate::load::tests::document(), 0o600);
        let key = directory.write("keys/branch--dc.key", crate::load::tests::KEY, 0o600);
        let secret = directory.write("keys/other.key", crate::load::tests::KEY, 0o600);
        let mut server = Server {
            opener: Opener {
                places: Places { config, socket: directory.path("socket"), session_log: None },
                socket: None,
            },
            router: "branch".into(),
            named: HashSet::new(),
        };
        assert!(server.serve(Request::Key(&key)).is_err(), "nothing is named yet");
        let mut text = String::new();
        let mut file = server.serve(Request::Configuration).unwrap().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, crate::load::tests::document(), "it is read from its start");
        assert!(server.serve(Request::Key(&key)).unwrap().is_some());
        for other in
            [secret.as_path(), Path::new("/etc/shadow"), &directory.path("keys/../keys/branch--dc.key")]
        {
            let refused = server.serve(Request::Key(other)).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied, "{}", other.display());
        }
        assert!(server.serve(Request::SessionLog).is_err(), "none was asked for at the start");
    }

    #[test]
    fn a_socket_of_another_router_stays() {
        let directory = crate::load::tests::Directory::new("sockets");
        let socket = directory.path("api.sock");
        let places = Places { config: directory.path("none"), socket: socket.clone(), session_log: None };
        let mut opener = Opener { places, socket: None };
        let mine = UnixDatagram::bind(&socket).unwrap();
        opener.serve(Request::RemoveSocket).unwrap();
        assert!(socket.exists(), "it was not claimed");
        opener.serve(Request::ClaimSocket).unwrap();
        std::fs::remove_file(&socket).unwrap();
        let _others = UnixDatagram::bind(&socket).unwrap();
        opener.serve(Request::RemoveSocket).unwrap();
        assert!(socket.exists(), "it is another one");
        opener.serve(Request::ClaimSocket).unwrap();
        opener.serve(Request::RemoveSocket).unwrap();
        assert!(!socket.exists());
        drop(mine);
    }
}
