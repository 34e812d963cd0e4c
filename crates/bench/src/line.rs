//! A line that is up: its laboratory, its namespaces, its counters.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::child::{go_on, now, run};
use crate::contender::{Contender, SERVER, Tools};

/// The beginning of the names of all laboratories of this program.
const PREFIX: &str = "bench-";
/// How long a line may take to carry its first bytes.
const CARRY_DEADLINE: Duration = Duration::from_secs(20);
const COMMAND_LIMIT: Duration = Duration::from_secs(20);
/// How long a router may take to notice what a device does now.
const NOTICED: Duration = Duration::from_millis(1500);
/// The devices of the line.
const DEVICES: [(&str, &str); 6] =
    [("client", "lan"), ("a", "lan"), ("a", "wan"), ("b", "wan"), ("b", "servers"), ("server", "servers")];
/// What is on or off as one says so. Receive offload is off on these devices in either case.
const FEATURES: [&str; 3] = ["tx-tcp-segmentation", "generic-segmentation-offload", "tx-checksumming"];

/// A line that is up. It is removed with this value.
pub(crate) struct Line {
    /// What carries its traffic.
    pub(crate) contender: Contender,
    /// Whether its devices offload.
    pub(crate) offload: bool,
    /// The laboratory's name.
    pub(crate) lab: String,
    /// How many sessions a flood over it has.
    pub(crate) flood_sessions: u32,
    /// Whether the sessions of a flood are there already.
    pub(crate) flooded: Cell<bool>,
    /// What differs from the settings the cell is named by: a contender changed it.
    pub(crate) changed: Vec<String>,
}

/// What came out of the WAN at the far box, and out of the tunnel there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Crossed {
    /// Packets; a super-packet is one.
    pub(crate) packets: u64,
    /// Bytes, headers included.
    pub(crate) bytes: u64,
    /// Bytes out of the tunnel's device.
    pub(crate) tunnel_bytes: Option<u64>,
}

impl Line {
    /// Raises a line and waits until bytes cross it unchanged.
    pub(crate) fn raise(
        contender: Contender,
        offload: bool,
        tools: &Tools,
        scratch: &Path,
    ) -> anyhow::Result<Self> {
        go_on()?;
        let lab = format!("{PREFIX}{}-{}", contender.name(), if offload { "on" } else { "off" });
        let mut topology = contender.topology(&lab, offload, tools, scratch)?;
        let own = own_command()?;
        topology["hosts"]["server"]["services"]["load"] = json!({
            "command": format!("exec '{own}' load serve"),
            "ready": format!("tcp {}", crate::load::STREAM_PORT),
        });
        let file = scratch.join(format!("{lab}.json"));
        fs::write(&file, topology.to_string())?;
        fairway_lab::up(&file, &tools.fairway).with_context(|| format!("raising {}", contender.name()))?;
        let mut line = Self {
            contender,
            offload,
            lab,
            flood_sessions: contender.flood_sessions(tools),
            flooded: Cell::new(false),
            changed: Vec::new(),
        };
        line.check_offloads()?;
        line.carries().with_context(|| format!("{} does not carry traffic", contender.name()))?;
        if contender == Contender::FairwayByWorkers {
            line.leave_to_workers(&tools.fairway)?;
        }
        Ok(line)
    }

    /// Has the kernel forward nothing by itself.
    fn leave_to_workers(&self, fairway: &Path) -> anyhow::Result<()> {
        let fairway = fairway.to_str().context("the path of the command is no text")?;
        for router in ["a", "b"] {
            let socket = format!("{}/{}/{router}/api.sock", fairway_lab::STATE_DIRECTORY, self.lab);
            run(&self.namespace(router), &[fairway, "offload", "off", "--socket", &socket], COMMAND_LIMIT)?;
        }
        Ok(())
    }

    /// The namespace of a node.
    pub(crate) fn namespace(&self, node: &str) -> String {
        format!("{}-{node}", self.lab)
    }

    fn carries(&self) -> anyhow::Result<()> {
        let own = own_command()?;
        let start = now();
        loop {
            let before = self.crossed()?;
            let result = run(&self.namespace("client"), &[&own, "load", "check", SERVER], COMMAND_LIMIT);
            match result {
                Ok(_) => {
                    // 8 MiB each way: what comes back crosses, too, but leaves by the other end.
                    return self.crossed()?.since(&before).carried(8 << 20);
                }
                Err(error) => {
                    go_on()?;
                    ensure!(start.elapsed() < CARRY_DEADLINE, "{error:#}");
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Holds the devices of the line against what they are to be. Devices of hosts and links are as the
    /// topology says unless a contender changed them, which is told and not an error.
    fn check_offloads(&mut self) -> anyhow::Result<()> {
        for (node, device) in DEVICES {
            let text = run(&self.namespace(node), &["ethtool", "-k", device], COMMAND_LIMIT)?;
            for feature in FEATURES {
                let is_on = feature_is_on(&text, feature)
                    .with_context(|| format!("ethtool says nothing of {feature} of {device}"))?;
                if is_on == self.offload {
                    continue;
                }
                ensure!(
                    self.contender.is_fairway(),
                    "{feature} of {device} at {node} is not as it should be"
                );
                self.changed.push(format!("{node} {device} {feature} {}", if is_on { "on" } else { "off" }));
            }
        }
        Ok(())
    }

    /// Lets the devices of hosts poll. Routers find out that they can send them frames by XDP.
    pub(crate) fn poll(&self) -> anyhow::Result<()> {
        for (node, device) in [("client", "lan"), ("server", "servers")] {
            run(&self.namespace(node), &["ethtool", "-K", device, "gro", "on"], COMMAND_LIMIT)?;
        }
        std::thread::sleep(NOTICED);
        Ok(())
    }

    /// The counters of what crossed.
    pub(crate) fn crossed(&self) -> anyhow::Result<Crossed> {
        let (packets, bytes) = self.received("wan")?;
        let device = self.contender.tunnel_device(self.offload);
        let tunnel_bytes = device.map(|device| self.received(&device)).transpose()?.map(|(_, bytes)| bytes);
        Ok(Crossed { packets, bytes, tunnel_bytes })
    }

    fn received(&self, device: &str) -> anyhow::Result<(u64, u64)> {
        let command = ["ip", "-j", "-s", "link", "show", "dev", device];
        let text = run(&self.namespace("b"), &command, COMMAND_LIMIT)?;
        let links: Value = serde_json::from_str(&text)?;
        let counters = &links[0]["stats64"]["rx"];
        let count = |name: &str| counters[name].as_u64().with_context(|| format!("no {name} of {device}"));
        Ok((count("packets")?, count("bytes")?))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Err(error) = fairway_lab::down(Some(&self.lab)) {
            eprintln!("{}: {error}", self.lab);
        }
    }
}

impl Crossed {
    /// What crossed since.
    pub(crate) fn since(self, before: &Self) -> Self {
        Self {
            packets: self.packets.saturating_sub(before.packets),
            bytes: self.bytes.saturating_sub(before.bytes),
            tunnel_bytes: self
                .tunnel_bytes
                .map(|bytes| bytes.saturating_sub(before.tunnel_bytes.unwrap_or(0))),
        }
    }

    /// Fails when less than `payload` bytes crossed: then it was not this contender that carried them.
    pub(crate) fn carried(&self, payload: u64) -> anyhow::Result<()> {
        ensure!(self.bytes >= payload, "{payload} bytes arrived, but only {} crossed the WAN", self.bytes);
        if let Some(bytes) = self.tunnel_bytes {
            ensure!(bytes >= payload, "{payload} bytes arrived, but only {bytes} came out of the tunnel");
        }
        Ok(())
    }
}

/// This command, by the path it had when it was first asked for: it may be built anew meanwhile.
pub(crate) fn own_command() -> anyhow::Result<String> {
    static OWN: OnceLock<String> = OnceLock::new();
    if let Some(own) = OWN.get() {
        return Ok(own.clone());
    }
    let own = std::env::current_exe()?.to_string_lossy().into_owned();
    Ok(OWN.get_or_init(|| own).clone())
}

/// Removes lines that a run which was killed left behind.
pub(crate) fn remove_left_behind() -> anyhow::Result<()> {
    for lab in fairway_lab::status(None)? {
        if lab.name.starts_with(PREFIX) {
            eprintln!("{} was left behind; it is removed", lab.name);
            fairway_lab::down(Some(&lab.name))?;
        }
    }
    Ok(())
}

/// What `ethtool -k` says of a feature.
fn feature_is_on(text: &str, feature: &str) -> Option<bool> {
    let line = text.lines().find_map(|line| line.trim().strip_prefix(feature)?.strip_prefix(": "))?;
    line.split_whitespace().next().map(|word| word == "on")
}

/// A folder for configurations and keys; it is removed with this value.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    /// A new one, which only this user can read.
    pub(crate) fn new() -> anyhow::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::env::temp_dir().join(format!("fairway-bench-{}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::{Crossed, feature_is_on};

    #[test]
    fn features_are_read() {
        let text = "Features for lan:\nrx-checksumming: on\ntx-checksumming: off\n\ttx-checksum-ipv4: off [fixed]\n\
                    tcp-segmentation-offload: on\n\ttx-tcp-segmentation: on\n";
        assert_eq!(feature_is_on(text, "tx-checksumming"), Some(false));
        assert_eq!(feature_is_on(text, "tcp-segmentation-offload"), Some(true));
        assert_eq!(feature_is_on(text, "large-receive-offload"), None);
    }

    #[test]
    fn traffic_that_went_another_way_is_noticed() {
        let crossed = Crossed { packets: 10, bytes: 14_000, tunnel_bytes: Some(900) };
        assert!(crossed.carried(800).is_ok());
        assert!(crossed.carried(13_000).is_err());
        assert!(Crossed { tunnel_bytes: None, ..crossed }.carried(13_000).is_ok());
    }
}
