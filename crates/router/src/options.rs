//! What a router daemon is started with.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::path::{self, PathBuf};
use std::time::Duration;

use fairway_io::IoChoice;

/// How log lines are written to standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Failures only.
    Error,
    /// What needs an operator.
    Warning,
    /// What an operator wants to know.
    #[default]
    Info,
    /// What a developer wants to know.
    Debug,
}

/// Whether established plain sessions stay in the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offload {
    /// Where the kernel can.
    #[default]
    Auto,
    /// Workers forward everything.
    Off,
}

/// What a router process gives up once it has attached to its interfaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// Whom it goes on as, when root started it; `None` for `fairway`, or `nobody` where there is no
    /// such user. `root` keeps it as it is.
    pub user: Option<String>,
    /// Whether its system calls are limited to those that a router makes.
    pub system_calls: bool,
}

/// How interfaces exchange frames with the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IoOptions {
    /// Those that are not named.
    pub usual: IoChoice,
    /// Interfaces by their names in the configuration; the last word on each holds.
    pub named: Vec<(String, IoChoice)>,
}

impl IoOptions {
    /// What is asked for an interface.
    pub(crate) fn of(&self, interface: &str) -> IoChoice {
        let named = self.named.iter().rev().find(|(name, _)| name == interface);
        named.map_or(self.usual, |&(_, choice)| choice)
    }

    /// Whether any interface may come to AF_XDP.
    pub(crate) fn allow_xdp(&self) -> bool {
        self.named.iter().map(|&(_, choice)| choice).chain([self.usual]).any(|one| one != IoChoice::Packet)
    }
}

/// What a router daemon is started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The authority's configuration.
    pub config: PathBuf,
    /// The router's name in it.
    pub name: String,
    /// Where the API listens; [`crate::api::default_socket`] is the usual place.
    pub socket: PathBuf,
    /// Where Prometheus may ask for metrics over HTTP; `None` for nowhere.
    pub metrics: Option<SocketAddr>,
    /// Where the beginning and end of each session is written, a JSON object a line; `None` for
    /// nowhere.
    pub session_log: Option<PathBuf>,
    /// How many workers share the router's sessions, each on a thread of its own; `None` for
    /// [`Self::usual_workers`].
    pub workers: Option<NonZeroU8>,
    /// How long a worker looks for the next packet before it sleeps, where packets follow one another that
    /// closely and nobody else wants the processor; zero for not at all.
    pub busy_poll: Duration,
    /// Whether established plain sessions stay in the kernel.
    pub offload: Offload,
    /// How its interfaces exchange frames with the kernel.
    pub io: IoOptions,
    /// What the process gives up; it must be one whose program understands `serve-files`
    /// ([`crate::FileServer`]). `None` for capabilities alone, for a router beside other things.
    pub confinement: Option<Confinement>,
    /// How log lines look.
    pub log_format: LogFormat,
    /// How much is logged.
    pub log_level: LogLevel,
}

/// More workers than this have to be asked for.
const USUAL_WORKERS: usize = 8;

impl Options {
    /// How many microseconds a worker looks for the next packet, where nothing else is said.
    pub const USUAL_BUSY_POLL: u16 = 200;

    /// As many workers as there are processors for them, at most eight.
    #[must_use]
    pub fn usual_workers() -> u8 {
        let processors = std::thread::available_parallelism().map_or(1, core::num::NonZeroUsize::get);
        u8::try_from(processors.min(USUAL_WORKERS)).unwrap_or(1)
    }

    /// The usual options for the router `name` of the configuration in `config`.
    #[must_use]
    pub fn new(config: impl Into<PathBuf>, name: &str) -> Self {
        Self {
            config: config.into(),
            name: name.to_owned(),
            socket: crate::api::default_socket(name),
            metrics: None,
            session_log: None,
            workers: None,
            busy_poll: Duration::from_micros(Self::USUAL_BUSY_POLL as u64),
            offload: Offload::default(),
            io: IoOptions::default(),
            confinement: None,
            log_format: LogFormat::default(),
            log_level: LogLevel::default(),
        }
    }

    /// The same with absolute paths, whatever directory they are used in.
    pub(crate) fn absolute(mut self) -> io::Result<Self> {
        self.config = path::absolute(self.config)?;
        self.socket = path::absolute(self.socket)?;
        self.session_log = self.session_log.map(path::absolute).transpose()?;
        Ok(self)
    }
}
