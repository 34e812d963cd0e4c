//! IPv4 (RFC 791).

use core::net::{IpAddr, Ipv4Addr};

use crate::bytes::{array, be16, byte, put, tail};
use crate::{ParseError, checksum};

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

mod field {
    pub(super) const VERSION_IHL: usize = 0;
    pub(super) const DSCP_ECN: usize = 1;
    pub(super) const TOTAL_LENGTH: usize = 2;
    pub(super) const IDENTIFICATION: usize = 4;
    pub(super) const FRAGMENT: usize = 6;
    pub(super) const TTL: usize = 8;
    pub(super) const PROTOCOL: usize = 9;
    pub(super) const CHECKSUM: usize = 10;
    pub(super) const SOURCE: usize = 12;
    pub(super) const DESTINATION: usize = 16;
}

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;

/// A view of an IPv4 packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T: AsRef<[u8]>> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// A view without checks; fields beyond the slice read as zero.
    pub const fn new_unchecked(buffer: T) -> Self {
        Self { buffer }
    }

    /// A view whose version and lengths are right; the checksum is not looked at.
    ///
    /// # Errors
    /// [`ParseError`] of the IP header.
    pub fn new_checked(buffer: T) -> Result<Self, ParseError> {
        let packet = Self::new_unchecked(buffer);
        let len = packet.bytes().len();
        if len < HEADER_LEN {
            return Err(ParseError::IpTooShort);
        }
        if byte(packet.bytes(), field::VERSION_IHL) >> 4 != 4 {
            return Err(ParseError::IpVersion);
        }
        if packet.header_len() < HEADER_LEN || packet.header_len() > len {
            return Err(ParseError::IpHeaderLength);
        }
        let total_len = usize::from(packet.total_len());
        if total_len < packet.header_len() || total_len > len {
            return Err(ParseError::IpTotalLength);
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

    /// Bytes of the header, options included.
    pub fn header_len(&self) -> usize {
        usize::from(byte(self.bytes(), field::VERSION_IHL) & 0x0f) * 4
    }

    /// DSCP and ECN as one byte.
    pub fn traffic_class(&self) -> u8 {
        byte(self.bytes(), field::DSCP_ECN)
    }

    /// Bytes of the packet.
    pub fn total_len(&self) -> u16 {
        be16(self.bytes(), field::TOTAL_LENGTH)
    }

    /// The identification.
    pub fn identification(&self) -> u16 {
        be16(self.bytes(), field::IDENTIFICATION)
    }

    /// DF.
    pub fn dont_fragment(&self) -> bool {
        be16(self.bytes(), field::FRAGMENT) & DONT_FRAGMENT != 0
    }

    /// MF.
    pub fn more_fragments(&self) -> bool {
        be16(self.bytes(), field::FRAGMENT) & MORE_FRAGMENTS != 0
    }

    /// Where a fragment belongs, in bytes.
    pub fn fragment_offset(&self) -> u16 {
        (be16(self.bytes(), field::FRAGMENT) & 0x1fff) << 3
    }

    /// TTL.
    pub fn ttl(&self) -> u8 {
        byte(self.bytes(), field::TTL)
    }

    /// The transport protocol.
    pub fn protocol(&self) -> u8 {
        byte(self.bytes(), field::PROTOCOL)
    }

    /// The header checksum.
    pub fn checksum(&self) -> u16 {
        be16(self.bytes(), field::CHECKSUM)
    }

    /// Whether the header checksum is right.
    pub fn checksum_is_valid(&self) -> bool {
        let header = self.bytes().get(..self.header_len()).unwrap_or(&[]);
        checksum::fold(checksum::sum(header)) == 0xffff
    }

    /// The source address.
    pub fn source(&self) -> Ipv4Addr {
        Ipv4Addr::from(array::<4>(self.bytes(), field::SOURCE))
    }

    /// The destination address.
    pub fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::from(array::<4>(self.bytes(), field::DESTINATION))
    }

    /// What follows the header, up to the total length.
    pub fn payload(&self) -> &[u8] {
        let bytes = self.bytes();
        tail(bytes.get(..usize::from(self.total_len())).unwrap_or(bytes), self.header_len())
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    fn put(&mut self, at: usize, value: &[u8]) {
        put(self.buffer.as_mut(), at, value);
    }

    /// Sets DSCP and ECN.
    pub fn set_traffic_class(&mut self, value: u8) {
        self.put(field::DSCP_ECN, &[value]);
    }

    /// Sets the total length.
    pub fn set_total_len(&mut self, value: u16) {
        self.put(field::TOTAL_LENGTH, &value.to_be_bytes());
    }

    /// Sets the identification.
    pub fn set_identification(&mut self, value: u16) {
        self.put(field::IDENTIFICATION, &value.to_be_bytes());
    }

    /// Sets TTL.
    pub fn set_ttl(&mut self, value: u8) {
        self.put(field::TTL, &[value]);
    }

    /// Sets the transport protocol.
    pub fn set_protocol(&mut self, value: u8) {
        self.put(field::PROTOCOL, &[value]);
    }

    /// Sets the header checksum.
    pub fn set_checksum(&mut self, value: u16) {
        self.put(field::CHECKSUM, &value.to_be_bytes());
    }

    /// Sets the source address.
    pub fn set_source(&mut self, value: Ipv4Addr) {
        self.put(field::SOURCE, &value.octets());
    }

    /// Sets the destination address.
    pub fn set_destination(&mut self, value: Ipv4Addr) {
        self.put(field::DESTINATION, &value.octets());
    }

    /// Computes and sets the header checksum.
    pub fn fill_checksum(&mut self) {
        self.set_checksum(0);
        let header = self.bytes().get(..self.header_len()).unwrap_or(&[]);
        let checksum = !checksum::fold(checksum::sum(header));
        self.set_checksum(checksum);
    }

    /// Takes one off the TTL, which must not be zero, and mends the checksum (RFC 1624).
    pub fn decrement_ttl(&mut self) {
        let old: [u8; 2] = array(self.bytes(), field::TTL);
        let new = [old[0].saturating_sub(1), old[1]];
        let checksum = checksum::Delta::between(&old, &new).apply(self.checksum());
        self.set_ttl(new[0]);
        self.set_checksum(checksum);
    }

    /// What follows the header, to be changed.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let (start, end) = (self.header_len(), usize::from(self.total_len()));
        self.buffer.as_mut().get_mut(start..end).unwrap_or(&mut [])
    }
}

/// A header without options of a packet that is not a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// The source address.
    pub source: Ipv4Addr,
    /// The destination address.
    pub destination: Ipv4Addr,
    /// The transport protocol.
    pub protocol: u8,
    /// TTL.
    pub ttl: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// The identification.
    pub identification: u16,
    /// DF.
    pub dont_fragment: bool,
    /// Bytes that follow the header.
    pub payload_len: u16,
}

impl Repr {
    /// Reads a checked view. Options are ignored.
    ///
    /// # Errors
    /// [`ParseError::IpChecksum`] for a wrong checksum.
    pub fn parse<T: AsRef<[u8]>>(packet: &Packet<T>) -> Result<Self, ParseError> {
        if !packet.checksum_is_valid() {
            return Err(ParseError::IpChecksum);
        }
        Ok(Self {
            source: packet.source(),
            destination: packet.destination(),
            protocol: packet.protocol(),
            ttl: packet.ttl(),
            traffic_class: packet.traffic_class(),
            identification: packet.identification(),
            dont_fragment: packet.dont_fragment(),
            payload_len: u16::try_from(packet.payload().len()).unwrap_or(0),
        })
    }

    /// Writes the header, checksum included. Gives its length, or `None` when `buffer` is too small
    /// or the packet would be too long.
    #[must_use]
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        let header = buffer.first_chunk_mut::<HEADER_LEN>()?;
        let total_len = self.payload_len.checked_add(HEADER_LEN as u16)?;
        *header = [0; HEADER_LEN];
        header[field::VERSION_IHL] = 0x45;
        let mut packet = Packet::new_unchecked(&mut header[..]);
        packet.set_traffic_class(self.traffic_class);
        packet.set_total_len(total_len);
        packet.set_identification(self.identification);
        let flags = if self.dont_fragment { DONT_FRAGMENT } else { 0 };
        packet.put(field::FRAGMENT, &flags.to_be_bytes());
        packet.set_ttl(self.ttl);
        packet.set_protocol(self.protocol);
        packet.set_source(self.source);
        packet.set_destination(self.destination);
        packet.fill_checksum();
        Some(HEADER_LEN)
    }

    /// The sum of the pseudo-header of the transport protocol.
    #[must_use]
    pub fn pseudo_header(&self) -> u32 {
        let (source, destination) = (IpAddr::V4(self.source), IpAddr::V4(self.destination));
        checksum::pseudo_header(source, destination, self.protocol, u32::from(self.payload_len))
    }
}
