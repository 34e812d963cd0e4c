//! What several tests use: the YANG modules, read by a small parser of their own.
#![allow(dead_code, reason = "each test uses a part")]

pub mod yang;

use std::path::PathBuf;

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The example authority that the tests start from.
pub fn example() -> String {
    std::fs::read_to_string(repository("docs/examples/two-routers.json")).unwrap()
}
