//! TCP (RFC 9293).

use core::net::IpAddr;

use crate::bytes::{be16, be32, byte, put, tail};
use crate::{ParseError, checksum, protocol};

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 20;

/// Bits of the flags byte.
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronize sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number is significant.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer is significant.
    pub const URG: u8 = 0x20;
    /// ECN echo (RFC 3168).
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced (RFC 3168).
    pub const CWR: u8 = 0x80;
}

/// Kinds of options.
pub mod option {
    /// End of the list.
    pub const END: u8 = 0;
    /// Padding.
    pub const NOP: u8 = 1;
    /// Maximum segment size; length 4.
    pub const MSS: u8 = 2;
}

mod field {
    pub(super) const SOURCE: usize = 0;
    pub(super) const DESTINATION: usize = 2;
    pub(super) const SEQUENCE: usize = 4;
    pub(super) const ACKNOWLEDGEMENT: usize = 8;
    pub(super) const DATA_OFFSET: usize = 12;
    pub(super) const FLAGS: usize = 13;
    pub(super) const WINDOW: usize = 14;
    pub(super) const CHECKSUM: usize = 16;
    pub(super) const URGENT: usize = 18;
}

/// A view of a TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T: AsRef<[u8]>> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// A view without checks; fields beyond the slice read as zero.
    pub const fn new_unchecked(buffer: T) -> Self {
        Self { buffer }
    }

    /// A view whose data offset is right.
    ///
    /// # Errors
    /// [`ParseError::TransportTooShort`] or [`ParseError::TcpDataOffset`].
    pub fn new_checked(buffer: T) -> Result<Self, ParseError> {
        let packet = Self::new_unchecked(buffer);
        let len = packet.bytes().len();
        if len < HEADER_LEN {
            return Err(ParseError::TransportTooShort);
        }
        if packet.header_len() < HEADER_LEN || packet.header_len() > len {
            return Err(ParseError::TcpDataOffset);
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

    /// The sequence number.
    pub fn sequence(&self) -> u32 {
        be32(self.bytes(), field::SEQUENCE)
    }

    /// The acknowledgement number.
    pub fn acknowledgement(&self) -> u32 {
        be32(self.bytes(), field::ACKNOWLEDGEMENT)
    }

    /// Bytes of the header, options included.
    pub fn header_len(&self) -> usize {
        usize::from(byte(self.bytes(), field::DATA_OFFSET) >> 4) * 4
    }

    /// The flags, see [`flag`].
    pub fn flags(&self) -> u8 {
        byte(self.bytes(), field::FLAGS)
    }

    /// The window, not scaled.
    pub fn window(&self) -> u16 {
        be16(self.bytes(), field::WINDOW)
    }

    /// The checksum.
    pub fn checksum(&self) -> u16 {
        be16(self.bytes(), field::CHECKSUM)
    }

    /// The urgent pointer.
    pub fn urgent(&self) -> u16 {
        be16(self.bytes(), field::URGENT)
    }

    /// The options.
    pub fn options(&self) -> &[u8] {
        self.bytes().get(HEADER_LEN..self.header_len()).unwrap_or(&[])
    }

    /// Where the value of the MSS option lies, in bytes from the start of the segment.
    pub fn mss_offset(&self) -> Option<usize> {
        let options = self.options();
        let mut at = 0;
        while let Some(&kind) = options.get(at) {
            match kind {
                option::END => return None,
                option::NOP => at += 1,
                _ => {
                    let length = usize::from(*options.get(at + 1)?);
                    if length < 2 || at + length > options.len() {
                        return None;
                    }
                    if kind == option::MSS && length == 4 {
                        return Some(HEADER_LEN + at + 2);
                    }
                    at += length;
                }
            }
        }
        None
    }

    /// The MSS option.
    pub fn mss(&self) -> Option<u16> {
        self.mss_offset().map(|at| be16(self.bytes(), at))
    }

    /// What follows the header.
    pub fn payload(&self) -> &[u8] {
        tail(self.bytes(), self.header_len())
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    fn put(&mut self, at: usize, value: &[u8]) {
        put(self.buffer.as_mut(), at, value);
    }

    /// Sets the source port.
    pub fn set_source_port(&mut self, value: u16) {
        self.put(field::SOURCE, &value.to_be_bytes());
    }

    /// Sets the destination port.
    pub fn set_destination_port(&mut self, value: u16) {
        self.put(field::DESTINATION, &value.to_be_bytes());
    }

    /// Sets the sequence number.
    pub fn set_sequence(&mut self, value: u32) {
        self.put(field::SEQUENCE, &value.to_be_bytes());
    }

    /// Sets the acknowledgement number.
    pub fn set_acknowledgement(&mut self, value: u32) {
        self.put(field::ACKNOWLEDGEMENT, &value.to_be_bytes());
    }

    /// Sets the flags.
    pub fn set_flags(&mut self, value: u8) {
        self.put(field::FLAGS, &[value]);
    }

    /// Sets the window.
    pub fn set_window(&mut self, value: u16) {
        self.put(field::WINDOW, &value.to_be_bytes());
    }

    /// Sets the checksum.
    pub fn set_checksum(&mut self, value: u16) {
        self.put(field::CHECKSUM, &value.to_be_bytes());
    }

    /// Lowers the MSS option to `limit` if it is higher. Gives the change of the checksum, which is
    /// not applied; `None` if nothing changed.
    pub fn clamp_mss(&mut self, limit: u16) -> Option<checksum::Delta> {
        let at = self.mss_offset()?;
        let old = be16(self.bytes(), at);
        if old <= limit {
            return None;
        }
        self.put(at, &limit.to_be_bytes());
        let (old, new) = (u32::from(old), u32::from(limit));
        // An option at an odd offset has its bytes in the other halves of the words.
        Some(if at % 2 == 0 {
            checksum::Delta::from_sums(old, new)
        } else {
            checksum::Delta::from_sums(swap(old), swap(new))
        })
    }

    /// Computes and sets the checksum over the whole slice.
    pub fn fill_checksum(&mut self, source: IpAddr, destination: IpAddr) {
        self.set_checksum(0);
        let checksum = checksum::transport_checksum(source, destination, protocol::TCP, self.bytes());
        self.set_checksum(checksum);
    }
}

fn swap(word: u32) -> u32 {
    u32::from((word as u16).swap_bytes())
}

/// A TCP header without options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// The source port.
    pub source_port: u16,
    /// The destination port.
    pub destination_port: u16,
    /// The sequence number.
    pub sequence: u32,
    /// The acknowledgement number.
    pub acknowledgement: u32,
    /// The flags, see [`flag`].
    pub flags: u8,
    /// The window, not scaled.
    pub window: u16,
}

impl Repr {
    /// Reads a checked view. Options, checksum and urgent pointer are ignored.
    #[must_use]
    pub fn parse<T: AsRef<[u8]>>(packet: &Packet<T>) -> Self {
        Self {
            source_port: packet.source_port(),
            destination_port: packet.destination_port(),
            sequence: packet.sequence(),
            acknowledgement: packet.acknowledgement(),
            flags: packet.flags(),
            window: packet.window(),
        }
    }

    /// Writes the header with a checksum of zero; [`Packet::fill_checksum`] computes it. Gives the
    /// length, or `None` when `buffer` is too small.
    #[must_use]
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        let header = buffer.first_chunk_mut::<HEADER_LEN>()?;
        *header = [0; HEADER_LEN];
        header[field::DATA_OFFSET] = 5 << 4;
        let mut packet = Packet::new_unchecked(&mut header[..]);
        packet.set_source_port(self.source_port);
        packet.set_destination_port(self.destination_port);
        packet.set_sequence(self.sequence);
        packet.set_acknowledgement(self.acknowledgement);
        packet.set_flags(self.flags);
        packet.set_window(self.window);
        Some(HEADER_LEN)
    }
}
