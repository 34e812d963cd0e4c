//! The table in plain Rust: what the program in the kernel means, and what it is tested against.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::collections::{HashMap, HashSet};

use fairway_types::PortRange;

/// The port of BFD between waypoints (spec section 8).
pub(crate) const BFD_PORT: u16 = 1280;
/// How many IPv6 extension headers are followed; packets with more are the kernel's.
pub(crate) const EXTENSION_HEADERS: usize = 6;

/// The row of the table that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Rule {
    /// Not IP, or not a well-formed IP header.
    NotIp = 0,
    /// Not sent to this host on layer 2: broadcast, multicast, or for another host.
    NotForHost = 1,
    /// Tagged for a VLAN, on a device whose untagged frames are Fairway's: left to the kernel's VLAN
    /// device, or to the program for tags.
    Tagged = 2,
    /// To a group, all hosts, or nobody.
    GroupAddress = 3,
    /// From or to an IPv6 link-local address.
    LinkLocal = 4,
    /// To one of the host's own addresses, and none of the rows below.
    Own = 5,
    /// With a tag that no interface has, or with two, on a device whose tags are Fairway's.
    OtherTag = 6,
    /// Not to one of the host's own addresses: for forwarding, fragments included.
    Forwarded = 7,
    /// TCP or UDP to a waypoint port.
    WaypointPort = 8,
    /// BFD to a waypoint.
    WaypointBfd = 9,
    /// An ICMP error about a packet that left from a waypoint port, or about BFD.
    WaypointError = 10,
    /// A fragment other than the first, from a peer's waypoint to a waypoint.
    PeerFragment = 11,
    /// An echo reply with an identifier that source NAT gives out, or an error about such an echo. The
    /// host may have chosen the same for a ping of its own, so the kernel has it, too.
    NatEcho = 12,
    /// ARP or neighbour discovery with a tag of Fairway's: the kernel has no device for it.
    TaggedLink = 13,
    /// To one of the host's own addresses with a tag of Fairway's, and none of the rows above.
    TaggedOwn = 14,
}

impl Rule {
    /// All rows, in the order of their numbers.
    pub const ALL: [Self; 15] = [
        Self::NotIp,
        Self::NotForHost,
        Self::Tagged,
        Self::GroupAddress,
        Self::LinkLocal,
        Self::Own,
        Self::OtherTag,
        Self::Forwarded,
        Self::WaypointPort,
        Self::WaypointBfd,
        Self::WaypointError,
        Self::PeerFragment,
        Self::NatEcho,
        Self::TaggedLink,
        Self::TaggedOwn,
    ];

    /// The lowest number of a row whose packets are Fairway's.
    pub(crate) const FIRST_TAKEN: u8 = Self::Forwarded as u8;

    /// Whether the packet is Fairway's; otherwise it is the kernel's. Of [`Self::NatEcho`] both have a
    /// copy.
    #[must_use]
    pub const fn is_taken(self) -> bool {
        self as u8 >= Self::FIRST_TAKEN
    }

    /// The name on screens and in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotIp => "not-ip",
            Self::NotForHost => "not-for-host",
            Self::Tagged => "tagged",
            Self::GroupAddress => "group-address",
            Self::LinkLocal => "link-local",
            Self::Own => "own",
            Self::OtherTag => "other-tag",
            Self::Forwarded => "forwarded",
            Self::WaypointPort => "waypoint-port",
            Self::WaypointBfd => "waypoint-bfd",
            Self::WaypointError => "waypoint-error",
            Self::PeerFragment => "peer-fragment",
            Self::NatEcho => "nat-echo",
            Self::TaggedLink => "tagged-link",
            Self::TaggedOwn => "tagged-own",
        }
    }
}

/// What the table is decided by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// The host's own addresses; those that are waypoints with their ports.
    pub local: HashMap<IpAddr, Option<PortRange>>,
    /// The waypoints of peers.
    pub peers: HashSet<IpAddr>,
    /// Those of the own addresses that source NAT gives to sessions; they have ports, too.
    pub nat: HashSet<IpAddr>,
    /// Those of them whose `host_ports` stay the host's.
    pub shared: HashSet<IpAddr>,
    /// Protocols and ports that the host uses itself.
    pub host_ports: HashSet<(u8, u16)>,
    /// Devices and tags that are read here, since the kernel has no VLAN device for them.
    pub tags: HashSet<(u32, u16)>,
}

impl Tables {
    fn waypoint(&self, address: IpAddr) -> Option<PortRange> {
        self.local.get(&address).copied().flatten()
    }

    /// Whether a port of an address is one of those that the host uses itself.
    fn is_host_port(&self, address: IpAddr, protocol: u8, port: u16) -> bool {
        self.shared.contains(&address) && self.host_ports.contains(&(protocol, port))
    }

    /// Whether source NAT of an address gave out the identifier of an echo, at bytes 4 and 5.
    fn is_echo(&self, address: IpAddr, icmp: &[u8]) -> bool {
        let identifier = icmp.get(4..6).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
        self.nat.contains(&address) && identifier.is_some_and(|id| PortRange::ECHO_NAT.contains(id))
    }
}

/// An IP packet as far as the table looks: where its payload starts, and what it is.
struct Located<'a> {
    protocol: u8,
    payload: &'a [u8],
    first_fragment: bool,
}

/// Decides about an untagged Ethernet frame that was sent to this host on layer 2. This is the
/// reference for the program in the kernel.
#[must_use]
pub fn classify(frame: &[u8], tables: &Tables) -> Rule {
    match frame.get(12..14) {
        Some([0x08, 0x00]) => classify_ipv4(frame.get(14..).unwrap_or_default(), tables),
        Some([0x86, 0xdd]) => classify_ipv6(frame.get(14..).unwrap_or_default(), tables),
        _ => Rule::NotIp,
    }
}

fn classify_ipv4(packet: &[u8], tables: &Tables) -> Rule {
    let Some(header) = packet.first_chunk::<20>() else { return Rule::NotIp };
    let length = usize::from(header[0] & 15) * 4;
    if header[0] >> 4 != 4 || length < 20 {
        return Rule::NotIp;
    }
    let source = IpAddr::V4(Ipv4Addr::new(header[12], header[13], header[14], header[15]));
    let destination = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
    if header[16] >= 224 || destination.is_unspecified() {
        return Rule::GroupAddress;
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    let located = Located {
        protocol: header[9],
        payload: packet.get(length..).unwrap_or_default(),
        first_fragment: fragment == 0,
    };
    classify_own(Some(&located), source, IpAddr::V4(destination), tables)
}

fn classify_ipv6(packet: &[u8], tables: &Tables) -> Rule {
    let Some(header) = packet.first_chunk::<40>() else { return Rule::NotIp };
    if header[0] >> 4 != 6 {
        return Rule::NotIp;
    }
    let (source, destination) = ipv6_addresses(header);
    if destination.is_multicast() || destination.is_unspecified() {
        return Rule::GroupAddress;
    }
    if destination.is_unicast_link_local() || source.is_unicast_link_local() {
        return Rule::LinkLocal;
    }
    let located = locate_ipv6(header[6], packet.get(40..).unwrap_or_default());
    classify_own(located.as_ref(), IpAddr::V6(source), IpAddr::V6(destination), tables)
}

fn ipv6_addresses(header: &[u8; 40]) -> (Ipv6Addr, Ipv6Addr) {
    let mut source = [0; 16];
    let mut destination = [0; 16];
    source.copy_from_slice(&header[8..24]);
    destination.copy_from_slice(&header[24..40]);
    (source.into(), destination.into())
}

/// Follows extension headers (RFC 8200, section 4).
fn locate_ipv6(mut protocol: u8, mut payload: &[u8]) -> Option<Located<'_>> {
    for _ in 0..EXTENSION_HEADERS {
        let length = match protocol {
            0 | 43 | 60 => usize::from(*payload.get(1)?) * 8 + 8,
            44 => {
                let header = payload.first_chunk::<8>()?;
                if u16::from_be_bytes([header[2], header[3]]) & 0xfff8 != 0 {
                    return Some(Located { protocol, payload, first_fragment: false });
                }
                8
            }
            _ => return Some(Located { protocol, payload, first_fragment: true }),
        };
        protocol = *payload.first()?;
        payload = payload.get(length..).unwrap_or_default();
    }
    None
}

fn classify_own(located: Option<&Located<'_>>, source: IpAddr, destination: IpAddr, tables: &Tables) -> Rule {
    let Some(&ports) = tables.local.get(&destination) else { return Rule::Forwarded };
    let (Some(ports), Some(located)) = (ports, located) else { return Rule::Own };
    if !located.first_fragment {
        return if tables.peers.contains(&source) { Rule::PeerFragment } else { Rule::Own };
    }
    match (located.protocol, destination) {
        (6 | 17, _) => match located.payload.first_chunk::<4>() {
            Some(&[_, _, high, low]) => {
                let port = u16::from_be_bytes([high, low]);
                if located.protocol == 17 && port == BFD_PORT {
                    Rule::WaypointBfd
                } else if ports.contains(port) && !tables.is_host_port(destination, located.protocol, port) {
                    Rule::WaypointPort
                } else {
                    Rule::Own
                }
            }
            None => Rule::Own,
        },
        (1, IpAddr::V4(_)) if located.payload.first() == Some(&0) => {
            if tables.is_echo(destination, located.payload) { Rule::NatEcho } else { Rule::Own }
        }
        (58, IpAddr::V6(_)) if located.payload.first() == Some(&129) => {
            if tables.is_echo(destination, located.payload) { Rule::NatEcho } else { Rule::Own }
        }
        (1, IpAddr::V4(_)) => classify_error(located.payload, &[3, 11, 12], inner_ipv4, tables),
        (58, IpAddr::V6(_)) => classify_error(located.payload, &[1, 2, 3, 4], inner_ipv6, tables),
        _ => Rule::Own,
    }
}

/// What an ICMP error quotes: the source address, the protocol and what follows the IP header.
type Inner<'a> = Option<(IpAddr, u8, &'a [u8])>;

fn classify_error(icmp: &[u8], errors: &[u8], inner: fn(&[u8]) -> Inner<'_>, tables: &Tables) -> Rule {
    let is_error = icmp.first().is_some_and(|kind| errors.contains(kind));
    let quoted = if is_error { icmp.get(8..).and_then(inner) } else { None };
    let Some((source, protocol, transport)) = quoted else { return Rule::Own };
    if matches!((protocol, source), (1, IpAddr::V4(_)) | (58, IpAddr::V6(_))) {
        return if tables.is_echo(source, transport) { Rule::NatEcho } else { Rule::Own };
    }
    let (Some(ports), Some(&[high, low, ..])) = (tables.waypoint(source), transport.first_chunk::<4>())
    else {
        return Rule::Own;
    };
    let port = u16::from_be_bytes([high, low]);
    let own = ports.contains(port) && !tables.is_host_port(source, protocol, port);
    if own || (protocol == 17 && port == BFD_PORT) { Rule::WaypointError } else { Rule::Own }
}

fn inner_ipv4(packet: &[u8]) -> Inner<'_> {
    let header = packet.first_chunk::<20>()?;
    let length = usize::from(header[0] & 15) * 4;
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    let whole = header[0] >> 4 == 4 && length >= 20 && fragment == 0 && matches!(header[9], 1 | 6 | 17);
    let source = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    whole.then(|| (source.into(), header[9], packet.get(length..).unwrap_or_default()))
}

fn inner_ipv6(packet: &[u8]) -> Inner<'_> {
    let header = packet.first_chunk::<40>()?;
    let known = header[0] >> 4 == 6 && matches!(header[6], 6 | 17 | 58);
    let (source, _) = ipv6_addresses(header);
    known.then(|| (source.into(), header[6], packet.get(40..).unwrap_or_default()))
}
