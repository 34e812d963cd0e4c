//! Attacks, mistakes and limits: each moves exactly the counter that names it, on the router that
//! met it, and no other.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fragments;
mod hosts;
mod limits;
mod messages;
mod parsing;
mod payload;
mod replays;
mod scene;
