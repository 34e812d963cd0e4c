//! `show`, `delete`, `reload` and `capture` against a socket that answers as a router does: what is
//! asked, how pages are joined, and what comes of refusals. Real routers are in the end-to-end tests.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use fairway_router::api::{Request, Show};
use serde_json::{Value, json};

type Answer = fn(&Request) -> Vec<Value>;

/// A socket that gives scripted answers, and remembers the questions.
struct Socket {
    path: PathBuf,
    asked: Arc<Mutex<Vec<Request>>>,
}

impl Socket {
    fn new(name: &str, answer: Answer) -> Self {
        let path = std::env::temp_dir().join(format!("fairway-cli-api-{name}-{}.sock", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                serve(stream, answer, &seen);
            }
        });
        Self { path, asked }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fairway"));
        command.args(arguments).arg("--socket").arg(&self.path).stdin(Stdio::null()).output().unwrap()
    }

    fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn serve(stream: UnixStream, answer: Answer, seen: &Mutex<Vec<Request>>) {
    let mut writer = stream.try_clone().unwrap();
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let request = Request::parse(line.as_bytes()).unwrap();
        seen.lock().unwrap().push(request.clone());
        for value in answer(&request) {
            if writeln!(writer, "{value}").is_err() {
                return;
            }
        }
    }
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn session(number: u64) -> Value {
    let leg = |peer: Value| {
        json!({"interface": "lan", "peer": peer, "path": null, "protocol": "tcp", "local": "10.2.0.10:443",
               "remote": "10.1.0.5:40000", "next_hop": null, "handshake": null})
    };
    json!({
        "uuid": format!("{number:08x}-0000-4000-8000-000000000000"),
        "tenant": "corp", "service": "web", "protocol": "tcp",
        "source": format!("10.1.0.5:{}", 40000 + number), "destination": "10.2.0.10:443",
        "role": "ingress", "state": "open", "route": "web", "ingress_router": "branch",
        "initiator": leg(Value::Null), "responder": leg(json!("dc")),
        "forward": {"packets": 1, "bytes": 100 * number}, "reverse": {"packets": 1, "bytes": 0},
        "age_seconds": 1.0, "idle_seconds": 0.5, "remaining_seconds": 10.0
    })
}

fn three_sessions(request: &Request) -> Vec<Value> {
    match request {
        Request::Show(Show::Sessions(query)) => match query.cursor {
            None => vec![json!({"sessions": {"items": [session(1), session(2)], "next": 7}})],
            Some(7) => vec![json!({"sessions": {"items": [session(3)]}})],
            Some(_) => vec![json!({"error": {"message": "no such page", "fix": ""}})],
        },
        Request::Delete(_) => vec![json!({"deleted": {"sessions": 3}})],
        _ => vec![json!({"error": {"message": "the engine is busy", "fix": "ask again"}})],
    }
}

#[test]
fn pages_are_joined_and_sorted() {
    let router = Socket::new("pages", three_sessions);
    let output = router.run(&["show", "sessions"]);
    let text = out(&output);
    let ports: Vec<&str> = text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(3)).collect();
    assert_eq!(ports, ["10.1.0.5:40003", "10.1.0.5:40002", "10.1.0.5:40001"], "{text}");
    assert!(text.ends_with("3 sessions\n"), "{text}");
    let limited = out(&router.run(&["show", "sessions", "--limit", "2", "--sort", "service"]));
    assert!(limited.contains("40001") && !limited.contains("40003") && limited.contains("more"), "{limited}");
    let json: Value = serde_json::from_slice(&router.run(&["show", "sessions", "--json"]).stdout).unwrap();
    assert_eq!(json.as_array().map(Vec::len), Some(3));
}

#[test]
fn filters_reach_the_router() {
    let router = Socket::new("filters", three_sessions);
    let arguments = ["show", "sessions", "--service", "web", "--protocol", "tcp", "--address", "10.1.0.0/16"];
    assert!(router.run(&arguments).status.success());
    let asked: Vec<String> =
        router.asked().iter().map(|request| serde_json::to_string(request).unwrap()).collect();
    assert!(asked[0].contains(r#""service":"web""#) && asked[0].contains(r#""protocol":"tcp""#), "{asked:?}");
    assert!(asked.iter().any(|line| line.contains(r#""source":"10.1.0.0/16""#)), "{asked:?}");
    assert!(asked.iter().any(|line| line.contains(r#""destination":"10.1.0.0/16""#)), "{asked:?}");
}

#[test]
fn a_uuid_shows_one_session_whole() {
    let router = Socket::new("uuid", three_sessions);
    let text = out(&router.run(&["show", "sessions", "--uuid", "00000002"]));
    assert!(
        text.contains("00000002-0000-4000-8000-000000000000") && text.contains("10.1.0.5:40002"),
        "{text}"
    );
    assert!(!text.contains("40001"), "{text}");
}

#[test]
fn nothing_is_deleted_without_agreement() {
    let router = Socket::new("agreement", three_sessions);
    let output = router.run(&["delete", "session", "--service", "web"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        err(&output).contains("3 sessions would be deleted") && err(&output).contains("--yes"),
        "{}",
        err(&output)
    );
    assert!(!router.asked().iter().any(|request| matches!(request, Request::Delete(_))));
    let output = router.run(&["delete", "session", "--service", "web", "--yes"]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(0), "3 sessions deleted\n"));
    let Some(Request::Delete(delete)) = router.asked().pop() else { panic!("nothing was deleted") };
    assert_eq!((delete.sessions.service.as_deref(), delete.all), (Some("web"), false));
}

#[test]
fn a_uuid_must_name_one_session() {
    let router = Socket::new("several", three_sessions);
    let output = router.run(&["delete", "session", "--uuid", "0000000"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("3 sessions have a UUID that begins so"), "{}", err(&output));
    assert!(router.run(&["delete", "session", "--uuid", "00000001"]).status.success());
    let Some(Request::Delete(delete)) = router.asked().pop() else { panic!("nothing was deleted") };
    assert_eq!(delete.sessions.uuid.as_deref(), Some("00000001-0000-4000-8000-000000000000"));
    let output = router.run(&["delete", "session", "--uuid", "ffff"]);
    assert!(err(&output).contains("nothing was deleted"), "{}", err(&output));
}

#[test]
fn what_the_router_refuses_is_told_with_its_fix() {
    let router = Socket::new("refused", three_sessions);
    let output = router.run(&["show", "peers"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(err(&output), "fairway: the router refused: the engine is busy\n  ask again\n");
}

#[test]
fn a_refused_reload_lists_the_faults() {
    let router = Socket::new("reload", |_| {
        vec![
            json!({"refused": {"faults": [{"severity": "error", "path": "/fairway:authority/x", "value": "1",
            "problem": "unknown element", "fix": "remove it"}], "more": 2}}),
        ]
    });
    let output = router.run(&["reload"]);
    assert_eq!(output.status.code(), Some(1));
    let text = out(&output);
    for part in ["/fairway:authority/x", "unknown element", "remove it", "2 faults more", "goes on"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

fn two_packets(_: &Request) -> Vec<Value> {
    let packet = |sent: bool| {
        json!({"packet": {"interface": 0, "sent": sent, "timestamp_nanoseconds": 1_700_000_000_000_000_000_u64,
            "length_bytes": 28,
            "data": "4500001c00000000401166cf0a0000010a00000204d2003500080000"}})
    };
    vec![
        json!({"capturing": {"router": "branch", "interfaces": [{"name": "host", "device": "fw0", "ethernet": false}]}}),
        packet(true),
        packet(false),
        json!({"captured": {"packets": 2, "lost": 1}}),
    ]
}

fn capture(router: &Socket, file: &Path, more: &[&str]) -> Output {
    let mut arguments = vec!["capture", "-w", file.to_str().unwrap()];
    arguments.extend(more);
    router.run(&arguments)
}

#[test]
fn captures_are_written_filtered_and_counted() {
    let router = Socket::new("capture", two_packets);
    let file = std::env::temp_dir().join(format!("fairway-cli-capture-{}.pcapng", std::process::id()));
    let output = capture(&router, &file, &["--interface", "host"]);
    assert!(output.status.success(), "{}", err(&output));
    assert!(err(&output).contains("2 packets in") && err(&output).contains("1 lost"), "{}", err(&output));
    let whole = std::fs::metadata(&file).unwrap().len();
    assert_eq!(whole % 4, 0);
    let output = capture(&router, &file, &["--filter", "tcp"]);
    assert!(err(&output).contains("0 packets in"), "{}", err(&output));
    let output = capture(&router, &file, &["--filter", "udp and port 53", "--count", "1"]);
    assert!(err(&output).contains("1 packet in"), "{}", err(&output));
    assert!(std::fs::metadata(&file).unwrap().len() < whole);
    std::fs::remove_file(&file).unwrap();
}
