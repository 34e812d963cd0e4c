//! Established plain sessions in the kernel: everything is as it is with workers.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fabric::{Fabric, SERVER, named};
use crate::lab::{Background, Lab, fairway, pass, poll};
use crate::programs::{download, downloader, hash, iperf, ssh_options, url};

/// What forwards in the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The program at tc.
    Stack,
    /// The program for XDP.
    Driver,
}

impl Way {
    /// Both, if the environment does not say that all is to be by AF_XDP.
    fn all() -> &'static [Self] {
        match std::env::var("FAIRWAY_TEST_IO").as_deref() {
            Ok("xdp") => &[Self::Driver],
            _ => &[Self::Stack, Self::Driver],
        }
    }
}

/// Hosts, and their devices, which have the names of their links.
const HOSTS: [(&str, &str); 3] = [("client", "lan"), ("guest", "guests"), ("server", "servers")];

/// A fabric whose payload nobody seals.
fn raise(routers: usize, way: &Way, name: &str) -> Option<Lab> {
    let plain = plain(routers);
    if *way == Way::Stack {
        return plain.raise(name);
    }
    let lab = by_xdp(routers, plain).raise(name)?;
    // What XDP sends to a veth is only heard where the other end polls.
    for (host, device) in HOSTS {
        lab.run(host, &["ethtool", "-K", device, "gro", "on"]).ok();
    }
    Some(lab)
}

/// The same by AF_XDP, which wants links without offloads.
fn by_xdp(routers: usize, fabric: Fabric) -> Fabric {
    let links: &[&str] = if routers == 2 { &["wan1"] } else { &["wan1", "wan2"] };
    let off = |fabric: Fabric, link: &&str| fabric.link(link, json!({ "offload": "off" }));
    HOSTS.iter().map(|(_, link)| link).chain(links).fold(fabric.by_xdp(), off)
}

/// A fabric whose payload nobody seals, with the default offloads.
pub fn plain(routers: usize) -> Fabric {
    Fabric::new(routers).config(|authority| {
        let policy = json!({ "name": "default", "encrypt": false, "hmac-mode": "disabled" });
        authority["security"] = json!([policy]);
    })
}

/// Lets sessions stay in the kernel of all routers, or not.
#[track_caller]
pub fn switch(lab: &Lab, state: &str) {
    for router in lab.routers() {
        fairway(&["offload", state, "--socket", &lab.socket(&router)]).ok();
    }
}

/// The sessions of a router to a port that are forwarded by `what`.
pub fn forwarded_by(lab: &Lab, router: &str, port: &str, what: &str) -> Vec<Value> {
    let mut sessions = lab.sessions(router, &["--port", port]);
    sessions.retain(|session| session["forwarded_by"] == what);
    sessions
}

pub fn count(lab: &Lab, router: &str, name: &str) -> u64 {
    let counters = lab.show(router, &["counters"]);
    let counter = counters.as_array().unwrap().iter().find(|counter| counter["name"] == name);
    counter.and_then(|counter| counter["value"].as_u64()).unwrap_or(0)
}

/// A download that takes some seconds, at work in the kernel of all routers.
fn slow_download(lab: &Lab, to: &str) -> Background {
    let command = downloader(to, "20m", "--limit-rate 3M --max-time 60");
    let download = lab.start("client", &["bash", "-c", &command]);
    let there = || lab.routers().iter().all(|router| !forwarded_by(lab, router, "80", "kernel").is_empty());
    assert!(poll(10, there), "the download is not in the kernel");
    download
}

#[test]
fn files_arrive_by_the_kernel_and_by_workers() {
    for way in Way::all() {
        let Some(lab) = raise(3, way, "kernel-files") else { return };
        let before = lab.drops();
        for state in ["on", "off"] {
            switch(&lab, state);
            let earlier = count(&lab, "transit", "packets-offloaded");
            for to in SERVER {
                download(&lab, to, "20m");
                let options = ssh_options(&lab, "server").join(" ");
                let command = format!("ssh {options} {to} sha256sum < {}", lab.path("server/www/20m"));
                let done = lab.run("client", &["bash", "-c", &command]).ok();
                assert_eq!(done.stdout.split(' ').next(), Some(hash(&lab, "20m").as_str()));
            }
            let offloaded = count(&lab, "transit", "packets-offloaded") - earlier;
            // Twice there and back again, of about 14,000 segments each.
            assert_eq!(offloaded > 50_000, state == "on", "{state}: {offloaded}");
        }
        lab.assert_moved(&before, &[]);
    }
}

/// A stream of datagrams in the kernel of router branch, from the server to the client, who counts.
fn datagrams(lab: &Lab, seconds: &str) -> Background {
    let options = ["-J", "-c", SERVER[0], "-R", "-u", "-b", "40M", "-l", "500", "-t", seconds];
    let load = lab.start("client", &[&["iperf3"], &options[..]].concat());
    assert!(poll(10, || stream_in_kernel(lab, "branch")), "the stream is not in the kernel");
    load
}

/// Whether [`datagrams`] are in the kernel of a router.
fn stream_in_kernel(lab: &Lab, router: &str) -> bool {
    forwarded_by(lab, router, "5201", "kernel").iter().any(|session| session["protocol"] == "udp")
}

/// Waits until [`datagrams`] are over: none was lost or overtaken, but where iperf3 was too slow.
fn assert_all_came(load: Background, overflown: impl Fn() -> u64) {
    let end = load.wait(30).ok().json()["end"].clone();
    let stream = &end["streams"][0]["udp"];
    assert_eq!(stream["out_of_order"], 0, "{stream}");
    let overflown = overflown();
    assert!(stream["lost_packets"].as_u64().unwrap() <= overflown, "{stream}, {overflown} overflown");
}

#[test]
fn a_session_that_goes_to_and_fro_loses_and_turns_around_nothing() {
    for way in Way::all() {
        let Some(lab) = raise(2, way, "kernel-order") else { return };
        switch(&lab, "on");
        let (drops, overrun, overflown) = (lab.drops(), lab.overruns(), lab.socket_overflows());
        let load = datagrams(&lab, "8");
        for round in 0..12 {
            switch(&lab, if round % 2 == 0 { "off" } else { "on" });
            pass(Duration::from_millis(250));
        }
        assert!(poll(10, || stream_in_kernel(&lab, "branch")), "the stream is not in the kernel again");
        assert_all_came(load, || lab.socket_overflows() - overflown);
        assert_eq!(lab.overruns() - overrun, 0, "packets lost in front of the routers");
        lab.assert_moved(&drops, &[]);
        assert!(count(&lab, "branch", "packets-offloaded") > 20_000);
    }
}

#[test]
fn what_is_counted_in_the_kernel_is_shown() {
    for way in Way::all() {
        let Some(lab) = raise(2, way, "kernel-counts") else { return };
        switch(&lab, "on");
        let sum = iperf(&lab, SERVER[0], &["-t", "2"]);
        // What iperf3 has written last, it gives up with a reset.
        let sent = sum["sum_received"]["bytes"].as_u64().unwrap();
        for router in lab.routers() {
            let sessions = lab.sessions(&router, &["--port", "5201"]);
            let most =
                sessions.iter().filter_map(|session| session["forward"]["bytes"].as_u64()).max().unwrap();
            assert!(most > sent && most < sent / 10 * 12, "{router}: {most} of {sent}");
            // The connection is over, and workers have seen it.
            let left = forwarded_by(&lab, &router, "5201", "kernel");
            assert!(left.is_empty(), "{left:?}");
            let interfaces = lab.show(&router, &["interfaces"]);
            for interface in interfaces.as_array().unwrap().iter().filter(|one| one["name"] != "guests") {
                let [received, sent_on] =
                    ["received", "sent"].map(|way| interface[way]["bytes"].as_u64().unwrap());
                assert!(received + sent_on > sent, "{interface}");
            }
        }
    }
}

#[test]
fn access_that_is_withdrawn_ends_sessions_in_the_kernel_at_once() {
    for way in Way::all() {
        let Some(lab) = raise(2, way, "kernel-denied") else { return };
        switch(&lab, "on");
        let mut download = slow_download(&lab, SERVER[0]);
        lab.configure(|authority| {
            for service in ["web", "servers"] {
                named(&mut authority["service"], service)["access-policy"] = json!([]);
            }
        });
        lab.reload("branch").ok();
        assert_eq!(lab.sessions("branch", &["--port", "80"]), Vec::<Value>::new());
        let offloaded = count(&lab, "branch", "packets-offloaded");
        pass(Duration::from_secs(1));
        assert_eq!(count(&lab, "branch", "packets-offloaded"), offloaded);
        assert!(download.runs(), "it waits for what does not come any more");
    }
}

#[test]
fn a_reload_leaves_what_it_allows_in_the_kernel() {
    for way in Way::all() {
        let Some(lab) = raise(2, way, "kernel-reload") else { return };
        switch(&lab, "on");
        let (drops, overrun, overflown) = (lab.drops(), lab.overruns(), lab.socket_overflows());
        let load = datagrams(&lab, "8");
        for number in 0..5 {
            lab.configure(|authority| authority["description"] = format!("version {number}").into());
            for router in lab.routers() {
                let seen = |name: &str| count(&lab, &router, name);
                let before = seen("packets-offloaded");
                lab.reload(&router).ok();
                // It may be with a worker for a moment, since one that hears no answer is told of again.
                assert!(poll(5, || stream_in_kernel(&lab, &router)), "{router}");
                assert!(poll(5, || seen("packets-offloaded") > before), "{router}");
                assert_eq!(seen("offloads-changed"), 0, "{router}");
            }
        }
        // Another MTU is something else for the kernel to do.
        lab.configure(|authority| {
            let router = named(&mut authority["router"], "branch");
            let lan = named(&mut router["node"][0]["device-interface"], "lan");
            lan["network-interface"][0]["mtu"] = 1400.into();
        });
        lab.reload("branch").ok();
        assert!(poll(5, || count(&lab, "branch", "offloads-changed") > 0));
        assert!(poll(5, || stream_in_kernel(&lab, "branch")), "the stream is not in the kernel again");
        assert_all_came(load, || lab.socket_overflows() - overflown);
        assert_eq!(lab.overruns() - overrun, 0, "packets lost in front of the routers");
        lab.assert_moved(&drops, &[]);
    }
}

#[test]
fn a_killed_router_forwards_nothing_and_the_next_goes_on() {
    for way in Way::all() {
        let Some(lab) = raise(3, way, "kernel-killed") else { return };
        switch(&lab, "on");
        let wanted = hash(&lab, "20m");
        let download = slow_download(&lab, SERVER[0]);
        let received = || {
            let shown = lab.run("client", &["ip", "-s", "-j", "link", "show", "dev", "lan"]).ok().json();
            shown[0]["stats64"]["rx"]["bytes"].as_u64().unwrap()
        };
        lab.end_router("transit", "-KILL");
        let before = received();
        pass(Duration::from_secs(1));
        let more = received() - before;
        assert!(more < 5_000, "{more} bytes of a router that is dead");
        lab.start_router("transit");
        switch(&lab, "on");
        assert_eq!(download.wait(60).ok().stdout.trim(), wanted);
    }
}

#[test]
fn a_capture_sees_sessions_that_are_in_the_kernel() {
    for way in Way::all() {
        let Some(lab) = raise(2, way, "kernel-capture") else { return };
        switch(&lab, "on");
        let wanted = hash(&lab, "20m");
        let download = slow_download(&lab, SERVER[0]);
        let file = lab.path("branch/capture.pcapng");
        let socket = lab.socket("branch");
        let done =
            fairway(&["capture", "--write", &file, "--count", "200", "--seconds", "5", "--socket", &socket]);
        assert!(done.text().contains("200 packets"), "{}", done.text());
        assert_eq!(download.wait(60).ok().stdout.trim(), wanted);
    }
}

#[test]
fn a_next_hop_that_moves_is_followed() {
    for way in Way::all() {
        let Some(lab) = raise(2, way, "kernel-moves") else { return };
        switch(&lab, "on");
        let wanted = hash(&lab, "20m");
        let download = slow_download(&lab, SERVER[0]);
        lab.run("client", &["ip", "link", "set", "dev", "lan", "address", "02:00:00:00:77:01"]).ok();
        lab.run("client", &["ping", "-c", "1", "-W", "2", "10.1.0.1"]);
        let carried = || count(&lab, "branch", "packets-offloaded");
        let before = carried();
        assert!(poll(10, || carried() > before + 100), "the kernel goes on with the old link address");
        assert_eq!(count(&lab, "branch", "offloads-changed"), 0);
        assert_eq!(download.wait(60).ok().stdout.trim(), wanted);
        let page = lab.run("client", &["curl", "-gsS", "--max-time", "10", &url(SERVER[0], "")]).ok();
        assert!(page.stdout.contains("hello"));
    }
}

#[test]
fn why_the_kernel_does_not_take_a_session_is_shown_and_followed() {
    let Some(lab) = by_xdp(2, plain(2)).raise("kernel-refuses") else { return };
    switch(&lab, "on");
    let wanted = hash(&lab, "20m");
    let command = downloader(SERVER[0], "20m", "--limit-rate 2M --max-time 60");
    let download = lab.start("client", &["bash", "-c", &command]);
    let refused = || {
        let sessions = forwarded_by(&lab, "branch", "80", "worker");
        let why = |session: &Value| session["kernel_refused"].as_str().is_some_and(|why| why.contains("XDP"));
        sessions.iter().any(why)
    };
    assert!(poll(10, refused), "{:?}", lab.sessions("branch", &["--port", "80"]));
    assert!(count(&lab, "branch", "offloads-refused") > 0);
    lab.run("client", &["ethtool", "-K", "lan", "gro", "on"]).ok();
    let taken = || !forwarded_by(&lab, "branch", "80", "kernel").is_empty();
    assert!(poll(10, taken), "{:?}", lab.sessions("branch", &["--port", "80"]));
    // What the kernel would lose is not left to it.
    lab.run("client", &["ethtool", "-K", "lan", "gro", "off"]).ok();
    assert!(poll(10, refused), "{:?}", lab.sessions("branch", &["--port", "80"]));
    assert_eq!(download.wait(60).ok().stdout.trim(), wanted);
}
