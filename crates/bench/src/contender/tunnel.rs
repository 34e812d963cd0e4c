//! What all tunnels have in common: two boxes that forward, a device, a route through it.

use serde_json::{Value, json};

use super::{Contender, far, interfaces, prefix};

/// What fits into a WAN of 1500 bytes behind the headers of any of these tunnels but tinc's, so that
/// datagrams of 1400 bytes need no fragments.
pub(super) const MTU: u32 = 1440;
/// Until both ends have shaken hands.
const DEADLINE: &str = "30s";

/// The device of a tunnel. The names of devices of WireGuard are also those of sockets that all
/// namespaces share, so no two are the same.
pub(super) fn device(contender: Contender, offload: bool, node: &str) -> String {
    let short = match contender {
        Contender::WireguardGo => "wgo",
        Contender::Boringtun => "wbt",
        Contender::Nebula => "neb",
        Contender::Openvpn => "ovpn",
        _ => "tinc",
    };
    format!("{short}-{}-{node}", if offload { "on" } else { "off" })
}

/// The commands that give a device its address, its MTU and the route to the other box's hosts.
pub(super) fn routed(device: &str, node: &str) -> String {
    let number = if node == "a" { 1 } else { 2 };
    format!(
        "ip address add 10.9.0.{number}/24 dev {device}
ip link set {device} mtu {MTU} up
ip route replace {} dev {device}\n",
        prefix(far(node))
    )
}

/// Waits for a device that the program in the background makes.
pub(super) fn wait_for(device: &str) -> String {
    format!("n=0; until [ -e /sys/class/net/{device} ] || [ $n -gt 100 ]; do n=$((n+1)); sleep 0.1; done\n")
}

/// A box that runs a tunnel. It is ready when the other one answers through it.
pub(super) fn node(topology: &mut Value, name: &str, command: &str, files: &Value) {
    let near = if name == "a" { "10.1.0.1" } else { "10.2.0.1" };
    let other = if name == "a" { "10.2.0.1" } else { "10.1.0.1" };
    topology["hosts"][name] = json!({
        "interfaces": interfaces(name),
        "sysctl": { "net.ipv4.ip_forward": "1" },
        "files": files,
        "services": { "tunnel": {
            "command": command,
            "ready": format!("command ping -c 1 -W 1 -I {near} {other}"),
            "deadline": DEADLINE,
        } },
    });
}
