//! Sessions that the kernel forwards by itself: what it is told, and what it tells.

use crate::ids::InterfaceId;
use crate::net::Tuple;
use crate::packet::Egress;
use crate::time::Time;

/// Names a session that the kernel forwards, as long as it does. A name is never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OffloadId(pub u64);

/// One direction of a session, reduced to a rewrite of addresses and ports.
///
/// Both tuples have the same family and protocol, TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffloadFlow {
    /// Where its packets arrive.
    pub interface: InterfaceId,
    /// How they arrive.
    pub arrives: Tuple,
    /// How they leave.
    pub leaves: Tuple,
    /// Where they leave.
    pub egress: Egress,
    /// The longest packet that may leave so, in bytes from the IP header on.
    pub mtu: u16,
    /// Where payloads are looked at: one that begins like metadata is not the kernel's to forward.
    pub look: Look,
    /// Whether nothing is to be forwarded before something of the other direction was.
    pub awaits: bool,
    /// Whether nothing of it can be under way that the router has not taken in yet, so that the kernel
    /// can forward at once.
    pub fresh: bool,
}

/// Which payloads of a flow may begin like metadata, among those of the segments of a super-packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// None that matters: no router is at either end.
    Nowhere,
    /// The first and the last: whoever puts segments together puts nothing behind one with metadata.
    AtEnds,
    /// Any.
    Everywhere,
}

/// What the kernel has done in one direction since it was told of the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowReport {
    /// Packets forwarded; super-packets count as what they stand for.
    pub packets: u64,
    /// Bytes of them, from the IP header on.
    pub bytes: u64,
    /// When the last of them was forwarded; `None` if none was.
    pub last: Option<Time>,
    /// What TCP said last.
    pub tcp: Option<TcpReport>,
}

/// What one side of a TCP connection has said, as far as the kernel saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpReport {
    /// The sequence number after the last byte it sent.
    pub next: u32,
    /// The highest acknowledgement.
    pub acknowledged: u32,
    /// The window last advertised, unscaled.
    pub window: u16,
    /// Whether it has finished sending.
    pub finished: bool,
}

/// What the kernel has done of a session, in the order of its flows.
pub type OffloadReport = [FlowReport; 2];

/// Why the kernel does not forward a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffloadRefusal {
    /// It has no room, or is not to forward anything.
    NoRoom,
    /// An interface is not one that it can forward by.
    Interface,
    /// Its packets arrive by AF_XDP, and the device they leave by takes no frames from there.
    Egress,
    /// The link address of a next hop is not known.
    NextHop,
    /// It did not take it.
    System,
}

impl OffloadRefusal {
    /// What it says to an operator.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NoRoom => "the kernel has no room for more",
            Self::Interface => "an interface is down, has a tag, or is read before the network stack",
            Self::Egress => "a device takes no frames from XDP: the other end of a veth wants GRO",
            Self::NextHop => "the link address of a next hop is not known",
            Self::System => "the kernel did not take it",
        }
    }
}
