//! The operator's commands on a fabric that is alive.

use serde_json::Value;

use crate::fabric::{Fabric, SERVER};
use crate::lab::{Lab, fairway, poll};
use crate::programs::{download, lookup, ping, ssh_options};

/// A shell that stays open for a while.
fn idle_shell(lab: &Lab) -> crate::lab::Background {
    let options = ssh_options(lab, "server");
    let words: Vec<&str> = ["ssh"]
        .into_iter()
        .chain(options.iter().map(String::as_str))
        .chain([SERVER[0], "sleep 60"])
        .collect();
    let shell = lab.start("client", &words);
    let open = || {
        let sessions = lab.sessions("branch", &["--port", "22"]);
        sessions
            .iter()
            .any(|session| session["state"] == "open" && session["reverse"]["bytes"].as_u64() > Some(3000))
    };
    assert!(poll(10, open), "ssh did not begin: {:?}", lab.sessions("branch", &["--port", "22"]));
    shell
}

#[test]
fn every_table_has_the_rows_of_its_json() {
    let Some(lab) = Fabric::new(3).raise("tables") else { return };
    let _shell = idle_shell(&lab);
    ping(&lab, SERVER[1]);
    lookup(&lab, SERVER[0], &["+notcp"]);
    lab.run("guest", &["ping", "-c", "1", "-W", "1", SERVER[0]]);
    let objects = [
        ("sessions", "/uuid"),
        ("flows", "/session"),
        ("fib", "/prefix"),
        ("peers", "/name"),
        ("interfaces", "/name"),
        ("waypoints", "/remote"),
        ("limits", "/limit"),
        ("counters", "/name"),
        ("drops", "/reason"),
    ];
    for router in lab.routers() {
        for (object, key) in objects {
            let rows = lab.show(&router, &[object]);
            let table = fairway(&["show", object, "--socket", &lab.socket(&router)]).ok().stdout;
            assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
            for row in rows.as_array().unwrap() {
                let name =
                    row.pointer(key).and_then(Value::as_str).unwrap_or_else(|| panic!("{object}: {row}"));
                let name = if name.len() == 36 { &name[..8] } else { name };
                assert!(table.contains(name), "{object} of {router} lacks {name}:\n{table}");
            }
            let counted =
                ["sessions", "flows", "fib", "peers", "interfaces", "waypoints", "limits", "counters"];
            let empty = rows.as_array().unwrap().is_empty();
            assert!(!(empty && counted.contains(&object)), "{object} of {router} is empty");
        }
        let status = lab.show(&router, &["status"]);
        assert_eq!(status["router"], router.as_str());
        assert_eq!(status["paths_up"], status["paths"]);
    }
    let one = lab.sessions("branch", &["--service", "servers", "--tenant", "corp", "--port", "22"]);
    assert_eq!(one.len(), 1, "filters: {one:?}");
    assert!(lab.sessions("branch", &["--tenant", "guest"]).is_empty());
}

#[test]
fn trace_names_the_lines_that_decide() {
    let Some(lab) = Fabric::new(3).raise("trace") else { return };
    let socket = lab.socket("branch");
    let allowed = fairway(&["trace", "10.1.0.10", "10.2.0.10:80", "--socket", &socket]).ok().stdout;
    for word in ["branch", "transit", "dc", "corp", "web", "access-policy", "web-here", "servers"] {
        assert!(allowed.contains(word), "no {word} in\n{allowed}");
    }
    let denied = fairway(&["trace", "10.3.0.10", "10.2.0.10:80", "--socket", &socket]);
    assert_eq!(denied.code, 1, "{}", denied.text());
    for word in ["guest", "web"] {
        assert!(denied.text().contains(word), "no {word} in\n{}", denied.text());
    }
    let json =
        fairway(&["trace", "fd00:1::10", "[fd00:2::10]:80", "--json", "--socket", &socket]).ok().json();
    assert!(json.is_object() || json.is_array(), "{json}");
    let unknown = fairway(&["trace", "10.1.0.10", "10.77.0.1:80", "--socket", &socket]);
    assert_eq!(unknown.code, 1, "{}", unknown.text());
}

#[test]
fn a_session_is_deleted_when_it_is_named() {
    let Some(lab) = Fabric::new(2).raise("delete") else { return };
    let _shell = idle_shell(&lab);
    ping(&lab, SERVER[1]);
    let socket = lab.socket("branch");
    let uuid = lab.sessions("branch", &["--port", "22"])[0]["uuid"].as_str().unwrap().to_owned();
    let asked = fairway(&["delete", "session", "--port", "22", "--socket", &socket]);
    assert_ne!(asked.code, 0, "it asks first, and nobody answered: {}", asked.text());
    let deleted = fairway(&["delete", "session", "--uuid", &uuid, "--json", "--socket", &socket]).ok().json();
    assert_eq!(deleted["sessions"], 1, "{deleted}");
    for router in lab.routers() {
        let gone = || lab.sessions(&router, &[]).iter().all(|session| session["uuid"] != uuid.as_str());
        assert!(poll(5, gone), "{router} still has the session");
    }
    assert_eq!(lab.sessions("branch", &["--protocol", "icmp6"]).len(), 1, "the others stay");
}

#[test]
fn a_capture_is_read_by_others_and_by_those_with_the_keys() {
    let Some(lab) = Fabric::new(2).raise("capture") else { return };
    let file = lab.path("wan1.pcapng");
    let socket = lab.socket("branch");
    let capture = [
        "capture",
        "--interface",
        "wan1",
        "--filter",
        "not port 1280",
        "--count",
        "20",
        "--seconds",
        "15",
        "-w",
    ];
    let arguments = [&capture[..], &[&file, "--socket", &socket]].concat();
    let capturing = std::thread::scope(|scope| {
        let capturing = scope.spawn(|| fairway(&arguments));
        // Sessions until one begins after the capture.
        assert!(poll(20, || {
            lookup(&lab, SERVER[0], &["+notcp"]);
            capturing.is_finished()
        }));
        capturing.join().unwrap()
    });
    capturing.ok();
    download(&lab, SERVER[0], "1m");
    let tshark = lab
        .run("client", &["tshark", "-r", &file, "-T", "fields", "-e", "frame.number", "-e", "udp.port"])
        .ok();
    assert_eq!(tshark.stdout.lines().count(), 20, "{}", tshark.text());

    let (keys, config) = (lab.path("keys"), lab.path("config.json"));
    let decode = ["capture", "decode", &file, "--keys", &keys, "--config", &config];
    let read = fairway(&decode).ok().stdout;
    for word in ["corp", "servers", "10.2.0.10:53", "tag valid"] {
        assert!(read.contains(word), "no {word} in\n{read}");
    }
    fairway(&[&decode[..], &["--json"]].concat()).ok().json();
    let blind = fairway(&["capture", "decode", &file]).ok().stdout;
    assert!(!blind.contains("corp") && !blind.contains("10.2.0.10"), "{blind}");
}
