//! What the daemon asks for, and what it is told: interfaces to attach to, events, figures.

use core::net::IpAddr;

use fairway_types::{DropReason, InterfaceId, IpNet, PortRange, Protocol};

/// The longest device name Linux accepts, in bytes.
pub const MAX_DEVICE_NAME: usize = 15;

/// What an interface is on the side of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// An Ethernet device that the kernel owns; Fairway attaches to it.
    Ethernet,
    /// A TUN device that Fairway makes: the way of the host's own traffic into the fabric.
    Host,
}

/// How an interface is to exchange frames with the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoChoice {
    /// AF_XDP where the driver itself reads and writes the frames (zero copy), else packet sockets.
    #[default]
    Auto,
    /// Packet sockets.
    Packet,
    /// AF_XDP in the driver, else in front of the network stack, else packet sockets.
    Xdp,
}

/// How an interface exchanges frames with the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoMethod {
    /// By packet sockets.
    Packet,
    /// By AF_XDP sockets that the driver serves; packet sockets beside them take what is left.
    XdpNative,
    /// By AF_XDP sockets in front of the network stack, and packet sockets beside them.
    XdpGeneric,
    /// By a TUN device of Fairway's own.
    Tun,
}

impl IoMethod {
    /// The name on screens.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Packet => "packet",
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
            Self::Tun => "tun",
        }
    }
}

/// One network-interface to attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// What packets of this interface are marked with.
    pub id: InterfaceId,
    /// The name of the network-interface in the configuration.
    pub name: String,
    /// The Linux device.
    pub device: String,
    /// 802.1Q tag: 0 for untagged; otherwise the kernel's VLAN device for this tag on `device`, or
    /// `device` itself when it is one, is used. Without one, tags are read and written here.
    pub vlan: u16,
    /// What it is on the side of Linux.
    pub kind: PortKind,
    /// This router's waypoints on the interface, each with the ports that belong to Fairway.
    pub waypoints: Vec<(IpAddr, PortRange)>,
    /// Addresses on the interface that source NAT gives to sessions; each is among the waypoints, too.
    pub nat: Vec<IpAddr>,
    /// Ports on those addresses that stay the host's. Only where none of them is a waypoint of a path.
    pub host_ports: Vec<(Protocol, u16)>,
    /// Where packets for next hops that are not on the link go, at most one for each family. Without
    /// one, the kernel's routes over the device decide.
    pub gateways: Vec<IpAddr>,
    /// [`PortKind::Host`]: addresses to give the TUN device. [`PortKind::Ethernet`]: those of the
    /// interface, which are answered for where the kernel has no VLAN device for the tag.
    pub addresses: Vec<IpNet>,
    /// [`PortKind::Host`] only: prefixes to route into the TUN device.
    pub routes: Vec<IpNet>,
    /// The longest packet to send in bytes, when less than the device's MTU. For
    /// [`PortKind::Host`], the MTU of the TUN device.
    pub mtu: Option<u16>,
    /// How frames are exchanged with the kernel. It is looked at when the device is attached to.
    pub io: IoChoice,
}

impl PortSpec {
    /// An Ethernet interface without waypoints.
    #[must_use]
    pub fn ethernet(id: InterfaceId, name: &str, device: &str) -> Self {
        Self {
            id,
            name: name.to_owned(),
            device: device.to_owned(),
            vlan: 0,
            kind: PortKind::Ethernet,
            waypoints: Vec::new(),
            nat: Vec::new(),
            host_ports: Vec::new(),
            gateways: Vec::new(),
            addresses: Vec::new(),
            routes: Vec::new(),
            mtu: None,
            io: IoChoice::default(),
        }
    }

    /// A TUN interface for the host's own traffic.
    #[must_use]
    pub fn host(id: InterfaceId, name: &str, device: &str, addresses: Vec<IpNet>) -> Self {
        Self { kind: PortKind::Host, addresses, ..Self::ethernet(id, name, device) }
    }
}

/// Something that changed on the side of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortEvent {
    /// The interface can send and receive.
    Up(InterfaceId),
    /// The interface is down or gone.
    Down(InterfaceId),
    /// The addresses of the interface's device changed.
    AddressesChanged(InterfaceId),
    /// The MTU of the interface changed.
    MtuChanged(InterfaceId),
}

/// What [`crate::Ports::wait`] returned for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// Packets can be received.
    pub packets: bool,
    /// The kernel reports changes: call [`crate::Ports::handle_events`].
    pub events: bool,
    /// Another thread used the [`crate::Waker`].
    pub woken: bool,
}

impl Ready {
    /// Whether there is anything.
    pub(crate) const fn is_anything(&self) -> bool {
        self.packets || self.events || self.woken
    }
}

/// ARP, neighbour discovery and pings on an interface whose tag Fairway reads and writes itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStatistics {
    /// Questions for a next hop that were sent.
    pub asked: u64,
    /// Questions that could not be sent: the interface has no address of the family, or too many next
    /// hops are known.
    pub unasked: u64,
    /// Questions for an address of the interface that were answered.
    pub answered: u64,
    /// Pings of an address of the interface that were answered.
    pub pings: u64,
    /// Messages that are malformed, or about somebody who was not asked for.
    pub ignored: u64,
    /// Messages that claim an address of the interface for somebody else.
    pub conflicts: u64,
}

impl LinkStatistics {
    fn add(&mut self, other: &Self) {
        self.asked += other.asked;
        self.unasked += other.unasked;
        self.answered += other.answered;
        self.pings += other.pings;
        self.ignored += other.ignored;
        self.conflicts += other.conflicts;
    }
}

/// What one interface has done. Every figure only rises, and survives [`crate::Ports::apply`] as long
/// as the interface keeps its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortStatistics {
    /// Packets received; a super-packet counts once.
    pub rx_packets: u64,
    /// Bytes received, from the IP header on.
    pub rx_bytes: u64,
    /// Packets sent; a super-packet counts once.
    pub tx_packets: u64,
    /// Bytes sent, from the IP header on.
    pub tx_bytes: u64,
    /// Packets that the kernel could not queue because this process was too slow.
    pub rx_overruns: u64,
    /// Packets that could not be received whole: longer than a slot, or of an unknown offload kind.
    pub rx_unusable: u64,
    /// Packets that the engine left to the host and that went into the host's stack.
    pub punted: u64,
    /// Packets that the engine left to the host while there was no TUN to put them into.
    pub punts_discarded: u64,
    /// Packets that wait, or waited, for their next hop's link address.
    pub held: u64,
    /// What was done on the link in the kernel's place.
    pub link: LinkStatistics,
    drops: [u64; DropReason::ALL.len()],
}

impl Default for PortStatistics {
    fn default() -> Self {
        Self {
            rx_packets: 0,
            rx_bytes: 0,
            tx_packets: 0,
            tx_bytes: 0,
            rx_overruns: 0,
            rx_unusable: 0,
            punted: 0,
            punts_discarded: 0,
            held: 0,
            link: LinkStatistics::default(),
            drops: [0; DropReason::ALL.len()],
        }
    }
}

impl PortStatistics {
    /// How many packets were dropped on the way out for `reason`.
    #[must_use]
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Adds what another worker did on the same interface.
    pub fn add(&mut self, other: &Self) {
        self.rx_packets += other.rx_packets;
        self.rx_bytes += other.rx_bytes;
        self.tx_packets += other.tx_packets;
        self.tx_bytes += other.tx_bytes;
        self.rx_overruns += other.rx_overruns;
        self.rx_unusable += other.rx_unusable;
        self.punted += other.punted;
        self.punts_discarded += other.punts_discarded;
        self.held += other.held;
        self.link.add(&other.link);
        for (sum, count) in self.drops.iter_mut().zip(other.drops) {
            *sum += count;
        }
    }

    /// The reasons that have a count.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|&reason| (reason, self.dropped(reason))).filter(|&(_, count)| count > 0)
    }

    pub(crate) fn drop_one(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
    }
}

/// One interface as the kernel has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortStatus {
    /// The interface.
    pub id: InterfaceId,
    /// Its name in the configuration.
    pub name: String,
    /// The Linux device that is used, which for a VLAN is the kernel's VLAN device.
    pub device: String,
    /// What it is on the side of Linux.
    pub kind: PortKind,
    /// Whether Fairway reads and writes its tag, since the kernel has no VLAN device for it.
    pub tagged: bool,
    /// How frames are exchanged with the kernel; `None` while the device is gone.
    pub io: Option<IoMethod>,
    /// Whether it can send and receive.
    pub up: bool,
    /// The longest packet it may send, in bytes; 0 while the device is gone.
    pub mtu: u16,
    /// The link address; all zero for [`PortKind::Host`] and while the device is gone.
    pub mac: [u8; 6],
    /// The addresses the kernel holds on the device.
    pub addresses: Vec<IpNet>,
    /// What it has done.
    pub statistics: PortStatistics,
}
