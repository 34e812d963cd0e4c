//! From what is written to what can be built: every fault at once, each with its line and field.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde_json::Value;
use serde_saphyr::Spanned;

use super::raw::{Named, Raw, RawInterface, RawLink, RawNat, RawNode, RawService, Switch, Text};
use super::{Configuration, Fault, Forward, Interface, Link, Nat, Node, Ready, Role, Service, Topology};
use crate::quantity::Span;
use crate::wire::{Change, Settings};

/// The longest device name (IFNAMSIZ), and so the longest name of anything a device is named after.
const MAX_DEVICE: usize = 15;
const MAX_LAB: usize = 32;
/// The MTU of Ethernet (RFC 894), and of every link that names no other.
const DEFAULT_MTU: u16 = 1500;
/// The least MTU of IPv4 (RFC 791) and of IPv6 (RFC 8200).
const MIN_MTU: u16 = 68;
const MIN_MTU_V6: u16 = 1280;
const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct Faults(Vec<Fault>);

impl Faults {
    fn add<T>(&mut self, at: &Spanned<T>, field: impl Into<String>, message: impl Into<String>) {
        let line = u64::from(at.referenced.line() as u32);
        self.0.push(Fault { line, field: field.into(), message: message.into() });
    }
}

/// Checks everything and builds the topology.
pub(super) fn check(raw: Raw) -> Result<Topology, Vec<Fault>> {
    let mut faults = Faults::default();
    check_name(&raw.name, &raw.name.value, "name", MAX_LAB, &mut faults);
    check_distinct(&raw, &mut faults);
    let nodes = nodes(&raw, &mut faults);
    let links = links(&raw.links, &nodes, &mut faults);
    check_addresses(&raw, &links, &mut faults);
    let config = configuration(&raw, &mut faults);
    if faults.0.is_empty() {
        Ok(Topology { name: raw.name.value, seed: raw.seed, config, links, nodes })
    } else {
        faults.0.sort_by_key(|fault| fault.line);
        Err(faults.0)
    }
}

/// Names become parts of namespaces, devices and files.
fn check_name<T>(at: &Spanned<T>, name: &str, field: &str, longest: usize, faults: &mut Faults) {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    if name.len() > longest || !begins || !name.chars().all(plain) {
        let rule = format!("a name is 1 to {longest} of a–z, 0–9 and `-`, and does not begin with `-`");
        faults.add(at, field, format!("`{name}` is no name here: {rule}"));
    }
}

/// Nodes and links share the namespaces' names, so no two may be the same.
fn check_distinct(raw: &Raw, faults: &mut Faults) {
    let mut seen = BTreeMap::new();
    let mut check = |at: &Spanned<()>, kind: &'static str, name: &str| {
        check_name(at, name, &format!("{kind}.{name}"), MAX_DEVICE, faults);
        if let Some(other) = seen.insert(name.to_owned(), kind) {
            let message =
                format!("the name is taken already, in `{other}`: every node and link needs its own");
            faults.add(at, format!("{kind}.{name}"), message);
        }
    };
    for (name, link) in &raw.links {
        check(&place(link), "links", name);
    }
    for (name, node) in &raw.hosts {
        check(&place(node), "hosts", name);
    }
    for (name, node) in &raw.routers {
        check(&place(node), "routers", name);
    }
    for (name, node) in &raw.nat {
        check(&place(node), "nat", name);
    }
}

/// The place of a value, without the value.
fn place<T>(spanned: &Spanned<T>) -> Spanned<()> {
    Spanned { value: (), referenced: spanned.referenced, defined: spanned.defined }
}

fn nodes(raw: &Raw, faults: &mut Faults) -> BTreeMap<String, Node> {
    let mut nodes = BTreeMap::new();
    for (name, node) in &raw.hosts {
        let role = Role::Host { tenant: node.value.tenant.as_ref().map(|tenant| tenant.value.clone()) };
        let path = format!("hosts.{name}");
        if let Some(workers) = &node.value.workers {
            faults.add(workers, format!("{path}.workers"), "a host has no workers; a router may have some");
        }
        if let Some(io) = &node.value.io {
            faults.add(io, format!("{path}.io"), "it is a router's: a host has its kernel");
        }
        nodes.insert(name.clone(), build(&path, role, &Parts::of_node(&node.value), &raw.links, faults));
    }
    for (name, node) in &raw.routers {
        let path = format!("routers.{name}");
        if let Some(tenant) = &node.value.tenant {
            let message = "a router has no tenant; its interfaces' tenants are in the configuration";
            faults.add(tenant, format!("{path}.tenant"), message);
        }
        if let Some(workers) = node.value.workers.as_ref().filter(|count| !(1..=64).contains(&count.value)) {
            faults.add(workers, format!("{path}.workers"), "a router has 1 to 64 workers");
        }
        let role = Role::Router {
            workers: node.value.workers.as_ref().map(|workers| workers.value),
            io: node.value.io.as_ref().map(|io| io.value),
        };
        nodes.insert(name.clone(), build(&path, role, &Parts::of_node(&node.value), &raw.links, faults));
    }
    for (name, node) in &raw.nat {
        let path = format!("nat.{name}");
        let role = nat(&path, &node.value, faults);
        nodes.insert(name.clone(), build(&path, role, &Parts::of_nat(&node.value), &raw.links, faults));
    }
    nodes
}

/// What all kinds of nodes have.
struct Parts<'a> {
    interfaces: &'a Named<RawInterface>,
    routes: &'a Named<Text<IpAddr>>,
    sysctl: &'a Named<Text<String>>,
    files: &'a Named<String>,
    services: &'a Named<RawService>,
}

impl<'a> Parts<'a> {
    fn of_node(node: &'a RawNode) -> Self {
        let RawNode { interfaces, routes, sysctl, files, services, .. } = node;
        Self { interfaces, routes, sysctl, files, services }
    }

    fn of_nat(node: &'a RawNat) -> Self {
        let RawNat { interfaces, routes, sysctl, files, services, .. } = node;
        Self { interfaces, routes, sysctl, files, services }
    }
}

fn build(path: &str, role: Role, parts: &Parts<'_>, links: &Named<RawLink>, faults: &mut Faults) -> Node {
    for (name, value) in parts.sysctl {
        if !name.starts_with("net.") || name.contains('/') || name.contains("..") {
            let message = "only `net.…` settings belong to a network namespace";
            faults.add(value, format!("{path}.sysctl.{name}"), message);
        }
    }
    for (name, content) in parts.files {
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            let message =
                "a file's name has no `/` and does not begin with `.`: it is in the node's directory";
            faults.add(content, format!("{path}.files.{name}"), message);
        }
    }
    let text = |(name, value): (&String, &Spanned<Text<String>>)| (name.clone(), value.value.0.clone());
    Node {
        role,
        interfaces: interfaces(path, parts.interfaces, links, faults),
        routes: routes(path, parts, faults),
        sysctl: parts.sysctl.iter().map(text).collect(),
        files: parts.files.iter().map(|(name, text)| (name.clone(), text.value.clone())).collect(),
        services: services(path, parts.services, faults),
    }
}

fn routes(path: &str, parts: &Parts<'_>, faults: &mut Faults) -> BTreeMap<IpNet, IpAddr> {
    let mut routes = BTreeMap::new();
    for (prefix, via) in parts.routes {
        let field = format!("{path}.routes.{prefix}");
        match prefix.parse::<IpNet>() {
            Ok(net) if net.addr().is_ipv4() == via.value.0.is_ipv4() => {
                routes.insert(net.trunc(), via.value.0);
            }
            Ok(_) => faults.add(via, field, format!("{} is of the other family", via.value.0)),
            Err(_) => faults.add(via, field, "a route is `PREFIX: GATEWAY`, such as `10.2.0.0/16: 10.1.0.1`"),
        }
    }
    routes
}

fn interfaces(
    path: &str,
    raw: &Named<RawInterface>,
    links: &Named<RawLink>,
    faults: &mut Faults,
) -> BTreeMap<String, Interface> {
    let mut devices = BTreeSet::new();
    let mut families = BTreeSet::new();
    let mut built = BTreeMap::new();
    for (link, interface) in raw {
        let field = format!("{path}.interfaces.{link}");
        if !links.contains_key(link) {
            let known: Vec<&str> = links.keys().map(String::as_str).collect();
            let message = format!("there is no link `{link}`; there are: {}", known.join(", "));
            faults.add(interface, &field, message);
        }
        let device = interface.value.device.as_ref().map_or(link.as_str(), |device| device.value.as_str());
        let usable = !device.is_empty()
            && device.len() <= MAX_DEVICE
            && device != "lo"
            && !device.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
        if !usable || !devices.insert(device.to_owned()) {
            let message = format!(
                "`{device}` is no device name here: 1 to {MAX_DEVICE} characters, unique on the node, not `lo`"
            );
            faults.add(interface, format!("{field}.device"), message);
        }
        check_gateways(&field, &interface.value, &mut families, faults);
        let addresses = interface.value.address.iter().map(|address| address.value.0).collect();
        let gateways = interface.value.gateway.iter().map(|gateway| gateway.value.0).collect();
        built.insert(link.clone(), Interface { device: device.to_owned(), addresses, gateways });
    }
    built
}

fn check_gateways(field: &str, raw: &RawInterface, families: &mut BTreeSet<bool>, faults: &mut Faults) {
    for gateway in &raw.gateway {
        let field = format!("{field}.gateway");
        let address = gateway.value.0;
        if !raw.address.iter().any(|own| own.value.0.contains(&address)) {
            let message = format!("{address} is not on a prefix of this interface's addresses");
            faults.add(gateway, &field, message);
        }
        if !families.insert(address.is_ipv4()) {
            faults.add(
                gateway,
                &field,
                "a node has one default gateway of each family; use `routes` for the rest",
            );
        }
    }
}

fn services(path: &str, raw: &Named<RawService>, faults: &mut Faults) -> BTreeMap<String, Service> {
    let mut built = BTreeMap::new();
    for (name, service) in raw {
        let field = format!("{path}.services.{name}");
        check_name(service, name, &field, MAX_LAB, faults);
        let ready = match &service.value.ready {
            None => Ready::Immediately,
            Some(text) => readiness(&text.value).unwrap_or_else(|| {
                let message = "ready is one of `tcp PORT`, `udp PORT`, `file PATH` and `command COMMAND`";
                faults.add(text, format!("{field}.ready"), message);
                Ready::Immediately
            }),
        };
        let deadline = service.value.deadline.map_or(DEFAULT_DEADLINE, Span::duration);
        let command = service.value.command.clone();
        built.insert(name.clone(), Service { command, ready, deadline });
    }
    built
}

fn readiness(text: &str) -> Option<Ready> {
    let (kind, rest) = text.trim().split_once(' ')?;
    let rest = rest.trim();
    match kind {
        "tcp" => rest.parse().ok().map(Ready::Tcp),
        "udp" => rest.parse().ok().map(Ready::Udp),
        "file" => Some(Ready::File(rest.to_owned())),
        "command" => Some(Ready::Command(rest.to_owned())),
        _ => None,
    }
}

fn nat(path: &str, raw: &RawNat, faults: &mut Faults) -> Role {
    let mut device = |field: &str, link: &Spanned<String>| match raw.interfaces.get(&link.value) {
        Some(interface) => {
            interface.value.device.as_ref().map_or(link.value.clone(), |device| device.value.clone())
        }
        None => {
            faults.add(
                link,
                format!("{path}.{field}"),
                format!("the box has no interface on `{}`", link.value),
            );
            link.value.clone()
        }
    };
    let inside: Vec<String> = raw.inside.iter().map(|link| device("inside", link)).collect();
    let outside = device("outside", &raw.outside);
    if inside.is_empty() || inside.contains(&outside) {
        faults.add(&raw.outside, format!("{path}.inside"), "name at least one link, and not the outside one");
    }
    let forward = |entry: &Spanned<super::raw::RawForward>| Forward {
        protocol: entry.value.protocol,
        port: entry.value.port,
        to: entry.value.to.0,
        to_port: entry.value.to_port.unwrap_or(entry.value.port),
    };
    Role::Nat(Nat { inside, outside, forward: raw.forward.iter().map(forward).collect() })
}

fn links(
    raw: &Named<RawLink>,
    nodes: &BTreeMap<String, Node>,
    faults: &mut Faults,
) -> BTreeMap<String, Link> {
    let mut built = BTreeMap::new();
    for (name, link) in raw {
        let on_it = nodes.iter().filter(|(_, node)| node.interfaces.contains_key(name));
        let members: Vec<String> = on_it.map(|(node, _)| node.clone()).collect();
        let field = format!("links.{name}");
        if members.len() < 2 {
            let found =
                if members.is_empty() { "nobody".to_owned() } else { format!("only {}", members.join("")) };
            faults.add(
                link,
                &field,
                format!("a link needs two nodes with an interface on it; {found} has one"),
            );
        }
        let impaired = impairments(&field, link, &members, faults);
        let wanted = link.value.offload.as_ref();
        if let Some(offload) = wanted.filter(|o| o.value == Switch::On && !impaired.is_empty()) {
            let message = "an impaired link counts single packets: leave `offload` out or switch it off";
            faults.add(offload, format!("{field}.offload"), message);
        }
        let offload = impaired.is_empty() && wanted.is_none_or(|offload| offload.value == Switch::On);
        let mtu = link.value.mtu.as_ref().map_or(DEFAULT_MTU, |mtu| mtu.value);
        built.insert(name.clone(), Link { mtu, offload, members, impaired });
    }
    built
}

/// The settings of each member's frames; empty for a link without impairments.
fn impairments(
    field: &str,
    link: &Spanned<RawLink>,
    members: &[String],
    faults: &mut Faults,
) -> BTreeMap<String, Settings> {
    let all = link.value.change();
    for (sender, direction) in &link.value.directions {
        if !members.contains(sender) {
            let message =
                format!("`{sender}` has no interface on this link; there are: {}", members.join(", "));
            faults.add(direction, format!("{field}.directions.{sender}"), message);
        }
    }
    if all.is_empty() && link.value.directions.is_empty() {
        return BTreeMap::new();
    }
    let mut impaired = BTreeMap::new();
    for sender in members {
        let own = link.value.directions.get(sender);
        let change = own.map_or_else(|| all.clone(), |own| all.then(&own.value));
        match Settings::default().with(&change) {
            Ok(settings) => {
                impaired.insert(sender.clone(), settings);
            }
            Err(error) => refuse(field, link, own, error.to_string(), sender, faults),
        }
    }
    impaired
}

fn refuse(
    field: &str,
    link: &Spanned<RawLink>,
    own: Option<&Spanned<Change>>,
    message: String,
    sender: &str,
    faults: &mut Faults,
) {
    match own {
        Some(own) => faults.add(own, format!("{field}.directions.{sender}"), message),
        // The same fault in several directions is one fault of the link.
        None if faults.0.iter().any(|fault| fault.field == field) => {}
        None => faults.add(link, field, message),
    }
}

/// Addresses are unique on their link, and the MTU suits their family.
fn check_addresses(raw: &Raw, links: &BTreeMap<String, Link>, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    let hosts = raw.hosts.iter().map(|(name, node)| ("hosts", name, &node.value.interfaces));
    let routers = raw.routers.iter().map(|(name, node)| ("routers", name, &node.value.interfaces));
    let boxes = raw.nat.iter().map(|(name, node)| ("nat", name, &node.value.interfaces));
    let mut with_v6 = BTreeSet::new();
    for (kind, node, interfaces) in hosts.chain(routers).chain(boxes) {
        for (link, interface) in interfaces {
            for address in &interface.value.address {
                let own = address.value.0.addr();
                if !seen.insert((link.clone(), own)) {
                    let field = format!("{kind}.{node}.interfaces.{link}.address");
                    faults.add(address, field, format!("{own} is used twice on link {link}"));
                }
                if own.is_ipv6() {
                    with_v6.insert(link.clone());
                }
            }
        }
    }
    for (name, link) in &raw.links {
        let least = if with_v6.contains(name) { MIN_MTU_V6 } else { MIN_MTU };
        if let (Some(mtu), Some(built)) = (&link.value.mtu, links.get(name))
            && built.mtu < least
        {
            let message = format!("{} is too small: IPv4 needs {MIN_MTU}, IPv6 {MIN_MTU_V6}", built.mtu);
            faults.add(mtu, format!("links.{name}.mtu"), message);
        }
    }
}

fn configuration(raw: &Raw, faults: &mut Faults) -> Option<Configuration> {
    let Some(config) = &raw.config else {
        if let Some((_, router)) = raw.routers.iter().next() {
            faults.add(router, "config", "routers need a configuration: a path, or the document itself");
        }
        return None;
    };
    match &config.value {
        Value::String(path) => Some(Configuration::File(path.into())),
        Value::Object(_) => Some(Configuration::Inline(config.value.clone())),
        _ => {
            faults.add(config, "config", "the configuration is a path, or the document itself");
            None
        }
    }
}
