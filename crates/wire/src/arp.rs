//! ARP for IPv4 over Ethernet (RFC 826).

use core::net::Ipv4Addr;

use crate::bytes::{array, be16, put};

/// Bytes of a message.
pub const LEN: usize = 28;
/// The EtherType.
pub const ETHERTYPE: u16 = 0x0806;

mod field {
    pub(super) const KINDS: usize = 0;
    pub(super) const OPERATION: usize = 6;
    pub(super) const SENDER_LINK: usize = 8;
    pub(super) const SENDER: usize = 14;
    pub(super) const TARGET_LINK: usize = 18;
    pub(super) const TARGET: usize = 24;
}

/// Ethernet, IPv4, and the lengths of their addresses.
const ETHERNET_AND_IPV4: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Who has the target's address?
    Request,
    /// The sender has it.
    Reply,
}

/// A request or a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// Which of the two.
    pub operation: Operation,
    /// The link address of the sender.
    pub sender_link: [u8; 6],
    /// The address of the sender; unspecified in a probe (RFC 5227).
    pub sender: Ipv4Addr,
    /// The link address of the target; zero in a request.
    pub target_link: [u8; 6],
    /// The address of the target.
    pub target: Ipv4Addr,
}

impl Repr {
    /// Reads a message; what follows it is padding. `None` for other kinds of links, protocols and
    /// operations, and for senders that are a group.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let message = bytes.first_chunk::<LEN>()?;
        if array::<6>(message, field::KINDS) != ETHERNET_AND_IPV4 {
            return None;
        }
        let operation = match be16(message, field::OPERATION) {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return None,
        };
        let sender_link: [u8; 6] = array(message, field::SENDER_LINK);
        let sender = Ipv4Addr::from(array::<4>(message, field::SENDER));
        if !is_station(sender_link) || sender.is_multicast() || sender.is_broadcast() {
            return None;
        }
        let target_link = array(message, field::TARGET_LINK);
        let target = Ipv4Addr::from(array::<4>(message, field::TARGET));
        Some(Self { operation, sender_link, sender, target_link, target })
    }

    /// Writes the message.
    #[must_use]
    pub fn emit(&self) -> [u8; LEN] {
        let mut message = [0; LEN];
        let operation: u16 = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        put(&mut message, field::KINDS, &ETHERNET_AND_IPV4);
        put(&mut message, field::OPERATION, &operation.to_be_bytes());
        put(&mut message, field::SENDER_LINK, &self.sender_link);
        put(&mut message, field::SENDER, &self.sender.octets());
        put(&mut message, field::TARGET_LINK, &self.target_link);
        put(&mut message, field::TARGET, &self.target.octets());
        message
    }
}

/// Whether a link address is that of one station: neither a group nor all zero.
#[must_use]
pub const fn is_station(link: [u8; 6]) -> bool {
    link[0] & 1 == 0 && !matches!(link, [0, 0, 0, 0, 0, 0])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `arping` of iputils sends.
    const REQUEST: [u8; LEN] =
        [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 7, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1];

    #[test]
    fn a_request_is_read_and_written() {
        let repr = Repr {
            operation: Operation::Request,
            sender_link: [2, 0, 0, 0, 0, 7],
            sender: Ipv4Addr::new(192, 0, 2, 7),
            target_link: [0; 6],
            target: Ipv4Addr::new(192, 0, 2, 1),
        };
        assert_eq!(Repr::parse(&REQUEST), Some(repr));
        assert_eq!(repr.emit(), REQUEST);
        let reply = Repr { operation: Operation::Reply, target_link: [4; 6], ..repr };
        assert_eq!(Repr::parse(&reply.emit()), Some(reply));
    }

    #[test]
    fn what_is_no_message_of_a_station_is_not_read() {
        for length in 0..LEN {
            assert_eq!(Repr::parse(&REQUEST[..length]), None);
        }
        // Other hardware, protocol, lengths, operation; a group as sender on either layer.
        for (at, value) in [(1, 6), (2, 0x86), (4, 8), (5, 16), (7, 3), (7, 0), (8, 1), (14, 224)] {
            let mut message = REQUEST;
            message[at] = value;
            assert_eq!(Repr::parse(&message), None, "{at} {value}");
        }
        let mut nobody = REQUEST;
        nobody[8..14].fill(0);
        assert_eq!(Repr::parse(&nobody), None);
    }
}
