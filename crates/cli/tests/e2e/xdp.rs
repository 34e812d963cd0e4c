//! The fabric by AF_XDP: programs notice nothing, and the host keeps what is its own.

use serde_json::{Value, json};

use crate::fabric::{Fabric, SERVER};
use crate::lab::{Lab, poll};
use crate::programs::{all, ping, ssh_options};

/// How each interface of a router exchanges frames with the kernel.
fn methods(lab: &Lab, router: &str) -> Vec<Value> {
    lab.show(router, &["interfaces"]).as_array().unwrap().iter().map(|one| one["io"].clone()).collect()
}

/// Two routers by AF_XDP, on links without offloads.
fn fabric(workers: u8) -> Fabric {
    let off = json!({ "offload": "off" });
    let fabric = Fabric::new(2).with_router_shell().by_xdp().workers(&[("branch", workers), ("dc", workers)]);
    ["lan", "guests", "servers", "wan1"]
        .into_iter()
        .fold(fabric, |fabric, link| fabric.link(link, off.clone()))
}

#[test]
fn programs_notice_nothing_of_xdp() {
    for workers in [1, 2] {
        let Some(lab) = fabric(workers).raise("xdp") else { return };
        for router in ["branch", "dc"] {
            assert!(methods(&lab, router).iter().all(|method| method == "xdp-native"), "{router}");
        }
        let before = lab.drops();
        SERVER.iter().for_each(|to| all(&lab, to));
        // The router's own host: its kernel answers ARP and pings, its programs are reached.
        ping(&lab, "10.1.0.1");
        let options = ssh_options(&lab, "branch").join(" ");
        let command = format!("ssh {options} 10.1.0.1 echo from the router");
        assert_eq!(lab.run("client", &["bash", "-c", &command]).ok().stdout, "from the router\n");
        lab.assert_moved(&before, &[]);
    }
}

#[test]
fn a_confined_router_gets_its_devices_and_its_sessions_back() {
    let Some(lab) = fabric(2).raise("xdp-back") else { return };
    ping(&lab, SERVER[0]);
    // The device goes, and keeps its settings on its way back.
    let namespace = |node: &str| format!("{}-{node}", lab.name);
    lab.run("branch", &["ip", "link", "set", "lan", "netns", &namespace("guest")]).ok();
    let lan = || {
        let all = lab.show("branch", &["interfaces"]);
        all.as_array().unwrap().iter().find(|one| one["name"] == "lan").unwrap()["io"].clone()
    };
    assert!(poll(10, || lan().is_null()), "the device is gone: {}", lan());
    lab.run("guest", &["ip", "link", "set", "lan", "netns", &namespace("branch")]).ok();
    lab.run("branch", &["ip", "link", "set", "lan", "up"]).ok();
    lab.run("branch", &["ip", "address", "add", "10.1.0.1/24", "dev", "lan"]).ok();
    let answers = || lab.run("client", &["ping", "-c", "1", "-W", "1", SERVER[0]]).code == 0;
    assert!(poll(10, answers), "nothing crosses after the device was away");
    assert!(methods(&lab, "branch").iter().all(|method| method == "xdp-native"));
    lab.end_router("branch", "-KILL");
    let attached = lab.run("branch", &["ip", "link", "show", "lan"]).ok().stdout;
    assert!(!attached.contains("prog/xdp"), "{attached}");
    lab.start_router("branch");
    lab.wait_for_paths(20);
    assert!(methods(&lab, "branch").iter().all(|method| method == "xdp-native"));
    ping(&lab, SERVER[0]);
}
