//! Many interfaces: two tenants with the same addresses at both of two sites, two WANs between them, and
//! interfaces, neighbours and routes that change while sessions go on.
//!
//! ```text
//! red   ──redlan───┐    ══wan1══       ┌──redware── redsrv
//!                  east             west
//! blue  ──bluelan──┘    ══wan2══       └──blueware── bluesrv
//!                                     west ──far── gate1, gate2 ──inner── distant
//! ```
//! Red and blue are both 10.0.0.10, their servers both 10.1.0.20.

use serde_json::{Value, json};

use crate::lab::{Lab, fairway, poll};

const SERVER: &str = "10.1.0.20";
const DISTANT: &str = "10.2.0.20";

fn host(link: &str, address: &str, gateway: &str) -> Value {
    json!({ "interfaces": { link: { "address": [address], "gateway": [gateway] } } })
}

fn web(link: &str, address: &str, gateway: &str, text: &str) -> Value {
    let mut node = host(link, address, gateway);
    let command = format!(
        "mkdir -p {{dir}}/www && echo {text} > {{dir}}/www/index.html && \
         head -c 4M /dev/urandom > {{dir}}/www/large && exec python3 -m http.server -d {{dir}}/www 80"
    );
    node["services"] = json!({ "web": { "command": command, "ready": "tcp 80" } });
    node
}

fn gate(far: &str, inner: &str) -> Value {
    json!({
        "interfaces": { "far": { "address": [far], "gateway": ["10.3.0.1"] }, "inner": { "address": [inner] } },
        "sysctl": { "net.ipv4.ip_forward": 1 },
    })
}

fn interface(name: &str, address: &str, tenant: Option<&str>) -> Value {
    let address = json!([{ "ip-address": address, "prefix-length": 24 }]);
    let mut interface = json!({ "name": name, "address": address });
    match tenant {
        Some(tenant) => interface["tenant"] = tenant.into(),
        None if name.starts_with("wan") => {
            interface["type"] = "fabric".into();
            interface["neighborhood"] = json!([{ "name": name }]);
        }
        None => {}
    }
    json!({ "name": name, "network-interface": [interface] })
}

fn router(name: &str, devices: &[Value], routes: &Value) -> Value {
    let node = json!([{ "name": "node0", "device-interface": devices }]);
    json!({ "name": name, "node": node, "service-route": routes })
}

fn route(service: &str, interface: &str) -> Value {
    json!({ "name": service, "service-name": service, "next-hop": { "interface": interface } })
}

fn service(name: &str, address: &str, tenant: &str) -> Value {
    json!({ "name": name, "address": [address], "access-policy": [{ "source": tenant }] })
}

fn raise(test: &str) -> Option<Lab> {
    let link = |address: &str| json!({ "address": [format!("{address}/24")] });
    let topology = json!({
        "links": {
            "redlan": {}, "bluelan": {}, "wan1": {}, "wan2": {}, "redware": {}, "blueware": {}, "far": {}, "inner": {},
        },
        "hosts": {
            "red": host("redlan", "10.0.0.10/24", "10.0.0.1"),
            "blue": host("bluelan", "10.0.0.10/24", "10.0.0.254"),
            "redsrv": web("redware", "10.1.0.20/24", "10.1.0.1", "red"),
            "bluesrv": web("blueware", "10.1.0.20/24", "10.1.0.254", "blue"),
            "gate1": gate("10.3.0.11/24", "10.2.0.11/24"),
            "gate2": gate("10.3.0.12/24", "10.2.0.12/24"),
            "distant": web("inner", "10.2.0.20/24", "10.2.0.11", "distant"),
            // Where devices are put away.
            "attic": { "interfaces": {} },
        },
        "routers": {
            "east": { "interfaces": {
                "redlan": link("10.0.0.1"), "bluelan": link("10.0.0.254"),
                "wan1": link("172.16.1.1"), "wan2": link("172.16.2.1"),
            } },
            "west": { "interfaces": {
                "redware": link("10.1.0.1"), "blueware": link("10.1.0.254"), "far": link("10.3.0.1"),
                "wan1": link("172.16.1.2"), "wan2": link("172.16.2.2"),
            } },
        },
        "config": { "fairway:authority": {
            "name": "test",
            "tenant": [{ "name": "red" }, { "name": "blue" }],
            "service": [
                service("redware", "10.1.0.0/24", "red"),
                service("blueware", "10.1.0.0/24", "blue"),
                service("far", "10.2.0.0/24", "red"),
            ],
            "router": [
                router("east", &[
                    interface("redlan", "10.0.0.1", Some("red")), interface("bluelan", "10.0.0.254", Some("blue")),
                    interface("wan1", "172.16.1.1", None), interface("wan2", "172.16.2.1", None),
                ], &json!([])),
                router("west", &[
                    interface("redware", "10.1.0.1", None), interface("blueware", "10.1.0.254", None),
                    interface("far", "10.3.0.1", None),
                    interface("wan1", "172.16.1.2", None), interface("wan2", "172.16.2.2", None),
                ], &json!([route("redware", "redware"), route("blueware", "blueware"), route("far", "far")])),
            ],
        } },
    });
    Lab::raise(test, topology)
}

/// The page that a host gets; nothing when it gets none.
fn page(lab: &Lab, from: &str, to: &str) -> String {
    lab.run(from, &["curl", "-sS", "--max-time", "3", &format!("http://{to}/")]).stdout.trim().to_owned()
}

#[track_caller]
fn wait_for_page(lab: &Lab, from: &str, to: &str, text: &str) {
    assert!(poll(20, || page(lab, from, to) == text), "{from} does not reach {text} at {to}");
}

/// A download that takes some seconds, and says the hash of what came.
fn download(lab: &Lab, from: &str) -> crate::lab::Background {
    let script = format!(
        "set -o pipefail; curl -sS --fail --limit-rate 400k --max-time 60 http://{SERVER}/large | sha256sum | cut -d' ' -f1"
    );
    lab.start(from, &["bash", "-c", &script])
}

fn hash(lab: &Lab, server: &str) -> String {
    let done = lab.run(server, &["sha256sum", &lab.path(&format!("{server}/www/large"))]).ok();
    done.stdout.split(' ').next().unwrap().to_owned()
}

fn state(lab: &Lab, router: &str, interface: &str) -> Value {
    let interfaces = lab.show(router, &["interfaces"]);
    interfaces.as_array().unwrap().iter().find(|one| one["name"] == interface).unwrap().clone()
}

#[track_caller]
fn wait_for_state(lab: &Lab, router: &str, interface: &str, up: bool) {
    assert!(poll(10, || state(lab, router, interface)["up"] == up), "{}", state(lab, router, interface));
}

#[test]
fn tenants_with_the_same_addresses_at_both_sites_reach_their_own_servers() {
    let Some(lab) = raise("many") else { return };
    let before = lab.drops();
    for _ in 0..3 {
        assert_eq!((page(&lab, "red", SERVER), page(&lab, "blue", SERVER)), ("red".into(), "blue".into()));
    }
    // At the same time, from the same port to the same port.
    let command =
        format!("curl -sS --fail --local-port 40000 --limit-rate 2M http://{SERVER}/large | sha256sum");
    let both = ["red", "blue"].map(|from| lab.start(from, &["bash", "-c", &command]));
    let hashes = both.map(|done| done.wait(30).ok().stdout.split(' ').next().unwrap().to_owned());
    assert_eq!(hashes, [hash(&lab, "redsrv"), hash(&lab, "bluesrv")]);
    for tenant in ["red", "blue"] {
        let sessions = lab.sessions("east", &["--tenant", tenant]);
        assert!(!sessions.is_empty() && sessions.iter().all(|s| s["tenant"] == tenant), "{sessions:?}");
    }
    lab.assert_moved(&before, &[]);
    // What is red's alone.
    lab.run("west", &["ip", "route", "add", "10.2.0.0/24", "via", "10.3.0.11", "dev", "far"]).ok();
    wait_for_page(&lab, "red", DISTANT, "distant");
    assert_eq!(page(&lab, "blue", DISTANT), "");
    assert!(!lab.moved(&before).is_empty());
}

#[test]
fn a_wan_that_goes_and_comes_back_is_passed_over_meanwhile() {
    let Some(lab) = raise("many-wan") else { return };
    for wan in ["wan1", "wan2"] {
        lab.run("east", &["ip", "link", "set", wan, "down"]).ok();
        wait_for_state(&lab, "east", wan, false);
        let down = || lab.show("west", &["status"])["paths_up"] == 1;
        assert!(poll(10, down), "the other side notices, too");
        wait_for_page(&lab, "red", SERVER, "red");
        wait_for_page(&lab, "blue", SERVER, "blue");
        lab.run("east", &["ip", "link", "set", wan, "up"]).ok();
        wait_for_state(&lab, "east", wan, true);
        lab.wait_for_paths(30);
        wait_for_page(&lab, "blue", SERVER, "blue");
    }
}

#[test]
fn sessions_go_on_when_an_interface_was_away_and_when_a_neighbour_is_another() {
    let Some(lab) = raise("many-away") else { return };
    wait_for_page(&lab, "red", SERVER, "red");
    wait_for_page(&lab, "blue", SERVER, "blue");
    let (red, blue) = (download(&lab, "red"), download(&lab, "blue"));
    let begun = || lab.sessions("east", &["--tenant", "red"]).iter().any(|s| s["received"]["bytes"] != 0);
    assert!(poll(10, begun) || !lab.sessions("east", &["--tenant", "red"]).is_empty());
    // The device leaves the namespace: for the router it is deleted, with its addresses.
    let (own, attic) = (format!("{}-east", lab.name), format!("{}-attic", lab.name));
    lab.run("east", &["ip", "link", "set", "redlan", "netns", &attic]).ok();
    wait_for_state(&lab, "east", "redlan", false);
    assert_eq!(state(&lab, "east", "bluelan")["up"], true);
    let text = fairway(&["show", "interfaces", "--socket", &lab.socket("east")]).ok().stdout;
    assert!(text.contains("down"), "{text}");
    assert_eq!(page(&lab, "blue", SERVER), "blue", "the others do not notice");
    lab.run("attic", &["ip", "link", "set", "redlan", "netns", &own]).ok();
    lab.run("east", &["ip", "address", "add", "10.0.0.1/24", "dev", "redlan"]).ok();
    lab.run("east", &["ip", "link", "set", "redlan", "up"]).ok();
    wait_for_state(&lab, "east", "redlan", true);
    assert_eq!(state(&lab, "east", "redlan")["missing_addresses"], json!([]));
    // The host's link is replaced, and the server's: who has their addresses has another link address.
    for (node, device, mac) in
        [("blue", "bluelan", "02:00:00:00:98:01"), ("bluesrv", "blueware", "02:00:00:00:98:02")]
    {
        lab.run(node, &["sysctl", "-qw", &format!("net.ipv4.conf.{device}.arp_notify=1")]).ok();
        lab.run(node, &["ip", "link", "set", device, "address", mac]).ok();
    }
    wait_for_page(&lab, "blue", SERVER, "blue");
    assert_eq!(red.wait(60).ok().stdout.trim(), hash(&lab, "redsrv"), "the session outlived its interface");
    assert_eq!(blue.wait(60).ok().stdout.trim(), hash(&lab, "bluesrv"));
}

/// How many packets a host has forwarded.
fn forwarded(lab: &Lab, node: &str) -> u64 {
    let snmp = lab.run(node, &["cat", "/proc/net/snmp"]).ok().stdout;
    let rows: Vec<Vec<&str>> = snmp
        .lines()
        .filter_map(|line| line.strip_prefix("Ip:"))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let column = rows[0].iter().position(|&name| name == "ForwDatagrams").unwrap();
    rows[1][column].parse().unwrap()
}

#[test]
fn traffic_follows_the_hosts_routes_to_another_gateway() {
    let Some(lab) = raise("many-gate") else { return };
    lab.run("west", &["ip", "route", "add", "10.2.0.0/24", "via", "10.3.0.11", "dev", "far"]).ok();
    // Answers take one gateway all the while; questions the one that the route names.
    wait_for_page(&lab, "red", DISTANT, "distant");
    assert_eq!(forwarded(&lab, "gate2"), 0);
    let pinging = lab.start("red", &["ping", "-i", "0.1", "-c", "60", "-W", "2", DISTANT]);
    lab.run("west", &["ip", "route", "replace", "10.2.0.0/24", "via", "10.3.0.12", "dev", "far"]).ok();
    assert!(poll(5, || forwarded(&lab, "gate2") > 10), "a session that goes on takes the new one, too");
    let first = forwarded(&lab, "gate1");
    wait_for_page(&lab, "red", DISTANT, "distant");
    assert!(forwarded(&lab, "gate1") >= first);
    // The gateway itself is replaced by another machine.
    lab.run("gate2", &["sysctl", "-qw", "net.ipv4.conf.far.arp_notify=1"]).ok();
    lab.run("gate2", &["ip", "link", "set", "far", "address", "02:00:00:00:97:01"]).ok();
    wait_for_page(&lab, "red", DISTANT, "distant");
    let done = pinging.wait(20).ok();
    let received = done.stdout.lines().find(|line| line.contains("received")).unwrap().to_owned();
    let lost: f64 =
        received.split(", ").find_map(|part| part.strip_suffix("% packet loss")).unwrap().parse().unwrap();
    assert!(lost <= 10.0, "{received}");
}
