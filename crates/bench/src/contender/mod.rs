//! What is measured: Fairway, the kernel, and tunnels, each as the two boxes of one line.
//!
//! ```text
//! client ──lan── a ──wan── b ──servers── server
//! ```
//! Every contender has the same hosts, addresses, links and MTU; only what runs on `a` and `b`
//! differs. Each is a topology of its own, so that several lines can be up at once and be measured
//! in turn.

mod fairway;
mod kernel;
mod tunnel;
mod tunnels;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// The server's address.
pub(crate) const SERVER: &str = "10.2.0.10";
/// The client's address.
pub(crate) const CLIENT: &str = "10.1.0.10";
/// The first of the client's further addresses, which a flood comes from.
pub(crate) const FIRST_SOURCE: &str = "10.1.0.100";
/// The number of that address in its prefix.
const FIRST_SOURCE_NUMBER: u32 = 100;

/// One way to carry traffic from client to server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Contender {
    /// Fairway, payload as it is.
    FairwayPlain,
    /// Fairway by AF_XDP, payload as it is.
    FairwayXdp,
    /// Fairway, payload protected with AES-256-GCM.
    FairwayGcm,
    /// Fairway, payload protected with AES-256-CBC and HMAC-SHA256-128.
    FairwayCbc,
    /// Fairway with room for a million sessions, and a million of them.
    FairwayMillion,
    /// Fairway with as much room, and ten thousand of them.
    FairwayTenThousand,
    /// The same ten thousand, none of them in the kernel.
    FairwayByWorkers,
    /// The million by AF_XDP.
    FairwayXdpMillion,
    /// Two workers of one engine, without a line.
    TwoWorkers,
    /// Two engines that know nothing of each other, without a line.
    TwoEngines,
    /// Forwarding by the kernel.
    Kernel,
    /// Forwarding by the kernel with a stateful firewall and NAT on both boxes.
    Nftables,
    /// wireguard-go.
    WireguardGo,
    /// boringtun.
    Boringtun,
    /// Nebula.
    Nebula,
    /// OpenVPN with AES-256-GCM, in user space.
    Openvpn,
    /// tinc 1.0.
    Tinc,
}

/// Every tunnel.
pub(crate) const TUNNELS: [Contender; 5] =
    [Contender::WireguardGo, Contender::Nebula, Contender::Openvpn, Contender::Boringtun, Contender::Tinc];

/// What it takes to start a contender.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    /// The `fairway` command.
    pub(crate) fairway: PathBuf,
    /// Where boringtun may have been installed.
    pub(crate) peers: PathBuf,
    /// How many workers Fairway's routers have; as many as they like if nothing is said.
    pub(crate) workers: Option<u8>,
    /// How many sessions are a million: fewer where nobody wants to wait for them.
    pub(crate) million: u32,
}

impl Contender {
    /// Its name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FairwayPlain => "fairway",
            Self::FairwayXdp => "fairway-xdp",
            Self::FairwayXdpMillion => "fairway-xdp-1m",
            Self::FairwayGcm => "fairway-gcm",
            Self::FairwayCbc => "fairway-cbc",
            Self::FairwayMillion => "fairway-1m",
            Self::FairwayTenThousand => "fairway-10k",
            Self::FairwayByWorkers => "fairway-10k-workers",
            Self::TwoWorkers => "two-workers",
            Self::TwoEngines => "two-engines",
            Self::Kernel => "kernel",
            Self::Nftables => "nftables",
            Self::WireguardGo => "wireguard-go",
            Self::Boringtun => "boringtun",
            Self::Nebula => "nebula",
            Self::Openvpn => "openvpn",
            Self::Tinc => "tinc",
        }
    }

    /// Whether it is Fairway.
    pub(crate) fn is_fairway(self) -> bool {
        matches!(
            self,
            Self::FairwayPlain
                | Self::FairwayXdp
                | Self::FairwayXdpMillion
                | Self::FairwayGcm
                | Self::FairwayCbc
                | Self::FairwayMillion
                | Self::FairwayTenThousand
                | Self::FairwayByWorkers
                | Self::TwoWorkers
                | Self::TwoEngines
        )
    }

    /// How many sessions a flood has.
    pub(crate) fn flood_sessions(self, tools: &Tools) -> u32 {
        match self {
            Self::FairwayMillion | Self::FairwayXdpMillion => tools.million,
            Self::FairwayTenThousand | Self::FairwayByWorkers => 10_000,
            _ => 256,
        }
    }

    /// Of how many datagrams of a flood one is answered. A session that is heard of once in seconds
    /// needs an answer each time.
    pub(crate) fn flood_answers(self) -> u32 {
        if self.has_many_sessions() { 1 } else { 64 }
    }

    /// Whether it is there to show what many sessions cost.
    pub(crate) fn has_many_sessions(self) -> bool {
        matches!(
            self,
            Self::FairwayMillion
                | Self::FairwayXdpMillion
                | Self::FairwayTenThousand
                | Self::FairwayByWorkers
        )
    }

    /// The device on `b` that traffic must have come through, where it is not the WAN itself.
    pub(crate) fn tunnel_device(self, offload: bool) -> Option<String> {
        match self {
            Self::WireguardGo | Self::Boringtun | Self::Nebula | Self::Openvpn | Self::Tinc => {
                Some(tunnel::device(self, offload, "b"))
            }
            _ => None,
        }
    }

    /// Why it cannot be started here, if it cannot.
    pub(crate) fn missing(self, tools: &Tools) -> Option<String> {
        let programs: &[&str] = match self {
            _ if self.is_fairway() => {
                let found = tools.fairway.is_file();
                return (!found).then(|| format!("there is no {}", tools.fairway.display()));
            }
            Self::Kernel => &[],
            Self::Nftables => &["nft"],
            Self::WireguardGo => &["wireguard-go", "wg"],
            Self::Boringtun => {
                if tunnels::boringtun(tools).is_none() {
                    return Some("boringtun-cli is not installed".to_owned());
                }
                &["wg"]
            }
            Self::Nebula => &["nebula", "nebula-cert"],
            Self::Openvpn => &["openvpn", "openssl"],
            _ => &["tincd"],
        };
        let lacking: Vec<&str> = programs.iter().copied().filter(|program| find(program).is_none()).collect();
        (!lacking.is_empty()).then(|| format!("{} is not installed", lacking.join(", ")))
    }

    /// The version of what runs, in one line.
    pub(crate) fn version(self, tools: &Tools) -> String {
        let boringtun = tunnels::boringtun(tools).unwrap_or_default();
        let (boringtun, fairway) = (boringtun.to_string_lossy(), tools.fairway.to_string_lossy());
        let command: [&str; 2] = match self {
            Self::Kernel => ["uname", "-r"],
            Self::Nftables => ["nft", "--version"],
            Self::WireguardGo => ["wireguard-go", "--version"],
            Self::Boringtun => [&boringtun, "--version"],
            Self::Nebula => ["nebula", "-version"],
            Self::Openvpn => ["openvpn", "--version"],
            Self::Tinc => ["tincd", "--version"],
            _ => [&fairway, "--version"],
        };
        let output = Command::new(command[0]).arg(command[1]).output();
        let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned()
    }

    /// The topology of its line. Keys and certificates are made in `scratch`.
    pub(crate) fn topology(
        self,
        name: &str,
        offload: bool,
        tools: &Tools,
        scratch: &Path,
    ) -> anyhow::Result<Value> {
        let mut topology = line(name, offload);
        match self {
            Self::Kernel => kernel::forwarding(&mut topology),
            Self::Nftables => kernel::nftables(&mut topology),
            Self::WireguardGo => tunnels::wireguard_go(&mut topology, offload)?,
            Self::Boringtun => tunnels::boringtun_line(&mut topology, offload, tools)?,
            Self::Nebula => tunnels::nebula(&mut topology, offload, scratch)?,
            Self::Openvpn => tunnels::openvpn(&mut topology, offload, scratch)?,
            Self::Tinc => tunnels::tinc(&mut topology, offload, scratch)?,
            _ => fairway::routers(self, &mut topology, tools.workers),
        }
        Ok(topology)
    }
}

/// Where a program is.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(daemons).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// The line without anything on `a` and `b`.
fn line(name: &str, offload: bool) -> Value {
    let link = json!({ "offload": if offload { "on" } else { "off" }, "mtu": 1500 });
    let mut addresses = vec![format!("{CLIENT}/24")];
    let sources = FIRST_SOURCE_NUMBER..FIRST_SOURCE_NUMBER + fairway_io::traffic::SOURCES;
    addresses.extend(sources.map(|number| format!("10.1.0.{number}/24")));
    // Connections by the thousand leave ports waiting; buffers take what a burst brings.
    let host = json!({
        "net.ipv4.ip_local_port_range": "1024 65535",
        "net.ipv4.tcp_max_tw_buckets": "1000000",
    });
    json!({
        "name": name,
        "links": { "lan": link, "wan": link, "servers": link },
        "hosts": {
            "client": {
                "interfaces": { "lan": { "address": addresses, "gateway": ["10.1.0.1"] } },
                "sysctl": host,
            },
            "server": {
                "interfaces": { "servers": { "address": [format!("{SERVER}/24")], "gateway": ["10.2.0.1"] } },
                "sysctl": host,
                "services": { "iperf": { "command": "exec iperf3 -s", "ready": "tcp 5201" } },
            },
        },
    })
}

/// The interfaces of `a` and `b`.
fn interfaces(node: &str) -> Value {
    match node {
        "a" => json!({
            "lan": { "address": ["10.1.0.1/24"] },
            "wan": { "address": ["172.16.1.1/24"] },
        }),
        _ => json!({
            "wan": { "address": ["172.16.1.2/24"] },
            "servers": { "address": ["10.2.0.1/24"] },
        }),
    }
}

/// The other box.
fn far(node: &str) -> &'static str {
    if node == "a" { "b" } else { "a" }
}

/// The address of a box on the WAN.
fn wan(node: &str) -> &'static str {
    if node == "a" { "172.16.1.1" } else { "172.16.1.2" }
}

/// The prefix of a box's hosts.
fn prefix(node: &str) -> &'static str {
    if node == "a" { "10.1.0.0/24" } else { "10.2.0.0/24" }
}
