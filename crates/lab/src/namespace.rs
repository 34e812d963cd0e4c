//! Network namespaces that have names, as `ip netns` makes them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::error::LabError;

const DIRECTORY: &str = "/run/netns";

/// The file that stands for the namespace.
pub(crate) fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Whether there is a namespace of that name.
pub(crate) fn exists(name: &str) -> bool {
    path(name).exists()
}

/// The inode that identifies the namespace, as in `/proc/PID/ns/net`.
pub(crate) fn inode(name: &str) -> Option<u64> {
    fs::metadata(path(name)).ok().map(|metadata| metadata.ino())
}

/// Makes a namespace.
pub(crate) fn add(name: &str) -> Result<(), LabError> {
    tool("ip", &["netns", "add", name], "").map(drop)
}

/// Removes a namespace; one that is gone already is no error.
pub(crate) fn delete(name: &str) -> Result<(), LabError> {
    if exists(name) { tool("ip", &["netns", "delete", name], "").map(drop) } else { Ok(()) }
}

/// Moves the calling thread, and what it starts, into the namespace.
pub(crate) fn enter(name: &str) -> io::Result<()> {
    let namespace = File::open(path(name))?;
    setns(namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
}

/// Runs `work` on a thread inside the namespace; processes it starts are inside too.
pub(crate) fn inside<T: Send>(
    name: &str,
    work: impl FnOnce() -> Result<T, LabError> + Send,
) -> Result<T, LabError> {
    let entered = || {
        enter(name).map_err(LabError::system(format!("entering namespace {name}")))?;
        work()
    };
    thread::scope(|scope| scope.spawn(entered).join()).unwrap_or_else(|_| {
        let what = format!("working in namespace {name}");
        Err(LabError::System { what, source: io::Error::other("the thread died") })
    })
}

/// Sets a kernel setting (`net.ipv4.ip_forward`) of the calling thread's namespace. Dots in device
/// names are written as slashes, as sysctl(8) has it.
pub(crate) fn sysctl(name: &str, value: &str) -> Result<(), LabError> {
    let file: String = name
        .chars()
        .map(|c| {
            if c == '.' {
                '/'
            } else if c == '/' {
                '.'
            } else {
                c
            }
        })
        .collect();
    fs::write(Path::new("/proc/sys").join(file), value)
        .map_err(LabError::system(format!("sysctl {name}={value}")))
}

/// Runs a program with `input`; what it prints, or an error with what it complained about.
pub(crate) fn tool(program: &str, arguments: &[&str], input: &str) -> Result<String, LabError> {
    let command = || format!("{program} {}", arguments.join(" "));
    let run = || {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(input.as_bytes())?;
        }
        child.wait_with_output()
    };
    let output = run().map_err(LabError::system(command()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(LabError::Tool { command: command(), output: complaint })
}
