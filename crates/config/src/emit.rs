//! Validated elements back to an RFC 7951 document.

use serde_json::{Map, Value};

use crate::elements::Authority;
use crate::schema::{AUTHORITY, Kind, Node};
use crate::walk::default_value;

impl Authority {
    /// The configuration as a document: in the order of the data model, two spaces an indent,
    /// without leaves that hold their default. With `generated`, neighborhoods are expanded first
    /// ([`Authority::generate`]), and what they made is marked.
    #[must_use]
    pub fn to_json(&self, generated: bool) -> String {
        let expanded = generated.then(|| self.generate());
        let authority = expanded.as_ref().unwrap_or(self);
        // Serialising plain data to memory cannot fail.
        let mut value = serde_json::to_value(authority).unwrap_or(Value::Null);
        if let Value::Object(members) = &mut value {
            without_defaults(members, AUTHORITY);
        }
        let document = Value::Object(Map::from_iter([("fairway:authority".to_owned(), value)]));
        let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
        text.push('\n');
        text
    }
}

fn without_defaults(members: &mut Map<String, Value>, nodes: &[Node]) {
    for node in nodes {
        let Some(value) = members.get_mut(node.name) else { continue };
        let redundant = match (node.kind, value) {
            (Kind::Leaf { ty, default: Some(default), .. }, value) => *value == default_value(ty, default),
            (Kind::Container { presence, children }, Value::Object(inner)) => {
                without_defaults(inner, children);
                inner.is_empty() && !presence
            }
            (Kind::List { children, .. }, Value::Array(entries)) => {
                for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
                    without_defaults(entry, children);
                }
                false
            }
            _ => false,
        };
        if redundant {
            members.shift_remove(node.name);
        }
    }
}
