//! The table is the tree of `yang/`, statement by statement.

use super::{AUTHORITY, Kind, Node, Target, Type};
use crate::names::PROTOCOLS;

#[path = "../../tests/support/mod.rs"]
#[allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
mod support;
use support::yang;

#[test]
fn the_table_is_the_tree_of_the_yang_modules() {
    let authority = yang::load(&support::repository("yang"));
    assert_eq!((authority.name.as_str(), authority.kind), ("authority", yang::Kind::Container));
    assert_eq!(names(AUTHORITY), yang_names(&authority));
    compare(AUTHORITY, &authority, "");
}

fn names(nodes: &[Node]) -> Vec<&str> {
    nodes.iter().map(|node| node.name).collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

fn yang_names(node: &yang::Node) -> Vec<&str> {
    let names = node.children.iter().map(|child| child.name.as_str());
    names.collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

fn compare(nodes: &[Node], parent: &yang::Node, path: &str) {
    for node in nodes {
        let path = format!("{path}/{}", node.name);
        let yang = parent.children.iter().find(|child| child.name == node.name).unwrap();
        match node.kind {
            Kind::Leaf { ty, default, mandatory } => {
                assert_eq!(yang.kind, yang::Kind::Leaf, "{path}");
                assert_eq!(default, yang.default.as_deref(), "{path}");
                let key = parent.keys.contains(&yang.name);
                assert_eq!(mandatory, key || yang.mandatory, "{path}");
                assert_eq!(said(ty), written(yang.ty.as_ref().unwrap()), "{path}");
            }
            Kind::LeafList { ty, max } => {
                assert_eq!((yang.kind, Some(max)), (yang::Kind::LeafList, yang.max), "{path}");
                assert_eq!(said(ty), written(yang.ty.as_ref().unwrap()), "{path}");
            }
            Kind::Container { presence, children } => {
                let kind = if presence { yang::Kind::Presence } else { yang::Kind::Container };
                assert_eq!(yang.kind, kind, "{path}");
                assert_eq!(names(children), yang_names(yang), "{path}");
                compare(children, yang, &path);
            }
            Kind::List { keys, max, children, choice } => {
                assert_eq!((yang.kind, Some(max)), (yang::Kind::List, yang.max), "{path}");
                assert_eq!(keys, yang.keys, "{path}");
                assert_eq!(names(children), yang_names(yang), "{path}");
                let choices: Vec<_> =
                    yang.children.iter().filter(|c| c.choice.is_some()).map(|c| c.name.as_str()).collect();
                assert_eq!(choice, choices, "{path}");
                compare(children, yang, &path);
            }
        }
    }
}

/// A type of the table in words.
fn said(ty: Type) -> String {
    let words = |length: &str, pattern: &str| format!("string {length} {pattern}");
    match ty {
        Type::Name(max) => words(&format!("1..{max}"), r"[A-Za-z0-9_]+([.\-][A-Za-z0-9_]+)*"),
        Type::RouteName(max) => words(&format!("1..{max}"), r"[A-Za-z0-9_]+([.@\-][A-Za-z0-9_]+)*"),
        Type::Device => words("1..15", r"[A-Za-z0-9_][A-Za-z0-9_.@\-]*"),
        Type::File => words("1..255", r"[A-Za-z0-9_./~@+\-]+"),
        Type::Source => words("1..127", "[^@]+(@[^@]+)?"),
        Type::Text(max) => words(&format!("0..{max}"), ""),
        Type::Uint(min, max) => format!("number {min}..{max}"),
        Type::Bool => "boolean".to_owned(),
        Type::Enum(all) => format!("one of {}", all.join(" ")),
        Type::Address => "inet:ip-address-no-zone".to_owned(),
        Type::Prefix => "inet:ip-prefix".to_owned(),
        Type::Protocol => {
            let mut all: Vec<&str> = PROTOCOLS.iter().filter_map(|protocol| protocol.name()).collect();
            all.sort_unstable();
            format!("one of {} or {:?}", all.join(" "), unnamed_protocols())
        }
        Type::Reference(Target::Tenant) => "to tenant".to_owned(),
        Type::Reference(Target::Security) => "to security".to_owned(),
        Type::Reference(Target::SessionType) => "to session-type".to_owned(),
        Type::Reference(Target::Service) => "to service".to_owned(),
        Type::Reference(Target::Router) => "to router".to_owned(),
        Type::Reference(Target::Interface) => "to network-interface".to_owned(),
    }
}

fn unnamed_protocols() -> Vec<u8> {
    (0..=255).filter(|&number| fairway_types::Protocol(number).name().is_none()).collect()
}

/// A type of the modules in the same words.
fn written(ty: &yang::Type) -> String {
    match ty.base.as_str() {
        "string" => {
            format!("string {} {}", ty.length.as_deref().unwrap_or(""), ty.pattern.as_deref().unwrap_or(""))
        }
        "uint8" => format!("number {}", ty.range.as_deref().unwrap_or("0..255")),
        "uint16" => format!("number {}", ty.range.as_deref().unwrap_or("0..65535")),
        "uint32" => format!("number {}", ty.range.as_deref().unwrap()),
        "enumeration" => format!("one of {}", words(ty)),
        "leafref" => {
            let path = ty.path.as_deref().unwrap().replace("fairway:", "");
            let owner = path.strip_suffix("/name").unwrap();
            format!("to {}", owner.rsplit('/').next().unwrap())
        }
        "union" => {
            let [names, numbers] = &ty.members[..] else { panic!("{ty:?}") };
            let mut all: Vec<&str> = names.enums.iter().map(|(name, _)| name.as_str()).collect();
            all.sort_unstable();
            let numbers: Vec<u8> = numbers.range.as_deref().unwrap().split(" | ").flat_map(range).collect();
            format!("one of {} or {numbers:?}", all.join(" "))
        }
        other => other.to_owned(),
    }
}

fn words(ty: &yang::Type) -> String {
    ty.enums.iter().map(|(word, _)| word.as_str()).collect::<Vec<_>>().join(" ")
}

fn range(text: &str) -> core::ops::RangeInclusive<u8> {
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    first.parse().unwrap()..=last.parse().unwrap()
}
