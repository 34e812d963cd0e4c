//! What a topology file may say, and how it is told what it may not.

use std::time::Duration;

use super::{Configuration, Fault, Ready, Role, Topology};

const COMPLETE: &str = "
name: demo
seed: 7
config: demo.json
links:
  lan: {}
  wan:
    mtu: 1400
    delay: 10ms
    loss: 1%
    directions:
      dc: { rate: 5mbit, loss: 2% }
  far: { offload: off }
hosts:
  client:
    tenant: corp
    interfaces:
      lan: { address: [10.1.0.10/24, 'fd00:1::10/64'], gateway: [10.1.0.1, 'fd00:1::1'] }
  server:
    interfaces: { far: { device: eth0, address: [10.2.0.10/24] } }
    routes: { 10.3.0.0/16: 10.2.0.1 }
    sysctl: { net.ipv4.ip_forward: 1 }
    files: { hello: 'in {dir}' }
    services:
      web: { command: nginx, ready: tcp 80, deadline: 3s }
routers:
  branch: { interfaces: { lan: { address: [10.1.0.1/24, 'fd00:1::1/64'] }, wan: {} } }
  dc: { interfaces: { far: { address: [10.2.0.1/24] }, wan: {} } }
";

fn faults(text: &str) -> Vec<Fault> {
    Topology::parse(text).expect_err("nothing is wrong with it")
}

/// The only fault of a text, as line, field and message.
fn fault(text: &str) -> (u64, String, String) {
    let mut all = faults(text);
    assert_eq!(all.len(), 1, "{all:?}");
    let Fault { line, field, message } = all.remove(0);
    (line, field, message)
}

#[test]
fn a_complete_file_is_understood() {
    let topology = Topology::parse(COMPLETE).unwrap();
    assert_eq!(topology.config, Some(Configuration::File("demo.json".into())));
    assert_eq!(topology.routers().collect::<Vec<_>>(), ["branch", "dc"]);
    let wan = &topology.links["wan"];
    assert!(wan.is_wire() && !wan.offload && wan.mtu == 1400);
    assert_eq!(wan.impaired["branch"].describe(), "delay 10ms, loss 1%");
    assert_eq!(wan.impaired["dc"].describe(), "delay 10ms, loss 2%, rate 5mbit queue 50ms");
    assert!(
        !topology.links["lan"].is_wire() && topology.links["lan"].offload && !topology.links["far"].offload
    );
    let server = &topology.nodes["server"];
    assert_eq!(server.interfaces["far"].device, "eth0");
    assert_eq!(server.sysctl["net.ipv4.ip_forward"], "1");
    let web = &server.services["web"];
    assert_eq!((&web.ready, web.deadline), (&Ready::Tcp(80), Duration::from_secs(3)));
    assert_eq!(topology.nodes["client"].role, Role::Host { tenant: Some("corp".into()) });
}

#[test]
fn a_configuration_may_be_inside() {
    let text = "name: a\nconfig: { 'fairway:authority': { name: x } }\n";
    let inline = Topology::parse(text).unwrap().config;
    assert_eq!(inline, Some(Configuration::Inline(serde_json::json!({"fairway:authority": {"name": "x"}}))));
}

#[test]
fn malformed_text_has_its_line_and_field() {
    let replaced = |from: &str, to: &str| fault(&COMPLETE.replace(from, to));
    let (line, field, message) = replaced("    delay: 10ms", "    dealy: 10ms");
    assert_eq!((line, field.as_str()), (9, "links.wan.dealy"));
    assert!(message.contains("unknown field") && message.contains("delay"), "{message}");
    let (line, field, message) = replaced("delay: 10ms", "delay: 10");
    assert_eq!((line, field.as_str()), (9, "links.wan.delay"));
    assert!(message.starts_with("`10` is not a time"), "{message}");
    let (line, field, _) = replaced("mtu: 1400", "mtu: 70000");
    assert_eq!((line, field.as_str()), (8, "links.wan.mtu"));
    let (line, field, message) = replaced("10.1.0.10/24, 'fd00", "10.1.0.10, 'fd00");
    assert_eq!((line, field.as_str()), (18, "hosts.client.interfaces.lan.address[0]"));
    assert!(message.contains("such as 10.1.0.1/24"), "{message}");
    let (line, _, message) = replaced("  lan: {}\n", "  lan: {}\n  lan: {}\n");
    assert!(line == 7 && message.contains("duplicate"), "{line} {message}");
    let (line, _, _) = replaced("links:\n", "links: [\n");
    assert!(line > 0);
    assert!(fault("links: {}").2.contains("missing field `name`"));
}

#[test]
fn contradictions_have_their_line_and_field() {
    for (from, to, line, field, message) in [
        ("name: demo", "name: Demo", 2, "name", "no name here"),
        (
            "      lan: { address",
            "      lam: { address",
            18,
            "hosts.client.interfaces.lam",
            "there are: far, lan, wan",
        ),
        (
            "[10.1.0.1, 'fd",
            "[10.9.0.1, 'fd",
            18,
            "hosts.client.interfaces.lan.gateway",
            "10.9.0.1 is not on a prefix",
        ),
        ("      dc: { rate", "      db: { rate", 12, "links.wan.directions.db", "there are: branch, dc"),
        ("loss: 2% }", "jitter: 1s }", 12, "links.wan.directions.dc", "jitter must not exceed delay"),
        ("    mtu: 1400", "    mtu: 60", 8, "links.wan.mtu", "too small"),
        ("    mtu: 1400", "    offload: on", 8, "links.wan.offload", "single packets"),
        ("ready: tcp 80", "ready: soon", 25, "hosts.server.services.web.ready", "`tcp PORT`"),
        ("net.ipv4.ip_forward", "kernel.hostname", 22, "hosts.server.sysctl.kernel.hostname", "only `net.…`"),
        ("hello:", "a/b:", 23, "hosts.server.files.a/b", "no `/`"),
        ("device: eth0", "device: lo", 20, "hosts.server.interfaces.far.device", "no device name"),
        ("config: demo.json\n", "", 26, "config", "routers need a configuration"),
        ("  dc: { interfaces", "  lan: { interfaces", 28, "routers.lan", "taken already, in `links`"),
        ("10.2.0.1/24", "10.2.0.10/24", 28, "routers.dc.interfaces.far.address", "used twice on link far"),
    ] {
        let all = faults(&COMPLETE.replace(from, to));
        let found = all.iter().find(|fault| fault.field == field);
        let found = found.unwrap_or_else(|| panic!("no fault of {field} in {all:?}"));
        assert!(found.line == line && found.message.contains(message), "{found:?}");
    }
}

#[test]
fn every_fault_is_told_at_once() {
    let text = "name: a\nlinks:\n  alone: { mtu: 10 }\n  nobody: {}\nhosts:\n  x: { interfaces: { alone: {}, missing: {} } }\n";
    let fields: Vec<(u64, String)> =
        faults(text).into_iter().map(|fault| (fault.line, fault.field)).collect();
    let expected =
        [(3, "links.alone"), (3, "links.alone.mtu"), (4, "links.nobody"), (6, "hosts.x.interfaces.missing")];
    assert_eq!(fields, expected.map(|(line, field)| (line, field.to_owned())));
}

#[test]
fn nat_boxes_name_their_sides() {
    let text = "name: a\nlinks: { in: {}, out: {} }\nhosts: { h: { interfaces: { in: {}, out: {} } } }\nnat:\n  \
                box: { inside: [in], outside: away, interfaces: { in: {}, out: {} } }\n";
    let (line, field, message) = fault(text);
    assert_eq!((line, field.as_str()), (5, "nat.box.outside"));
    assert!(message.contains("no interface on `away`"), "{message}");
    assert!(Topology::parse(&text.replace("away", "out")).is_ok());
}
