//! What several tests use: the YANG modules, read by a small parser of their own.
#![allow(dead_code, reason = "each test uses a part")]

pub mod yang;

use std::path::PathBuf;

use serde_json::Value;

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The example authority that the tests start from.
pub fn example() -> String {
    std::fs::read_to_string(repository("docs/examples/two-routers.json")).unwrap()
}

/// All places of a document, as JSON pointers.
pub fn places(value: &Value, place: &str, found: &mut Vec<String>) {
    found.push(place.to_owned());
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| {
                places(value, &format!("{place}/{}", name.replace('~', "~0").replace('/', "~1")), found)
            });
        }
        Value::Array(elements) => {
            elements
                .iter()
                .enumerate()
                .for_each(|(at, value)| places(value, &format!("{place}/{at}"), found));
        }
        _ => {}
    }
}
