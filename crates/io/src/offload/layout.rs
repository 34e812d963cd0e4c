//! How flows and clocks lie in the maps that workers and programs share.

/// One flow: what is counted of it, then what is done with its packets. Numbers are in host order but
/// for what goes into packets as it is.
pub(super) mod slot {
    pub(in crate::offload) const SIZE: usize = 192;
    /// Packets and bytes forwarded.
    pub(in crate::offload) const PACKETS: usize = 0;
    pub(in crate::offload) const BYTES: usize = 8;
    /// When the last packet was forwarded, by the kernel's clock; zero for never.
    pub(in crate::offload) const LAST: usize = 16;
    /// What TCP said: the next sequence number, the highest acknowledgement, the window.
    pub(in crate::offload) const NEXT: usize = 24;
    pub(in crate::offload) const ACKNOWLEDGED: usize = 28;
    pub(in crate::offload) const WINDOW: usize = 32;
    /// Whether it has finished sending: a FIN was forwarded.
    pub(in crate::offload) const FINISHED: usize = 34;
    /// Whether it said anything.
    pub(in crate::offload) const HAS_TCP: usize = 36;
    /// How many packets the program has left to the worker.
    pub(in crate::offload) const QUEUED: usize = 40;
    /// The changes of the checksums, in the order of bytes of packets: by the addresses; by the ports;
    /// by the fields of the IP header.
    pub(in crate::offload) const ADDRESS_CHANGE: usize = 44;
    pub(in crate::offload) const PORT_CHANGE: usize = 48;
    pub(in crate::offload) const HEADER_CHANGE: usize = 52;
    pub(in crate::offload) const FLAGS: usize = 56;
    /// How many packets were given up; see [`flag::SHED`](super::flag::SHED).
    pub(in crate::offload) const LOST: usize = 60;
    /// How many of the packets left to the worker are known to have gone on.
    pub(in crate::offload) const DONE: usize = 64;
    /// The device they leave by.
    pub(in crate::offload) const DEVICE: usize = 68;
    /// The longest that may, from the IP header on.
    pub(in crate::offload) const MTU: usize = 72;
    /// Whose heart has to beat.
    pub(in crate::offload) const WORKER: usize = 76;
    /// Destination and source on the link.
    pub(in crate::offload) const LINK: usize = 80;
    /// Source and destination port.
    pub(in crate::offload) const PORTS: usize = 92;
    /// Source and destination, one after the other; of IPv4 in the first eight bytes.
    pub(in crate::offload) const ADDRESSES: usize = 96;
    /// How its packets arrive, as the index is asked.
    pub(in crate::offload) const KEY: usize = 128;
    /// The slot of the other direction.
    pub(in crate::offload) const OTHER: usize = 176;
}

/// Bits of [`slot::FLAGS`].
pub(super) mod flag {
    /// A payload that begins with the cookie is the worker's.
    pub(in crate::offload) const GUARDED: u32 = 1;
    pub(in crate::offload) const IPV6: u32 = 2;
    pub(in crate::offload) const TCP: u32 = 4;
    /// What would be the worker's is dropped: its socket is full, and has to become empty.
    pub(in crate::offload) const SHED: u32 = 8;
    /// Packets are the worker's until one of the other direction was forwarded.
    pub(in crate::offload) const AWAITS: u32 = 16;
    /// Of a super-packet, only the first payload and the last may begin with the cookie.
    pub(in crate::offload) const ENDS: u32 = 32;
}

/// A worker: one clock.
pub(super) mod pulse {
    pub(in crate::offload) const SIZE: usize = 64;
    /// When it was last known to be at work.
    pub(in crate::offload) const BEAT: usize = 0;
}

/// Where the network header starts.
pub(super) const LINK_HEADER: i32 = 14;

/// Offsets in what the program for XDP knows of its device.
pub(super) mod device {
    /// The longest frame that is taken, behind the link address.
    pub(in crate::offload) const LONGEST: i16 = 6;
    /// Whether a sender on this machine may have left a checksum unfinished.
    pub(in crate::offload) const DOUBTFUL: i16 = 8;
}
