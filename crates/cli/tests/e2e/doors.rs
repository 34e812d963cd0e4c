//! The devices by which packets come to workers: gone with the router, and made again when somebody deletes them.

use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

use crate::fabric::{Fabric, SERVER};
use crate::kernel::{forwarded_by, plain, switch};
use crate::lab::{Lab, fairway, pass, poll};
use crate::programs::{downloader, hash, ping};

/// The doors of a router, as the kernel lists them.
fn doors(lab: &Lab, router: &str) -> Vec<String> {
    let shown = lab.run(router, &["ip", "-brief", "link", "show", "type", "tun"]).ok().stdout;
    let names = shown.lines().filter_map(|line| line.split_whitespace().next());
    names.filter(|name| name.starts_with("fairway-")).map(str::to_owned).collect()
}

fn all_by_xdp() -> bool {
    std::env::var("FAIRWAY_TEST_IO").as_deref() == Ok("xdp")
}

#[test]
fn a_router_that_is_not_root_makes_a_deleted_door_again() {
    let fabric = Fabric::new(2).workers(&[("branch", 2), ("dc", 1)]);
    let Some(lab) = fabric.raise("doors-deleted") else { return };
    let wanted = hash(&lab, "20m");
    let before = lab.pid("branch");
    let command = downloader(SERVER[0], "20m", "--limit-rate 5M --max-time 60");
    let download = lab.start("client", &["bash", "-c", &command]);
    for done in ["del", "down"] {
        for router in lab.routers() {
            let count = if router == "branch" { 2 } else { 1 };
            assert_eq!(doors(&lab, &router).len(), count);
            for door in doors(&lab, &router) {
                let command: &[&str] = match done {
                    "del" => &["ip", "link", "del", &door],
                    _ => &["ip", "link", "set", &door, "down"],
                };
                lab.run(&router, command).ok();
            }
            let again = || doors(&lab, &router).len() == count;
            assert!(poll(5, again), "{router}: {:?}", doors(&lab, &router));
        }
        // Long before the silence of a peer would be noticed.
        let answered = || lab.run("client", &["ping", "-c", "1", "-W", "1", SERVER[0]]).code == 0;
        assert!(poll(2, answered), "no ping");
        ping(&lab, SERVER[1]);
    }
    assert_eq!(download.wait(60).ok().stdout.trim(), wanted);
    assert_eq!(lab.pid("branch"), before, "the same process");
    let log = fs::read_to_string(lab.path("branch/router.log")).unwrap();
    for device in ["fairway-0", "fairway-1"] {
        let told = |what: &str| log.lines().any(|line| line.contains(device) && line.contains(what));
        assert!(told("made again") && told("set up again"), "{log}");
    }
    assert!(!log.contains("receives nothing"), "{log}");
}

#[test]
fn a_door_that_cannot_be_made_again_is_told_of_until_it_can() {
    let Some(lab) = Fabric::new(2).workers(&[("branch", 1)]).raise("doors-taken") else { return };
    let says = |what: bool| {
        let text = fairway(&["show", "workers", "--socket", &lab.socket("branch")]).ok().stdout;
        let without = &lab.show("branch", &["workers"])["workers"][0]["without_door"];
        *without == what && text.contains("worker 0 receives nothing") == what
    };
    assert!(says(false));
    // The router would have it back at once.
    let pid = lab.pid("branch");
    let take = "ip link del fairway-0 && ip link add fairway-0 type veth peer name other";
    let command = format!("kill -STOP {pid}; {take}; code=$?; kill -CONT {pid}; exit $code");
    lab.run("branch", &["bash", "-c", &command]).ok();
    assert!(poll(5, || says(true)));
    assert_ne!(lab.run("client", &["ping", "-c", "1", "-W", "1", SERVER[0]]).code, 0);
    lab.run("branch", &["ip", "link", "del", "fairway-0"]).ok();
    assert!(poll(5, || says(false)));
    lab.wait_for_paths(20);
    ping(&lab, SERVER[0]);
}

#[test]
fn no_door_is_left_by_a_router_that_has_ended() {
    let Some(lab) = Fabric::new(2).workers(&[("branch", 3)]).raise("doors-left") else { return };
    for signal in ["-TERM", "-KILL"] {
        for _ in 0..2 {
            // The socket of a router that was killed is there before the next one is.
            let all = || doors(&lab, "branch") == ["fairway-0", "fairway-1", "fairway-2"];
            assert!(poll(5, all), "{:?}", doors(&lab, "branch"));
            lab.end_router("branch", signal);
            let left = || doors(&lab, "branch").is_empty();
            assert!(poll(2, left), "{signal}: {:?}", doors(&lab, "branch"));
            lab.start_router("branch");
        }
    }
    lab.end_router("branch", "-TERM");
    let done = lab.run("branch", &[env!("CARGO_BIN_EXE_fairway"), "release"]);
    assert!(done.code == 0 && !done.text().contains("fairway-"), "{}", done.text());
    assert!(doors(&lab, "branch").is_empty());
    lab.start_router("branch");
    lab.wait_for_paths(20);
    ping(&lab, SERVER[0]);
}

/// Answers some of the datagrams that come. Once none has for a second, prints how many came and when the last did.
const LAST: &str = "
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', 9000)); s.settimeout(1)
s.sendto(b'begin', (sys.argv[1], 9000))
count, last = 0, 0
try:
    while True:
        s.recv(2000); last = time.time_ns(); count += 1
        if count % 64 == 0: s.sendto(b'more', (sys.argv[1], 9000))
except TimeoutError:
    print(count, last)
";

/// Answers a datagram with as many as go, for seven seconds.
const SOURCE: &str = "
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('', 9000))
_, to = s.recvfrom(100)
end = time.monotonic() + 7
while time.monotonic() < end:
    try: s.sendto(b'x' * 100, to)
    except OSError: pass
";

#[test]
fn a_flow_in_full_flight_ends_with_its_router() {
    if all_by_xdp() {
        return;
    }
    let Some(lab) = plain(2).raise("doors-killed") else { return };
    switch(&lab, "on");
    ping(&lab, SERVER[0]);
    let source = lab.start("server", &["python3", "-c", SOURCE]);
    pass(Duration::from_millis(500));
    let sink = lab.start("client", &["python3", "-c", LAST, SERVER[0]]);
    let stays = |router: &String| !forwarded_by(&lab, router, "9000", "kernel").is_empty();
    assert!(poll(4, || lab.routers().iter().all(stays)), "the stream is not in the kernel of both");
    let router = lab.pid("branch").to_string();
    let killed = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert!(Command::new("kill").args(["-KILL", &router]).status().unwrap().success());
    let seen = sink.wait(20).ok().stdout;
    drop(source);
    let mut seen = seen.split_whitespace().map(|word| word.parse::<u64>().unwrap());
    let (count, last) = (seen.next().unwrap(), seen.next().unwrap());
    let last = Duration::from_nanos(last);
    let (late, early) = (last.saturating_sub(killed), killed.saturating_sub(last));
    eprintln!("the last of {count} datagrams came {late:?} after the signal was sent");
    assert!(count > 1000 && early < Duration::from_millis(500), "{count}, {early:?} before the end");
    // A heart that does not beat any more is noticed after three seconds.
    assert!(late < Duration::from_secs(1), "{late:?}");
}
