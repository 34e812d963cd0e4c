//! A blocking client of the API.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::request::Request;
use super::types::{ErrorBody, Response};

/// How long an answer may take. A reload of a very large configuration is the slowest.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there, or this user may not ask.
    #[error("cannot reach the router at {}: {source}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the router did not answer: {0}")]
    Io(#[from] io::Error),
    /// The router hung up without an answer.
    #[error("the router hung up without an answer")]
    HungUp,
    /// The answer cannot be read.
    #[error("the router's answer cannot be read: {0}")]
    Answer(#[from] serde_json::Error),
    /// The router says no.
    #[error("{}", .0.message)]
    Refused(ErrorBody),
}

/// A connection to a router.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<UnixStream>,
    line: Vec<u8>,
}

impl Client {
    /// Connects to a router's socket.
    ///
    /// # Errors
    /// [`ClientError::Connect`].
    pub fn connect(socket: &Path) -> Result<Self, ClientError> {
        let connect = || {
            let stream = UnixStream::connect(socket)?;
            stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
            stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
            Ok(stream)
        };
        match connect() {
            Ok(stream) => Ok(Self { reader: BufReader::new(stream), line: Vec::new() }),
            Err(source) => Err(ClientError::Connect { socket: socket.to_owned(), source }),
        }
    }

    /// Asks, and waits for the one answer, or the first line of a stream.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for an error of the router's; others when the connection fails.
    pub fn ask(&mut self, request: &Request) -> Result<Response, ClientError> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.reader.get_mut().write_all(&line)?;
        self.next()
    }

    /// Waits for the next line of a stream.
    ///
    /// # Errors
    /// As [`Self::ask`].
    #[expect(clippy::should_implement_trait, reason = "a stream ends with a message of its own")]
    pub fn next(&mut self) -> Result<Response, ClientError> {
        self.line.clear();
        if self.reader.read_until(b'\n', &mut self.line)? == 0 {
            return Err(ClientError::HungUp);
        }
        match serde_json::from_slice(&self.line)? {
            Response::Error(error) => Err(ClientError::Refused(error)),
            response => Ok(response),
        }
    }

    /// Waits at most so long for each line; `None` waits for ever, as captures may.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn set_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.reader.get_ref().set_read_timeout(timeout)
    }
}
