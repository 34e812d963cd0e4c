//! The payload of a relayed ICMP error (F).
//!
//! The issuer's address is in TLV 20 or 21, whose family is that of the error. What follows the
//! metadata is the error's first 8 bytes, and the transport header of the quoted packet with ports
//! and checksum zeroed. The quoted IP header does not cross the wire: the receiver rebuilds it from
//! the session.

use super::choices::MAX_RELAYED_LEN;
use crate::bytes::put;
use crate::icmp::{ErrorRepr, HEADER_LEN, Packet};
use crate::ip::Version;
use crate::{ParseError, checksum, protocol};

/// An ICMP error on its way between routers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayedError<'a> {
    /// Type, code and bytes 4 to 7.
    pub error: ErrorRepr,
    /// The start of the quoted transport header, ports and checksum zeroed; at most 64 bytes.
    pub transport: &'a [u8],
}

impl<'a> RelayedError<'a> {
    /// Reads the payload; `version` is the family of TLV 20 or 21.
    ///
    /// # Errors
    /// [`ParseError::TransportTooShort`] when there are fewer than 8 bytes or the type is not that
    /// of an error.
    pub fn parse(version: Version, payload: &'a [u8]) -> Result<Self, ParseError> {
        let (header, transport) =
            payload.split_at_checked(HEADER_LEN).ok_or(ParseError::TransportTooShort)?;
        let packet = Packet::new_unchecked(version, header);
        let error = ErrorRepr::parse(&packet).ok_or(ParseError::TransportTooShort)?;
        let transport = transport.get(..MAX_RELAYED_LEN).unwrap_or(transport);
        Ok(Self { error, transport })
    }

    /// Writes the payload of an error that quotes a transport header of `protocol`: ports (or the
    /// identifier of an echo) and checksum are zeroed here. Gives the length in bytes, or `None`
    /// when `buffer` is too small.
    #[must_use]
    pub fn emit(&self, protocol: u8, buffer: &mut [u8]) -> Option<usize> {
        let transport = self.transport.get(..MAX_RELAYED_LEN).unwrap_or(self.transport);
        let length = HEADER_LEN + transport.len();
        let (header, body) = buffer.get_mut(..length)?.split_at_mut_checked(HEADER_LEN)?;
        header.copy_from_slice(&self.error.header());
        body.copy_from_slice(transport);
        match protocol {
            protocol::TCP | protocol::UDP => zero(body, 0, 4),
            protocol::ICMP | protocol::ICMPV6 => zero(body, 4, 2),
            _ => {}
        }
        if let Some(at) = checksum::field_offset(protocol) {
            zero(body, at, 2);
        }
        Some(length)
    }
}

/// Zeroes `count` bytes at `at`, as far as they are there.
fn zero(bytes: &mut [u8], at: usize, count: usize) {
    for index in at..at + count {
        put(bytes, index, &[0]);
    }
}
