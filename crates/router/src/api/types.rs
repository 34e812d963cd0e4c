//! What a router answers.

mod network;
mod policy;
mod sessions;
mod state;

use serde::{Deserialize, Serialize};

use super::packets::{Captured, Capturing, Packet};

pub use network::{Interface, Link, NatPorts, Path, Peer, Waypoints};
pub use policy::{FibRow, Line, Lookup, Matched, PassedOver, Way};
pub use sessions::{Deleted, Flow, FlowEnd, Leg, Protection, Session, Traffic};
pub use state::{
    ConfigurationStatus, Counter, Drop, DropExample, Fault, Limit, NamedCount, OffloadState, Refused,
    Reloaded, Status, Worker, Workers,
};

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Response {
    /// To `show status`.
    Status(Box<Status>),
    /// To `show sessions`.
    Sessions(Page<Session>),
    /// To `show flows`.
    Flows(Page<Flow>),
    /// To `show fib`.
    Fib(Page<FibRow>),
    /// To `show peers`.
    Peers(Vec<Peer>),
    /// To `show interfaces`.
    Interfaces(Vec<Interface>),
    /// To `show waypoints`.
    Waypoints(Vec<Waypoints>),
    /// What each worker does.
    Workers(Workers),
    /// To `show nat`.
    Nat(Vec<NatPorts>),
    /// To `show limits`.
    Limits(Vec<Limit>),
    /// To `show counters`.
    Counters(Vec<Counter>),
    /// To `show drops`: reasons with a count.
    Drops(Vec<Drop>),
    /// To `show lookup`.
    Lookup(Box<Lookup>),
    /// To `delete`.
    Deleted(Deleted),
    /// To `offload`.
    Offload(OffloadState),
    /// To `reload`, when the configuration was applied.
    Reloaded(Reloaded),
    /// To `reload`, when the configuration was refused: the old one goes on working.
    Refused(Refused),
    /// The first line of a capture.
    Capturing(Capturing),
    /// One packet of a capture.
    Packet(Packet),
    /// The last line of a capture.
    Captured(Captured),
    /// The request could not be answered.
    Error(ErrorBody),
}

/// Why a request could not be answered, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub fix: String,
}

impl ErrorBody {
    /// An error.
    pub fn new(message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { message: message.into(), fix: fix.into() }
    }
}

/// Part of a listing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// The cursor of the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}
