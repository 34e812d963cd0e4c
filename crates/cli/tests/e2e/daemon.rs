//! The router as a process: who may talk to it, what it may do, and what it leaves behind.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

use serde_json::json;

use crate::fabric::{Fabric, SERVER, named};
use crate::lab::{Lab, poll};
use crate::programs::ping;

/// Capabilities a router has no use for once it runs, by their bits (capability.h).
const FORBIDDEN: [(u32, &str); 8] = [
    (1, "dac_override"),
    (2, "dac_read_search"),
    (6, "setgid"),
    (7, "setuid"),
    (16, "sys_module"),
    (17, "sys_rawio"),
    (19, "sys_ptrace"),
    (21, "sys_admin"),
];

#[test]
fn a_router_is_closed_to_others_and_drops_what_it_does_not_need() {
    let Some(lab) = Fabric::new(2).raise("daemon") else { return };
    for router in lab.routers() {
        let socket = fs::metadata(lab.socket(&router)).unwrap();
        assert!(socket.file_type().is_socket());
        assert_eq!(socket.mode() & 0o007, 0, "others may not talk to {router}: {:o}", socket.mode());
        assert_eq!(socket.uid(), 0);
        let status = fs::read_to_string(format!("/proc/{}/status", lab.pid(&router))).unwrap();
        for set in ["CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"] {
            let line = status.lines().find(|line| line.starts_with(set)).unwrap();
            let bits = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
            let kept: Vec<&str> =
                FORBIDDEN.iter().filter(|(bit, _)| bits >> bit & 1 == 1).map(|(_, name)| *name).collect();
            assert!(kept.is_empty() || set == "CapBnd", "{router} keeps {kept:?} in {line}");
        }
        assert!(status.contains("NoNewPrivs:\t1"), "{router} could gain privileges");
        let line = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().map(|word| word.parse::<u32>().unwrap()).collect::<Vec<_>>()
        };
        for ids in [line("Uid:"), line("Gid:")] {
            assert!(ids.len() == 4 && !ids.contains(&0), "{router} is root in part: {ids:?}");
        }
        assert_eq!(line("Groups:"), [] as [u32; 0], "{router} is in other groups");
    }
}

/// The process that opens files for a router, if it runs.
fn file_server(router: u32) -> Option<u32> {
    fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t"))?.parse::<u32>();
        (parent == Ok(router)).then_some(pid)
    })
}

#[test]
fn all_threads_are_limited_to_the_calls_of_a_router_and_nobody_looks_into_them() {
    let Some(lab) = Fabric::new(2).raise("confined") else { return };
    let router = lab.pid("branch");
    let files = file_server(router).expect("a process opens files");
    // A client of the API has a thread, too.
    let idle = std::os::unix::net::UnixStream::connect(lab.socket("branch")).unwrap();
    let threads = || fs::read_dir(format!("/proc/{router}/task")).unwrap().flatten().count();
    assert!(poll(5, || threads() >= 4), "{} threads", threads());
    for process in [router, files] {
        for thread in fs::read_dir(format!("/proc/{process}/task")).unwrap().flatten() {
            let status = fs::read_to_string(thread.path().join("status")).unwrap();
            assert!(status.contains("Seccomp:\t2\n"), "a thread may make any system call: {status}");
            assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
        }
        let limits = fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
        let owner = fs::metadata(format!("/proc/{process}/status")).unwrap().uid();
        assert_eq!(owner, 0, "a process of the same user may look into it");
    }
    drop(idle);
    // Whoever is the same user may not, either.
    let user = fs::metadata(format!("/proc/{router}")).unwrap().uid().to_string();
    for file in ["mem", "environ", "maps", "fd/0"] {
        let file = format!("/proc/{router}/{file}");
        let command = ["setpriv", "--reuid", &user, "--clear-groups", "head", "-c1", &file];
        let done = lab.run("client", &command);
        assert!(done.code != 0 && done.text().contains("Permission denied"), "{file}: {}", done.text());
    }
}

#[test]
fn keys_and_configuration_of_root_alone_are_read_again() {
    let Some(lab) = Fabric::new(2).raise("rootfiles") else { return };
    let key = lab.path("keys/branch--dc.key");
    fs::set_permissions(lab.path("config.json"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(lab.path("keys"), fs::Permissions::from_mode(0o700)).unwrap();
    ping(&lab, SERVER[0]);
    for _ in 0..2 {
        fs::remove_file(&key).unwrap();
        crate::lab::fairway(&["key", "generate", &key]).ok();
        let file = fs::metadata(&key).unwrap();
        assert_eq!((file.uid(), file.mode() & 0o777), (0, 0o600));
        for router in lab.routers() {
            lab.reload(&router).ok();
        }
        works(&lab);
    }
    // The keys differ now: what was read is what is in the file.
    fs::remove_file(&key).unwrap();
    crate::lab::fairway(&["key", "generate", &key]).ok();
    lab.reload("branch").ok();
    let down = || lab.show("branch", &["status"])["paths_up"] == 0;
    assert!(poll(20, down), "the paths are up with different keys");
    lab.reload("dc").ok();
    works(&lab);
}

#[track_caller]
fn works(lab: &Lab) {
    let answered = || lab.run("client", &["ping", "-c", "1", "-W", "1", SERVER[0]]).code == 0;
    assert!(poll(20, answered), "no ping");
}

/// A device for the host needs /dev/net/tun, and ephemeral ports a file of root in /proc.
#[test]
fn a_router_that_is_not_root_gets_new_devices_and_moves_ports() {
    let Some(lab) = Fabric::new(2).raise("newdevices") else { return };
    let range = || lab.run("branch", &["cat", "/proc/sys/net/ipv4/ip_local_port_range"]).ok().stdout;
    assert_eq!(range(), "2048\t16383\n");
    lab.configure(|authority| {
        let branch = named(&mut authority["router"], "branch");
        branch["host-interface"] = json!([{
            "name": "own", "device": "fairway0", "tenant": "corp",
            "address": [{ "ip-address": "10.9.0.1", "prefix-length": 32 }],
        }]);
        let wan = named(&mut branch["node"][0]["device-interface"], "wan1");
        let ports = json!({ "start-port": 20000, "end-port": 65534 });
        wan["network-interface"][0]["neighborhood"][0]["port-range"] = ports;
    });
    lab.reload("branch").ok();
    let device = lab.run("branch", &["ip", "address", "show", "dev", "fairway0"]).ok();
    assert!(device.stdout.contains("10.9.0.1"), "{}", device.text());
    // Other waypoints: the range is given back and moved again.
    let log = fs::read_to_string(lab.path("branch/router.log")).unwrap();
    assert!(log.contains("restored the host's ephemeral ports") && !log.contains("could not be"), "{log}");
    assert_eq!(range(), "2048\t16383\n");
}

#[test]
fn a_killed_router_leaves_neither_its_socket_nor_a_process() {
    let Some(lab) = Fabric::new(2).raise("killed") else { return };
    let files = file_server(lab.pid("branch")).expect("a process opens files");
    lab.end_router("branch", "-KILL");
    assert!(poll(5, || !fs::exists(lab.socket("branch")).unwrap()), "the socket is left behind");
    let gone = || fs::read_to_string(format!("/proc/{files}/stat")).map_or(true, |stat| stat.contains(") Z"));
    assert!(poll(5, gone), "the process that opens files is left behind");
}

#[test]
fn a_router_that_is_ended_leaves_nothing_and_starts_again() {
    let Some(lab) = Fabric::new(2).raise("ended") else { return };
    ping(&lab, SERVER[0]);
    lab.end_router("branch", "-TERM");
    assert!(!fs::exists(lab.socket("branch")).unwrap(), "the socket is left behind");
    lab.start_router("branch");
    lab.wait_for_paths(20);
    works(&lab);
}
