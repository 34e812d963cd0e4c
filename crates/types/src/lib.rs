//! The shared vocabulary of Fairway: identifiers, tuples, packets and batches, drop reasons,
//! time as an argument, and the validated model of one router.
//!
//! Everything here is plain data. Nothing reads a clock, a socket or a random number.

pub mod counters;
pub mod drops;
pub mod ids;
pub mod model;
pub mod net;
pub mod offload;
mod outlet;
pub mod packet;
pub mod steering;
pub mod suite;
pub mod time;

pub use counters::{Counter, Counters};
pub use drops::{Culprit, DropReason};
pub use ids::{InterfaceId, PathId, PeerId, RouteId, SecurityId, ServiceId, SessionTypeId, TenantId};
pub use ipnet::{IpNet, Ipv4Net, Ipv6Net};
pub use net::{PortRange, Protocol, Tuple};
pub use offload::{FlowReport, Look, OffloadFlow, OffloadId, OffloadRefusal, OffloadReport, TcpReport};
pub use outlet::Outlet;
pub use packet::{Batch, Checksum, Egress, Gso, GsoKind, PacketBuf, Slot, Verdict};
pub use steering::WorkerId;
pub use suite::Suite;
pub use time::{Now, Time};
