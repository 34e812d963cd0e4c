//! Who used the processors: the whole machine, each program of a line, and whoever else there was.
//!
//! Times are those of `/proc`, in ticks of 10 ms on common kernels: of use over a second or more.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// The kernel's `USER_HZ`, the same on every Linux that this runs on.
const TICKS_PER_SECOND: u64 = 100;
/// What marks programs of laboratories in their environment, and what they start.
const MARK: &str = "FAIRWAY_LAB_PROGRAM=";
/// The kernel's own threads have this parent.
const KERNEL_THREADS: u32 = 2;

/// Who had used how much at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    machine: Duration,
    /// By process id: who it is, and how much.
    processes: BTreeMap<u32, (Who, Duration)>,
}

/// Whose a process is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    /// A program of a laboratory: its namespace and its name.
    Lab(String, String),
    /// The harness and what makes or takes traffic.
    Own,
    /// Anybody else's.
    Foreign,
}

/// Who used how much between two moments.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// All processors together, interrupts included.
    pub(crate) machine: Duration,
    /// Programs on the boxes of the line, as `a fairway`.
    pub(crate) programs: BTreeMap<String, Duration>,
    /// Programs that have nothing to do with the line.
    pub(crate) foreign: Duration,
}

impl Snapshot {
    /// As it is now.
    pub(crate) fn take() -> Self {
        let own = std::process::id();
        let mut processes = BTreeMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let Some(stat) = Stat::read(pid) else { continue };
            if pid == KERNEL_THREADS || stat.parent == KERNEL_THREADS {
                continue;
            }
            let who = match mark(pid) {
                // Children of this process, too.
                Some(namespace) => Who::Lab(namespace, stat.name),
                None if pid == own || stat.parent == own => Who::Own,
                None => Who::Foreign,
            };
            processes.insert(pid, (who, stat.used));
        }
        Self { machine: machine(), processes }
    }

    /// What was used since `before`. Programs of other laboratories than `lab` are foreign.
    pub(crate) fn since(&self, before: &Self, lab: &str) -> Usage {
        let mut usage = Usage { machine: self.machine.saturating_sub(before.machine), ..Usage::default() };
        for (pid, (who, used)) in &self.processes {
            let earlier = before.processes.get(pid).map_or(Duration::ZERO, |(_, used)| *used);
            let used = used.saturating_sub(earlier);
            match who {
                Who::Own => {}
                Who::Foreign => usage.foreign += used,
                Who::Lab(namespace, name) => {
                    match namespace.strip_prefix(lab).and_then(|rest| rest.strip_prefix('-')) {
                        Some("client" | "server") => {}
                        Some(node) if !used.is_zero() => {
                            *usage.programs.entry(format!("{node} {name}")).or_default() += used;
                        }
                        Some(_) => {}
                        None => usage.foreign += used,
                    }
                }
            }
        }
        usage
    }
}

/// What `/proc/PID/stat` says.
struct Stat {
    name: String,
    parent: u32,
    used: Duration,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The name is in parentheses and may contain anything; fields are counted from its end.
    fn parse(text: &str) -> Option<Self> {
        let (start, rest) = text.rsplit_once(") ")?;
        let name = start.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let parent = fields.get(1)?.parse().ok()?;
        let user: u64 = fields.get(11)?.parse().ok()?;
        let system: u64 = fields.get(12)?.parse().ok()?;
        Some(Self { name, parent, used: ticks(user + system) })
    }
}

fn ticks(count: u64) -> Duration {
    Duration::from_millis(count * 1000 / TICKS_PER_SECOND)
}

/// The namespace of the laboratory's program that a process is, or was started by.
fn mark(pid: u32) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let marked =
        environment.split(|&byte| byte == 0).find_map(|entry| entry.strip_prefix(MARK.as_bytes()))?;
    Some(String::from_utf8_lossy(marked).into_owned())
}

/// What all processors did that was neither waiting nor taken by another machine.
fn machine() -> Duration {
    busy(&fs::read_to_string("/proc/stat").unwrap_or_default())
}

/// user, nice, system, irq and softirq of the first line; 3 and 4 are idle and iowait.
fn busy(stat: &str) -> Duration {
    let fields: Vec<u64> =
        stat.lines().next().unwrap_or_default().split_whitespace().skip(1).flat_map(str::parse).collect();
    ticks([0, 1, 2, 5, 6].iter().filter_map(|&index| fields.get(index)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_read() {
        let text = "77 (a ) b) S 12 77 77 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 1 1 1";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.name.as_str(), stat.parent, stat.used), ("a ) b", 12, Duration::from_secs(2)));
    }

    #[test]
    fn waiting_is_not_use() {
        let text = "cpu  100 1 200 9999 888 10 20 7 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy(text), Duration::from_millis(3310));
    }

    fn snapshot(machine: u64, processes: &[(u32, Who, u64)]) -> Snapshot {
        let processes =
            processes.iter().map(|(pid, who, used)| (*pid, (who.clone(), ticks(*used)))).collect();
        Snapshot { machine: ticks(machine), processes }
    }

    #[test]
    fn use_is_told_apart_by_who_it_was() {
        let lab = |namespace: &str, name: &str| Who::Lab(namespace.to_owned(), name.to_owned());
        let before = snapshot(0, &[(1, lab("bench-x-a", "fairway"), 10), (4, Who::Foreign, 5)]);
        let after = snapshot(
            100,
            &[
                (1, lab("bench-x-a", "fairway"), 40),
                (2, lab("bench-x-server", "iperf3"), 99),
                (3, lab("bench-y-a", "nebula"), 1),
                (4, Who::Foreign, 7),
                (5, Who::Own, 50),
            ],
        );
        let usage = after.since(&before, "bench-x");
        assert_eq!(usage.machine, ticks(100));
        assert_eq!(usage.programs, BTreeMap::from([("a fairway".to_owned(), ticks(30))]));
        assert_eq!(usage.foreign, ticks(3));
    }
}
