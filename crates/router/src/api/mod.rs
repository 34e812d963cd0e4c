//! The daemon's Unix-socket API: one JSON request a line, one JSON answer a line.
//!
//! ```text
//! {"show":{"what":"sessions","filter":{"service":"web"},"limit":100}}
//! {"sessions":{"items":[…],"next":4711}}
//! {"show":{"what":"lookup","tenant":"corp","from":"10.1.0.5","to":"10.9.0.1","protocol":"tcp","port":443}}
//! {"delete":{"sessions":{"source":"10.1.0.0/16"}}}
//! {"reload":{}}
//! {"capture":{"interfaces":["wan"],"packets":100}}
//! ```
//!
//! [`request`] holds what may be asked, [`types`] and [`packets`] what is answered, [`client`] a blocking client.
//! Everything is named, never numbered: ids do not leave the daemon. Units are in field names.
//! Long listings come in pages: `next` of one answer is the `cursor` of the next request, and an
//! absent `next` ends the listing.
//!
//! A capture is answered by a stream: `capturing`, then a `packet` for each packet, and `captured` at
//! the end. Any request can be answered by `error`, with what to do about it.

mod answer;
mod capture;
pub mod client;
pub mod packets;
pub mod request;
pub(crate) mod server;
#[cfg(test)]
mod tests;
pub mod types;

pub use client::{Client, ClientError};
pub use packets::{CaptureInterface, Captured, Capturing, Packet};
pub use request::{
    CaptureRequest, Delete, FibFilter, FibQuery, LookupQuery, Nothing, OffloadRequest, ProtocolName, Request,
    SessionFilter, SessionQuery, Show,
};
pub use types::*;

/// Where a router named `name` listens when nothing else is said.
#[must_use]
pub fn default_socket(name: &str) -> std::path::PathBuf {
    std::path::Path::new("/run/fairway").join(format!("{name}.sock"))
}

/// The longest request, in bytes, its newline included.
pub const MAX_REQUEST: usize = 64 * 1024;
/// The most items one page holds; larger limits are lowered to it.
pub const MAX_PAGE: usize = 1000;
/// The page size when a request names no limit.
pub const DEFAULT_PAGE: usize = 200;
