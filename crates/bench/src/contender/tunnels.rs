//! The tunnels, each with its own keys, certificates and configuration, made anew for each run.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::tunnel::{MTU, device, node, routed, wait_for};
use super::{Contender, Tools, far, find, prefix, wan};

const NODES: [&str; 2] = ["a", "b"];

/// Runs a program in a folder; what it printed.
fn run(folder: &Path, program: &str, arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let program = find(program).with_context(|| format!("{program} is not installed"))?;
    let mut child = Command::new(&program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("running {}", program.display()))?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} {}: {}", program.display(), arguments.join(" "), complaint.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// An empty folder.
fn anew(scratch: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let folder = scratch.join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir(&folder)?;
    Ok(folder)
}

/// wireguard-go.
pub(super) fn wireguard_go(topology: &mut Value, offload: bool) -> anyhow::Result<()> {
    // Another name than WG_PROCESS_FOREGROUND does not exist: -f is refused by some versions.
    wireguard(topology, Contender::WireguardGo, offload, "LOG_LEVEL=error exec wireguard-go -f")
}

/// boringtun, in the way of its own documentation: as many threads as it likes.
pub(super) fn boringtun_line(topology: &mut Value, offload: bool, tools: &Tools) -> anyhow::Result<()> {
    let program = boringtun(tools).context("boringtun-cli is not installed")?;
    let program = program.display();
    let command = format!("exec {program} --foreground --disable-drop-privileges --verbosity error");
    wireguard(topology, Contender::Boringtun, offload, &command)
}

/// Where boringtun is.
pub(super) fn boringtun(tools: &Tools) -> Option<PathBuf> {
    Some(tools.peers.join("bin/boringtun-cli"))
        .filter(|path| path.is_file())
        .or_else(|| find("boringtun-cli"))
}

fn wireguard(topology: &mut Value, contender: Contender, offload: bool, start: &str) -> anyhow::Result<()> {
    let here = Path::new("/");
    let key = || run(here, "wg", &["genkey"], "");
    let keys = [key()?, key()?];
    for (index, name) in NODES.into_iter().enumerate() {
        let [private, other] = if index == 0 { [&keys[0], &keys[1]] } else { [&keys[1], &keys[0]] };
        let public = run(here, "wg", &["pubkey"], other)?;
        let conf = format!(
            "[Interface]\nPrivateKey = {}\nListenPort = 51820\n[Peer]\nPublicKey = {}\n\
             AllowedIPs = 0.0.0.0/0\nEndpoint = {}:51820\n",
            private.trim(),
            public.trim(),
            wan(far(name))
        );
        let device = device(contender, offload, name);
        let command = format!(
            "({start} {device}) &\n{}{}n=0; until wg setconf {device} {{dir}}/wg.conf || [ $n -gt 50 ]; \
             do n=$((n+1)); sleep 0.1; done\nwait",
            wait_for(&device),
            routed(&device, name)
        );
        node(topology, name, &command, &json!({ "wg.conf": conf }));
    }
    Ok(())
}

/// Nebula, both ends knowing where the other is.
pub(super) fn nebula(topology: &mut Value, offload: bool, scratch: &Path) -> anyhow::Result<()> {
    let folder = anew(scratch, "nebula")?;
    run(&folder, "nebula-cert", &["ca", "-name", "bench"], "")?;
    for (index, name) in NODES.into_iter().enumerate() {
        let ip = format!("10.9.0.{}/24", index + 1);
        run(&folder, "nebula-cert", &["sign", "-name", name, "-ip", &ip, "-subnets", prefix(name)], "")?;
    }
    let read = |file: String| fs::read_to_string(folder.join(file));
    for (index, name) in NODES.into_iter().enumerate() {
        let (other, other_ip) = (far(name), format!("10.9.0.{}", 2 - index));
        let device = device(Contender::Nebula, offload, name);
        let config = json!({
            "pki": { "ca": "{dir}/ca.crt", "cert": "{dir}/node.crt", "key": "{dir}/node.key" },
            "static_host_map": { &other_ip: [format!("{}:4242", wan(other))] },
            "lighthouse": { "am_lighthouse": false },
            "listen": { "host": "0.0.0.0", "port": 4242, "batch": 64 },
            "punchy": { "punch": false },
            "cipher": "aes",
            "tun": {
                "dev": device, "mtu": MTU, "tx_queue": 500, "drop_multicast": true,
                "unsafe_routes": [{ "route": prefix(other), "via": other_ip, "mtu": MTU }],
            },
            "logging": { "level": "error" },
            "firewall": {
                "outbound": [{ "port": "any", "proto": "any", "host": "any" }],
                "inbound": [{ "port": "any", "proto": "any", "host": "any" }],
            },
        });
        let files = json!({
            "config.yml": config.to_string(),
            "ca.crt": read("ca.crt".to_owned())?,
            "node.crt": read(format!("{name}.crt"))?,
            "node.key": read(format!("{name}.key"))?,
        });
        node(topology, name, "exec nebula -config {dir}/config.yml", &files);
    }
    Ok(())
}

/// OpenVPN from point to point, without the kernel's help.
pub(super) fn openvpn(topology: &mut Value, offload: bool, scratch: &Path) -> anyhow::Result<()> {
    let folder = anew(scratch, "openvpn")?;
    let mut fingerprints = Vec::new();
    for name in NODES {
        let (key, cert, subject) = (format!("{name}.key"), format!("{name}.crt"), format!("/CN={name}"));
        let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-x509"];
        let rest = ["-days", "30", "-subj", &subject, "-keyout", &key, "-out", &cert];
        run(&folder, "openssl", &[&["req"][..], &curve, &rest].concat(), "")?;
        let line = run(&folder, "openssl", &["x509", "-in", &cert, "-noout", "-fingerprint", "-sha256"], "")?;
        fingerprints.push(line.trim().rsplit('=').next().unwrap_or_default().to_owned());
    }
    for (index, name) in NODES.into_iter().enumerate() {
        let role = if index == 0 { "tls-client" } else { "tls-server\ndh none" };
        let device = device(Contender::Openvpn, offload, name);
        let config = format!(
            "dev {device}\ndev-type tun\nproto udp\nlocal {}\nremote {}\n{role}\ncert node.crt\nkey node.key\n\
             <peer-fingerprint>\n{}\n</peer-fingerprint>\nifconfig 10.9.0.{} 10.9.0.{}\n\
             data-ciphers AES-256-GCM\ncipher AES-256-GCM\ntun-mtu {MTU}\nmssfix 0\ndisable-dco\nverb 1\n\
             route 10.{}.0.0 255.255.255.0\nsndbuf 4194304\nrcvbuf 4194304\n",
            wan(name),
            wan(far(name)),
            fingerprints.get(1 - index).map_or("", String::as_str),
            index + 1,
            2 - index,
            2 - index,
        );
        let read = |ending: &str| fs::read_to_string(folder.join(format!("{name}.{ending}")));
        let files = json!({ "node.conf": config, "node.crt": read("crt")?, "node.key": read("key")? });
        node(topology, name, "exec openvpn --cd {dir} --config node.conf", &files);
    }
    Ok(())
}

/// tinc 1.0 as a router, with ciphers of our time.
pub(super) fn tinc(topology: &mut Value, offload: bool, scratch: &Path) -> anyhow::Result<()> {
    let folder = anew(scratch, "tinc")?;
    let mut hosts = Vec::new();
    for name in NODES {
        let home = folder.join(name);
        fs::create_dir_all(home.join("hosts"))?;
        fs::write(home.join("tinc.conf"), format!("Name = {name}\n"))?;
        let path = home.to_string_lossy().into_owned();
        run(&home, "tincd", &["-c", &path, "-K2048"], "\n\n")?;
        let public = fs::read_to_string(home.join("hosts").join(name))?;
        hosts.push(format!(
            "Address = {}\nSubnet = {}\nCipher = aes-256-cbc\nDigest = sha256\nCompression = 0\n\
             PMTU = 1500\nPMTUDiscovery = yes\n{public}",
            wan(name),
            prefix(name)
        ));
    }
    for name in NODES {
        let device = device(Contender::Tinc, offload, name);
        let connect = if name == "a" { "ConnectTo = b\n" } else { "" };
        let conf = format!(
            "Name = {name}\nMode = router\nInterface = {device}\nProcessPriority = normal\n{connect}"
        );
        let command = format!(
            "mkdir -p {{dir}}/tinc/hosts && cp {{dir}}/host-a {{dir}}/tinc/hosts/a && \
             cp {{dir}}/host-b {{dir}}/tinc/hosts/b\n\
             cp {{dir}}/tinc-conf {{dir}}/tinc/tinc.conf && cp {{dir}}/rsa_key.priv {{dir}}/tinc/\n\
             chmod 600 {{dir}}/tinc/rsa_key.priv\n\
             (exec tincd -D -c {{dir}}/tinc --pidfile={{dir}}/tinc.pid) &\n{}{}wait",
            wait_for(&device),
            routed(&device, name)
        );
        let files = json!({
            "tinc-conf": conf,
            "host-a": hosts.first(),
            "host-b": hosts.get(1),
            "rsa_key.priv": fs::read_to_string(folder.join(name).join("rsa_key.priv"))?,
        });
        node(topology, name, &command, &files);
    }
    Ok(())
}
