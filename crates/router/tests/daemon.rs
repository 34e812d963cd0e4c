//! The daemon as its operators meet it: started in a network namespace of its own, without devices,
//! and asked over its socket. Needs root; without it there is nothing to test.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, its helpers too")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::thread::JoinHandleExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use fairway_router::api::{
    CaptureRequest, Client, ClientError, Delete, Nothing, Request, Response, Show, Status,
};
use fairway_router::{LogLevel, Options};
use nix::sched::{CloneFlags, unshare};
use nix::sys::pthread::pthread_kill;
use nix::sys::signal::Signal;
use serde_json::json;

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n";

/// A router on a thread of its own, in a network namespace of its own.
struct Router {
    directory: PathBuf,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl Router {
    fn start(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("fairway-daemon-{}-{name}", std::process::id()));
        fs::create_dir_all(directory.join("keys")).unwrap();
        write(&directory.join("keys/branch--dc.key"), KEY, 0o600);
        write(&directory.join("acme.json"), &document("10.9.0.0/16"), 0o644);
        let mut options = Options::new(directory.join("acme.json"), "branch");
        options.socket = directory.join("branch.sock");
        options.log_level = LogLevel::Error;
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            fairway_router::run(options).map_err(|error| format!("{error:#}"))
        });
        let mut router = Self { directory, thread: Some(thread) };
        router.wait();
        router
    }

    fn wait(&mut self) {
        for _ in 0..500 {
            if Client::connect(&self.socket()).is_ok() {
                return;
            }
            if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let thread = self.thread.take().filter(JoinHandle::is_finished);
        panic!("the router did not start: {:?}", thread.map(JoinHandle::join));
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("branch.sock")
    }

    fn configure(&self, text: &str) {
        write(&self.directory.join("acme.json"), text, 0o644);
    }

    fn ask(&self, request: &Request) -> Result<Response, ClientError> {
        Client::connect(&self.socket())?.ask(request)
    }

    fn status(&self) -> Status {
        match self.ask(&Request::Show(Show::Status(Nothing {}))).unwrap() {
            Response::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// SIGTERM, for the thread that waits for it.
    fn stop(&mut self) -> Result<(), String> {
        let thread = self.thread.take().unwrap();
        pthread_kill(thread.as_pthread_t(), Signal::SIGTERM).unwrap();
        thread.join().unwrap()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if self.thread.is_some() {
            let _ = self.stop();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn write(path: &Path, content: &str, mode: u32) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn document(service: &str) -> String {
    let router = |name: &str, address: &str| {
        json!({"name": name, "node": [{"name": "one", "device-interface": [{
            "name": "wan", "device": "absent0", "network-interface": [{
                "name": "wan", "type": "fabric",
                "address": [{"ip-address": address, "prefix-length": 24}],
                "neighborhood": [{"name": "internet"}]
            }]
        }]}]})
    };
    let mut dc = router("dc", "198.51.100.2");
    dc["service-route"] = json!([{"name": "here", "service-name": "web", "local": {}}]);
    json!({"fairway:authority": {
        "name": "acme",
        "tenant": [{"name": "corp"}],
        "service": [{"name": "web", "address": [service], "access-policy": [{"source": "corp"}]}],
        "router": [router("branch", "198.51.100.1"), dc]
    }})
    .to_string()
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: a router needs root");
    }
    root
}

fn fib_prefix(router: &Router) -> String {
    match router.ask(&Request::Show(Show::Fib(Default::default()))).unwrap() {
        Response::Fib(page) => page.items.iter().map(|row| row.prefix.to_string()).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_router_answers_reloads_and_stops() {
    if !is_root() {
        return;
    }
    let mut router = Router::start("life");
    let status = router.status();
    assert_eq!((status.router.as_str(), status.authority.as_str()), ("branch", "acme"));
    assert_eq!((status.interfaces_up, status.interfaces, status.paths_up, status.paths), (0, 1, 0, 1));
    assert!(status.warnings.iter().any(|warning| warning.contains("wan is down or missing")));
    let mode = fs::metadata(router.socket()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o660);

    router.configure("{ broken");
    let Response::Refused(refused) = router.ask(&Request::Reload(Nothing {})).unwrap() else { panic!() };
    assert!(refused.faults[0].problem.contains("not a JSON document"), "{refused:?}");
    assert_eq!(router.status().configuration.refused, Some(refused));
    assert_eq!(fib_prefix(&router), "10.9.0.0/16");

    router.configure(&document("10.8.0.0/16"));
    let Response::Reloaded(_) = router.ask(&Request::Reload(Nothing {})).unwrap() else { panic!() };
    assert_eq!(fib_prefix(&router), "10.8.0.0/16");
    let configuration = router.status().configuration;
    assert_eq!((configuration.reloads, configuration.refused), (1, None));

    let open_files = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open_files();
    for round in 0..100 {
        router.configure(&document(if round % 2 == 0 { "10.7.0.0/16" } else { "10.8.0.0/16" }));
        let answer = router.ask(&Request::Reload(Nothing {})).unwrap();
        assert!(matches!(answer, Response::Reloaded(_)), "{answer:?}");
    }
    // Connections end a moment after their clients, and other tests have some of their own.
    let settled = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        open_files() <= before + 8
    });
    assert!(settled, "{before} files were open, now {}", open_files());

    assert_eq!(router.stop(), Ok(()));
    assert!(!router.socket().exists());
}

#[test]
fn a_client_that_misbehaves_is_told_and_harms_nobody() {
    if !is_root() {
        return;
    }
    let router = Router::start("clients");
    let raw = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(router.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // The router may hang up before it has read all of it.
        let _ = stream.write_all(bytes);
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line
    };
    assert!(raw(b"\xff\xfe\n").contains("no JSON"));
    assert!(raw(b"{\"show\":{\"what\":\"status\",\"x\":1}}\n").contains("unknown field"));
    assert!(raw(&[b' '; 70_000]).contains("longer than 65536 bytes"));
    assert!(raw(b"\n\n{\"show\":{\"what\":\"counters\"}}\n").starts_with("{\"counters\":["));

    let idle: Vec<UnixStream> = (0..16).map(|_| UnixStream::connect(router.socket()).unwrap()).collect();
    assert!(raw(b"").contains("16 clients are connected already"));
    drop(idle);
    let served = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        router.ask(&Request::Show(Show::Status(Nothing {}))).is_ok()
    });
    assert!(served);

    let everything = router.ask(&Request::Delete(Delete::default()));
    let Err(ClientError::Refused(error)) = everything else { panic!("{everything:?}") };
    assert!(error.fix.contains("delete.all"));
    let all = Delete { all: true, ..Delete::default() };
    let Response::Deleted(deleted) = router.ask(&Request::Delete(all)).unwrap() else { panic!() };
    assert_eq!(deleted.sessions, 0);
}

#[test]
fn one_capture_runs_at_a_time_and_ends_when_told() {
    if !is_root() {
        return;
    }
    let router = Router::start("capture");
    let request = Request::Capture(CaptureRequest { seconds: Some(30), ..CaptureRequest::default() });
    let mut first = Client::connect(&router.socket()).unwrap();
    let Response::Capturing(capturing) = first.ask(&request).unwrap() else { panic!() };
    assert_eq!(capturing.interfaces.len(), 1);
    assert!(capturing.interfaces[0].ethernet);
    let Err(ClientError::Refused(error)) = router.ask(&request) else { panic!() };
    assert!(error.message.contains("another capture"));
    // Whatever a client says ends its capture; then it is answered.
    let answer = first.ask(&Request::Show(Show::Status(Nothing {}))).unwrap();
    assert!(matches!(answer, Response::Captured(_)), "{answer:?}");
    assert!(matches!(first.next().unwrap(), Response::Status(_)));

    let unknown = CaptureRequest { interfaces: vec!["lan".into()], ..CaptureRequest::default() };
    let Err(ClientError::Refused(error)) = router.ask(&Request::Capture(unknown)) else { panic!() };
    assert!(error.message.contains("`lan`"));
    let short = Request::Capture(CaptureRequest { seconds: Some(0), ..CaptureRequest::default() });
    assert!(matches!(router.ask(&short).unwrap(), Response::Capturing(_)));
}

#[test]
fn a_socket_in_use_is_left_alone() {
    if !is_root() {
        return;
    }
    let router = Router::start("socket");
    let mut options = Options::new(router.directory.join("acme.json"), "branch");
    options.socket = router.socket();
    let second =
        std::thread::spawn(move || fairway_router::run(options).map_err(|error| format!("{error:#}")));
    let error = second.join().unwrap().unwrap_err();
    assert!(error.contains("is listening on"), "{error}");
    assert_eq!(router.status().router, "branch");
}
