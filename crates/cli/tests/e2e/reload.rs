//! Configurations that change while sessions run.

use std::fs;

use serde_json::{Value, json};

use crate::fabric::{Fabric, SERVER, named};
use crate::lab::{Lab, poll};
use crate::programs::{downloader, iperf, ping, ssh_options, url};

/// A change that leaves every session allowed: a service more, a description, another rate.
fn harmless(authority: &mut Value, number: usize) {
    authority["description"] = format!("version {number}").into();
    let services = authority["service"].as_array_mut().unwrap();
    services.retain(|service| service["name"] != "more");
    if number % 2 == 1 {
        let more =
            json!({ "name": "more", "address": ["10.9.0.0/16"], "access-policy": [{ "source": "corp" }] });
        services.push(more);
    }
}

/// The sessions of router branch.
fn uuids(lab: &Lab) -> Vec<Value> {
    lab.sessions("branch", &[]).iter().map(|session| session["uuid"].clone()).collect()
}

#[test]
fn reloading_under_load_loses_nothing() {
    let Some(lab) = Fabric::new(2).raise("load") else { return };
    let most = iperf(&lab, SERVER[0], &["-u", "-b", "0", "-l", "200", "-t", "2"]);
    let sum = &most["sum"];
    let received = sum["packets"].as_f64().unwrap() - sum["lost_packets"].as_f64().unwrap();
    let capacity = received / sum["seconds"].as_f64().unwrap();
    let rate = capacity / 2.0;
    eprintln!("capacity about {capacity:.0} datagrams a second; load {rate:.0}");

    // The server of the next run would take what is left of this one for its client.
    lab.settle();
    let (drops, overrun, overflown) = (lab.drops(), lab.overruns(), lab.socket_overflows());
    let bits = format!("{:.0}", rate * 200.0 * 8.0);
    let old = uuids(&lab);
    let load =
        lab.start("client", &["iperf3", "-J", "-c", SERVER[0], "-u", "-b", &bits, "-l", "200", "-t", "8"]);
    let session = || {
        let sessions = lab.sessions("branch", &["--protocol", "udp", "--port", "5201"]);
        sessions.iter().map(|session| session["uuid"].clone()).find(|uuid| !old.contains(uuid))
    };
    assert!(poll(10, || session().is_some()), "the load does not begin");
    let uuid = session();
    for number in 1..=20 {
        lab.configure(|authority| harmless(authority, number));
        for router in lab.routers() {
            let answer = lab.reload(&router).ok().json();
            assert!(answer.to_string().contains("\"sessions_removed\":0"), "{answer}");
        }
    }
    assert_eq!(session(), uuid, "the session is another one");
    let end = load.wait(30).ok().json()["end"].clone();
    lab.assert_moved(&drops, &[]);
    assert_eq!(lab.overruns() - overrun, 0, "packets lost in front of the routers");
    let (lost, overflown) =
        (end["sum"]["lost_packets"].as_u64().unwrap(), lab.socket_overflows() - overflown);
    eprintln!(
        "{} datagrams, {lost} lost, {overflown} of them in the socket of iperf3",
        end["sum"]["packets"]
    );
    assert_eq!(lost.saturating_sub(overflown), 0, "lost where nobody counts: {}", end["sum"]);
    assert_eq!(lab.show("branch", &["status"])["configuration"]["reloads"], 20);
}

#[test]
fn access_that_is_withdrawn_ends_exactly_those_sessions() {
    let Some(lab) = Fabric::new(3).raise("withdrawn") else { return };
    let command = downloader(SERVER[0], "20m", "--limit-rate 500k --max-time 60");
    let mut download = lab.start("client", &["bash", "-c", &command]);
    let options = ssh_options(&lab, "server");
    let lines = "for i in $(seq 1 30); do echo line $i; sleep 0.2; done";
    let words: Vec<&str> =
        ["ssh"].into_iter().chain(options.iter().map(String::as_str)).chain([SERVER[1], lines]).collect();
    let shell = lab.start("client", &words);
    let of = |service: &str| lab.sessions("branch", &["--service", service, "--protocol", "tcp"]).len();
    assert!(poll(10, || of("web") == 1 && of("servers") == 1), "the sessions did not begin");

    lab.configure(|authority| {
        named(&mut authority["service"], "web")["access-policy"] =
            json!([{ "source": "corp", "permission": "deny" }]);
    });
    let before = lab.drops();
    for router in lab.routers() {
        let answer = lab.reload(&router).ok().json();
        eprintln!("{router}: {answer}");
    }
    assert_eq!((of("web"), of("servers")), (0, 1));
    // A client that waits for data may have nothing to send for long; a new try has.
    let again = lab.run("client", &["curl", "-gsS", "--max-time", "2", &url(SERVER[0], "")]);
    assert_ne!(again.code, 0, "{}", again.text());
    let moved = || lab.moved(&before).contains_key("branch access-denied");
    assert!(poll(10, moved), "what still comes is denied: {:?}", lab.moved(&before));
    let expected: String = (1..=30).map(|i| format!("line {i}\n")).collect();
    assert_eq!(shell.wait(30).ok().stdout, expected, "the other session is not touched");
    assert!(download.runs() || download.wait(1).code != 0, "the download did not end well");
}

#[test]
fn a_broken_configuration_changes_nothing_and_says_why() {
    let Some(lab) = Fabric::new(2).raise("broken") else { return };
    ping(&lab, SERVER[0]);
    let before = uuids(&lab);
    lab.configure(|authority| {
        named(&mut authority["service"], "web")["access-policy"] = json!([{ "source": "nobody" }]);
        authority["colour"] = "blue".into();
    });
    let refused = lab.reload("branch");
    assert_ne!(refused.code, 0);
    for word in ["nobody", "colour"] {
        assert!(refused.text().contains(word), "every fault is named: {}", refused.text());
    }
    assert_eq!(uuids(&lab), before);
    let status = lab.show("branch", &["status"]);
    assert_ne!(status["configuration"]["refused"], Value::Null, "{status}");
    ping(&lab, SERVER[1]);
    // A file that is no JSON at all.
    fs::write(lab.path("config.json"), "{").unwrap();
    let refused = lab.reload("branch");
    assert!(refused.code != 0 && refused.text().contains("not a JSON document"), "{}", refused.text());
    ping(&lab, SERVER[0]);
}

#[test]
fn a_hundred_reloads_leave_nothing_behind() {
    let Some(lab) = Fabric::new(2).raise("hundred") else { return };
    ping(&lab, SERVER[0]);
    let pid = lab.pid("branch");
    let size = || {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        let number = |line: String| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap();
        (files, number(line("Threads")), number(line("VmRSS")))
    };
    let reload = |number| {
        lab.configure(|authority| harmless(authority, number));
        lab.reload("branch").ok();
    };
    (0..10).for_each(reload);
    let (files, threads, memory) = size();
    (0..100).for_each(reload);
    let flat = || {
        let (files_now, threads_now, memory_now) = size();
        // One that answered the last of the first ten may not have ended then.
        files_now <= files && threads_now <= threads && memory_now < memory + 2048
    };
    assert!(poll(5, flat), "files, threads, kB were {:?}, are {:?}", (files, threads, memory), size());
    eprintln!("files, threads, kB: {:?}, after 100 reloads {:?}", (files, threads, memory), size());
    assert_eq!(lab.show("branch", &["status"])["configuration"]["reloads"], 110);
    ping(&lab, SERVER[0]);
}
