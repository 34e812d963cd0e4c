//! The fabrics of the tests: one, two or three routers in a row, and what is on their links.
//!
//! ```text
//! client ──lan──────┐
//! guest  ──guests── branch ══wan1══ transit ══wan2══ dc ──servers── server
//!                            │
//!                        stranger (if wanted)
//! ```
//! Two routers are branch and dc, with wan1 between; one router is branch with servers on it.

use serde_json::{Value, json};

use crate::lab::Lab;

/// A fabric to be raised.
pub struct Fabric {
    topology: Value,
}

/// The addresses of the server.
pub const SERVER: [&str; 2] = ["10.2.0.10", "fd00:2::10"];
/// The addresses of the client.
pub const CLIENT: [&str; 2] = ["10.1.0.10", "fd00:1::10"];

const NGINX: &str = "daemon off;
user root;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
events {}
http { access_log off; server { listen 80; listen [::]:80; root {dir}/www; } }
";
const SSHD: &str = "HostKey {dir}/host_key
AuthorizedKeysFile {dir}/authorized_keys
PidFile {dir}/sshd.pid
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM yes
";
const START_SSHD: &str = "set -e
ssh-keygen -q -t ed25519 -N '' -f {dir}/host_key
ssh-keygen -q -t ed25519 -N '' -f {dir}/client_key
cp {dir}/client_key.pub {dir}/authorized_keys
mkdir -p /run/sshd
exec /usr/sbin/sshd -D -e -f {dir}/sshd_config";
const START_NGINX: &str = "mkdir -p {dir}/www && echo 'hello from the data centre' > {dir}/www/index.html
head -c 20M /dev/urandom > {dir}/www/20m
head -c 10M {dir}/www/20m > {dir}/www/10m
head -c 1M {dir}/www/20m > {dir}/www/1m
base64 {dir}/www/1m > {dir}/www/text
exec nginx -c {dir}/nginx.conf -e {dir}/error.log";
const START_DNSMASQ: &str = "exec dnsmasq --keep-in-foreground --user=root --pid-file={dir}/dnsmasq.pid --conf-file=/dev/null \
    --no-resolv --no-hosts --address=/web.test/10.2.0.10 --address=/web.test/fd00:2::10";

impl Fabric {
    /// A fabric of one to three routers.
    pub fn new(routers: usize) -> Self {
        let wans: &[&str] = match routers {
            1 => &[],
            2 => &["wan1"],
            _ => &["wan1", "wan2"],
        };
        let mut links = json!({ "lan": {}, "guests": {}, "servers": {} });
        for wan in wans {
            links[wan] = json!({});
        }
        let topology = json!({
            "links": links,
            "hosts": {
                "client": host("lan", 1, 10, 1),
                "guest": host("guests", 3, 10, 1),
                "server": server(),
            },
            "routers": nodes(routers),
            "config": configuration(routers),
        });
        Self { topology }
    }

    /// Gives each router so many workers.
    pub fn workers(mut self, counts: &[(&str, u8)]) -> Self {
        for (router, count) in counts {
            self.topology["routers"][router]["workers"] = json!(count);
        }
        self
    }

    /// Lets every router use AF_XDP.
    pub fn by_xdp(mut self) -> Self {
        for router in self.topology["routers"].as_object_mut().unwrap().values_mut() {
            router["io"] = json!("xdp");
        }
        self
    }

    /// Puts a host on wan1 that is no peer.
    pub fn with_stranger(mut self) -> Self {
        self.topology["hosts"]["stranger"] =
            json!({ "interfaces": { "wan1": { "address": ["172.16.1.66/24", "fd00:101::66/64"] } } });
        self
    }

    /// Puts a host beside the client, 10.1.0.66, of the same tenant.
    pub fn with_flooder(mut self) -> Self {
        self.topology["hosts"]["flooder"] = host("lan", 1, 66, 1);
        self
    }

    /// Runs sshd on the host of router branch.
    pub fn with_router_shell(mut self) -> Self {
        let branch = &mut self.topology["routers"]["branch"];
        branch["files"] = json!({ "sshd_config": SSHD });
        branch["services"] = json!({ "sshd": { "command": START_SSHD, "ready": "tcp 22" } });
        self
    }

    /// Takes the server's way to everything that is not on its link.
    pub fn without_way_back(mut self) -> Self {
        let interfaces = self.topology["hosts"]["server"]["interfaces"].as_object_mut().unwrap();
        for interface in interfaces.values_mut() {
            interface.as_object_mut().unwrap().remove("gateway");
        }
        self
    }

    /// Puts up a host.
    pub fn host(mut self, name: &str, node: Value) -> Self {
        self.topology["hosts"][name] = node;
        self
    }

    /// Sets what a router is on the side of Linux.
    pub fn router(mut self, name: &str, node: Value) -> Self {
        self.topology["routers"][name] = node;
        self
    }

    /// Sets what a link is.
    pub fn link(mut self, name: &str, settings: Value) -> Self {
        self.topology["links"][name] = settings;
        self
    }

    /// Changes the configuration, which is the content of `fairway:authority`.
    pub fn config(mut self, change: impl FnOnce(&mut Value)) -> Self {
        change(&mut self.topology["config"]["fairway:authority"]);
        self
    }

    /// Leaves only the waypoints of one family: 4 or 6.
    pub fn waypoints(self, family: u8) -> Self {
        self.config(|authority| {
            for interface in interfaces(authority).filter(|interface| interface["type"] == "fabric") {
                let addresses = interface["address"].as_array_mut().unwrap();
                addresses
                    .retain(|address| address["ip-address"].as_str().unwrap().contains(':') == (family == 6));
            }
        })
    }

    /// Raises it.
    pub fn raise(self, test: &str) -> Option<Lab> {
        Lab::raise(test, self.topology)
    }
}

/// All network-interfaces of all routers.
pub fn interfaces(authority: &mut Value) -> impl Iterator<Item = &mut Value> {
    elements(&mut authority["router"])
        .flat_map(|router| elements(&mut router["node"]))
        .flat_map(|node| elements(&mut node["device-interface"]))
        .flat_map(|device| elements(&mut device["network-interface"]))
}

fn elements(list: &mut Value) -> core::slice::IterMut<'_, Value> {
    list.as_array_mut().unwrap().iter_mut()
}

/// The element of a list that has this name.
pub fn named<'a>(list: &'a mut Value, name: &str) -> &'a mut Value {
    list.as_array_mut().unwrap().iter_mut().find(|element| element["name"] == name).unwrap()
}

fn pair(prefix: u8, number: u8) -> [String; 2] {
    [format!("10.{prefix}.0.{number}/24"), format!("fd00:{prefix}::{number}/64")]
}

fn host(link: &str, prefix: u8, number: u8, gateway: u8) -> Value {
    let gateways = [format!("10.{prefix}.0.{gateway}"), format!("fd00:{prefix}::{gateway}")];
    json!({ "interfaces": { link: { "address": pair(prefix, number), "gateway": gateways } } })
}

fn server() -> Value {
    let mut server = host("servers", 2, 10, 1);
    server["files"] = json!({ "nginx.conf": NGINX, "sshd_config": SSHD });
    server["services"] = json!({
        "nginx": { "command": START_NGINX, "ready": "tcp 80" },
        "dnsmasq": { "command": START_DNSMASQ, "ready": "udp 53" },
        "sshd": { "command": START_SSHD, "ready": "tcp 22" },
        "iperf": { "command": "exec iperf3 -s", "ready": "tcp 5201" },
    });
    server
}

/// The links of a router, with its addresses there.
type Links = Vec<(&'static str, [String; 2])>;

/// The routers with their links.
fn layout(routers: usize) -> Vec<(&'static str, Links)> {
    let wan = |which: u8, number: u8| {
        [format!("172.16.{which}.{number}/24"), format!("fd00:10{which}::{number}/64")]
    };
    let mut branch = vec![("lan", pair(1, 1)), ("guests", pair(3, 1))];
    let servers = ("servers", pair(2, 1));
    match routers {
        1 => {
            branch.push(servers);
            vec![("branch", branch)]
        }
        2 => {
            branch.push(("wan1", wan(1, 1)));
            vec![("branch", branch), ("dc", vec![("wan1", wan(1, 2)), servers])]
        }
        _ => {
            branch.push(("wan1", wan(1, 1)));
            vec![
                ("branch", branch),
                ("transit", vec![("wan1", wan(1, 2)), ("wan2", wan(2, 2))]),
                ("dc", vec![("wan2", wan(2, 1)), servers]),
            ]
        }
    }
}

fn nodes(routers: usize) -> Value {
    let mut nodes = json!({});
    for (name, links) in layout(routers) {
        nodes[name] = json!({ "interfaces": {} });
        for (link, addresses) in links {
            nodes[name]["interfaces"][link] = json!({ "address": addresses });
        }
    }
    nodes
}

fn configuration(routers: usize) -> Value {
    let list: Vec<Value> = layout(routers).iter().map(|(name, links)| router(name, links, routers)).collect();
    json!({ "fairway:authority": {
        "name": "test",
        "tenant": [{ "name": "corp" }, { "name": "guest" }],
        "service": [
            {
                "name": "web",
                "address": ["10.2.0.10/32", "fd00:2::10/128"],
                "transport": [{ "protocol": "tcp", "port-range": [{ "start-port": 80 }] }],
                "access-policy": [{ "source": "corp" }],
            },
            {
                "name": "servers",
                "address": ["10.2.0.0/24", "fd00:2::/64"],
                "access-policy": [{ "source": "corp" }],
            },
        ],
        "router": list,
    } })
}

fn router(name: &str, links: &[(&str, [String; 2])], routers: usize) -> Value {
    let devices: Vec<Value> = links
        .iter()
        .map(|(link, addresses)| {
            let address: Vec<Value> = addresses
                .iter()
                .filter_map(|address| address.split_once('/'))
                .map(|(ip, length)| {
                    json!({ "ip-address": ip, "prefix-length": length.parse::<u8>().unwrap() })
                })
                .collect();
            let mut interface = json!({ "name": link, "address": address });
            match *link {
                "lan" => interface["tenant"] = "corp".into(),
                "guests" => interface["tenant"] = "guest".into(),
                "servers" => {}
                wan => {
                    interface["type"] = "fabric".into();
                    interface["neighborhood"] = json!([{ "name": wan }]);
                }
            }
            json!({ "name": link, "network-interface": [interface] })
        })
        .collect();
    let mut router = json!({ "name": name, "node": [{ "name": "node0", "device-interface": devices }] });
    if name == "dc" || routers == 1 {
        router["service-route"] = json!([
            { "name": "web-here", "service-name": "web", "local": {} },
            { "name": "servers-here", "service-name": "servers", "local": {} },
        ]);
    }
    router
}
