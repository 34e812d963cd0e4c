//! Namespaces, devices, addresses and NAT: a topology as the kernel sees it.
//!
//! A plain link of two is a veth pair; of more, a bridge in a namespace of its own. An impaired
//! link is a veth pair to each member from the wire's namespace, without offloads.

use std::fmt::Write;
use std::time::Duration;

use crate::error::LabError;
use crate::ethtool::offloads_off;
use crate::namespace::{self, inside, sysctl, tool};
use crate::process::{POLL, monotonic};
use crate::state::namespace_name;
use crate::topology::{Link, Nat, Node, Role, Topology, Transport};

/// How long the kernel may take to notice that devices have a link.
const LINK_DEADLINE: Duration = Duration::from_secs(5);
/// The bridge of a link; no node has a dot in its name.
const BRIDGE: &str = "br.0";

/// Settings of every node's namespace, so that nothing happens that the topology does not say: no
/// forwarding, no address that has to be probed for first, no router advertisements.
const NODE_SETTINGS: &[(&str, &str)] = &[
    ("net.ipv4.ip_forward", "0"),
    ("net.ipv4.conf.all.rp_filter", "0"),
    ("net.ipv4.conf.default.rp_filter", "0"),
    ("net.ipv6.conf.all.forwarding", "0"),
    ("net.ipv6.conf.all.disable_ipv6", "0"),
    ("net.ipv6.conf.default.disable_ipv6", "0"),
    ("net.ipv6.conf.default.accept_dad", "0"),
    ("net.ipv6.conf.default.dad_transmits", "0"),
    ("net.ipv6.conf.default.accept_ra", "0"),
    ("net.ipv6.conf.default.router_solicitations", "0"),
];
/// A link's own namespace only passes frames on.
const LINK_SETTINGS: &[(&str, &str)] =
    &[("net.ipv6.conf.all.disable_ipv6", "1"), ("net.ipv6.conf.default.disable_ipv6", "1")];
const NAT_SETTINGS: &[(&str, &str)] = &[("net.ipv4.ip_forward", "1"), ("net.ipv6.conf.all.forwarding", "1")];

/// The namespace of a link, if it has one.
pub(crate) fn link_namespace(lab: &str, name: &str, link: &Link) -> Option<String> {
    (link.is_wire() || link.members.len() > 2).then(|| namespace_name(lab, name))
}

/// Every namespace the topology needs.
pub(crate) fn namespaces(topology: &Topology) -> Vec<String> {
    let nodes = topology.nodes.keys().map(|node| namespace_name(&topology.name, node));
    let links = topology.links.iter().filter_map(|(name, link)| link_namespace(&topology.name, name, link));
    nodes.chain(links).collect()
}

/// Builds everything inside the namespaces, which exist and are empty.
pub(crate) fn build(topology: &Topology) -> Result<(), LabError> {
    for name in topology.nodes.keys() {
        inside(&namespace_name(&topology.name, name), || apply(NODE_SETTINGS))?;
    }
    let mut batch = String::new();
    for (name, link) in &topology.links {
        if let Some(namespace) = link_namespace(&topology.name, name, link) {
            inside(&namespace, || apply(LINK_SETTINGS))?;
        }
        plug(topology, name, link, &mut batch);
    }
    tool("ip", &["-batch", "-"], &batch)?;
    for (name, link) in &topology.links {
        finish_link(topology, name, link)?;
    }
    topology.nodes.iter().try_for_each(|(name, node)| finish_node(&topology.name, name, node, topology))?;
    wait_for_links(topology)
}

/// Waits until the kernel has noticed that every device has a link. It may take it a second, during
/// which a host hears no neighbour solicitations.
fn wait_for_links(topology: &Topology) -> Result<(), LabError> {
    let (deadline, mut namespaces) = (monotonic() + LINK_DEADLINE, namespaces(topology));
    while let Some(namespace) = namespaces.last() {
        let down = tool("ip", &["-n", namespace, "-brief", "link"], "")?;
        let down: Vec<&str> = down.lines().filter(|line| !is_up(line)).collect();
        if down.is_empty() {
            namespaces.pop();
        } else if monotonic() > deadline {
            let (command, output) = (format!("ip -n {namespace} -brief link"), down.join("; "));
            return Err(LabError::Tool { command, output });
        } else {
            std::thread::sleep(POLL);
        }
    }
    Ok(())
}

/// Whether a line of `ip -brief link` is of a device that is up, or of none of the laboratory's:
/// its own are ends of pairs, shown as `wan@if5`.
fn is_up(line: &str) -> bool {
    let mut words = line.split_whitespace();
    !words.next().is_some_and(|name| name.contains("@if")) || words.next() == Some("UP")
}

fn apply(settings: &[(&str, &str)]) -> Result<(), LabError> {
    settings.iter().try_for_each(|(name, value)| sysctl(name, value))
}

/// The device of a member on a link.
fn device<'a>(topology: &'a Topology, member: &str, link: &'a str) -> &'a str {
    let interface = topology.nodes.get(member).and_then(|node| node.interfaces.get(link));
    interface.map_or(link, |interface| interface.device.as_str())
}

/// The commands that make the veth pairs of a link. Writing to a string cannot fail.
fn plug(topology: &Topology, name: &str, link: &Link, batch: &mut String) {
    let mtu = link.mtu;
    let near = |member: &str| {
        let namespace = namespace_name(&topology.name, member);
        format!("name {} netns {namespace} mtu {mtu}", device(topology, member, name))
    };
    match (link_namespace(&topology.name, name, link), link.members.as_slice()) {
        (None, [one, other]) => {
            let _ = writeln!(batch, "link add {} type veth peer {}", near(one), near(other));
        }
        (None, _) => {}
        (Some(namespace), members) => {
            for member in members {
                let far = format!("name {member} netns {namespace} mtu {mtu}");
                let _ = writeln!(batch, "link add {} type veth peer {far}", near(member));
            }
        }
    }
}

fn finish_link(topology: &Topology, name: &str, link: &Link) -> Result<(), LabError> {
    if !link.offload {
        for member in &link.members {
            let namespace = namespace_name(&topology.name, member);
            inside(&namespace, || switch_off(device(topology, member, name)))?;
        }
    }
    let Some(namespace) = link_namespace(&topology.name, name, link) else { return Ok(()) };
    if !link.offload {
        inside(&namespace, || link.members.iter().try_for_each(|member| switch_off(member)))?;
    }
    let mut batch = String::new();
    if !link.is_wire() {
        let _ = writeln!(batch, "link add name {BRIDGE} mtu {} type bridge mcast_snooping 0", link.mtu);
        let _ = writeln!(batch, "link set dev {BRIDGE} up");
    }
    for member in &link.members {
        let master = if link.is_wire() { String::new() } else { format!("master {BRIDGE} ") };
        let _ = writeln!(batch, "link set dev {member} {master}up");
    }
    tool("ip", &["-n", &namespace, "-batch", "-"], &batch).map(drop)
}

fn switch_off(device: &str) -> Result<(), LabError> {
    offloads_off(device).map_err(LabError::system(format!("switching offloads of {device} off")))
}

fn finish_node(lab: &str, name: &str, node: &Node, topology: &Topology) -> Result<(), LabError> {
    let namespace = namespace_name(lab, name);
    let mut batch = String::from("link set lo up\n");
    for (link, interface) in &node.interfaces {
        let device = &interface.device;
        for address in &interface.addresses {
            let probing = if address.addr().is_ipv6() { " nodad" } else { "" };
            let _ = writeln!(batch, "address add {address} dev {device}{probing}");
        }
        // The MTU of a pair is that of its lesser end; both are the link's.
        if topology.links.contains_key(link) {
            let _ = writeln!(batch, "link set dev {device} up");
        }
    }
    for gateway in node.interfaces.values().flat_map(|interface| &interface.gateways) {
        let everything = if gateway.is_ipv6() { "::/0" } else { "0.0.0.0/0" };
        let _ = writeln!(batch, "route add {everything} via {gateway}");
    }
    for (prefix, via) in &node.routes {
        let _ = writeln!(batch, "route add {prefix} via {via}");
    }
    tool("ip", &["-n", &namespace, "-batch", "-"], &batch)?;
    inside(&namespace, || {
        if let Role::Nat(nat) = &node.role {
            apply(NAT_SETTINGS)?;
            tool("nft", &["-f", "-"], &nat_rules(nat))?;
        }
        node.sysctl.iter().try_for_each(|(name, value)| sysctl(name, value))
    })
}

/// The rules of a NAT box: what leaves is masqueraded, what comes unasked is dropped, forwarded
/// ports lead inside.
fn nat_rules(nat: &Nat) -> String {
    let inside: Vec<String> = nat.inside.iter().map(|device| format!("\"{device}\"")).collect();
    let (inside, outside) = (inside.join(", "), &nat.outside);
    let mut ports = String::new();
    for forward in &nat.forward {
        let protocol = match forward.protocol {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        let (family, to) = if forward.to.is_ipv4() {
            ("ip", forward.to.to_string())
        } else {
            ("ip6", format!("[{}]", forward.to))
        };
        let (port, to_port) = (forward.port, forward.to_port);
        let _ =
            writeln!(ports, "iifname \"{outside}\" {protocol} dport {port} dnat {family} to {to}:{to_port}");
    }
    format!(
        "table inet fairway-lab {{
  chain prerouting {{
    type nat hook prerouting priority dstnat
    {ports}
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat
    oifname \"{outside}\" masquerade
  }}
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    iifname {{ {inside} }} accept
    ct status dnat accept
  }}
}}
"
    )
}

/// Makes a namespace, unless one of that name exists.
pub(crate) fn check_free(name: &str) -> Result<(), LabError> {
    if namespace::exists(name) { Err(LabError::NamespaceTaken { name: name.to_owned() }) } else { Ok(()) }
}
