//! The command as a user runs it: exit codes, streams and files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/examples/two-routers.json");

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fairway"));
    command.args(arguments).env_remove("FAIRWAY_SOCKET").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// A directory of this test's own, removed when it ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_example_is_valid() {
    let output = run(&["config", "validate", EXAMPLE]);
    assert_eq!(code(&output), 0, "{}", out(&output));
    assert!(
        out(&output).contains("valid, authority acme: 2 routers, 3 tenants, 6 services"),
        "{}",
        out(&output)
    );
}

const BROKEN: &str = r#"{"fairway:authority": {"name": "acme",
  "tennant": [],
  "service": [{"name": "web", "transport": [{"protocol": "tcp", "port-range": [{"start-port": 70000}]}],
               "access-policy": [{"source": "nobody"}]}],
  "router": [{"name": "branch", "peer": [{"name": "dcc"}]}]}}"#;

#[test]
fn every_fault_is_named_at_once_with_path_value_and_fix() {
    let scratch = Scratch::new("faults");
    let file = scratch.file("broken.json", BROKEN);
    let output = run(&["config", "validate", &file]);
    let text = out(&output);
    assert_eq!(code(&output), 1, "{text}");
    for part in ["/fairway:authority/tennant", "70000", "fix", "port-range", "refused"] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100 || line.contains(&file)), "{text}");
    let output = run(&["config", "validate", &file, "--json"]);
    assert_eq!(code(&output), 1);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["valid"], false);
    let faults = value["faults"].as_array().unwrap();
    assert!(faults.len() >= 2, "{value:#}");
    for fault in faults {
        for member in ["severity", "path", "problem", "fix"] {
            assert!(fault[member].is_string(), "{fault:#}");
        }
    }
}

#[test]
fn what_is_no_configuration_is_refused() {
    let scratch = Scratch::new("none");
    let file = scratch.file("none.json", "{");
    let output = run(&["config", "validate", &file]);
    assert_eq!(code(&output), 1);
    assert!(!out(&output).is_empty());
    let output = run(&["config", "validate", "/nonexistent.json"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("/nonexistent.json"), "{}", err(&output));
}

#[test]
fn generated_elements_are_shown_and_marked() {
    let plain = out(&run(&["config", "show", EXAMPLE]));
    let generated = out(&run(&["config", "show", EXAMPLE, "--generated"]));
    assert!(
        !plain.contains("\"generated\": true") && generated.contains("\"generated\": true"),
        "{generated}"
    );
    let one: serde_json::Value =
        serde_json::from_slice(&run(&["config", "show", EXAMPLE, "--router", "dc"]).stdout).unwrap();
    let routers = one["fairway:authority"]["router"].as_array().unwrap();
    assert_eq!(routers.len(), 1);
    assert_eq!(routers[0]["name"], "dc");
    let output = run(&["config", "show", EXAMPLE, "--router", "north"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("branch, dc"), "{}", err(&output));
}

#[test]
fn keys_are_made_once_and_for_root_only() {
    let scratch = Scratch::new("keys");
    let directory = scratch.0.join("keys");
    let arguments = ["key", "generate", "--for", EXAMPLE, "--dir", directory.to_str().unwrap()];
    let output = run(&arguments);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let file = directory.join("branch--dc.key");
    assert_eq!(out(&output), format!("{}\n", file.display()));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let key = fs::read(&file).unwrap();
    let again = run(&arguments);
    assert_eq!((code(&again), out(&again)), (0, String::new()));
    assert!(err(&again).contains("kept as they were"), "{}", err(&again));
    assert_eq!(fs::read(&file).unwrap(), key);
    let named = run(&["key", "generate", file.to_str().unwrap()]);
    assert_eq!(code(&named), 1);
    assert!(err(&named).contains("never overwritten"), "{}", err(&named));
    let (one, other) = (out(&run(&["key", "generate"])), out(&run(&["key", "generate"])));
    assert_ne!(one, other);
    assert_eq!(one.lines().last().map(str::len), Some(64), "{one}");
}

#[test]
fn trace_exits_by_what_becomes_of_the_packet() {
    let good = run(&["trace", "10.1.0.5", "10.2.0.10:443", "--config", EXAMPLE]);
    assert_eq!(code(&good), 0, "{}", err(&good));
    assert!(out(&good).contains("Delivered: dc"), "{}", out(&good));
    let bad = run(&[
        "trace",
        "10.1.128.7",
        "10.2.0.10",
        "--protocol",
        "tcp",
        "--port",
        "22",
        "--config",
        EXAMPLE,
        "--json",
    ]);
    assert_eq!(code(&bad), 1, "{}", err(&bad));
    let value: serde_json::Value = serde_json::from_slice(&bad.stdout).unwrap();
    assert_eq!(value["outcome"]["result"], "denied");
    assert_eq!(value["outcome"]["reason"], "access-denied");
    let wrong = run(&["trace", "somebody", "10.2.0.10", "--config", EXAMPLE]);
    assert_eq!(code(&wrong), 2, "{}", err(&wrong));
}

#[test]
fn without_a_router_the_command_says_how_to_start_one() {
    let scratch = Scratch::new("socket");
    let socket = scratch.0.join("none.sock");
    for arguments in [&["show", "sessions"][..], &["reload"], &["show", "drops", "--json"]] {
        let output = command(arguments).args(["--socket", socket.to_str().unwrap()]).output().unwrap();
        assert_eq!(code(&output), 1);
        let text = err(&output);
        assert!(
            text.contains("no router is running here") && text.contains("fairway router --config"),
            "{text}"
        );
        assert!(text.contains("none.sock"), "{text}");
    }
    let output = command(&["show", "status"]).env("FAIRWAY_SOCKET", &socket).output().unwrap();
    assert!(err(&output).contains("none.sock"), "{}", err(&output));
}

#[test]
fn usage_mistakes_have_their_own_code() {
    for arguments in [
        &["show"][..],
        &["shw"],
        &["show", "sessions", "--protocol", "tpc"],
        &["delete", "session"],
        &["delete", "session", "--all"],
        &["capture"],
        &["capture", "-w", "x", "--filter", "quic"],
        &["capture", "-w", "x", "--keys", "."],
        &["key", "generate", "x", "--for", "y"],
    ] {
        let output = run(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}: {}", err(&output));
    }
}

#[test]
fn completion_is_printed_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completion", shell]);
        assert_eq!(code(&output), 0);
        assert!(out(&output).contains("waypoints"), "{shell}");
        assert!(!out(&output).contains("'wire'"), "{shell}");
    }
}

#[test]
fn a_reader_that_hangs_up_is_no_error() {
    let mut child =
        command(&["completion", "bash"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Closed before anything is read.
    drop(child.stdout.take());
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!((child.wait().unwrap().code(), text.as_str()), (Some(0), ""));
}

#[test]
fn the_version_is_told() {
    let expected = concat!("fairway ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(out(&run(&["version"])), expected);
    assert_eq!(out(&run(&["--version"])), expected);
}
