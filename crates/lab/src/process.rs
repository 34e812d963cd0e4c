//! Processes that a laboratory started: known by id *and* start time, so that a process id that
//! was given to somebody else since is never touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::error::LabError;
use crate::namespace;
use crate::topology::Ready;

/// How long a process may take to end when asked, and when killed.
const TERM_DEADLINE: Duration = Duration::from_secs(5);
const KILL_DEADLINE: Duration = Duration::from_secs(3);
/// How often things that take time are looked at.
pub(crate) const POLL: Duration = Duration::from_millis(10);
const TAIL_LINES: usize = 20;
/// In the environment of every program of a laboratory, and of what it starts.
const MARK: &str = "FAIRWAY_LAB_PROGRAM";

/// How a program of the laboratory is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// The node or link it belongs to.
    pub owner: String,
    /// What it is there: `router`, `wire` or a service's name.
    pub what: String,
    /// Its network namespace.
    pub namespace: String,
    /// The directory it runs in, and its log is in.
    pub home: PathBuf,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// When it counts as started,
    pub ready: Ready,
    /// and a socket that answers then.
    pub socket: Option<PathBuf>,
    /// How long that may take.
    pub limit: Duration,
}

/// A process of the laboratory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// How it was started.
    pub launch: Launch,
    /// Its process id.
    pub pid: u32,
    /// Its start, in clock ticks since boot (proc(5), field 22).
    pub started: u64,
}

/// What `/proc/PID/stat` says.
#[derive(Clone, Copy, Debug)]
struct Stat {
    dead: bool,
    parent: u32,
    started: u64,
}

/// The time on the monotonic clock.
pub(crate) fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}

/// Looks until `done`, at most for `limit`; whether it was done.
pub(crate) fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = monotonic() + limit;
    loop {
        if done() {
            return true;
        }
        if monotonic() > deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

/// Starts a program in its namespace, in a process group of its own, with its output in its log.
pub(crate) fn start(launch: Launch) -> Result<(Child, Record), LabError> {
    let log = launch.log();
    let open = || {
        let output = File::options().create(true).append(true).open(&log)?;
        Ok((output.try_clone()?, output))
    };
    let (output, errors) = open().map_err(LabError::system(format!("opening {}", log.display())))?;
    let (program, arguments) = launch.command.split_first().ok_or_else(|| {
        let what = format!("starting {}", launch.what);
        LabError::System { what, source: std::io::ErrorKind::InvalidInput.into() }
    })?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(&launch.home).env(MARK, &launch.namespace);
    command.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
    let what = format!("starting {program}");
    let child = namespace::inside(&launch.namespace, || command.spawn().map_err(LabError::system(what)))?;
    // A child that nobody waited for keeps its entry, even when it has ended.
    let started = stat(child.id()).map_or(0, |stat| stat.started);
    let record = Record { launch, pid: child.id(), started };
    Ok((child, record))
}

impl Launch {
    /// Where its output goes.
    pub(crate) fn log(&self) -> PathBuf {
        self.home.join(format!("{}.log", self.what))
    }
}

impl Record {
    /// Whether the process still runs.
    pub(crate) fn is_running(&self) -> bool {
        stat(self.pid).is_some_and(|stat| !stat.dead && stat.started == self.started)
    }
}

/// Ends the processes and everything they started: first politely, then not.
pub(crate) fn end(records: &[&Record]) -> Result<(), LabError> {
    let victims = victims(records);
    signal(&victims, Signal::SIGTERM);
    if wait_until(TERM_DEADLINE, || survivors(&victims).is_empty()) {
        return Ok(());
    }
    signal(&survivors(&victims), Signal::SIGKILL);
    if wait_until(KILL_DEADLINE, || survivors(&victims).is_empty()) {
        return Ok(());
    }
    Err(LabError::Unending { pids: survivors(&victims).into_keys().collect() })
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
}

/// Process ids with their start times.
type Victims = BTreeMap<u32, u64>;

fn victims(records: &[&Record]) -> Victims {
    let all = processes();
    let mut victims = Victims::new();
    for record in records {
        let is_it = |stat: &Stat| stat.started == record.started;
        if all.get(&record.pid).is_some_and(is_it) {
            victims.insert(record.pid, record.started);
        }
        // What went into the background has left its parent, but neither the namespace nor the
        // environment it was started with.
        let home = namespace::inode(&record.launch.namespace);
        let mark = format!("{MARK}={}", record.launch.namespace);
        for (pid, stat) in &all {
            if home.is_some() && home == namespace_of(*pid) && has_variable(*pid, &mark) {
                victims.insert(*pid, stat.started);
            }
        }
    }
    let mut heads: BTreeSet<u32> = victims.keys().copied().collect();
    while !heads.is_empty() {
        let children =
            all.iter().filter(|(pid, stat)| heads.contains(&stat.parent) && !victims.contains_key(pid));
        let children: Victims = children.map(|(pid, stat)| (*pid, stat.started)).collect();
        heads = children.keys().copied().collect();
        victims.extend(children);
    }
    victims
}

fn survivors(victims: &Victims) -> Victims {
    let lives =
        |(pid, started): &(&u32, &u64)| stat(**pid).is_some_and(|s| !s.dead && s.started == **started);
    victims.iter().filter(lives).map(|(pid, started)| (*pid, *started)).collect()
}

fn signal(victims: &Victims, signal: Signal) {
    for pid in survivors(victims).into_keys().filter_map(|pid| i32::try_from(pid).ok()) {
        // One that has ended meanwhile has done what is wanted.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// The processes inside a namespace.
pub(crate) fn inside(namespace: &str) -> Vec<u32> {
    let Some(home) = namespace::inode(namespace) else { return Vec::new() };
    processes().into_keys().filter(|pid| namespace_of(*pid) == Some(home)).collect()
}

/// Whether a process was started with that `NAME=value` in its environment.
fn has_variable(pid: u32, variable: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
}

fn namespace_of(pid: u32) -> Option<u64> {
    fs::metadata(format!("/proc/{pid}/ns/net")).ok().map(|metadata| metadata.ino())
}

fn processes() -> BTreeMap<u32, Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads a line of proc(5) `stat`. The name in it may contain anything, parentheses too.
fn parse_stat(line: &str) -> Option<Stat> {
    let (_, rest) = line.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Some(Stat {
        dead: matches!(*fields.first()?, "Z" | "X"),
        parent: fields.get(1)?.parse().ok()?,
        started: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_mislead() {
        let line = "7 (a) Z (b)) S 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.dead, stat.parent, stat.started), (false, 1, 4242));
    }

    #[test]
    fn a_reused_process_id_is_left_alone() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let started = stat(child.id()).unwrap().started;
        let launch = Launch {
            owner: "a".into(),
            what: "b".into(),
            namespace: "none".into(),
            home: "/".into(),
            command: Vec::new(),
            ready: Ready::Immediately,
            socket: None,
            limit: Duration::ZERO,
        };
        let mut record = Record { launch, pid: child.id(), started: started + 1 };
        end(&[&record]).unwrap();
        assert!(child.try_wait().unwrap().is_none(), "somebody else's process was ended");
        record.started = started;
        end(&[&record]).unwrap();
        assert!(child.wait().unwrap().code().is_none(), "it was not ended by a signal");
    }
}
