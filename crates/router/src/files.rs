//! The files of root that a router needs for as long as it runs, when it is not root any more.
//!
//! A router that has given up its user opens none of them itself. Another process of root does, which
//! is started before: it holds no keys, no capabilities and no packets, and opens nothing but the
//! configuration, the key files that the configuration names, the session log and /dev/net/tun, each by
//! a path that was given at the start or by root's own configuration. What is handed over is an open
//! descriptor; the key itself is read by the router alone.
//!
//! Key files stay root's own with mode 0600, and a group that may read them is not needed. The process
//! also removes the API socket, for its directory is root's. It ends when the router does.
//!
//! A router that stays who it is opens the same files by the same code.

mod link;
mod server;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use self::link::Link;
pub(crate) use self::server::key_path;
pub use self::server::{FileServer, serve_files};

/// What may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request<'a> {
    /// The configuration, to be read.
    Configuration,
    /// A key file that the configuration names, to be read.
    Key(&'a Path),
    /// The session log, to be appended to; it is made if it is not there.
    SessionLog,
    /// /dev/net/tun.
    Tun,
    /// From now on the API socket is this router's.
    ClaimSocket,
    /// Away with the API socket, if it is this router's.
    RemoveSocket,
}

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) config: PathBuf,
    pub(crate) socket: PathBuf,
    pub(crate) session_log: Option<PathBuf>,
}

/// Opens files by itself.
#[derive(Debug)]
struct Opener {
    places: Places,
    /// The API socket's device and inode.
    socket: Option<(u64, u64)>,
}

impl Opener {
    fn serve(&mut self, request: Request<'_>) -> io::Result<Option<File>> {
        match request {
            Request::Configuration => File::open(&self.places.config).map(Some),
            Request::Key(path) => File::open(path).map(Some),
            Request::SessionLog => {
                let path = self.places.session_log.as_ref().ok_or(io::ErrorKind::PermissionDenied)?;
                OpenOptions::new().append(true).create(true).mode(0o640).open(path).map(Some)
            }
            Request::Tun => fairway_io::open_tun().map(Some),
            Request::ClaimSocket => {
                self.socket = Some(self.identity()?);
                Ok(None)
            }
            Request::RemoveSocket => {
                if self.socket.is_some() && self.identity().ok() == self.socket.take() {
                    std::fs::remove_file(&self.places.socket)?;
                }
                Ok(None)
            }
        }
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        std::fs::symlink_metadata(&self.places.socket).map(|found| (found.dev(), found.ino()))
    }
}

/// The way to the files; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Files(Arc<Mutex<Way>>);

#[derive(Debug)]
enum Way {
    Here(Opener),
    Elsewhere(Link),
}

impl Files {
    /// The files as this process may open them.
    pub(crate) fn here(places: Places) -> Self {
        Self(Arc::new(Mutex::new(Way::Here(Opener { places, socket: None }))))
    }

    /// The files as the process may open them that is started now.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn elsewhere(places: &Places, router: &str) -> io::Result<Self> {
        Ok(Self(Arc::new(Mutex::new(Way::Elsewhere(Link::start(places, router)?)))))
    }

    pub(crate) fn configuration(&self) -> io::Result<File> {
        self.open(Request::Configuration)
    }

    pub(crate) fn key(&self, path: &Path) -> io::Result<File> {
        self.open(Request::Key(path))
    }

    pub(crate) fn session_log(&self) -> io::Result<File> {
        self.open(Request::SessionLog)
    }

    pub(crate) fn tun(&self) -> io::Result<File> {
        self.open(Request::Tun)
    }

    pub(crate) fn claim_socket(&self) -> io::Result<()> {
        self.ask(Request::ClaimSocket).map(drop)
    }

    pub(crate) fn remove_socket(&self) -> io::Result<()> {
        self.ask(Request::RemoveSocket).map(drop)
    }

    fn open(&self, request: Request<'_>) -> io::Result<File> {
        self.ask(request)?.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn ask(&self, request: Request<'_>) -> io::Result<Option<File>> {
        // A thread that panicked here left nothing half-done: a request and its answer are one each.
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Way::Here(opener) => opener.serve(request),
            Way::Elsewhere(link) => link.ask(request),
        }
    }
}
