//! Any document is answered, and what is accepted is written and read back as the same.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use support::places;

use fairway_config::Authority;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Words of the data model and others, for members and values.
fn word() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "fairway:authority",
        "name",
        "tenant",
        "service",
        "router",
        "node",
        "address",
        "member",
        "neighborhood",
        "device-interface",
        "network-interface",
        "adjacency",
        "peer",
        "ip-address",
        "prefix-length",
        "gateway",
        "type",
        "transport",
        "protocol",
        "port-range",
        "start-port",
        "end-port",
        "access-policy",
        "source",
        "permission",
        "service-route",
        "service-name",
        "local",
        "next-hop",
        "interface",
        "limits",
        "bfd",
        "corp",
        "a.corp",
        "tcp",
        "10.0.0.0/8",
        "10.0.0.1",
        "::1",
        "fd00::/8",
        "fabric",
        "a'b",
        "corp@::/0",
    ]);
    prop_oneof![4 => known.prop_map(str::to_owned), 1 => any::<String>()]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0u32..300).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 64, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((word(), inner), 0..6).prop_map(|members| Value::Object(Map::from_iter(members))),
        ]
    })
}

/// Whatever the document is: no panic; and what is accepted can be written, generated and modelled.
fn exercise(text: &str) {
    let Ok(authority) = Authority::parse(text) else { return };
    for generated in [false, true] {
        let again = Authority::parse(&authority.to_json(generated));
        assert_eq!(again.as_ref(), Ok(&authority));
    }
    for router in &authority.routers {
        let model = authority.router_model(&router.name).unwrap();
        for path in &model.paths {
            assert!(model.peer(path.peer).is_some() && model.interface(path.interface).is_some());
            assert!((1..=255).contains(&path.pathway.len()));
        }
        assert!(model.routes.iter().all(|route| route.service.index() < model.services.len()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2048) })]

    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        exercise(&text);
    }

    #[test]
    fn any_json_is_answered(value in any_json()) {
        exercise(&value.to_string());
        exercise(&json!({"fairway:authority": value}).to_string());
    }

    #[test]
    fn any_change_of_the_example_is_answered(changes in vec((any::<prop::sample::Index>(), any_json()), 1..4)) {
        let mut document: Value = serde_json::from_str(&support::example()).unwrap();
        for (index, value) in changes {
            let mut found = Vec::new();
            places(&document, "", &mut found);
            *document.pointer_mut(&found[index.index(found.len())]).unwrap() = value;
        }
        exercise(&document.to_string());
    }

    #[test]
    fn any_exchange_within_the_example_is_answered(
        changes in vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..4),
    ) {
        let mut document: Value = serde_json::from_str(&support::example()).unwrap();
        for (to, from) in changes {
            let mut found = Vec::new();
            places(&document, "", &mut found);
            let leaves: Vec<&String> = found
                .iter()
                .filter(|place| !document.pointer(place).is_some_and(|v| v.is_object() || v.is_array()))
                .collect();
            let value = document.pointer(leaves[from.index(leaves.len())]).unwrap().clone();
            *document.pointer_mut(leaves[to.index(leaves.len())]).unwrap() = value;
        }
        exercise(&document.to_string());
    }

    #[test]
    fn any_cut_of_the_example_is_answered(at in any::<prop::sample::Index>()) {
        let text = support::example();
        exercise(&text[..at.index(text.len())]);
    }
}
