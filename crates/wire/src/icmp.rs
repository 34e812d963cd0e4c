//! ICMP for IPv4 (RFC 792) and IPv6 (RFC 4443).

use core::net::IpAddr;

use crate::bytes::{array, be16, be32, byte, put, tail};
use crate::ip::{IcmpKind, Version};
use crate::{ParseError, checksum, ipv4, ipv6};

/// Bytes of the header of echoes and errors.
pub const HEADER_LEN: usize = 8;
/// Most bytes of an IPv4 packet that carries an ICMP error (RFC 1812 4.3.2.3).
pub const MAX_ERROR_V4: usize = 576;
/// Most bytes of an IPv6 packet that carries an ICMP error (RFC 4443 2.4).
pub const MAX_ERROR_V6: usize = 1280;

mod field {
    pub(super) const TYPE: usize = 0;
    pub(super) const CODE: usize = 1;
    pub(super) const CHECKSUM: usize = 2;
    pub(super) const REST: usize = 4;
    pub(super) const IDENTIFIER: usize = 4;
    pub(super) const SEQUENCE: usize = 6;
}

/// What a message of this type is to a router.
#[inline]
#[must_use]
pub const fn kind(version: Version, message_type: u8) -> IcmpKind {
    match (version, message_type) {
        (Version::V4, 8) | (Version::V6, 128) => IcmpKind::EchoRequest,
        (Version::V4, 0) | (Version::V6, 129) => IcmpKind::EchoReply,
        (Version::V4, 3 | 4 | 11 | 12) | (Version::V6, 0..=127) => IcmpKind::Error,
        _ => IcmpKind::Other,
    }
}

/// A view of an ICMP message of either version.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T: AsRef<[u8]>> {
    version: Version,
    buffer: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// A view without checks; fields beyond the slice read as zero.
    pub const fn new_unchecked(version: Version, buffer: T) -> Self {
        Self { version, buffer }
    }

    /// A view of at least 8 bytes.
    ///
    /// # Errors
    /// [`ParseError::TransportTooShort`].
    pub fn new_checked(version: Version, buffer: T) -> Result<Self, ParseError> {
        if buffer.as_ref().len() < HEADER_LEN {
            return Err(ParseError::TransportTooShort);
        }
        Ok(Self { version, buffer })
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.as_ref()
    }

    /// The type.
    pub fn message_type(&self) -> u8 {
        byte(self.bytes(), field::TYPE)
    }

    /// The code.
    pub fn code(&self) -> u8 {
        byte(self.bytes(), field::CODE)
    }

    /// The checksum.
    pub fn checksum(&self) -> u16 {
        be16(self.bytes(), field::CHECKSUM)
    }

    /// What the message is to a router.
    pub fn kind(&self) -> IcmpKind {
        kind(self.version, self.message_type())
    }

    /// Whether it is an error that quotes a packet.
    pub fn is_error(&self) -> bool {
        self.kind() == IcmpKind::Error
    }

    /// The identifier of an echo.
    pub fn identifier(&self) -> u16 {
        be16(self.bytes(), field::IDENTIFIER)
    }

    /// The sequence number of an echo.
    pub fn sequence(&self) -> u16 {
        be16(self.bytes(), field::SEQUENCE)
    }

    /// Bytes 4 to 7: identifier and sequence number, MTU, pointer, or unused.
    pub fn rest(&self) -> [u8; 4] {
        array(self.bytes(), field::REST)
    }

    /// The MTU of "fragmentation needed" (RFC 1191) or "packet too big", in bytes; `None` for other
    /// messages, and where an old router left it zero.
    pub fn mtu(&self) -> Option<u32> {
        let mtu = match (self.version, self.message_type(), self.code()) {
            (Version::V4, 3, 4) => u32::from(be16(self.bytes(), 6)),
            (Version::V6, 2, _) => be32(self.bytes(), field::REST),
            _ => 0,
        };
        (mtu != 0).then_some(mtu)
    }

    /// Where the quoted packet of an error starts, in bytes.
    pub fn quoted_offset(&self) -> Option<usize> {
        self.is_error().then_some(HEADER_LEN)
    }

    /// What follows the first 8 bytes: the data of an echo, or the quoted packet of an error.
    pub fn payload(&self) -> &[u8] {
        tail(self.bytes(), HEADER_LEN)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Sets the identifier of an echo.
    pub fn set_identifier(&mut self, value: u16) {
        put(self.buffer.as_mut(), field::IDENTIFIER, &value.to_be_bytes());
    }

    /// Sets the checksum.
    pub fn set_checksum(&mut self, value: u16) {
        put(self.buffer.as_mut(), field::CHECKSUM, &value.to_be_bytes());
    }

    /// Computes and sets the checksum over the whole slice; IPv4 has no pseudo-header.
    pub fn fill_checksum(&mut self, source: IpAddr, destination: IpAddr) {
        self.set_checksum(0);
        let checksum = checksum::transport_checksum(source, destination, self.version.icmp(), self.bytes());
        self.set_checksum(checksum);
    }
}

/// An ICMP error to be made or relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorRepr {
    /// The version of ICMP.
    pub version: Version,
    /// The type.
    pub message_type: u8,
    /// The code.
    pub code: u8,
    /// Bytes 4 to 7.
    pub rest: [u8; 4],
}

impl ErrorRepr {
    /// The TTL or hop limit ran out.
    #[must_use]
    pub const fn time_exceeded(version: Version) -> Self {
        let message_type = match version {
            Version::V4 => 11,
            Version::V6 => 3,
        };
        Self { version, message_type, code: 0, rest: [0; 4] }
    }

    /// The packet exceeds `mtu` bytes and may not be fragmented.
    #[must_use]
    pub const fn too_big(version: Version, mtu: u16) -> Self {
        let [high, low] = mtu.to_be_bytes();
        let (message_type, code) = match version {
            Version::V4 => (3, 4),
            Version::V6 => (2, 0),
        };
        Self { version, message_type, code, rest: [0, 0, high, low] }
    }

    /// There is no route.
    #[must_use]
    pub const fn no_route(version: Version) -> Self {
        match version {
            Version::V4 => Self { version, message_type: 3, code: 0, rest: [0; 4] },
            Version::V6 => Self { version, message_type: 1, code: 0, rest: [0; 4] },
        }
    }

    /// Communication is administratively prohibited.
    #[must_use]
    pub const fn prohibited(version: Version) -> Self {
        match version {
            Version::V4 => Self { version, message_type: 3, code: 13, rest: [0; 4] },
            Version::V6 => Self { version, message_type: 1, code: 1, rest: [0; 4] },
        }
    }

    /// Nobody listens on the port.
    #[must_use]
    pub const fn port_unreachable(version: Version) -> Self {
        match version {
            Version::V4 => Self { version, message_type: 3, code: 3, rest: [0; 4] },
            Version::V6 => Self { version, message_type: 1, code: 4, rest: [0; 4] },
        }
    }

    /// Reads a message; `None` if it is not an error.
    #[must_use]
    pub fn parse<T: AsRef<[u8]>>(packet: &Packet<T>) -> Option<Self> {
        packet.is_error().then(|| Self {
            version: packet.version,
            message_type: packet.message_type(),
            code: packet.code(),
            rest: packet.rest(),
        })
    }

    /// Writes the message that quotes `quoted` whole, checksum included. Gives its length, or `None`
    /// when `buffer` is too small.
    #[must_use]
    pub fn emit(
        &self,
        source: IpAddr,
        destination: IpAddr,
        quoted: &[u8],
        buffer: &mut [u8],
    ) -> Option<usize> {
        let length = HEADER_LEN + quoted.len();
        let message = buffer.get_mut(..length)?;
        let (header, body) = message.split_at_mut_checked(HEADER_LEN)?;
        header.copy_from_slice(&self.header());
        body.copy_from_slice(quoted);
        Packet::new_unchecked(self.version, message).fill_checksum(source, destination);
        Some(length)
    }

    /// The first 8 bytes with a checksum of zero.
    #[must_use]
    pub const fn header(&self) -> [u8; HEADER_LEN] {
        let [a, b, c, d] = self.rest;
        [self.message_type, self.code, 0, 0, a, b, c, d]
    }

    /// Writes a whole IP packet (TTL 64, traffic class 0) with this error about `quoted`, which is
    /// cut so that the packet keeps to [`MAX_ERROR_V4`] or [`MAX_ERROR_V6`]. Gives its length, or
    /// `None` when `buffer` is too small or an address is of the other version.
    #[must_use]
    pub fn emit_packet(
        &self,
        source: IpAddr,
        destination: IpAddr,
        quoted: &[u8],
        buffer: &mut [u8],
    ) -> Option<usize> {
        let ip_len = self.version.header_len();
        let limit = match self.version {
            Version::V4 => MAX_ERROR_V4,
            Version::V6 => MAX_ERROR_V6,
        };
        let quoted = quoted.get(..limit - ip_len - HEADER_LEN).unwrap_or(quoted);
        let payload_len = u16::try_from(HEADER_LEN + quoted.len()).ok()?;
        match (self.version, source, destination) {
            (Version::V4, IpAddr::V4(source), IpAddr::V4(destination)) => ipv4::Repr {
                source,
                destination,
                protocol: self.version.icmp(),
                ttl: 64,
                traffic_class: 0,
                identification: 0,
                dont_fragment: true,
                payload_len,
            }
            .emit(buffer)?,
            (Version::V6, IpAddr::V6(source), IpAddr::V6(destination)) => ipv6::Repr {
                source,
                destination,
                next_header: self.version.icmp(),
                hop_limit: 64,
                traffic_class: 0,
                flow_label: 0,
                payload_len,
            }
            .emit(buffer)?,
            _ => return None,
        };
        let length = self.emit(source, destination, quoted, buffer.get_mut(ip_len..)?)?;
        Some(ip_len + length)
    }
}

#[cfg(test)]
mod tests;
