//! A request and its answer between two processes: a datagram each, with a descriptor in the answer.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use fairway_io::{receive_with_file, send_with_file};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use super::{Places, Request};

/// The longest request: a path of the kernel's, and what it is for.
pub(super) const MAX_REQUEST: usize = 4096 + 1;

/// The router's end.
#[derive(Debug)]
pub(super) struct Link {
    socket: OwnedFd,
}

impl Link {
    /// Starts the process at the other end: this program, told to serve files.
    pub(super) fn start(places: &Places, router: &str) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (socket, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("fairway").arg(super::server::COMMAND).arg("--config").arg(&places.config);
        command.arg("--name").arg(router).arg("--socket").arg(&places.socket);
        if let Some(file) = &places.session_log {
            command.arg("--session-log").arg(file);
        }
        // What reaches the router from a terminal or a service manager is not for it.
        command.process_group(0).env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_PID");
        command.stdin(Stdio::from(other)).stdout(Stdio::null());
        // Nobody waits for it: it ends when this end is closed, and then this process has ended.
        command.spawn()?;
        Ok(Self { socket })
    }

    pub(super) fn ask(&mut self, request: Request<'_>) -> io::Result<Option<File>> {
        let gone = |error: io::Error| match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => ended(),
            _ => error,
        };
        send_with_file(self.socket.as_fd(), &encode(request), None).map_err(gone)?;
        let mut number = [0; 4];
        let (length, file) = receive_with_file(self.socket.as_fd(), &mut number).map_err(gone)?;
        match (length, i32::from_ne_bytes(number)) {
            (0, _) => Err(ended()),
            (4, 0) => Ok(file),
            (4, error) => Err(io::Error::from_raw_os_error(error)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the process that opens files has ended; restart the router")
}

fn encode(request: Request<'_>) -> Vec<u8> {
    match request {
        Request::Configuration => b"c".to_vec(),
        Request::Key(path) => [b"k", path.as_os_str().as_bytes()].concat(),
        Request::SessionLog => b"l".to_vec(),
        Request::Tun => b"t".to_vec(),
        Request::ClaimSocket => b"s".to_vec(),
        Request::RemoveSocket => b"r".to_vec(),
    }
}

/// The request in a datagram; `None` when it is none.
pub(super) fn decode(datagram: &[u8]) -> Option<Request<'_>> {
    let (kind, rest) = datagram.split_first()?;
    Some(match (kind, rest) {
        (b'c', []) => Request::Configuration,
        (b'k', [_, ..]) => Request::Key(Path::new(std::ffi::OsStr::from_bytes(rest))),
        (b'l', []) => Request::SessionLog,
        (b't', []) => Request::Tun,
        (b's', []) => Request::ClaimSocket,
        (b'r', []) => Request::RemoveSocket,
        _ => return None,
    })
}

/// Sends an answer: a descriptor, nothing, or the number of an error.
pub(super) fn answer(socket: BorrowedFd<'_>, answer: io::Result<Option<File>>) -> io::Result<()> {
    let (number, file) = match answer {
        Ok(file) => (0, file),
        Err(error) => (error.raw_os_error().unwrap_or(Errno::EACCES as i32), None),
    };
    send_with_file(socket, &number.to_ne_bytes(), file.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_they_were_written() {
        for request in [
            Request::Configuration,
            Request::Key(Path::new("keys/a--b.key")),
            Request::SessionLog,
            Request::Tun,
            Request::ClaimSocket,
            Request::RemoveSocket,
        ] {
            assert_eq!(decode(&encode(request)), Some(request));
        }
        for nonsense in [b"".as_slice(), b"k", b"c/etc/shadow", b"x"] {
            assert_eq!(decode(nonsense), None);
        }
    }
}
