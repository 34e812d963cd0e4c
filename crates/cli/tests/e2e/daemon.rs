//! The router as a process: who may talk to it, what it may do, and what it leaves behind.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use crate::fabric::{Fabric, SERVER};
use crate::lab::poll;
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
    }
}

#[test]
fn a_router_that_is_ended_leaves_nothing_and_starts_again() {
    let Some(lab) = Fabric::new(2).raise("ended") else { return };
    ping(&lab, SERVER[0]);
    lab.end_router("branch", "-TERM");
    assert!(!fs::exists(lab.socket("branch")).unwrap(), "the socket is left behind");
    lab.start_router("branch");
    lab.wait_for_paths(20);
    let works = || lab.run("client", &["ping", "-c", "1", "-W", "1", SERVER[0]]).code == 0;
    assert!(poll(10, works), "no ping after the restart of branch");
}
