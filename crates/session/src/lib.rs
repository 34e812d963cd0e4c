//! The session engine: everything a router decides about packets, free of I/O.
//!
//! The first packet of a session is classified to a service and a tenant, authorised, given a way,
//! and told to the next router in signed metadata ([`svr-wire`, section 5]); every later packet is a
//! rewrite. Both flows of a session are installed with its first packet, so its path is symmetric by
//! construction. A session has two legs; each leads to a host or to a peer, which makes this router
//! its ingress, a transit, its egress, or all at once.
//!
//! A packet's way through the code: [`Engine::process`] (`engine`) → `fairway_wire::ip::parse` →
//! `table` → `established`, or `first` for a host's first packet, or `open` and `peer` for metadata →
//! `rewrite` → `tell` and `seal` where the next router has to be told → [`fairway_types::Verdict::Forward`].
//!
//! Payload is sealed where a session enters the fabric and opened where it leaves (`protect`, `vault`);
//! protected TCP travels as UDP (`carry`).
//!
//! What arrives in parts is kept until it is whole, and what does not fit is sent in parts (`fragments`).
//!
//! Several engines can share a router (`shard`): each has its own sessions.
//!
//! Time, randomness and configuration are arguments. Nothing allocates per packet but for parts of
//! packets, which are bounded.
//!
//! [`svr-wire`, section 5]: https://datatracker.ietf.org/doc/draft-menon-svr/

mod answer;
mod approach;
mod budget;
mod carry;
mod control;
mod drops;
mod engine;
mod established;
mod event;
mod farewell;
mod first;
mod fragments;
mod gather;
mod hairpin;
mod handshake;
mod headers;
mod key;
mod limits;
mod liveness;
mod mss;
mod names;
mod nat;
mod offload;
mod open;
mod path;
mod peer;
mod ports;
mod protect;
mod quote;
mod record;
mod relay;
mod reload;
mod resume;
mod rewrite;
mod room;
mod seal;
mod session;
mod shard;
mod super_packets;
mod table;
mod tcp;
mod tell;
mod timers;
mod together;
mod vault;
mod view;

pub use drops::{DropExample, DropRecord};
pub use engine::Engine;
pub use event::Event;
pub use limits::{Limit, LimitKind, LimitScope, LimitView};
pub use liveness::Liveness;
pub use nat::NatUsage;
pub use offload::OffloadOrder;
pub use path::WaypointUsage;
pub use record::SessionRecord;
pub use reload::{Applied, Transition};
pub use session::{Side, Uuid};
pub use shard::{Audience, Flow, Notice, Placement, Shard, Shared};
pub use tcp::TcpPhase;
pub use view::{LegView, ProtectionView, SessionFilter, SessionRole, SessionView};
