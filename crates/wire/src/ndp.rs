//! Neighbour discovery for IPv6: solicitations and advertisements (RFC 4861).

use core::net::{IpAddr, Ipv6Addr};

use crate::arp::is_station;
use crate::bytes::{array, byte, put, tail};
use crate::{checksum, protocol};

/// Bytes of a message as this router sends it: IPv6 header, message, one option with a link address.
pub const LEN: usize = IPV6 + MESSAGE + OPTION;

const IPV6: usize = 40;
const MESSAGE: usize = 24;
const OPTION: usize = 8;
/// Messages have not crossed a router (RFC 4861 7.1).
const HOP_LIMIT: u8 = 255;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_LINK: u8 = 1;
const TARGET_LINK: u8 = 2;
/// Options looked at in one message.
const OPTIONS: usize = 16;

mod field {
    pub(super) const PAYLOAD_LENGTH: usize = 4;
    pub(super) const NEXT_HEADER: usize = 6;
    pub(super) const HOP_LIMIT: usize = 7;
    pub(super) const SOURCE: usize = 8;
    pub(super) const DESTINATION: usize = 24;
    // Of the message.
    pub(super) const TYPE: usize = 0;
    pub(super) const CODE: usize = 1;
    pub(super) const CHECKSUM: usize = 2;
    pub(super) const FLAGS: usize = 4;
    pub(super) const TARGET: usize = 8;
}

const FLAG_ROUTER: u8 = 0x80;
const FLAG_SOLICITED: u8 = 0x40;
const FLAG_OVERRIDE: u8 = 0x20;

/// A solicitation or an advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repr {
    /// Who has `target`?
    Solicitation {
        /// Who asks; unspecified when it looks whether somebody has its own address.
        source: Ipv6Addr,
        /// Whom the packet is for: the target, or its group.
        destination: Ipv6Addr,
        /// Whose link address is wanted.
        target: Ipv6Addr,
        /// The link address of who asks.
        link: Option<[u8; 6]>,
    },
    /// This is who has `target`.
    Advertisement {
        /// Who answers.
        source: Ipv6Addr,
        /// Who asked, or all nodes.
        destination: Ipv6Addr,
        /// Whose link address it is.
        target: Ipv6Addr,
        /// The link address.
        link: Option<[u8; 6]>,
        /// The sender is a router.
        router: bool,
        /// It answers a solicitation.
        solicited: bool,
        /// It replaces what is known.
        overrides: bool,
    },
}

/// Whether a packet is one of these messages, as far as its first bytes say.
#[must_use]
pub fn is_neighbour_discovery(packet: &[u8]) -> bool {
    byte(packet, 0) >> 4 == 6
        && byte(packet, field::NEXT_HEADER) == protocol::ICMPV6
        && matches!(byte(packet, IPV6), SOLICITATION | ADVERTISEMENT)
}

impl Repr {
    /// Reads an IPv6 packet with one of these messages; `None` unless everything holds that RFC 4861
    /// (7.1) asks of it.
    #[must_use]
    pub fn parse(packet: &[u8]) -> Option<Self> {
        if !is_neighbour_discovery(packet) || byte(packet, field::HOP_LIMIT) != HOP_LIMIT {
            return None;
        }
        let length = usize::from(u16::from_be_bytes(array(packet, field::PAYLOAD_LENGTH)));
        let message = packet.get(IPV6..IPV6.checked_add(length)?)?;
        let source = Ipv6Addr::from(array::<16>(packet, field::SOURCE));
        let destination = Ipv6Addr::from(array::<16>(packet, field::DESTINATION));
        let target = Ipv6Addr::from(array::<16>(message, field::TARGET));
        let well_formed = message.len() >= MESSAGE
            && byte(message, field::CODE) == 0
            && !target.is_multicast()
            && !target.is_unspecified()
            && !source.is_multicast()
            && sum(source, destination, message) == 0xffff;
        if !well_formed {
            return None;
        }
        let flags = byte(message, field::FLAGS);
        if byte(message, field::TYPE) == SOLICITATION {
            let link = link_option(tail(message, MESSAGE), SOURCE_LINK)?;
            // Who has no address yet asks the group, and names no link address.
            if source.is_unspecified() && (link.is_some() || destination != solicited_group(target)) {
                return None;
            }
            return Some(Self::Solicitation { source, destination, target, link });
        }
        let solicited = flags & FLAG_SOLICITED != 0;
        if source.is_unspecified() || solicited && destination.is_multicast() {
            return None;
        }
        Some(Self::Advertisement {
            source,
            destination,
            target,
            link: link_option(tail(message, MESSAGE), TARGET_LINK)?,
            router: flags & FLAG_ROUTER != 0,
            solicited,
            overrides: flags & FLAG_OVERRIDE != 0,
        })
    }

    /// Writes the IPv6 packet. Without a link address, its option is left out and the length says so.
    #[must_use]
    pub fn emit(&self) -> ([u8; LEN], usize) {
        let (kind, flags, source, destination, target, option, link) = match *self {
            Self::Solicitation { source, destination, target, link } => {
                (SOLICITATION, 0, source, destination, target, SOURCE_LINK, link)
            }
            Self::Advertisement { source, destination, target, link, router, solicited, overrides } => {
                let flag = |set: bool, flag: u8| if set { flag } else { 0 };
                let flags = flag(router, FLAG_ROUTER)
                    | flag(solicited, FLAG_SOLICITED)
                    | flag(overrides, FLAG_OVERRIDE);
                (ADVERTISEMENT, flags, source, destination, target, TARGET_LINK, link)
            }
        };
        let length = MESSAGE + if link.is_some() { OPTION } else { 0 };
        let mut message = [0; MESSAGE + OPTION];
        message[field::TYPE] = kind;
        message[field::FLAGS] = flags;
        put(&mut message, field::TARGET, &target.octets());
        if let Some(link) = link {
            put(&mut message, MESSAGE, &[option, 1]);
            put(&mut message, MESSAGE + 2, &link);
        }
        let body = message.get(..length).unwrap_or(&[]);
        let check = !sum(source, destination, body);
        put(&mut message, field::CHECKSUM, &check.to_be_bytes());
        let mut packet = [0; LEN];
        packet[0] = 0x60;
        put(&mut packet, field::PAYLOAD_LENGTH, &(length as u16).to_be_bytes());
        packet[field::NEXT_HEADER] = protocol::ICMPV6;
        packet[field::HOP_LIMIT] = HOP_LIMIT;
        put(&mut packet, field::SOURCE, &source.octets());
        put(&mut packet, field::DESTINATION, &destination.octets());
        put(&mut packet, IPV6, &message);
        (packet, IPV6 + length)
    }
}

/// The folded sum with the pseudo-header: all ones where the checksum is right.
fn sum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let length = message.len() as u32;
    let pseudo =
        checksum::pseudo_header(IpAddr::V6(source), IpAddr::V6(destination), protocol::ICMPV6, length);
    checksum::fold(pseudo + checksum::sum(message))
}

/// The link address in the options; the outer `None` when they are malformed.
#[expect(clippy::option_option, reason = "malformed and absent are different answers")]
fn link_option(mut options: &[u8], wanted: u8) -> Option<Option<[u8; 6]>> {
    let mut found = None;
    for _ in 0..OPTIONS {
        let Some(&[kind, units]) = options.first_chunk::<2>() else {
            return options.is_empty().then_some(found);
        };
        let length = usize::from(units) * 8;
        let option = options.get(..length).filter(|option| !option.is_empty())?;
        if kind == wanted && units == 1 {
            found = Some(array(option, 2)).filter(|&link| is_station(link)).or(found);
        }
        options = tail(options, length);
    }
    None
}

/// The group that solicitations for an address go to (RFC 4291 2.7.1).
#[must_use]
pub fn solicited_group(target: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = target.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The link address of a group (RFC 2464 7).
#[must_use]
pub fn group_link(group: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = group.octets();
    [0x33, 0x33, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u16) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last)
    }

    fn solicitation() -> Repr {
        let target = address(1);
        let destination = solicited_group(target);
        Repr::Solicitation { source: address(7), destination, target, link: Some([2, 0, 0, 0, 0, 7]) }
    }

    fn advertisement() -> Repr {
        Repr::Advertisement {
            source: address(1),
            destination: address(7),
            target: address(1),
            link: Some([2, 0, 0, 0, 0, 1]),
            router: true,
            solicited: true,
            overrides: true,
        }
    }

    /// Changes one byte and puts the checksum right again, by RFC 1624.
    fn with(mut packet: [u8; LEN], at: usize, value: u8) -> [u8; LEN] {
        packet[at] = value;
        packet[IPV6 + 2..IPV6 + 4].fill(0);
        let part = |from: usize| Ipv6Addr::from(array::<16>(&packet, from));
        let check = !sum(part(8), part(24), &packet[IPV6..]);
        packet[IPV6 + 2..IPV6 + 4].copy_from_slice(&check.to_be_bytes());
        packet
    }

    #[test]
    fn messages_are_read_as_they_were_written() {
        for repr in [solicitation(), advertisement()] {
            let (packet, length) = repr.emit();
            assert_eq!((Repr::parse(&packet), length), (Some(repr), LEN));
            // Padding of a short frame.
            assert_eq!(Repr::parse(&[&packet[..], &[0; 6]].concat()), Some(repr));
        }
        // From a capture of Linux: 2001:db8::7 asks for 2001:db8::1.
        let (packet, _) = solicitation().emit();
        assert_eq!(packet[..8], [0x60, 0, 0, 0, 0, 32, 58, 255]);
        assert_eq!(group_link(solicited_group(address(1))), [0x33, 0x33, 0xff, 0, 0, 1]);
    }

    #[test]
    fn what_rfc_4861_does_not_allow_is_not_read() {
        let (packet, _) = advertisement().emit();
        for length in 0..LEN {
            assert_eq!(Repr::parse(&packet[..length]), None);
        }
        for at in [8, 24, 44, 48, 64, 66] {
            let mut changed = packet;
            changed[at] ^= 0x10;
            assert_eq!(Repr::parse(&changed), None, "the checksum covers byte {at}");
        }
        // A router between; a code; a group as target or source; an option without length or too long.
        for (at, value) in [(7, 254), (41, 1), (48, 0xff), (8, 0xff), (65, 0), (65, 2)] {
            assert_eq!(Repr::parse(&with(packet, at, value)), None, "{at} {value}");
        }
        assert!(Repr::parse(&with(packet, 44, 0)).is_some());
        // An answer to all; a question of nobody with a link address.
        assert_eq!(Repr::parse(&with(packet, 24, 0xff)), None);
        let (mut question, _) = solicitation().emit();
        question[8..24].fill(0);
        assert_eq!(Repr::parse(&with(question, 7, 255)), None);
    }

    #[test]
    fn a_probe_for_an_address_names_no_link_address() {
        let target = address(1);
        let destination = solicited_group(target);
        let probe = Repr::Solicitation { source: Ipv6Addr::UNSPECIFIED, destination, target, link: None };
        let (packet, length) = probe.emit();
        assert_eq!(length, LEN - OPTION);
        assert_eq!(Repr::parse(&packet[..length]), Some(probe));
    }
}
