//! Steering in plain Rust: what the program in the kernel means, and what it is tested against.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use fairway_types::steering::{WorkerId, class_of};
use fairway_types::{Protocol, Tuple};

use crate::classifier::BFD_PORT;

/// How many IPv6 extension headers are followed, as many as the engine does.
pub(crate) const EXTENSION_HEADERS: usize = 8;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const HOP_BY_HOP: u8 = 0;
const FRAGMENT: u8 = 44;

/// The tuple that a packet, from its IP header on, is steered by; `None` when it has none.
///
/// Both ports are the identifier of an ICMP echo. For an ICMP error it is the tuple that answers to
/// the quoted packet arrive with. For all fragments, and protocols without ports, ports are 0.
#[must_use]
pub fn tuple_of(packet: &[u8]) -> Option<Tuple> {
    let located = locate(packet, Depth::Outer)?;
    let icmp = located.icmp();
    match located.payload.first() {
        Some(&kind) if located.is_whole && icmp && located.is_error(kind) => quoted(&located),
        _ => located.tuple(),
    }
}

/// Where a packet with this tuple arrives of itself when there are so many workers.
#[must_use]
pub fn worker_of(tuple: &Tuple, workers: u8) -> WorkerId {
    if tuple.protocol == Protocol::UDP && tuple.destination.port() == BFD_PORT {
        return WorkerId(0);
    }
    WorkerId::of_class(class_of(tuple), workers)
}

/// Whether the packet is one that arrived or one that is quoted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Outer,
    Quoted,
}

/// An IP packet as far as steering looks.
struct Located<'a> {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    payload: &'a [u8],
    /// There is a transport header to look at.
    is_whole: bool,
}

impl Located<'_> {
    fn icmp(&self) -> bool {
        self.protocol == if self.source.is_ipv4() { ICMP } else { ICMPV6 }
    }

    fn is_error(&self, kind: u8) -> bool {
        if self.source.is_ipv4() { matches!(kind, 3 | 4 | 11 | 12) } else { kind < 128 }
    }

    fn is_echo(&self, kind: u8) -> bool {
        if self.source.is_ipv4() { matches!(kind, 0 | 8) } else { matches!(kind, 128 | 129) }
    }

    fn tuple(&self) -> Option<Tuple> {
        let (source, destination) = if self.is_whole { self.ports()? } else { (0, 0) };
        Some(Tuple {
            source: SocketAddr::new(self.source, source),
            destination: SocketAddr::new(self.destination, destination),
            protocol: Protocol(self.protocol),
        })
    }

    fn ports(&self) -> Option<(u16, u16)> {
        let number = |at: usize| self.payload.get(at..at + 2).map(|b| u16::from_be_bytes([b[0], b[1]]));
        if Protocol(self.protocol).has_ports() {
            return Some((number(0)?, number(2)?));
        }
        if self.icmp() && self.is_echo(*self.payload.first()?) {
            return Some((number(4)?, number(4)?));
        }
        Some((0, 0))
    }
}

fn quoted(error: &Located<'_>) -> Option<Tuple> {
    let located = locate(error.payload.get(8..)?, Depth::Quoted)?;
    Some(located.tuple()?.reversed())
}

fn locate(packet: &[u8], depth: Depth) -> Option<Located<'_>> {
    match packet.first()? >> 4 {
        4 => locate_ipv4(packet, depth),
        6 => locate_ipv6(packet, depth),
        _ => None,
    }
}

fn locate_ipv4(packet: &[u8], depth: Depth) -> Option<Located<'_>> {
    let header = packet.first_chunk::<20>()?;
    let length = usize::from(header[0] & 15) * 4;
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    let (is_first, is_fragment) = (fragment & 0x1fff == 0, fragment & 0x3fff != 0);
    if length < 20 || (depth == Depth::Quoted && !is_first) {
        return None;
    }
    Some(Located {
        source: Ipv4Addr::new(header[12], header[13], header[14], header[15]).into(),
        destination: Ipv4Addr::new(header[16], header[17], header[18], header[19]).into(),
        protocol: header[9],
        payload: packet.get(length..).unwrap_or_default(),
        is_whole: depth == Depth::Quoted || !is_fragment,
    })
}

fn locate_ipv6(packet: &[u8], depth: Depth) -> Option<Located<'_>> {
    let header = packet.first_chunk::<40>()?;
    let (mut source, mut destination) = ([0; 16], [0; 16]);
    source.copy_from_slice(&header[8..24]);
    destination.copy_from_slice(&header[24..40]);
    let (protocol, payload, is_whole) = upper(header[6], packet.get(40..)?, depth)?;
    Some(Located {
        source: Ipv6Addr::from(source).into(),
        destination: Ipv6Addr::from(destination).into(),
        protocol,
        payload,
        is_whole,
    })
}

/// Follows extension headers (RFC 8200, section 4) to the transport header, or to a fragment header
/// that makes a fragment: then the protocol is what that header names, the same in all fragments.
fn upper(mut protocol: u8, mut payload: &[u8], depth: Depth) -> Option<(u8, &[u8], bool)> {
    for step in 0..=EXTENSION_HEADERS {
        if !matches!(protocol, HOP_BY_HOP | 43 | FRAGMENT | 60) {
            return Some((protocol, payload, true));
        }
        if protocol == HOP_BY_HOP && step > 0 {
            return None;
        }
        let header = payload.first_chunk::<8>()?;
        let mut length = 8;
        if protocol == FRAGMENT {
            let word = u16::from_be_bytes([header[2], header[3]]);
            match depth {
                Depth::Outer if word & 0xfff9 != 0 => return Some((header[0], &[], false)),
                Depth::Quoted if word & 0xfff8 != 0 => return None,
                Depth::Outer | Depth::Quoted => {}
            }
        } else {
            length += usize::from(header[1]) * 8;
        }
        protocol = header[0];
        payload = payload.get(length..).unwrap_or_default();
    }
    None
}
