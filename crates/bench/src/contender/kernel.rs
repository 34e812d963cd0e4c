//! Forwarding by the kernel, without and with a firewall that keeps state and translates addresses.

use serde_json::{Value, json};

use super::{far, interfaces, prefix, wan};

/// What the firewall of a box is: what its inside begins may pass, under the box's own address.
fn rules(inside: &str, outside: &str) -> String {
    format!(
        "table ip bench {{
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname \"{inside}\" ct state new accept
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat;
    oifname \"{outside}\" masquerade
  }}
}}
"
    )
}

/// Both boxes only forward.
pub(super) fn forwarding(topology: &mut Value) {
    for node in ["a", "b"] {
        topology["hosts"][node] = json!({
            "interfaces": interfaces(node),
            "routes": { prefix(far(node)): wan(far(node)) },
            "sysctl": { "net.ipv4.ip_forward": "1" },
        });
    }
}

/// Both boxes keep state and masquerade what goes from client to server, as a session smart router
/// rewrites it twice.
pub(super) fn nftables(topology: &mut Value) {
    forwarding(topology);
    for (node, inside, outside) in [("a", "lan", "wan"), ("b", "wan", "servers")] {
        let host = &mut topology["hosts"][node];
        host["files"] = json!({ "rules": rules(inside, outside) });
        // Settings of connection tracking are there once it is in use.
        let command = "nft -f {dir}/rules
sysctl -qw net.netfilter.nf_conntrack_tcp_timeout_time_wait=5
sysctl -qw net.netfilter.nf_conntrack_udp_timeout=1800
sysctl -qw net.netfilter.nf_conntrack_udp_timeout_stream=1800
touch {dir}/ready";
        host["services"] = json!({ "nft": { "command": command, "ready": "file {dir}/ready" } });
    }
}
