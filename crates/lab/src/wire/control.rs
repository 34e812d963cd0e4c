//! Asking a running wire for its counters, and changing it: JSON over a Unix datagram socket.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::impairment::Stats;
use super::settings::{Change, Settings};

/// How long a wire may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(2);
/// The longest message.
pub(super) const MAX_MESSAGE: usize = 65_536;

/// What a wire says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The link's name.
    pub link: String,
    /// Its directions, one for each sender.
    pub senders: Vec<SenderReport>,
}

/// One direction of a wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderReport {
    /// The node whose frames these are.
    pub sender: String,
    /// What becomes of them.
    pub settings: Settings,
    /// What became of them.
    pub stats: Stats,
}

/// A question to a wire.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Request {
    Report,
    Change { from: Option<String>, change: Change },
}

/// A wire's answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Answer {
    Report(Report),
    Refused(String),
}

/// A wire that gives no answer, or not the wanted one.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nothing answers.
    #[error("the wire at {path} does not answer: {source}")]
    Silent {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The answer cannot be read.
    #[error("the wire's answer cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// The change is not possible.
    #[error("{0}")]
    Refused(String),
}

/// The counters and settings of the wire whose control socket is `socket`.
///
/// # Errors
/// When nothing answers there within two seconds.
pub fn report(socket: &Path) -> Result<Report, ControlError> {
    ask(socket, &Request::Report)
}

/// Changes what the wire does to the frames of `from`, or of every sender.
///
/// # Errors
/// When nothing answers, the sender is not on this wire, or the settings contradict each other;
/// then nothing is changed.
pub fn change(socket: &Path, from: Option<&str>, change: &Change) -> Result<Report, ControlError> {
    ask(socket, &Request::Change { from: from.map(str::to_owned), change: change.clone() })
}

fn ask(socket: &Path, request: &Request) -> Result<Report, ControlError> {
    let message = serde_json::to_vec(request)?;
    let answer = exchange(socket, &message)
        .map_err(|source| ControlError::Silent { path: socket.to_owned(), source })?;
    match serde_json::from_slice(&answer)? {
        Answer::Report(report) => Ok(report),
        Answer::Refused(reason) => Err(ControlError::Refused(reason)),
    }
}

fn exchange(socket: &Path, message: &[u8]) -> io::Result<Vec<u8>> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let own = socket.with_extension(format!("ask-{}-{number}", std::process::id()));
    let asking = UnixDatagram::bind(&own)?;
    let answer = converse(&asking, socket, message);
    let removed = std::fs::remove_file(&own);
    answer.and_then(|answer| removed.map(|()| answer))
}

fn converse(asking: &UnixDatagram, socket: &Path, message: &[u8]) -> io::Result<Vec<u8>> {
    asking.set_read_timeout(Some(ANSWER_DEADLINE))?;
    asking.set_write_timeout(Some(ANSWER_DEADLINE))?;
    asking.send_to(message, socket)?;
    let mut answer = vec![0; MAX_MESSAGE];
    let length = asking.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}
