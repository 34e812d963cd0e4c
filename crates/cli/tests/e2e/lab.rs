//! A laboratory of one test: raised, asked and removed, also when the test fails.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The command under test.
pub const FAIRWAY: &str = env!("CARGO_BIN_EXE_fairway");

/// Laboratories share the machine: one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// How long a command inside may take when the test does not say.
const COMMAND_SECONDS: u64 = 30;

/// A laboratory that is up.
pub struct Lab {
    /// Its name.
    pub name: String,
    file: PathBuf,
    since: Instant,
    _turn: MutexGuard<'static, ()>,
}

/// What a command did.
pub struct Done {
    /// The command line.
    pub command: String,
    /// The exit code; -1 for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A program that runs while the test goes on. It ends with this value.
pub struct Background {
    child: Child,
    command: String,
}

/// Counts of drops by router and reason.
pub type Drops = BTreeMap<(String, String), u64>;

/// Looks until `done`, for `seconds` at most; whether it was done.
pub fn poll(seconds: u64, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if done() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Lets time pass: for how long something is to be broken, never to wait for something.
pub fn pass(time: Duration) {
    std::thread::sleep(time);
}

/// Runs the command under test.
pub fn fairway(arguments: &[&str]) -> Done {
    let output = Command::new(FAIRWAY).args(arguments).stdin(Stdio::null()).output().unwrap();
    Done::new(arguments.join(" "), &output)
}

impl Done {
    fn new(command: String, output: &Output) -> Self {
        Self {
            command,
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Everything that was printed.
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// Asserts that it succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{}:\n{}", self.command, self.text());
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{}: {error}:\n{}", self.command, self.text()))
    }
}

impl Background {
    /// Waits until it ends by itself.
    #[track_caller]
    pub fn wait(mut self, seconds: u64) -> Done {
        let ended = poll(seconds, || self.child.try_wait().unwrap().is_some());
        if !ended {
            let _ = self.child.kill();
        }
        let status = self.child.wait().unwrap();
        let read = |pipe: Option<&mut dyn std::io::Read>| {
            let mut bytes = Vec::new();
            if let Some(pipe) = pipe {
                pipe.read_to_end(&mut bytes).unwrap();
            }
            bytes
        };
        let stdout = read(self.child.stdout.as_mut().map(|pipe| pipe as &mut dyn std::io::Read));
        let stderr = read(self.child.stderr.as_mut().map(|pipe| pipe as &mut dyn std::io::Read));
        let done = Done::new(self.command.clone(), &Output { status, stdout, stderr });
        assert!(ended, "{} did not end within {seconds} s:\n{}", done.command, done.text());
        done
    }

    /// Asks it to end (SIGINT, as tcpdump wants it) and waits. A program that is just about to wait
    /// for packets may miss a signal, so it is asked again.
    pub fn interrupt(mut self) -> Done {
        let ask = || {
            Command::new("kill").args(["-INT", &self.child.id().to_string()]).output().unwrap();
            poll(1, || self.child.try_wait().unwrap().is_some())
        };
        assert!(poll(10, ask), "{} does not end", self.command);
        self.wait(1)
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets all routers use AF_XDP, which wants links without offloads.
fn by_xdp(topology: &mut Value) {
    for (kind, field, value) in [("routers", "io", "xdp"), ("links", "offload", "off")] {
        for one in topology[kind].as_object_mut().into_iter().flat_map(|all| all.values_mut()) {
            one[field] = value.into();
        }
    }
}

impl Lab {
    /// Raises a topology, given as JSON, which YAML understands. Nothing without root.
    pub fn raise(test: &str, mut topology: Value) -> Option<Self> {
        if fs::metadata("/proc/self").map(|own| std::os::unix::fs::MetadataExt::uid(&own)).unwrap_or(1) != 0 {
            eprintln!("skipped: network namespaces are made by root");
            return None;
        }
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("e2e-{test}-{}", std::process::id());
        topology["name"] = name.clone().into();
        if std::env::var("FAIRWAY_TEST_IO").is_ok_and(|method| method == "xdp") {
            by_xdp(&mut topology);
        }
        let file = std::env::temp_dir().join(format!("{name}.yaml"));
        fs::write(&file, topology.to_string()).unwrap();
        let up = fairway(&["lab", "up", &file.to_string_lossy()]);
        let lab = Self { name, file, since: Instant::now(), _turn: turn };
        up.ok();
        lab.wait_for_paths(20);
        Some(lab)
    }

    /// A file of a node, or of the laboratory itself.
    pub fn path(&self, relative: &str) -> String {
        format!("/run/fairway-lab/{}/{relative}", self.name)
    }

    /// The names of the routers.
    pub fn routers(&self) -> Vec<String> {
        let state: Value = serde_json::from_slice(&fs::read(self.path("state.json")).unwrap()).unwrap();
        let nodes = state["nodes"].as_object().unwrap();
        nodes.iter().filter(|(_, node)| node["role"] == "router").map(|(name, _)| name.clone()).collect()
    }

    /// The control socket of a router.
    pub fn socket(&self, router: &str) -> String {
        self.path(&format!("{router}/api.sock"))
    }

    /// Waits until all paths of all routers are up.
    #[track_caller]
    pub fn wait_for_paths(&self, seconds: u64) {
        let up = || {
            self.routers().iter().all(|router| {
                let status = self.try_show(router, &["status"]);
                status.is_some_and(|status| status["paths_up"] == status["paths"])
            })
        };
        assert!(poll(seconds, up), "the peer paths of {} are not up after {seconds} s", self.name);
    }

    fn inside(&self, node: &str, command: &[&str]) -> Vec<String> {
        let mut words: Vec<String> =
            ["lab", "exec", "--lab", &self.name, node, "--"].map(str::to_owned).into();
        words.extend(command.iter().map(|&word| word.to_owned()));
        words
    }

    /// Runs a command inside a node.
    pub fn run(&self, node: &str, command: &[&str]) -> Done {
        self.run_for(COMMAND_SECONDS, node, command)
    }

    /// The same, with the seconds it may take; the exit code is then 124.
    pub fn run_for(&self, seconds: u64, node: &str, command: &[&str]) -> Done {
        let output = Command::new("timeout")
            .args(["-k", "1", &seconds.to_string(), FAIRWAY])
            .args(self.inside(node, command))
            .stdin(Stdio::null())
            .output()
            .unwrap();
        Done::new(format!("{node}: {}", command.join(" ")), &output)
    }

    /// Starts a command inside a node, whose output is small.
    pub fn start(&self, node: &str, command: &[&str]) -> Background {
        let child = Command::new(FAIRWAY)
            .args(self.inside(node, command))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Background { child, command: format!("{node}: {}", command.join(" ")) }
    }

    /// What a router answers to `fairway show`.
    #[track_caller]
    pub fn show(&self, router: &str, arguments: &[&str]) -> Value {
        self.asked(router, arguments).ok().json()
    }

    fn try_show(&self, router: &str, arguments: &[&str]) -> Option<Value> {
        let done = self.asked(router, arguments);
        if done.code == 0 { Some(done.json()) } else { None }
    }

    fn asked(&self, router: &str, arguments: &[&str]) -> Done {
        let socket = self.socket(router);
        fairway(&[&["show"], arguments, &["--json", "--socket", &socket]].concat())
    }

    /// The sessions of a router that the arguments choose.
    pub fn sessions(&self, router: &str, arguments: &[&str]) -> Vec<Value> {
        let all = self.show(router, &[&["sessions", "--limit", "10000"], arguments].concat());
        all.as_array().unwrap().clone()
    }

    /// All drops of all routers.
    pub fn drops(&self) -> Drops {
        let mut all = Drops::new();
        for router in self.routers() {
            for drop in self.show(&router, &["drops"]).as_array().unwrap() {
                let reason = drop["reason"].as_str().unwrap().to_owned();
                all.insert((router.clone(), reason), drop["count"].as_u64().unwrap());
            }
        }
        all
    }

    /// The drop counters that moved since, by router and reason.
    pub fn moved(&self, before: &Drops) -> BTreeMap<String, u64> {
        let moved = |(key, count): ((String, String), u64)| {
            let more = count.saturating_sub(before.get(&key).copied().unwrap_or(0));
            (more > 0).then(|| (format!("{} {}", key.0, key.1), more))
        };
        self.drops().into_iter().filter_map(moved).collect()
    }

    /// Asserts that exactly these drop counters moved (`"branch access-denied"`). Those with a `?`
    /// may have moved or not.
    #[track_caller]
    pub fn assert_moved(&self, before: &Drops, expected: &[&str]) {
        let moved = self.moved(before);
        let named = |name: &String| expected.iter().any(|&other| other.trim_end_matches('?') == name);
        let missing = expected.iter().any(|&name| !name.ends_with('?') && !moved.contains_key(name));
        if missing || !moved.keys().all(named) {
            let shown =
                |router: &String| fairway(&["show", "drops", "--socket", &self.socket(router)]).stdout;
            let examples: Vec<String> = self.routers().iter().map(shown).collect();
            panic!("drops moved: {moved:?}, expected {expected:?}\n{}", examples.join("\n"));
        }
    }

    /// Waits until no packet of a session is on its way any more: what a program sent faster than it could
    /// go may still wait in queues when the program has ended.
    #[track_caller]
    pub fn settle(&self) {
        let forwarded = || -> u64 {
            let of = |router: &String| {
                let shown = self.show(router, &["workers"]);
                shown["workers"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter_map(|one| one["forwarded"].as_u64())
                    .sum::<u64>()
            };
            self.routers().iter().map(of).sum()
        };
        let mut before = forwarded();
        let still = || {
            std::thread::sleep(Duration::from_millis(200));
            let after = forwarded();
            std::mem::replace(&mut before, after) == after
        };
        assert!(poll(10, still), "packets of sessions are still on their way");
    }

    /// Packets that came and could not be taken: the routers' own count of what their sockets lost.
    pub fn overruns(&self) -> u64 {
        let of = |router: &String| -> u64 {
            let interfaces = self.show(router, &["interfaces"]);
            interfaces.as_array().unwrap().iter().map(|one| one["receive_overruns"].as_u64().unwrap()).sum()
        };
        self.routers().iter().map(of).sum()
    }

    /// Datagrams that reached client or server and found the program's socket full.
    pub fn socket_overflows(&self) -> u64 {
        ["client", "server"].into_iter().map(|host| self.socket_overflows_of(host)).sum()
    }

    fn socket_overflows_of(&self, host: &str) -> u64 {
        let snmp = self.run(host, &["cat", "/proc/net/snmp"]).ok().stdout;
        let rows: Vec<Vec<&str>> = snmp
            .lines()
            .filter_map(|line| line.strip_prefix("Udp:"))
            .map(|line| line.split_whitespace().collect())
            .collect();
        let snmp6 = self.run(host, &["cat", "/proc/net/snmp6"]).ok().stdout;
        let six = snmp6.lines().find_map(|line| line.strip_prefix("Udp6RcvbufErrors")).unwrap();
        let column = rows[0].iter().position(|&name| name == "RcvbufErrors").unwrap();
        rows[1][column].parse::<u64>().unwrap() + six.trim().parse::<u64>().unwrap()
    }

    /// Changes the configuration file of all routers; they do not read it before they are told to.
    pub fn configure(&self, change: impl FnOnce(&mut Value)) {
        let path = self.path("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config["fairway:authority"]);
        fs::write(&path, config.to_string()).unwrap();
    }

    /// Makes a router read its configuration again.
    pub fn reload(&self, router: &str) -> Done {
        fairway(&["reload", "--json", "--socket", &self.socket(router)])
    }

    /// The process id of a router.
    pub fn pid(&self, router: &str) -> u32 {
        u32::try_from(self.show(router, &["status"])["pid"].as_u64().unwrap()).unwrap()
    }

    /// Sends a signal to a router and waits until the process is gone.
    #[track_caller]
    pub fn end_router(&self, router: &str, signal: &str) {
        let pid = self.pid(router);
        assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
        // One that nobody waited for is still listed; its sockets are gone with its last thread.
        let gone = || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
            threads == 0 || (threads == 1 && stat.contains(") Z"))
        };
        assert!(poll(10, gone), "router {router} still runs 10 s after {signal}");
    }

    /// Starts a router that was ended, and waits until it answers.
    #[track_caller]
    pub fn start_router(&self, router: &str) {
        fairway(&["lab", "restart", "--lab", &self.name, router, "router"]).ok();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.name.is_empty() {
            for router in fs::read_dir(self.path("")).into_iter().flatten().flatten() {
                if let Ok(log) = fs::read_to_string(router.path().join("router.log")) {
                    let lines: Vec<&str> = log.lines().rev().take(12).collect();
                    eprintln!("--- log of router {}", router.file_name().to_string_lossy());
                    lines.iter().rev().for_each(|line| eprintln!("{line}"));
                }
            }
        }
        let down = fairway(&["lab", "down", &self.name]);
        let _ = fs::remove_file(&self.file);
        eprintln!("{} was up for {:.1} s", self.name, self.since.elapsed().as_secs_f32());
        if down.code != 0 && !std::thread::panicking() {
            panic!("the laboratory did not go: {}", down.text());
        }
    }
}
