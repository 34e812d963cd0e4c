//! A stranger on the WAN, who is no peer.

use crate::fabric::Fabric;
use crate::lab::Lab;
use crate::programs::ssh_options;

/// The waypoints of router branch.
const WAYPOINTS: [&str; 2] = ["172.16.1.1", "fd00:101::1"];

/// What nmap says of ports, in its form for programs.
fn nmap(lab: &Lab, to: &str, ports: &str, kind: &str) -> String {
    let mut command = vec!["nmap", "-n", "-Pn", "-T4", "--max-retries", "0", "--min-rate", "500", "-oG", "-"];
    command.extend([kind, "-p", ports]);
    if to.contains(':') {
        command.push("-6");
    }
    command.push(to);
    lab.run("stranger", &command).ok().stdout
}

#[test]
fn waypoint_ports_answer_no_stranger() {
    let Some(lab) = Fabric::new(2).with_stranger().with_router_shell().raise("scan") else { return };
    let before = lab.drops();
    let mut scanned = 0;
    for to in WAYPOINTS {
        let tcp = nmap(&lab, to, "16384-16483,65500-65534", "-sS");
        assert!(tcp.contains("Ignored State: filtered (135)"), "{tcp}");
        let udp = nmap(&lab, to, "16384-16433", "-sU");
        assert!(udp.contains("Ignored State: open|filtered (50)"), "{udp}");
        scanned += 135 + 50;
    }
    let moved = lab.moved(&before);
    assert!(moved["branch unknown-waypoint"] >= scanned, "{moved:?}");
    lab.assert_moved(&before, &["branch unknown-waypoint"]);
    assert!(lab.sessions("branch", &[]).is_empty());
}

#[test]
fn the_host_of_a_router_stays_the_kernels() {
    let Some(lab) = Fabric::new(2).with_stranger().with_router_shell().raise("host") else { return };
    let before = lab.drops();
    let options = ssh_options(&lab, "branch");
    for to in WAYPOINTS {
        let ping = lab.run("stranger", &["ping", "-c", "2", "-i", "0.1", "-W", "2", to]).ok();
        assert!(ping.stdout.contains(" 0% packet loss"), "{}", ping.text());
        let command: Vec<&str> =
            ["ssh"].into_iter().chain(options.iter().map(String::as_str)).chain([to, "echo in"]).collect();
        assert_eq!(lab.run("stranger", &command).ok().stdout, "in\n");
        let ports = nmap(&lab, to, "22,8081", "-sS");
        assert!(ports.contains("22/open/tcp") && ports.contains("8081/closed/tcp"), "{ports}");
    }
    lab.assert_moved(&before, &[]);
}
