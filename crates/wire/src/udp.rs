//! UDP (RFC 768).

use core::net::IpAddr;

use crate::bytes::{be16, put, tail};
use crate::{ParseError, checksum, protocol};

/// Bytes of a header.
pub const HEADER_LEN: usize = 8;

mod field {
    pub(super) const SOURCE: usize = 0;
    pub(super) const DESTINATION: usize = 2;
    pub(super) const LENGTH: usize = 4;
    pub(super) const CHECKSUM: usize = 6;
}

/// A view of a UDP datagram.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T: AsRef<[u8]>> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// A view without checks; fields beyond the slice read as zero.
    pub const fn new_unchecked(buffer: T) -> Self {
        Self { buffer }
    }

    /// A view whose length is right.
    ///
    /// # Errors
    /// [`ParseError::TransportTooShort`] or [`ParseError::UdpLength`].
    pub fn new_checked(buffer: T) -> Result<Self, ParseError> {
        let packet = Self::new_unchecked(buffer);
        if packet.bytes().len() < HEADER_LEN {
            return Err(ParseError::TransportTooShort);
        }
        let length = usize::from(packet.len());
        if length < HEADER_LEN || length > packet.bytes().len() {
            return Err(ParseError::UdpLength);
        }
        Ok(packet)
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.as_ref()
    }

    /// The slice or buffer behind the view.
    pub fn into_inner(self) -> T {
        self.buffer
    }

    /// The source port.
    pub fn source_port(&self) -> u16 {
        be16(self.bytes(), field::SOURCE)
    }

    /// The destination port.
    pub fn destination_port(&self) -> u16 {
        be16(self.bytes(), field::DESTINATION)
    }

    /// Bytes of header and payload.
    pub fn len(&self) -> u16 {
        be16(self.bytes(), field::LENGTH)
    }

    /// Whether there is no payload.
    pub fn is_empty(&self) -> bool {
        usize::from(self.len()) <= HEADER_LEN
    }

    /// The checksum; zero means none.
    pub fn checksum(&self) -> u16 {
        be16(self.bytes(), field::CHECKSUM)
    }

    /// Whether the checksum is right, or absent where it may be.
    pub fn checksum_is_valid(&self, source: IpAddr, destination: IpAddr) -> bool {
        let datagram = self.bytes().get(..usize::from(self.len())).unwrap_or(&[]);
        checksum::transport_checksum_is_valid(source, destination, protocol::UDP, datagram)
    }

    /// The payload, up to the length field.
    pub fn payload(&self) -> &[u8] {
        let bytes = self.bytes();
        tail(bytes.get(..usize::from(self.len())).unwrap_or(bytes), HEADER_LEN)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    fn put(&mut self, at: usize, value: u16) {
        put(self.buffer.as_mut(), at, &value.to_be_bytes());
    }

    /// Sets the source port.
    pub fn set_source_port(&mut self, value: u16) {
        self.put(field::SOURCE, value);
    }

    /// Sets the destination port.
    pub fn set_destination_port(&mut self, value: u16) {
        self.put(field::DESTINATION, value);
    }

    /// Sets the length of header and payload.
    pub fn set_len(&mut self, value: u16) {
        self.put(field::LENGTH, value);
    }

    /// Sets the checksum.
    pub fn set_checksum(&mut self, value: u16) {
        self.put(field::CHECKSUM, value);
    }

    /// Computes and sets the checksum over the length the header says.
    pub fn fill_checksum(&mut self, source: IpAddr, destination: IpAddr) {
        self.set_checksum(0);
        let datagram = self.bytes().get(..usize::from(self.len())).unwrap_or(&[]);
        let checksum = checksum::transport_checksum(source, destination, protocol::UDP, datagram);
        self.set_checksum(checksum);
    }
}

/// A UDP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// The source port.
    pub source_port: u16,
    /// The destination port.
    pub destination_port: u16,
    /// Bytes of payload.
    pub payload_len: u16,
}

impl Repr {
    /// Reads a checked view. The checksum is not looked at.
    #[must_use]
    pub fn parse<T: AsRef<[u8]>>(packet: &Packet<T>) -> Self {
        Self {
            source_port: packet.source_port(),
            destination_port: packet.destination_port(),
            payload_len: u16::try_from(packet.payload().len()).unwrap_or(0),
        }
    }

    /// Writes the header with a checksum of zero; [`Packet::fill_checksum`] computes it once the
    /// payload is there. Gives the length, or `None` when `buffer` is too small or the datagram
    /// would be too long.
    #[must_use]
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        let header = buffer.first_chunk_mut::<HEADER_LEN>()?;
        let length = self.payload_len.checked_add(HEADER_LEN as u16)?;
        let mut packet = Packet::new_unchecked(&mut header[..]);
        packet.set_source_port(self.source_port);
        packet.set_destination_port(self.destination_port);
        packet.set_len(length);
        packet.set_checksum(0);
        Some(HEADER_LEN)
    }
}
