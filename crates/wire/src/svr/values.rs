//! The values of structured TLVs.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::MetadataError;
use super::choices::{MAX_NAME_LEN, tlv};
use super::section::{Writer, exact};
use crate::bytes::{array, be16, be32, byte};

/// The original tuple of a packet (TLV 2 to 5). Both addresses are of one family.
///
/// ICMP echo carries its identifier in both ports; protocols without ports carry zero in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Context {
    /// Where the original packet comes from.
    pub source: SocketAddr,
    /// Where the original packet goes.
    pub destination: SocketAddr,
    /// The IP protocol.
    pub protocol: u8,
}

impl Context {
    /// Reads TLV 2 or 4.
    pub(super) fn parse_v4(value: &[u8]) -> Result<Self, MetadataError> {
        let value: [u8; 13] = exact(value)?;
        let source = IpAddr::from(array::<4>(&value, 0));
        let destination = IpAddr::from(array::<4>(&value, 4));
        Self::new(source, destination, &value[8..])
    }

    /// Reads TLV 3 or 5.
    pub(super) fn parse_v6(value: &[u8]) -> Result<Self, MetadataError> {
        let value: [u8; 37] = exact(value)?;
        let source = IpAddr::from(array::<16>(&value, 0));
        let destination = IpAddr::from(array::<16>(&value, 16));
        Self::new(source, destination, &value[32..])
    }

    fn new(source: IpAddr, destination: IpAddr, rest: &[u8]) -> Result<Self, MetadataError> {
        let protocol = protocol(byte(rest, 4))?;
        Ok(Self {
            source: SocketAddr::new(source, be16(rest, 0)),
            destination: SocketAddr::new(destination, be16(rest, 2)),
            protocol,
        })
    }

    /// Writes the TLV of the right family; fails on two families.
    pub(super) fn write(&self, v4: u16, v6: u16, writer: &mut Writer<'_>) {
        let source_port = self.source.port().to_be_bytes();
        let destination_port = self.destination.port().to_be_bytes();
        let protocol = [self.protocol];
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => writer.tlv(
                v4,
                &[&source.octets(), &destination.octets(), &source_port, &destination_port, &protocol],
            ),
            (IpAddr::V6(source), IpAddr::V6(destination)) => writer.tlv(
                v6,
                &[&source.octets(), &destination.octets(), &source_port, &destination_port, &protocol],
            ),
            _ => writer.fail(),
        }
    }
}

/// Refuses numbers that are IPv6 extension headers, not protocols.
fn protocol(number: u8) -> Result<u8, MetadataError> {
    match number {
        0 | 43 | 44 | 60 => Err(MetadataError::TlvValue),
        _ => Ok(number),
    }
}

/// One piece of a packet that was too big with our own overhead (TLV 1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// Names the fragmented packet.
    pub extended_id: u32,
    /// The IP identification of the original.
    pub original_id: u16,
    /// DF of the original.
    pub dont_fragment: bool,
    /// More pieces follow.
    pub more_fragments: bool,
    /// Where the piece belongs, in units of 8 bytes; 13 bits.
    pub offset: u16,
    /// The largest piece seen, in bytes.
    pub largest: u16,
}

impl Fragment {
    const DONT_FRAGMENT: u16 = 1 << 14;
    const MORE_FRAGMENTS: u16 = 1 << 13;
    const OFFSET: u16 = 0x1fff;

    pub(super) fn parse(value: &[u8]) -> Result<Self, MetadataError> {
        let value: [u8; 10] = exact(value)?;
        let word = be16(&value, 6);
        Ok(Self {
            extended_id: be32(&value, 0),
            original_id: be16(&value, 4),
            dont_fragment: word & Self::DONT_FRAGMENT != 0,
            more_fragments: word & Self::MORE_FRAGMENTS != 0,
            offset: word & Self::OFFSET,
            largest: be16(&value, 8),
        })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        if self.offset > Self::OFFSET {
            return writer.fail();
        }
        let mut word = self.offset;
        if self.dont_fragment {
            word |= Self::DONT_FRAGMENT;
        }
        if self.more_fragments {
            word |= Self::MORE_FRAGMENTS;
        }
        let parts: [&[u8]; 4] = [
            &self.extended_id.to_be_bytes(),
            &self.original_id.to_be_bytes(),
            &word.to_be_bytes(),
            &self.largest.to_be_bytes(),
        ];
        writer.tlv(tlv::FRAGMENT, &parts);
    }
}

/// A message from router to router (TLV 24). Processed, never forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// No meaning.
    Unknown,
    /// Keeps the bindings of NATs alive.
    KeepAlive,
    /// Asks the receiver to send metadata for this session again.
    EnableMetadata,
    /// Tells the receiver that its metadata arrived.
    DisableMetadata,
    /// Tells the receiver that the session is gone.
    DeleteSession,
    /// Answers a health check: the session is known.
    StateExists,
    /// A number this version does not know.
    Other(u8),
}

impl Control {
    /// The message of a number.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Unknown,
            1 => Self::KeepAlive,
            2 => Self::EnableMetadata,
            3 => Self::DisableMetadata,
            6 => Self::DeleteSession,
            8 => Self::StateExists,
            other => Self::Other(other),
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Unknown => 0,
            Self::KeepAlive => 1,
            Self::EnableMetadata => 2,
            Self::DisableMetadata => 3,
            Self::DeleteSession => 6,
            Self::StateExists => 8,
            Self::Other(other) => other,
        }
    }
}

/// Colours and times by which two routers measure the path between them (TLV 26).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PathMetrics {
    /// Colour of what the sender sends now; 4 bits.
    pub tx_color: u8,
    /// The sender's clock in milliseconds; 28 bits.
    pub tx_time: u32,
    /// Colour the sender received last; 4 bits.
    pub rx_color: u8,
    /// The time received last, moved on by how long ago that was, in milliseconds; 28 bits.
    pub rx_time: u32,
    /// Drop bit.
    pub drop: bool,
    /// Packets received with the previous colour; 15 bits.
    pub previous_rx_color_count: u16,
}

impl PathMetrics {
    const TIME: u32 = 0x0fff_ffff;

    pub(super) fn parse(value: &[u8]) -> Result<Self, MetadataError> {
        let value: [u8; 10] = exact(value)?;
        let count = be16(&value, 8);
        Ok(Self {
            tx_color: value[0] >> 4,
            tx_time: be32(&value, 0) & Self::TIME,
            rx_color: value[4] >> 4,
            rx_time: be32(&value, 4) & Self::TIME,
            drop: count & 0x8000 != 0,
            previous_rx_color_count: count & 0x7fff,
        })
    }

    /// Writes the TLV; clocks and counts wrap in their fields.
    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        let tx = u32::from(self.tx_color & 0x0f) << 28 | self.tx_time & Self::TIME;
        let rx = u32::from(self.rx_color & 0x0f) << 28 | self.rx_time & Self::TIME;
        let count = u16::from(self.drop) << 15 | self.previous_rx_color_count & 0x7fff;
        writer.tlv(tlv::PATH_METRICS, &[&tx.to_be_bytes(), &rx.to_be_bytes(), &count.to_be_bytes()]);
    }
}

/// Announces a change of a session (TLV 28). Bytes after the first two are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ModifyRequest {
    /// The F bit.
    pub forward: bool,
    /// The D bit.
    pub done: bool,
    /// Number of the request; 12 bits.
    pub sequence: u16,
}

impl ModifyRequest {
    const SEQUENCE: u16 = 0x0fff;

    pub(super) fn parse(value: &[u8]) -> Result<Self, MetadataError> {
        let word = u16::from_be_bytes(*value.first_chunk().ok_or(MetadataError::TlvLength)?);
        Ok(Self { forward: word & 1 << 15 != 0, done: word & 1 << 14 != 0, sequence: word & Self::SEQUENCE })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        let flags = u16::from(self.forward) << 15 | u16::from(self.done) << 14;
        writer.tlv(tlv::MODIFY, &[&(flags | self.sequence & Self::SEQUENCE).to_be_bytes()]);
    }
}

/// Asks whether the peer still knows the session (TLV 46 in the header).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthCheck {
    /// A request.
    Request,
    /// A request after one that was not answered.
    RequestAfterTimeout,
    /// A number this version does not know.
    Other(u8),
}

impl HealthCheck {
    /// The kind of a number.
    #[must_use]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Request,
            2 => Self::RequestAfterTimeout,
            other => Self::Other(other),
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::RequestAfterTimeout => 2,
            Self::Other(other) => other,
        }
    }
}

/// Place of a packet among duplicated or repairable ones (TLV 0x8003, F).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequenceRepair {
    /// Number of the block.
    pub block: u32,
    /// Place in the block.
    pub index: u8,
    /// Data packets in the block.
    pub k: u8,
    /// Repair packets in the block.
    pub m: u8,
    /// Number of the packet.
    pub sequence: u32,
}

impl SequenceRepair {
    pub(super) fn parse(value: &[u8]) -> Result<Self, MetadataError> {
        let value: [u8; 12] = exact(value)?;
        Ok(Self {
            block: be32(&value, 0),
            index: value[4],
            k: value[5],
            m: value[6],
            sequence: be32(&value, 8),
        })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        let middle = [self.index, self.k, self.m, 0];
        writer.tlv(tlv::SEQUENCE_REPAIR, &[&self.block.to_be_bytes(), &middle, &self.sequence.to_be_bytes()]);
    }
}

/// The group of a multicast session (TLV 50). Both addresses are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MulticastContext {
    /// Flags; none are defined.
    pub flags: u8,
    /// The sender.
    pub source: IpAddr,
    /// The group.
    pub group: IpAddr,
    /// The IP protocol.
    pub protocol: u8,
}

impl MulticastContext {
    pub(super) fn parse(value: &[u8]) -> Result<Self, MetadataError> {
        let (source, group, last) = match (byte(value, 0), value.len()) {
            (_, 0) => return Err(MetadataError::TlvLength),
            (4, 11) => (array::<4>(value, 2).into(), array::<4>(value, 6).into(), byte(value, 10)),
            (6, 35) => (array::<16>(value, 2).into(), array::<16>(value, 18).into(), byte(value, 34)),
            (4 | 6, _) => return Err(MetadataError::TlvLength),
            _ => return Err(MetadataError::TlvValue),
        };
        Ok(Self { flags: byte(value, 1), source, group, protocol: protocol(last)? })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) {
        let protocol = [self.protocol];
        match (self.source, self.group) {
            (IpAddr::V4(source), IpAddr::V4(group)) => writer.tlv(
                tlv::MULTICAST_CONTEXT,
                &[&[4, self.flags], &source.octets(), &group.octets(), &protocol],
            ),
            (IpAddr::V6(source), IpAddr::V6(group)) => writer.tlv(
                tlv::MULTICAST_CONTEXT,
                &[&[6, self.flags], &source.octets(), &group.octets(), &protocol],
            ),
            _ => writer.fail(),
        }
    }
}

/// The egress routers of a multicast session (TLV 51), as validated bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EgressList<'a> {
    value: &'a [u8],
}

impl<'a> EgressList<'a> {
    /// Reads the value of the TLV: a count, then length and name of each router.
    ///
    /// # Errors
    /// [`MetadataError::TlvLength`] when count and bytes disagree, [`MetadataError::TlvValue`] for a
    /// bad name.
    pub fn parse(value: &'a [u8]) -> Result<Self, MetadataError> {
        let (count, mut rest) = value.split_at_checked(2).ok_or(MetadataError::TlvLength)?;
        for _ in 0..be16(count, 0) {
            let (&length, names) = rest.split_first().ok_or(MetadataError::TlvLength)?;
            let (bytes, others) =
                names.split_at_checked(usize::from(length)).ok_or(MetadataError::TlvLength)?;
            name(bytes)?;
            rest = others;
        }
        if rest.is_empty() { Ok(Self { value }) } else { Err(MetadataError::TlvLength) }
    }

    /// Writes `names` as the value of the TLV into `buffer`; `None` if it does not fit or a name is bad.
    #[must_use]
    pub fn write(names: &[&str], buffer: &'a mut [u8]) -> Option<Self> {
        let count = u16::try_from(names.len()).ok()?;
        buffer.get_mut(..2)?.copy_from_slice(&count.to_be_bytes());
        let mut end = 2;
        for text in names {
            name(text.as_bytes()).ok()?;
            *buffer.get_mut(end)? = u8::try_from(text.len()).ok()?;
            let start = end + 1;
            end = start + text.len();
            buffer.get_mut(start..end)?.copy_from_slice(text.as_bytes());
        }
        Some(Self { value: buffer.get(..end)? })
    }

    /// The names.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut rest = self.value.get(2..).unwrap_or(&[]);
        core::iter::from_fn(move || {
            let (&length, names) = rest.split_first()?;
            let (bytes, others) = names.split_at_checked(usize::from(length))?;
            rest = others;
            core::str::from_utf8(bytes).ok()
        })
    }

    /// The value of the TLV.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.value
    }
}

/// A name: UTF-8, 1 to 255 bytes, no control characters.
pub(super) fn name(value: &[u8]) -> Result<&str, MetadataError> {
    if value.is_empty() || value.len() > MAX_NAME_LEN || value.iter().any(u8::is_ascii_control) {
        return Err(MetadataError::TlvValue);
    }
    core::str::from_utf8(value).map_err(|_| MetadataError::TlvValue)
}

/// An address of TLV 20 or 25.
pub(super) fn ipv4(value: &[u8]) -> Result<Ipv4Addr, MetadataError> {
    Ok(Ipv4Addr::from(exact::<4>(value)?))
}

/// An address of TLV 21.
pub(super) fn ipv6(value: &[u8]) -> Result<Ipv6Addr, MetadataError> {
    Ok(Ipv6Addr::from(exact::<16>(value)?))
}
