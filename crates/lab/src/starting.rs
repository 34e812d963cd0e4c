//! Programs that were started, until they are ready.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use crate::error::LabError;
use crate::namespace::inside;
use crate::process::{self, Launch, Record};
use crate::state::State;
use crate::topology::Ready;

/// A program that was started and may not be ready yet.
pub(crate) struct Starting {
    record: Record,
    child: Child,
    /// On the monotonic clock.
    deadline: Duration,
}

/// Waits until all are ready; the first that ends badly or takes too long is the error.
pub(crate) fn wait_for(mut starting: Vec<Starting>) -> Result<(), LabError> {
    let mut failed = None;
    // Each program has its own deadline, which ends the loop.
    process::wait_until(Duration::MAX / 4, || {
        starting.retain_mut(|program| match program.progress() {
            Ok(ready) => !ready,
            Err(error) => {
                failed.get_or_insert(error);
                false
            }
        });
        failed.is_some() || starting.is_empty()
    });
    failed.map_or(Ok(()), Err)
}

impl Starting {
    /// Starts a program, and has it in the state at once.
    pub(crate) fn start(launch: Launch, state: &mut State) -> Result<Self, LabError> {
        if let Some(socket) = &launch.socket {
            // That of an earlier run; usually there is none.
            let _ = fs::remove_file(socket);
        }
        let (child, record) = process::start(launch)?;
        state.processes.push(record.clone());
        state.save()?;
        let deadline = process::monotonic() + record.launch.limit;
        Ok(Self { record, child, deadline })
    }

    /// Whether it is ready; an error when it never will be.
    fn progress(&mut self) -> Result<bool, LabError> {
        let ended = self.child.try_wait().map_err(LabError::system("waiting for a program"))?;
        if let Some(status) = ended.filter(|status| !status.success()) {
            return Err(self.failure(format!("it ended with {status}")));
        }
        if self.is_ready()? {
            return Ok(true);
        }
        // A service may go on in the background; a wire or router may not.
        if ended.is_some() && self.record.launch.socket.is_some() {
            return Err(self.failure("it ended".to_owned()));
        }
        if process::monotonic() > self.deadline {
            return Err(self.failure(format!("{} within its deadline", self.missing())));
        }
        Ok(false)
    }

    fn is_ready(&self) -> Result<bool, LabError> {
        if let Some(socket) = &self.record.launch.socket {
            // Datagram sockets of wires refuse a stream, which tells that they are there.
            return Ok(match UnixStream::connect(socket) {
                Ok(_) => true,
                Err(error) => error.raw_os_error() == Some(nix::errno::Errno::EPROTOTYPE as i32),
            });
        }
        match &self.record.launch.ready {
            Ready::Immediately => Ok(true),
            Ready::File(path) => Ok(Path::new(path).exists()),
            Ready::Tcp(port) => self.has_socket("tcp", *port),
            Ready::Udp(port) => self.has_socket("udp", *port),
            Ready::Command(text) => inside(&self.record.launch.namespace, || {
                let mut command = Command::new("/bin/sh");
                command.arg("-c").arg(text).stdin(std::process::Stdio::null());
                let output = command.output().map_err(LabError::system("running a readiness command"))?;
                Ok(output.status.success())
            }),
        }
    }

    /// Whether something in the namespace listens (TCP) or is bound (UDP) to the port, by the
    /// kernel's own list: no connection is made.
    fn has_socket(&self, protocol: &str, port: u16) -> Result<bool, LabError> {
        inside(&self.record.launch.namespace, || {
            let tables = [protocol.to_owned(), format!("{protocol}6")];
            let read = |table: &String| fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok();
            let waiting = if protocol == "tcp" { "0A" } else { "07" };
            Ok(tables.iter().filter_map(read).any(|table| lists(&table, port, waiting)))
        })
    }

    fn missing(&self) -> String {
        match (&self.record.launch.socket, &self.record.launch.ready) {
            (Some(socket), _) => format!("its socket {} did not answer", socket.display()),
            (None, Ready::Tcp(port)) => format!("nothing listened on TCP port {port}"),
            (None, Ready::Udp(port)) => format!("nothing was bound to UDP port {port}"),
            (None, Ready::File(path)) => format!("there was no {path}"),
            (None, Ready::Command(text)) => format!("`{text}` did not succeed"),
            (None, Ready::Immediately) => "it did not start".to_owned(),
        }
    }

    fn failure(&self, reason: String) -> LabError {
        let Launch { owner, what, .. } = &self.record.launch;
        let log = self.record.launch.log();
        let tail = process::tail(&log);
        LabError::NotStarted { what: format!("{what} of {owner}"), reason, log, tail }
    }
}

/// Whether a table of `/proc/net` has a socket with that local port and state.
fn lists(table: &str, port: u16, state: &str) -> bool {
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let local = fields.next().and_then(|local| local.rsplit_once(':'));
        let found = fields.nth(1);
        local.is_some_and(|(_, digits)| u16::from_str_radix(digits, 16) == Ok(port)) && found == Some(state)
    })
}

#[cfg(test)]
mod tests {
    use super::lists;

    #[test]
    fn a_listener_is_found_by_port_and_state() {
        let table = "  sl  local_address rem_address   st tx_queue\n   \
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000\n   \
                     1: 0100007F:0050 0100007F:D431 01 00000000:00000000\n";
        assert!(lists(table, 8080, "0A"));
        assert!(!lists(table, 80, "0A"), "an established connection is no listener");
        assert!(!lists(table, 81, "0A"));
    }
}
