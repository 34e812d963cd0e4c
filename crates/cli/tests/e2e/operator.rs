//! The operator's commands on a fabric that is alive.

use serde_json::{Value, json};

use crate::fabric::{Fabric, SERVER, interfaces};
use crate::lab::{Lab, fairway, poll};
use crate::pcap::Capture;
use crate::programs::{download, lookup, page, ping, ssh_options};

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
        let workers = fairway(&["show", "workers", "--socket", &lab.socket(&router)]).ok().stdout;
        let count = lab.show(&router, &["workers"])["workers"].as_array().unwrap().len();
        assert!(workers.lines().all(|line| line.chars().count() <= 100), "{workers}");
        assert!(workers.lines().count() > count, "{workers}");
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

/// With the keys of the fabric, a capture of a WAN shows what hosts sent, and no key of any session.
#[test]
fn a_capture_is_decrypted_by_those_with_the_keys() {
    // Frames as a wire has them: what was captured whole cannot be told apart again.
    let off = json!({ "offload": "off" });
    for (transform, name) in [("encrypted", "decrypt-udp"), ("never", "decrypt-tcp")] {
        let fabric = Fabric::new(2).link("wan1", off.clone()).link("lan", off.clone());
        let fabric = fabric.link("servers", off.clone()).config(|authority| {
            for interface in interfaces(authority).filter(|interface| interface["type"] == "fabric") {
                interface["neighborhood"][0]["udp-transform"] = transform.into();
            }
        });
        let Some(lab) = fabric.raise(name) else { return };
        let wan = Capture::start(&lab, "branch", "wan1");
        page(&lab, SERVER[0]);
        page(&lab, SERVER[1]);
        lookup(&lab, SERVER[0], &["+notcp"]);
        ping(&lab, SERVER[1]);
        lab.run("client", &["ping", "-c", "1", "-W", "2", "-s", "3000", SERVER[0]]).ok();
        wan.packets();
        let (file, clear) = (lab.path("branch/wan1.pcap"), lab.path("clear.pcapng"));
        let as_pcapng = lab.path("wan1.pcapng");
        lab.run("client", &["tshark", "-r", &file, "-w", &as_pcapng]).ok();
        let (keys, config) = (lab.path("keys"), lab.path("config.json"));
        let decode = [
            "capture",
            "decode",
            &as_pcapng,
            "--keys",
            &keys,
            "--config",
            &config,
            "--decrypt",
            "-w",
            &clear,
        ];
        let printed = fairway(&decode).ok().stdout;
        assert!(printed.contains("33 bytes, not shown"), "{printed}");
        let fields = ["-T", "fields", "-e", "ip.src", "-e", "ipv6.src", "-e", "ip.len", "-e", "_ws.col.Info"];
        let read = lab.run("client", &[&["tshark", "-r", &clear][..], &fields].concat()).ok().stdout;
        let shows = |words: &[&str]| read.lines().any(|line| words.iter().all(|word| line.contains(word)));
        assert!(shows(&["10.1.0.10", "GET / HTTP/1.1"]), "{transform}: {read}");
        assert!(shows(&["10.2.0.10", "HTTP/1.1 200 OK"]), "{transform}: {read}");
        assert!(shows(&["fd00:1::10", "GET / HTTP/1.1"]), "{transform}: {read}");
        assert!(shows(&["10.2.0.10", "web.test"]), "{transform}: {read}");
        assert!(shows(&["fd00:1::10", "Echo (ping) request"]), "{transform}: {read}");
        assert!(shows(&["10.2.0.10", "3028", "Echo (ping) reply"]), "{transform}: {read}");
        let checksums = ["-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE", "-Y"];
        let wrong = ["tcp.checksum.status==0 || udp.checksum.status==0"];
        let wrong =
            lab.run("client", &[&["tshark", "-r", &clear][..], &checksums, &wrong].concat()).ok().stdout;
        assert_eq!(wrong, "", "checksums are those of the packets as they are");
    }
}

/// Starts a router anew that writes a log of its sessions: the router, and where the log is.
pub fn log_sessions(lab: &Lab, router: &str) -> (crate::lab::Background, String) {
    let (config, socket, log) = (lab.path("config.json"), lab.socket(router), lab.path("sessions.log"));
    lab.end_router(router, "-TERM");
    let program = env!("CARGO_BIN_EXE_fairway");
    let named = ["--config", &config, "--name", router, "--socket", &socket, "--session-log", &log];
    let running = lab.start(router, &[&[program, "router"], &named[..]].concat());
    assert!(poll(10, || std::fs::exists(&socket).unwrap()), "the router does not start");
    lab.wait_for_paths(20);
    (running, log)
}

/// Each session leaves a line when it begins, and one that says how it ended.
#[test]
fn the_session_log_tells_how_sessions_began_and_ended() {
    let Some(lab) = Fabric::new(2).raise("sessionlog") else { return };
    let (router, log) = log_sessions(&lab, "branch");
    let rotated = format!("{log}.1");
    let lines = |file: &str| -> Vec<Value> {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    assert!(poll(10, || {
        page(&lab, SERVER[0]);
        lines(&log).iter().any(|line| line["event"] == "end")
    }));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&log).unwrap().permissions());
    assert_eq!(mode & 0o007, 0, "others may not read it");
    let first = lines(&log);
    let begun = first.iter().find(|line| line["event"] == "start" && line["service"] == "web").unwrap();
    let ended = first.iter().find(|line| line["event"] == "end" && line["service"] == "web").unwrap();
    assert_eq!((&begun["tenant"], &begun["router"]), (&json!("corp"), &json!("branch")), "{begun}");
    assert_eq!(ended["reason"], "closed", "{ended}");
    assert!(ended["forward"]["packets"].as_u64().unwrap() >= 4, "{ended}");
    assert!(ended["reverse"]["bytes"].as_u64().unwrap() > 100, "{ended}");
    // Rotation: the file is renamed, and what comes next is in a new one.
    std::fs::rename(&log, &rotated).unwrap();
    assert!(poll(15, || {
        ping(&lab, SERVER[0]);
        lines(&log).iter().any(|line| line["event"] == "start")
    }));
    assert!(lines(&rotated).len() >= first.len());
    router.interrupt();
}

/// What somebody gets who is to help: everything that is shown, and no key.
#[test]
fn a_support_bundle_has_what_is_shown_and_no_keys() {
    let Some(lab) = Fabric::new(2).raise("bundle") else { return };
    page(&lab, SERVER[0]);
    let (bundle, out) = (lab.path("bundle.tar.gz"), lab.path("unpacked"));
    fairway(&["support-bundle", "--socket", &lab.socket("branch"), "-o", &bundle]).ok();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&bundle).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "nobody else may read it");
    let unpack = format!("mkdir -p {out} && tar -xzf {bundle} -C {out}");
    lab.run("client", &["bash", "-c", &unpack]).ok();
    let read = |name: &str| std::fs::read_to_string(format!("{out}/fairway-support/{name}")).unwrap();
    let status: Value = serde_json::from_str(&read("show/status.json")).unwrap();
    assert!(status.to_string().contains("branch"));
    assert!(read("show/sessions.json").contains("10.2.0.10"));
    assert!(read("configuration.json").contains("fairway:authority"));
    assert!(read("machine/proc-version").contains("Linux"));
    // No key file's content is in it, in any form that it is kept in.
    let everything = format!("cat $(find {out} -type f)");
    let everything = lab.run("client", &["bash", "-c", &everything]).ok().stdout;
    for key in std::fs::read_dir(lab.path("keys")).unwrap().flatten() {
        let text = std::fs::read_to_string(key.path()).unwrap();
        let secret = text.lines().find(|line| !line.starts_with('#')).unwrap().trim().to_owned();
        assert!(secret.len() >= 44 && !everything.contains(&secret), "{:?} is in the bundle", key.path());
    }
    // A router that is down leaves its part out, and nothing else.
    lab.end_router("branch", "-TERM");
    let config = lab.path("config.json");
    let done =
        fairway(&["support-bundle", "--socket", &lab.socket("branch"), "--config", &config, "-o", &bundle]);
    assert!(done.text().contains("does not answer"), "{}", done.text());
}
