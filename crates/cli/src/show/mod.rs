//! `fairway show`: what a running router does, as tables or as the JSON of its API.
//!
//! Each module asks for one kind of thing and lays it out; layout is apart from asking, so that
//! tests need no router.

mod counters;
mod fabric;
mod fib;
mod interfaces;
mod limits;
mod sessions;
mod status;
#[cfg(test)]
mod tests;
mod workers;

use core::net::SocketAddr;
use core::time::Duration;

use serde::Serialize;

pub use self::sessions::{api_filters, find as find_sessions};
use crate::args::{ShowArgs, ShowObject, ShowPlain};
use crate::client::Connection;
use crate::failure::{self, Failure, Outcome};
use crate::output;

/// Shows one kind of thing.
pub fn run(args: ShowArgs) -> Outcome {
    match args.object {
        ShowObject::Sessions(args) => sessions::sessions(&args)?,
        ShowObject::Flows(args) => sessions::flows(&args)?,
        ShowObject::Fib(args) => fib::run(&args)?,
        ShowObject::Peers(args) => fabric::peers(&args)?,
        ShowObject::Waypoints(args) => fabric::waypoints(&args)?,
        ShowObject::Workers(args) => workers::run(&args)?,
        ShowObject::Nat(args) => fabric::nat(&args)?,
        ShowObject::Interfaces(args) => interfaces::run(&args)?,
        ShowObject::Limits(args) => limits::run(&args)?,
        ShowObject::Counters(args) => counters::counters(&args)?,
        ShowObject::Drops(args) => counters::drops(&args)?,
        ShowObject::Status(args) => status::run(&args)?,
    }
    Ok(failure::OK)
}

/// Prints the items as JSON, or as `text` lays them out.
fn present<T: Serialize>(
    plain: &ShowPlain,
    items: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), Failure> {
    if plain.json { output::json(items) } else { output::text(&text(items)) }
}

fn connect(plain: &ShowPlain) -> Result<Connection, Failure> {
    Connection::open(&plain.socket)
}

/// Seconds as people read them; nothing for what cannot be.
fn seconds(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or_else(|_| String::new(), crate::units::duration)
}

/// One end of a flow: without the port where the protocol has none.
fn end(address: SocketAddr, protocol: &str) -> String {
    match protocol {
        "tcp" | "udp" => address.to_string(),
        _ => address.ip().to_string(),
    }
}

/// The line under a table: how many there are, and how to see the rest.
fn footer(shown: usize, more: bool, singular: &str, plural: &str) -> String {
    let count = crate::units::counted(shown, singular, plural);
    if more {
        format!("{count} shown, and there are more: narrow the question, or raise --limit\n")
    } else {
        format!("{count}\n")
    }
}
