//! A router on a stick: LANs and a WAN are VLANs of one device, which the kernel knows nothing about.
//!
//! ```text
//! client ──access, VLAN 10──┐
//! guest  ──access, VLAN 20── switch ══trunk══ branch
//! dc     ──access, VLAN 30──┘
//! ```
//! and behind dc the server. The switch is a program of its own, which the tests bring along.

use serde_json::{Value, json};

use crate::fabric::{Fabric, SERVER, named};
use crate::lab::{Lab, fairway, poll};
use crate::programs;

/// A switch: frames of access ports get their tag on the trunk, and lose it on the way back.
const SWITCH: &str = "
import select, socket, struct, sys
def port(device):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    s.setsockopt(263, 8, 1)   # PACKET_AUXDATA
    s.setsockopt(263, 23, 1)  # PACKET_IGNORE_OUTGOING
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    s.bind((device, 0))
    return s
trunk = port(sys.argv[1])
access = {int(tag): port(device) for device, tag in (word.split('=') for word in sys.argv[2:])}
tags = {s: tag for tag, s in access.items()}
while True:
    for s in select.select([trunk, *tags], [], [])[0]:
        frame, controls, _, _ = s.recvmsg(70000, 64)
        tag = 0
        for _, _, data in controls:
            status, _, _, _, _, tci, _ = struct.unpack('IIIHHHH', data[:20])
            tag = tci & 0xfff if status & 0x10 else 0
        try:
            if s is not trunk and tag == 0:
                trunk.send(frame[:12] + struct.pack('!HH', 0x8100, tags[s]) + frame[12:])
            elif s is trunk and tag in access:
                access[tag].send(frame)
        except OSError as error:
            print(error, file=sys.stderr)
";

/// The fabric of two routers, with a switch in front of branch.
fn fabric() -> Fabric {
    let off = json!({ "offload": "off" });
    let fabric = ["lan", "guests", "wan1", "trunk"]
        .into_iter()
        .fold(Fabric::new(2), |fabric, link| fabric.link(link, off.clone()));
    let switch = json!({
        "interfaces": { "lan": {}, "guests": {}, "wan1": {}, "trunk": {} },
        "files": { "switch.py": SWITCH },
        "services": {
            "switch": { "command": "exec python3 {dir}/switch.py trunk lan=10 guests=20 wan1=30" },
        },
    });
    let addressless = json!({ "interfaces": { "trunk": {} } });
    fabric.host("switch", switch).router("branch", addressless).config(|authority| {
        let node = &mut named(&mut authority["router"], "branch")["node"][0];
        let devices = std::mem::take(&mut node["device-interface"]);
        let tag = |name: &str| match name {
            "lan" => 10,
            "guests" => 20,
            _ => 30,
        };
        let interfaces: Vec<Value> = devices
            .as_array()
            .unwrap()
            .iter()
            .map(|device| {
                let mut interface = device["network-interface"][0].clone();
                interface["vlan"] = tag(interface["name"].as_str().unwrap()).into();
                interface
            })
            .collect();
        node["device-interface"] = json!([{ "name": "trunk", "network-interface": interfaces }]);
    })
}

fn interface(lab: &Lab, name: &str) -> Value {
    let interfaces = lab.show("branch", &["interfaces"]);
    interfaces.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone()
}

#[test]
fn lans_and_a_wan_on_tags_that_the_kernel_does_not_know_carry_all_programs() {
    let Some(lab) = fabric().raise("vlans") else { return };
    let before = lab.drops();
    for to in SERVER {
        programs::ping(&lab, to);
        programs::page(&lab, to);
        programs::download(&lab, to, "1m");
        programs::lookup(&lab, to, &["+notcp"]);
        let greeting = programs::shell(&lab, to, "echo from $SSH_CONNECTION").stdout;
        assert!(greeting.starts_with("from "), "{greeting}");
    }
    // The router's own addresses answer, though the kernel does not have them.
    for own in ["10.1.0.1", "fd00:1::1"] {
        programs::ping(&lab, own);
    }
    lab.assert_moved(&before, &[]);
    let shown = interface(&lab, "lan");
    assert_eq!(
        (&shown["device"], &shown["vlan"], &shown["tagged"]),
        (&json!("trunk"), &json!(10), &json!(true))
    );
    assert_eq!((&shown["mtu_bytes"], &shown["missing_addresses"]), (&json!(1500), &json!([])));
    assert!(shown["link"]["answered"].as_u64().unwrap() >= 2, "{shown}");
    let text = fairway(&["show", "interfaces", "--socket", &lab.socket("branch")]).ok().stdout;
    assert!(text.contains("trunk tag 30"), "{text}");
    a_capture_has_the_tags(&lab);
    // The guest's VLAN is the guest's tenant.
    let denied = lab.run("guest", &["curl", "-gsS", "--max-time", "2", &programs::url(SERVER[0], "")]);
    assert_ne!(denied.code, 0);
    assert!(lab.moved(&before).contains_key("branch access-denied"), "{:?}", lab.moved(&before));
}

/// Sessions and what Fairway says on the link itself are captured as they are on the wire.
fn a_capture_has_the_tags(lab: &Lab) {
    let (file, socket) = (lab.path("lan.pcapng"), lab.socket("branch"));
    let capture = ["capture", "--interface", "lan", "--count", "30", "--seconds", "15", "-w", &file];
    let arguments = [&capture[..], &["--socket", &socket]].concat();
    std::thread::scope(|scope| {
        let capturing = scope.spawn(|| fairway(&arguments).ok());
        assert!(poll(20, || {
            lab.run("client", &["ip", "neigh", "flush", "all"]).ok();
            programs::lookup(lab, SERVER[0], &["+notcp"]);
            capturing.is_finished()
        }));
        capturing.join().unwrap();
    });
    let read = lab.run("client", &["tcpdump", "-nner", &file]).ok().stdout;
    assert!(read.lines().all(|line| line.contains("vlan 10,")), "{read}");
    for word in ["ethertype ARP", "Reply 10.1.0.1 is-at", "10.2.0.10.53"] {
        assert!(read.contains(word), "no {word} in\n{read}");
    }
}

#[test]
fn a_new_host_behind_an_old_address_is_found_on_a_vlan() {
    let Some(lab) = fabric().raise("vlan-neighbour") else { return };
    programs::page(&lab, SERVER[0]);
    lab.run("client", &["sysctl", "-qw", "net.ipv4.conf.lan.arp_notify=1"]).ok();
    lab.run("client", &["ip", "link", "set", "lan", "address", "02:00:00:00:99:01"]).ok();
    programs::page(&lab, SERVER[0]);
    // Where the device of the WAN's neighbour is another, the path comes back by itself.
    lab.run("dc", &["ip", "link", "set", "wan1", "address", "02:00:00:00:99:02"]).ok();
    lab.wait_for_paths(20);
    let answers = || lab.run("client", &["ping", "-c", "1", "-W", "1", SERVER[0]]).code == 0;
    assert!(poll(20, answers));
    programs::page(&lab, SERVER[0]);
}
