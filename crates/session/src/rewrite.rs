//! The rewrite: how a packet that arrived on one leg becomes one that leaves by the other.
//!
//! It is compiled once, when the session is made or moves, and replayed for each packet: addresses
//! and ports are replaced, TTL falls by one, checksums are updated by difference (RFC 1624). Where
//! the legs differ in IP family, or one of them carries TCP or a portless protocol as UDP, headers are
//! exchanged too. DSCP and ECN stay. A super-packet is rewritten once.

use fairway_types::{Checksum, DropReason, GsoKind, PacketBuf, Protocol, Slot};
use fairway_wire::checksum::{self, Delta};
use fairway_wire::ip::Parsed;

use crate::carry;
use crate::headers;
use crate::key::FlowKey;

/// A compiled rewrite.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rewrite {
    shape: Shape,
    addresses: Delta,
    ports: Delta,
    /// Set where source NAT gave an echo another identifier.
    echo: Option<Echo>,
}

/// How an ICMP message changes where its session takes another address.
#[derive(Clone, Copy, Debug)]
struct Echo {
    identifier: u16,
    /// The change of addresses, which ICMPv6 checks.
    addresses: Delta,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// The headers stay; fields change.
    InPlace,
    /// The IP header is exchanged for one of the other family.
    OtherFamily,
    /// A UDP header is put before the original transport.
    Wrap,
    /// The UDP header is taken off.
    Unwrap,
    /// TCP becomes TCP as UDP.
    Carry,
    /// TCP as UDP becomes TCP again.
    Restore,
}

impl Rewrite {
    /// The rewrite of a leg that is not connected yet.
    pub(crate) const NONE: Self =
        Self { shape: Shape::InPlace, addresses: Delta::NONE, ports: Delta::NONE, echo: None };

    /// The rewrite for packets of a session that arrive on `from` and leave by `to`; `original` is its
    /// flow as the initiating host sent it.
    pub(crate) fn compile(from: &FlowKey, to: &FlowKey, original: &FlowKey) -> Self {
        let shape = if from.protocol != to.protocol {
            match (from.protocol, to.protocol) {
                (Protocol::TCP, _) => Shape::Carry,
                (_, Protocol::TCP) => Shape::Restore,
                (_, Protocol::UDP) => Shape::Wrap,
                _ => Shape::Unwrap,
            }
        } else if from.ipv6 != to.ipv6 {
            Shape::OtherFamily
        } else {
            Shape::InPlace
        };
        let old = checksum::sum(from.remote.octets(from.ipv6)) + checksum::sum(from.local.octets(from.ipv6));
        let new = checksum::sum(to.local.octets(to.ipv6)) + checksum::sum(to.remote.octets(to.ipv6));
        let ports = Delta::word(from.remote.port(), to.local.port())
            .combine(Delta::word(from.local.port(), to.remote.port()));
        let echo = Echo::compile(from, to, original);
        Self { shape, addresses: Delta::from_sums(fold(old), fold(new)), ports, echo }
    }

    /// Rewrites a packet that arrived on a leg so that it leaves by `to`. `parsed` describes it.
    #[inline]
    pub(crate) fn apply(&self, slot: &mut Slot, parsed: &Parsed, to: &FlowKey) -> Result<(), DropReason> {
        if let Some(echo) = &self.echo {
            echo.apply(slot, parsed, self.shape)?;
        }
        match self.shape {
            Shape::InPlace => {
                self.in_place(slot, parsed, to);
                Ok(())
            }
            Shape::OtherFamily => self.other_family(slot, parsed, to),
            Shape::Wrap => wrap(slot, parsed, to),
            Shape::Unwrap => unwrap(slot, parsed, to),
            Shape::Carry => {
                // As TCP to the new addresses first; then everything else is a matter of the header.
                exchange_ip(&mut slot.packet, parsed, to, Protocol::UDP)?;
                let offset = headers::ip_len(to.ipv6);
                self.ports_and_checksum(slot.packet.bytes_mut(), offset, slot.checksum, to, Protocol::TCP);
                carry::carry(slot, offset)
            }
            Shape::Restore => {
                exchange_ip(&mut slot.packet, parsed, to, Protocol::TCP)?;
                let offset = headers::ip_len(to.ipv6);
                self.ports_and_checksum(slot.packet.bytes_mut(), offset, slot.checksum, to, Protocol::UDP);
                set_kind(slot, to);
                carry::restore(slot, offset, to)
            }
        }
    }

    fn in_place(&self, slot: &mut Slot, parsed: &Parsed, to: &FlowKey) {
        let checksum = slot.checksum;
        let bytes = slot.packet.bytes_mut();
        if to.ipv6 {
            bytes[headers::v6::SOURCE].copy_from_slice(to.local.octets(true));
            bytes[headers::v6::DESTINATION].copy_from_slice(to.remote.octets(true));
            bytes[headers::v6::HOP_LIMIT] = parsed.ttl.saturating_sub(1);
        } else {
            bytes[headers::v4::SOURCE].copy_from_slice(to.local.octets(false));
            bytes[headers::v4::DESTINATION].copy_from_slice(to.remote.octets(false));
            let ttl = parsed.ttl.saturating_sub(1);
            bytes[headers::v4::TTL] = ttl;
            let delta = Delta::word(u16::from(parsed.ttl) << 8, u16::from(ttl) << 8).combine(self.addresses);
            headers::update(bytes, headers::v4::CHECKSUM.start, |sum| delta.apply(sum));
        }
        self.transport(bytes, usize::from(parsed.header_len), checksum, to);
    }

    /// Ports and checksum of TCP and UDP; other protocols have neither ports nor a reason to change.
    #[inline]
    fn transport(&self, bytes: &mut [u8], offset: usize, checksum: Checksum, to: &FlowKey) {
        self.ports_and_checksum(bytes, offset, checksum, to, to.protocol);
    }

    /// The same for a header that is still that of another protocol.
    #[inline]
    fn ports_and_checksum(
        &self,
        bytes: &mut [u8],
        offset: usize,
        checksum: Checksum,
        to: &FlowKey,
        protocol: Protocol,
    ) {
        let field = match protocol {
            Protocol::TCP => offset + headers::TCP_CHECKSUM,
            Protocol::UDP => offset + headers::UDP_CHECKSUM,
            _ => return,
        };
        bytes[offset..offset + 2].copy_from_slice(&to.local.port().to_be_bytes());
        bytes[offset + 2..offset + 4].copy_from_slice(&to.remote.port().to_be_bytes());
        let udp = protocol == Protocol::UDP;
        headers::update(bytes, field, |sum| match checksum {
            Checksum::Partial => self.addresses.apply_partial(sum),
            // Zero means "none", and stays (RFC 768).
            Checksum::Unverified | Checksum::Valid if udp => {
                self.addresses.combine(self.ports).apply_udp(sum)
            }
            Checksum::Unverified | Checksum::Valid => self.addresses.combine(self.ports).apply(sum),
        });
    }

    fn other_family(&self, slot: &mut Slot, parsed: &Parsed, to: &FlowKey) -> Result<(), DropReason> {
        exchange_ip(&mut slot.packet, parsed, to, to.protocol)?;
        let offset = headers::ip_len(to.ipv6);
        self.transport(slot.packet.bytes_mut(), offset, slot.checksum, to);
        set_kind(slot, to);
        // IPv6 has no "no checksum" (RFC 8200, section 8.1).
        if to.ipv6 && to.protocol == Protocol::UDP && slot.checksum != Checksum::Partial {
            let bytes = slot.packet.bytes_mut();
            if headers::read_u16(bytes, offset + headers::UDP_CHECKSUM) == 0 {
                headers::complete_checksum(bytes, offset, to);
            }
        }
        Ok(())
    }
}

/// Names a super-packet by the family it has on a leg.
fn set_kind(slot: &mut Slot, to: &FlowKey) {
    if let Some(gso) = &mut slot.gso {
        gso.kind = match (gso.kind, to.ipv6) {
            (GsoKind::Udp, _) => GsoKind::Udp,
            (GsoKind::TcpV4 | GsoKind::TcpV6, true) => GsoKind::TcpV6,
            (GsoKind::TcpV4 | GsoKind::TcpV6, false) => GsoKind::TcpV4,
        };
    }
}

impl Echo {
    fn compile(from: &FlowKey, to: &FlowKey, original: &FlowKey) -> Option<Self> {
        if !original.protocol.is_icmp() {
            return None;
        }
        // What an ICMP message looks like on a leg: between routers it is the original one.
        let seen = |key: &FlowKey| if key.protocol == original.protocol { *key } else { *original };
        let (before, after) = (seen(from), seen(to));
        let sum = |key: &FlowKey| {
            fold(checksum::sum(key.remote.octets(key.ipv6)) + checksum::sum(key.local.octets(key.ipv6)))
        };
        let identifier = after.local.port();
        (before.local.port() != identifier || sum(&before) != sum(&after)).then(|| {
            let addresses = Delta::from_sums(sum(&before), sum(&after));
            let checked = original.protocol == Protocol::ICMPV6;
            Self { identifier, addresses: if checked { addresses } else { Delta::NONE } }
        })
    }

    /// Changes identifier and checksum of the message in a packet that is about to be rewritten.
    fn apply(&self, slot: &mut Slot, parsed: &Parsed, shape: Shape) -> Result<(), DropReason> {
        const CHECKSUM: usize = 2;
        const IDENTIFIER: usize = 4;
        let wrapped = shape == Shape::Unwrap;
        if wrapped && slot.checksum == Checksum::Unverified {
            headers::check_checksum(slot, parsed)?;
            slot.checksum = Checksum::Valid;
        }
        if !wrapped && slot.checksum == Checksum::Partial {
            headers::complete_partial(slot.packet.bytes_mut(), parsed);
            slot.checksum = Checksum::Valid;
        }
        let offset = usize::from(parsed.header_len) + if wrapped { headers::UDP_LEN } else { 0 };
        let Some(message) = slot.packet.bytes_mut().get_mut(offset..).filter(|bytes| bytes.len() >= 8) else {
            return Err(DropReason::MalformedTransport);
        };
        let is_echo = matches!(message[0], 0 | 8 | 128 | 129);
        let mut delta = self.addresses;
        if is_echo {
            delta = delta.combine(Delta::word(headers::read_u16(message, IDENTIFIER), self.identifier));
            headers::write_u16(message, IDENTIFIER, self.identifier);
        }
        headers::update(message, CHECKSUM, |sum| delta.apply(sum));
        Ok(())
    }
}

/// Puts a UDP header before a portless transport.
fn wrap(slot: &mut Slot, parsed: &Parsed, to: &FlowKey) -> Result<(), DropReason> {
    // A host with checksum offload may leave even an ICMPv6 checksum unfinished; behind another
    // header nobody would complete it.
    if slot.checksum == Checksum::Partial {
        headers::complete_partial(slot.packet.bytes_mut(), parsed);
    }
    let traffic_class = headers::traffic_class(slot.packet.bytes());
    slot.packet.shrink_front(usize::from(parsed.header_len));
    let length = u16::try_from(slot.packet.len() + headers::UDP_LEN).map_err(|_| DropReason::TooBig)?;
    if !slot.packet.grow_front(headers::UDP_LEN) {
        return Err(DropReason::TooBig);
    }
    let bytes = slot.packet.bytes_mut();
    bytes[..2].copy_from_slice(&to.local.port().to_be_bytes());
    bytes[2..4].copy_from_slice(&to.remote.port().to_be_bytes());
    bytes[4..6].copy_from_slice(&length.to_be_bytes());
    bytes[6..8].copy_from_slice(&[0, 0]);
    headers::push_ip(&mut slot.packet, to, Protocol::UDP, parsed.ttl.saturating_sub(1), traffic_class)?;
    headers::complete_checksum(slot.packet.bytes_mut(), headers::ip_len(to.ipv6), to);
    slot.checksum = Checksum::Valid;
    Ok(())
}

/// Takes the UDP header off a portless transport.
fn unwrap(slot: &mut Slot, parsed: &Parsed, to: &FlowKey) -> Result<(), DropReason> {
    // Nothing behind it covers ports and addresses, and often not even the payload.
    headers::check_checksum(slot, parsed)?;
    let traffic_class = headers::traffic_class(slot.packet.bytes());
    slot.packet.shrink_front(usize::from(parsed.header_len) + headers::UDP_LEN);
    slot.checksum = Checksum::Unverified;
    headers::push_ip(&mut slot.packet, to, to.protocol, parsed.ttl.saturating_sub(1), traffic_class)
}

fn exchange_ip(
    packet: &mut PacketBuf,
    parsed: &Parsed,
    to: &FlowKey,
    protocol: Protocol,
) -> Result<(), DropReason> {
    let traffic_class = headers::traffic_class(packet.bytes());
    packet.shrink_front(usize::from(parsed.header_len));
    headers::push_ip(packet, to, protocol, parsed.ttl.saturating_sub(1), traffic_class)
}

const fn fold(sum: u32) -> u32 {
    checksum::fold(sum) as u32
}
