//! Programs inside the hosts of a line: started, listened to, and ended whatever happens.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// Set when the user wants to stop; everything that waits looks at it.
pub(crate) static STOPPED: AtomicBool = AtomicBool::new(false);

const LOOK: Duration = Duration::from_millis(50);

/// Fails when the user wants to stop.
pub(crate) fn go_on() -> anyhow::Result<()> {
    if STOPPED.load(Ordering::Relaxed) { bail!("stopped") } else { Ok(()) }
}

/// A program that runs. It is killed with this value.
pub(crate) struct Program {
    child: Child,
    what: String,
    lines: Receiver<String>,
    complaints: Receiver<String>,
}

impl Program {
    /// Starts a command inside a network namespace.
    pub(crate) fn start(namespace: &str, command: &[&str]) -> anyhow::Result<Self> {
        let what = command.join(" ");
        let mut child = Command::new("ip")
            .args(["netns", "exec", namespace])
            .args(command)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Not of the terminal's group: it is this program that ends it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {what}"))?;
        let (told, lines) = channel();
        if let Some(output) = child.stdout.take() {
            thread::spawn(move || {
                BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| told.send(line))
            });
        }
        let (complained, complaints) = channel();
        if let Some(mut errors) = child.stderr.take() {
            thread::spawn(move || {
                let mut text = String::new();
                let _ = errors.read_to_string(&mut text);
                complained.send(text)
            });
        }
        Ok(Self { child, what, lines, complaints })
    }

    /// The next line, or none when the program has ended well; `limit` is how long that may take.
    pub(crate) fn line(&mut self, limit: Duration) -> anyhow::Result<Option<String>> {
        let start = now();
        loop {
            go_on()?;
            match self.lines.recv_timeout(LOOK) {
                Ok(line) => return Ok(Some(line)),
                Err(RecvTimeoutError::Disconnected) => return self.ended(limit).map(|()| None),
                Err(RecvTimeoutError::Timeout) if start.elapsed() > limit => {
                    bail!("{} said nothing for {:.0} s", self.what, limit.as_secs_f64())
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// Everything it still says, until it has ended well.
    pub(crate) fn finish(mut self, limit: Duration) -> anyhow::Result<String> {
        let mut text = String::new();
        while let Some(line) = self.line(limit)? {
            text.push_str(&line);
            text.push('\n');
        }
        Ok(text)
    }

    fn ended(&mut self, limit: Duration) -> anyhow::Result<()> {
        let start = now();
        let status = loop {
            go_on()?;
            if let Some(status) = self.child.try_wait()? {
                break status;
            }
            if start.elapsed() > limit {
                bail!("{} does not end", self.what);
            }
            thread::sleep(Duration::from_millis(2));
        };
        if status.success() {
            return Ok(());
        }
        let complaint = self.complaints.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
        bail!("{} failed ({status}): {}", self.what, complaint.trim())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command inside a network namespace to its end.
pub(crate) fn run(namespace: &str, command: &[&str], limit: Duration) -> anyhow::Result<String> {
    Program::start(namespace, command)?.finish(limit)
}

/// The time now.
pub(crate) fn now() -> Instant {
    Instant::now()
}
