//! The parser and libyang accept and refuse the same documents.
//!
//! Each case changes one thing in the example. `Semantic` cases are what YANG cannot say here: they
//! are refused by the parser only, and listed as such, one by one.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use fairway_config::Authority;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Value, json};
use yang5::context::{Context, ContextFlags};
use yang5::data::{DataFormat, DataParserFlags, DataTree, DataValidationFlags};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Accept,
    Refuse,
    /// Refused by the parser, accepted by libyang.
    Semantic,
}
use Verdict::{Accept, Refuse, Semantic};

enum Change {
    Set(Value),
    Remove,
    /// Appends to an array.
    Add(Value),
}
use Change::{Add, Remove, Set};

/// A place in the example, its change, and what becomes of the document.
type Case = (&'static str, Change, Verdict);

fn libyang() -> Context {
    let mut context = Context::new(ContextFlags::NO_YANGLIBRARY).unwrap();
    context.set_searchdir(support::repository("yang")).unwrap();
    context.load_module("fairway", None, &[]).unwrap();
    context
}

fn libyang_accepts(context: &Context, document: &str) -> Result<(), String> {
    let (parse, validate) = (DataParserFlags::STRICT, DataValidationFlags::NO_STATE);
    DataTree::parse_string(context, document, DataFormat::JSON, parse, validate)
        .map(drop)
        .map_err(|error| format!("{error:?}"))
}

fn check(context: &Context, name: &str, document: &str, expected: Verdict) -> Result<(), String> {
    let ours = Authority::parse(document);
    let theirs = libyang_accepts(context, document);
    let found = match (&ours, &theirs) {
        (Ok(_), Ok(())) => Some(Accept),
        (Err(_), Err(_)) => Some(Refuse),
        (Err(_), Ok(())) => Some(Semantic),
        (Ok(_), Err(_)) => None,
    };
    if found == Some(expected) {
        return Ok(());
    }
    let ours = ours.err().map(|faults| faults.iter().map(|fault| format!("{fault}\n")).collect::<String>());
    Err(format!("{name}: expected {expected:?}\nparser: {ours:?}\nlibyang: {theirs:?}\n"))
}

fn apply(document: &mut Value, place: &str, change: Change) {
    let place = format!("/fairway:authority{place}");
    let (parent, name) = place.rsplit_once('/').unwrap();
    let target = document.pointer_mut(parent).unwrap_or_else(|| panic!("{place}"));
    match (target, change) {
        (Value::Object(members), Set(value)) => drop(members.insert(name.to_owned(), value)),
        (Value::Array(elements), Set(value)) => elements[name.parse::<usize>().unwrap()] = value,
        (Value::Object(members), Remove) => {
            drop(members.shift_remove(name).unwrap_or_else(|| panic!("{place}")))
        }
        (Value::Array(elements), Remove) => drop(elements.remove(name.parse().unwrap())),
        (Value::Object(members), Add(value)) => {
            members.entry(name).or_insert_with(|| json!([])).as_array_mut().unwrap().push(value);
        }
        (target, Add(_)) => panic!("{target}"),
        (target, _) => panic!("{place}: {target}"),
    }
}

fn run(cases: Vec<Case>) {
    let context = libyang();
    let example: Value = serde_json::from_str(&support::example()).unwrap();
    let mut disagreements = Vec::new();
    for (place, change, expected) in cases {
        let mut document = example.clone();
        let name = match &change {
            Set(value) => format!("{place} = {value}"),
            Remove => format!("{place} removed"),
            Add(value) => format!("{place} + {value}"),
        };
        apply(&mut document, place, change);
        disagreements.extend(check(&context, &name, &document.to_string(), expected).err());
    }
    assert!(disagreements.is_empty(), "\n{}", disagreements.join("\n"));
}

#[test]
fn the_example_is_accepted_without_a_warning() {
    let context = libyang();
    check(&context, "example", &support::example(), Accept).unwrap();
    let authority = Authority::parse(&support::example()).unwrap();
    assert_eq!(authority.warnings(), []);
}

#[test]
fn generated_documents_are_accepted() {
    let context = libyang();
    let authority = Authority::parse(&support::example()).unwrap();
    check(&context, "plain", &authority.to_json(false), Accept).unwrap();
    check(&context, "generated", &authority.to_json(true), Accept).unwrap();
}

const INTERFACE: &str = "/router/0/node/0/device-interface/0/network-interface";

#[test]
fn unknown_and_missing_elements() {
    run(vec![
        ("/tennant", Set(json!([])), Refuse),
        ("/service/0/colour", Set(json!("red")), Refuse),
        ("/router/0/limits/cpu", Set(json!(1)), Refuse),
        ("/router/0/service-route/0/local/deep", Set(json!(1)), Refuse),
        ("/name", Remove, Refuse),
        ("/tenant/0/name", Remove, Refuse),
        ("/service/0/name", Remove, Refuse),
        ("/service/0/transport/0/protocol", Remove, Refuse),
        ("/service/0/transport/0/port-range/0/start-port", Remove, Refuse),
        ("/service/0/access-policy/0/source", Remove, Refuse),
        ("/router/0/service-route/0/service-name", Remove, Refuse),
        ("/router/0/service-route/0/local", Remove, Refuse),
        ("/router/1/service-route/2/next-hop/interface", Remove, Refuse),
        ("/router/1/node/0/device-interface/1/network-interface/0/adjacency/0/peer", Remove, Refuse),
        (
            "/router/1/node/0/device-interface/1/network-interface/0/adjacency/0/port-range/end-port",
            Remove,
            Refuse,
        ),
        ("/router/0/node/0/device-interface/0/network-interface/0/address/0/prefix-length", Remove, Refuse),
        ("/description", Remove, Accept),
        ("/session-type/0/timeout", Remove, Accept),
        ("/service/0/access-policy", Remove, Accept),
        ("/router/0/host-interface", Remove, Accept),
        ("/router/0/limits", Remove, Accept),
        ("/router/0/limits", Set(json!({})), Accept),
        ("/router/0/service-route", Set(json!([])), Accept),
        ("/router/1/peer", Remove, Accept),
    ]);
}

#[test]
fn types_ranges_and_patterns() {
    run(vec![
        ("/name", Set(json!(7)), Refuse),
        ("/name", Set(json!("")), Refuse),
        ("/name", Set(json!("two words")), Refuse),
        ("/name", Set(json!("a--b")), Refuse),
        ("/name", Set(json!("-a")), Refuse),
        ("/name", Set(json!("x".repeat(63))), Accept),
        ("/name", Set(json!("x".repeat(64))), Refuse),
        ("/name", Set(json!(null)), Refuse),
        ("/description", Set(json!("")), Accept),
        ("/description", Set(json!("ü".repeat(255))), Accept),
        ("/description", Set(json!("ü".repeat(256))), Refuse),
        ("/tenant", Set(json!({})), Refuse),
        ("/tenant/0", Set(json!("corp")), Refuse),
        ("/router/0/limits", Set(json!([])), Refuse),
        ("/router/0/limits/session-rate", Set(json!(0)), Refuse),
        ("/router/0/limits/per-tenant", Set(json!({ "max-sessions": 4_000_000 })), Accept),
        ("/router/0/limits/per-tenant", Set(json!({ "max-sessions": 4_000_001 })), Refuse),
        ("/router/0/limits/per-source", Set(json!({ "half-open": 0 })), Refuse),
        ("/router/0/limits/per-source", Set(json!({ "sessions": 5 })), Refuse),
        ("/router/0/limits/per-peer", Set(json!({ "session-rate": 10_000_000 })), Accept),
        ("/router/0/limits/per-peer", Set(json!({ "session-rate": 10_000_001 })), Refuse),
        ("/tenant/0/limits", Set(json!({ "half-open": 1, "session-rate": 1 })), Accept),
        ("/tenant/0/limits", Set(json!({ "half-open": "1" })), Refuse),
        ("/tenant/0/limits", Set(json!({})), Accept),
        ("/router/1/peer/0/limits", Set(json!({ "max-sessions": 1 })), Accept),
        ("/router/1/peer/0/limits", Set(json!({ "max-sessions": 0 })), Refuse),
        ("/security/0/encrypt-metadata", Set(json!("true")), Refuse),
        ("/security/0/encrypt-metadata", Set(json!(1)), Refuse),
        ("/security/0/encryption-cipher", Set(json!("aes-cbc-128")), Accept),
        ("/security/0/encryption-cipher", Set(json!("aes-gcm-128")), Refuse),
        ("/security/0/hmac-mode", Set(json!("disabled")), Accept),
        ("/security/0/hmac-mode", Set(json!("time-based")), Refuse),
        ("/security/0/adaptive-encryption", Set(json!(false)), Accept),
        ("/security/0/encrypt", Set(json!("no")), Refuse),
        ("/session-type/0/timeout", Set(json!(0)), Refuse),
        ("/session-type/0/timeout", Set(json!(604_800)), Accept),
        ("/session-type/0/timeout", Set(json!(604_801)), Refuse),
        ("/session-type/0/timeout", Set(json!(-1)), Refuse),
        ("/session-type/0/timeout", Set(json!(1.5)), Refuse),
        ("/session-type/0/timeout", Set(json!("60")), Refuse),
        ("/session-type/0/timeout", Set(json!(99_999_999_999_u64)), Refuse),
        ("/service/0/scope", Set(json!("Public")), Refuse),
        ("/service/0/address/0", Set(json!("10.2.0.10")), Refuse),
        ("/service/0/address/0", Set(json!("10.2.0.10/33")), Refuse),
        ("/service/0/address/0", Set(json!("10.2.0.10/032")), Refuse),
        ("/service/0/address/0", Set(json!("fd00::/129")), Refuse),
        ("/service/0/address/0", Set(json!("10.2.0.10/24")), Accept),
        ("/service/0/transport/0/protocol", Set(json!("TCP")), Refuse),
        ("/service/5/transport/1/protocol", Set(json!(6)), Refuse),
        ("/service/5/transport/1/protocol", Set(json!(256)), Refuse),
        ("/service/5/transport/1/protocol", Set(json!(255)), Accept),
        ("/service/0/transport/0/port-range/0/start-port", Set(json!(65_536)), Refuse),
        ("/service/0/transport/0/port-range/0/start-port", Set(json!(0)), Accept),
        ("/service/0/access-policy/0/permission", Set(json!("permit")), Refuse),
        ("/router/0/node/0/device-interface/0/device", Set(json!("a-name-of-16-chr")), Refuse),
        ("/router/0/node/0/device-interface/0/device", Set(json!("eth0:1")), Refuse),
        ("/router/0/node/0/device-interface/0/device", Set(json!("eth0.100")), Accept),
        ("/router/0/node/0/device-interface/0/network-interface/0/vlan", Set(json!(4095)), Refuse),
        ("/router/0/node/0/device-interface/0/network-interface/0/vlan", Set(json!(4094)), Accept),
        ("/router/0/node/0/device-interface/0/network-interface/0/mtu", Set(json!(1279)), Refuse),
        ("/router/0/node/0/device-interface/0/network-interface/0/type", Set(json!("internal")), Refuse),
        ("/router/0/node/0/device-interface/0/network-interface/0/name", Set(json!("x".repeat(33))), Refuse),
        (
            "/router/0/node/0/device-interface/0/network-interface/0/address/0/ip-address",
            Set(json!("10.1.0.256")),
            Refuse,
        ),
        (
            "/router/0/node/0/device-interface/0/network-interface/0/address/0/ip-address",
            Set(json!("10.1.0.01")),
            Refuse,
        ),
        (
            "/router/0/node/0/device-interface/0/network-interface/0/address/0/prefix-length",
            Set(json!(33)),
            Refuse,
        ),
        (
            "/router/0/node/0/device-interface/0/network-interface/0/address/0/prefix-length",
            Set(json!(0)),
            Refuse,
        ),
        (
            "/router/0/node/0/device-interface/1/network-interface/0/neighborhood/0/port-range/start-port",
            Set(json!(1023)),
            Refuse,
        ),
        (
            "/router/0/node/0/device-interface/1/network-interface/0/neighborhood/0/bfd/multiplier",
            Set(json!(2)),
            Refuse,
        ),
        (
            "/router/0/node/0/device-interface/1/network-interface/0/neighborhood/0/max-way-points",
            Set(json!(0)),
            Refuse,
        ),
        (
            "/router/0/node/0/device-interface/1/network-interface/0/neighborhood/0/topology",
            Set(json!("star")),
            Refuse,
        ),
        ("/router/1/peer/0/key-file", Set(json!("a key")), Refuse),
        ("/router/1/peer/0/key-file", Set(json!("/etc/fairway/keys/b.key")), Accept),
        ("/router/0/service-route/0/name", Set(json!("branch-printers@branch")), Accept),
        ("/router/0/service-route/0/local", Set(json!(true)), Refuse),
    ]);
}

#[test]
fn keys_and_doubles() {
    run(vec![
        ("/tenant", Add(json!({"name": "corp"})), Refuse),
        ("/service", Add(json!({"name": "web"})), Refuse),
        ("/service/0/address", Add(json!("10.2.0.10/32")), Refuse),
        ("/service/0/address", Add(json!("fd00:0002::10/128")), Refuse),
        ("/service/0/transport", Add(json!({"protocol": "tcp"})), Refuse),
        ("/service/0/transport/0/port-range", Add(json!({"start-port": 80, "end-port": 90})), Refuse),
        ("/service/0/access-policy", Add(json!({"source": "corp"})), Refuse),
        ("/router", Add(json!({"name": "dc"})), Refuse),
        ("/router", Add(json!({"name": "third"})), Accept),
        ("/router/0/node", Add(json!({"name": "node1"})), Refuse),
        (INTERFACE, Add(json!({"name": "lan-corp", "vlan": 30})), Refuse),
        (INTERFACE, Add(json!({"name": "wan", "vlan": 30})), Refuse),
        (INTERFACE, Add(json!({"name": "host", "vlan": 30})), Refuse),
        (INTERFACE, Add(json!({"name": "lan-other", "vlan": 20})), Refuse),
        (INTERFACE, Add(json!({"name": "lan-other", "vlan": 30})), Accept),
        (
            "/router/1/node/0/device-interface/1/network-interface/0/adjacency",
            Add(json!({"peer": "branch", "ip-address": "2001:db8:100:0::10"})),
            Refuse,
        ),
    ]);
}

#[test]
fn references_and_rules() {
    let adjacency = || json!({"peer": "branch", "ip-address": "10.2.0.9"});
    run(vec![
        ("/tenant/1/name", Set(json!("printers.unknown")), Refuse),
        ("/service/1/name", Set(json!("admin.unknown")), Refuse),
        ("/service/1/security", Set(json!("unknown")), Refuse),
        ("/service/1/session-type", Set(json!("unknown")), Refuse),
        ("/service/1/session-type", Set(json!("tcp")), Refuse),
        ("/service/0/access-policy/0/source", Set(json!("unknown")), Refuse),
        ("/service/0/access-policy/0/source", Set(json!("unknown@10.0.0.0/8")), Refuse),
        ("/service/0/access-policy/0/source", Set(json!("corp@10.0.0.0/8")), Accept),
        ("/service/0/access-policy/0/source", Set(json!("10.0.0.0/8")), Accept),
        ("/router/0/node/0/device-interface/0/network-interface/0/tenant", Set(json!("unknown")), Refuse),
        ("/router/0/host-interface/0/tenant", Set(json!("unknown")), Refuse),
        ("/router/1/peer/0/name", Set(json!("unknown")), Refuse),
        ("/router/1/peer/0/name", Set(json!("dc")), Refuse),
        ("/router/1/peer/0/allowed-tenant/0", Set(json!("unknown")), Refuse),
        ("/router/0/service-route/0/service-name", Set(json!("unknown")), Refuse),
        ("/router/0/service-route/0/peer", Set(json!("dc")), Refuse),
        ("/router/1/service-route/2/next-hop/interface", Set(json!("lan-corp")), Refuse),
        ("/router/1/service-route/2/next-hop/interface", Set(json!("wan")), Accept),
        (
            "/router/1/service-route",
            Add(json!({"name": "x", "service-name": "branch-printers", "peer": "dc"})),
            Refuse,
        ),
        (
            "/router/1/service-route",
            Add(json!({"name": "x", "service-name": "branch-printers", "peer": "branch"})),
            Accept,
        ),
        (
            "/router/1/node/0/device-interface/1/network-interface/0/adjacency/0/peer",
            Set(json!("dc")),
            Refuse,
        ),
        (
            "/router/1/node/0/device-interface/0/network-interface/0/adjacency",
            Set(json!([adjacency()])),
            Refuse,
        ),
        (
            "/router/0/node/0/device-interface/1/network-interface/0/neighborhood/0/security",
            Set(json!("x")),
            Refuse,
        ),
        (
            "/router/0/node/0/device-interface/1/network-interface/0/neighborhood/0/port-range/end-port",
            Set(json!(19999)),
            Refuse,
        ),
        ("/service/1/transport/0/port-range/1/end-port", Set(json!(7999)), Refuse),
        ("/service/3/transport/0/port-range", Set(json!([{"start-port": 8}])), Refuse),
        ("/router/0/node/0/device-interface/0/name", Set(json!("a-rather-long-name")), Accept),
        ("/router/0/node/0/device-interface", Add(json!({"name": "a-rather-long-name"})), Refuse),
        ("/router/0/host-interface", Add(json!({"name": "a-rather-long-name"})), Refuse),
    ]);
}

/// What YANG cannot say, or not without pages of XPath; the parser says it.
#[test]
fn rules_beyond_yang() {
    const WAN: &str = "/router/0/node/0/device-interface/1/network-interface/0/address/0";
    let place = |leaf: &str| -> &'static str { format!("{WAN}/{leaf}").leak() };
    run(vec![
        // The prefix of a source is a prefix.
        ("/service/0/access-policy/0/source", Set(json!("corp@10.0.0.0")), Refuse),
        ("/service/0/access-policy/0/source", Set(json!("corp@10.0.0.0/99")), Semantic),
        // Two lines of an access-policy mean the same source.
        ("/service/5/access-policy", Add(json!({"source": "10.2.0.1/24"})), Semantic),
        // One prefix, two tenants.
        (
            "/tenant/0/member",
            Add(json!({"neighborhood": "branch-lan", "address": ["10.1.128.0/17"]})),
            Semantic,
        ),
        // Gateways are on a prefix of their interface, and not the interface itself.
        (place("gateway"), Set(json!("203.0.113.1")), Semantic),
        (place("gateway"), Set(json!("198.51.100.10")), Semantic),
        ("/router/1/service-route/4/next-hop/gateway", Set(json!("203.0.113.1")), Semantic),
        // Addresses an interface cannot have.
        (place("ip-address"), Set(json!("127.0.0.1")), Semantic),
        (place("ip-address"), Set(json!("224.0.0.5")), Semantic),
        // One address, two interfaces of a router, or two routers of a neighborhood.
        (place("ip-address"), Set(json!("10.1.0.1")), Semantic),
        (place("ip-address"), Set(json!("198.51.100.20")), Semantic),
        // One Linux device, two device-interfaces.
        ("/router/0/node/0/device-interface/1/device", Set(json!("eth0")), Semantic),
        ("/router/0/host-interface/0/device", Set(json!("eth0")), Semantic),
        // An adjacency needs a local address of its family.
        ("/router/0/node/0/device-interface/1/network-interface/0/address/1", Remove, Accept),
        ("/router/1/node/0/device-interface/1/network-interface/0/address/1", Remove, Semantic),
        // A service-route leads to a router that can be reached.
        (
            "/router",
            Add(
                json!({"name": "island", "service-route": [{"name": "web", "service-name": "web", "peer": "dc"}]}),
            ),
            Semantic,
        ),
    ]);
}

#[test]
fn documents_that_are_no_objects_of_ours() {
    let context = libyang();
    let mut disagreements = Vec::new();
    for (document, expected) in [
        ("", Refuse),
        ("[]", Refuse),
        ("null", Refuse),
        ("{", Refuse),
        ("{}", Refuse),
        (r#"{"authority": {"name": "x"}}"#, Refuse),
        (r#"{"other:authority": {"name": "x"}}"#, Refuse),
        (r#"{"fairway:authority": []}"#, Refuse),
        (r#"{"fairway:authority": {"name": "x"}}"#, Accept),
        (r#"{"fairway:authority": {"name": "x", "name": "y"}}"#, Refuse),
        (r#"{"fairway:authority": {"name": "x"}, "fairway:authority": {"name": "y"}}"#, Refuse),
        // libyang stops reading behind the object.
        (r#"{"fairway:authority": {"name": "x"}} trailing"#, Semantic),
    ] {
        disagreements.extend(check(&context, document, document, expected).err());
    }
    assert!(disagreements.is_empty(), "\n{}", disagreements.join("\n"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1024) })]

    /// Whatever the parser accepts, libyang accepts too.
    #[test]
    fn what_the_parser_accepts_is_valid_yang(
        changes in vec((any::<Index>(), any::<Index>(), any::<bool>()), 1..3),
    ) {
        thread_local!(static LIBYANG: Context = libyang());
        let mut document: Value = serde_json::from_str(&support::example()).unwrap();
        for (to, from, leaf) in changes {
            let mut found = Vec::new();
            support::places(&document, "", &mut found);
            found.retain(|place| leaf != document.pointer(place).is_some_and(|v| v.is_object() || v.is_array()));
            // An earlier change may have put a leaf in the place of everything.
            if found.is_empty() {
                continue;
            }
            let value = document.pointer(&found[from.index(found.len())]).unwrap().clone();
            *document.pointer_mut(&found[to.index(found.len())]).unwrap() = value;
        }
        let text = document.to_string();
        if let Ok(authority) = Authority::parse(&text) {
            LIBYANG.with(|context| {
                prop_assert_eq!(libyang_accepts(context, &text), Ok(()));
                prop_assert_eq!(libyang_accepts(context, &authority.to_json(true)), Ok(()));
                Ok(())
            })?;
        }
    }
}
