//! IPv6 and its extension headers (RFC 8200).

use core::net::{IpAddr, Ipv6Addr};

use crate::bytes::{array, be16, be32, byte, put, tail};
use crate::ip::Fragment;
use crate::{ParseError, checksum};

/// Bytes of a header without extension headers.
pub const HEADER_LEN: usize = 40;
/// Most extension headers a packet may have.
pub const MAX_EXTENSIONS: usize = 8;

/// Numbers of the extension headers that are walked over.
pub mod extension {
    /// Hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// Routing.
    pub const ROUTING: u8 = 43;
    /// Fragment.
    pub const FRAGMENT: u8 = 44;
    /// Destination options.
    pub const DESTINATION: u8 = 60;
}

mod field {
    pub(super) const VERSION_CLASS_FLOW: usize = 0;
    pub(super) const PAYLOAD_LENGTH: usize = 4;
    pub(super) const NEXT_HEADER: usize = 6;
    pub(super) const HOP_LIMIT: usize = 7;
    pub(super) const SOURCE: usize = 8;
    pub(super) const DESTINATION: usize = 24;
}

/// Whether a next-header number is that of an extension header that is walked over. AH is not: it
/// counts as a transport protocol.
#[inline]
#[must_use]
pub const fn is_extension(number: u8) -> bool {
    matches!(
        number,
        extension::HOP_BY_HOP | extension::ROUTING | extension::FRAGMENT | extension::DESTINATION
    )
}

/// What lies behind the extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upper {
    /// The transport protocol.
    pub protocol: u8,
    /// Where it starts, in bytes.
    pub offset: u16,
    /// Whether the packet is a fragment; behind a later fragment's header the walk ends.
    pub fragment: Fragment,
}

/// Walks over the extension headers of a packet that starts with an IPv6 header.
///
/// # Errors
/// [`ParseError::ExtensionHeaders`] when they run over the slice, are more than
/// [`MAX_EXTENSIONS`], or hop-by-hop options are not first.
pub fn walk(packet: &[u8]) -> Result<Upper, ParseError> {
    let mut protocol = byte(packet, field::NEXT_HEADER);
    let mut offset = HEADER_LEN;
    let mut fragment = Fragment::No;
    for step in 0..=MAX_EXTENSIONS {
        if !is_extension(protocol) {
            let offset = u16::try_from(offset).map_err(|_| ParseError::ExtensionHeaders)?;
            return Ok(Upper { protocol, offset, fragment });
        }
        if protocol == extension::HOP_BY_HOP && step > 0 {
            return Err(ParseError::ExtensionHeaders);
        }
        let header = packet
            .get(offset..)
            .and_then(|rest| rest.first_chunk::<8>())
            .ok_or(ParseError::ExtensionHeaders)?;
        let length = if protocol == extension::FRAGMENT {
            let word = be16(header, 2);
            if word >> 3 != 0 {
                let offset = u16::try_from(offset + 8).map_err(|_| ParseError::ExtensionHeaders)?;
                return Ok(Upper { protocol: header[0], offset, fragment: Fragment::Later });
            }
            if word & 1 != 0 {
                fragment = Fragment::First;
            }
            8
        } else {
            (usize::from(header[1]) + 1) * 8
        };
        protocol = header[0];
        offset += length;
        if offset > packet.len() {
            return Err(ParseError::ExtensionHeaders);
        }
    }
    Err(ParseError::ExtensionHeaders)
}

/// Where a fragment header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FragmentPlace {
    /// Where it begins.
    pub(crate) at: usize,
    /// Where the header before it names it.
    pub(crate) named_at: usize,
}

/// The extension headers of a packet, one after the other: what each is, where it begins, and where the
/// header before it names it. It ends behind a fragment header, and where the packet does.
fn extensions(packet: &[u8]) -> impl Iterator<Item = (u8, FragmentPlace)> {
    let (mut at, mut named_at) = (HEADER_LEN, field::NEXT_HEADER);
    let mut ended = false;
    core::iter::from_fn(move || {
        let kind = byte(packet, named_at);
        let header = packet.get(at..).and_then(|rest| rest.first_chunk::<8>())?;
        if ended || !is_extension(kind) {
            return None;
        }
        let place = FragmentPlace { at, named_at };
        ended = kind == extension::FRAGMENT;
        (named_at, at) = (at, at + (usize::from(header[1]) + 1) * 8);
        Some((kind, place))
    })
    .take(MAX_EXTENSIONS)
}

/// The first fragment header of a packet.
pub(crate) fn find_fragment(packet: &[u8]) -> Option<FragmentPlace> {
    extensions(packet).find(|(kind, _)| *kind == extension::FRAGMENT).map(|(_, place)| place)
}

/// Where the headers end that every fragment of a packet must have, and where what follows them is
/// named (RFC 8200, section 4.5). `None` when the packet has a fragment header.
pub(crate) fn unfragmentable(packet: &[u8]) -> Option<(usize, usize)> {
    let mut end = (HEADER_LEN, field::NEXT_HEADER);
    for (kind, place) in extensions(packet) {
        match kind {
            extension::FRAGMENT => return None,
            extension::HOP_BY_HOP | extension::ROUTING => {
                end = (place.at + (usize::from(byte(packet, place.at + 1)) + 1) * 8, place.at);
            }
            _ => {}
        }
    }
    Some(end)
}

/// A view of an IPv6 packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T: AsRef<[u8]>> {
    buffer: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// A view without checks; fields beyond the slice read as zero.
    pub const fn new_unchecked(buffer: T) -> Self {
        Self { buffer }
    }

    /// A view whose version and length are right.
    ///
    /// # Errors
    /// [`ParseError`] of the IP header.
    pub fn new_checked(buffer: T) -> Result<Self, ParseError> {
        let packet = Self::new_unchecked(buffer);
        let len = packet.bytes().len();
        if len < HEADER_LEN {
            return Err(ParseError::IpTooShort);
        }
        if byte(packet.bytes(), field::VERSION_CLASS_FLOW) >> 4 != 6 {
            return Err(ParseError::IpVersion);
        }
        if packet.payload_len() == 0 && packet.next_header() == extension::HOP_BY_HOP {
            return Err(ParseError::Jumbogram);
        }
        if packet.total_len() > len {
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

    /// DSCP and ECN as one byte.
    pub fn traffic_class(&self) -> u8 {
        (be16(self.bytes(), field::VERSION_CLASS_FLOW) >> 4) as u8
    }

    /// The flow label; 20 bits.
    pub fn flow_label(&self) -> u32 {
        be32(self.bytes(), field::VERSION_CLASS_FLOW) & 0x000f_ffff
    }

    /// Bytes that follow the header, extension headers included.
    pub fn payload_len(&self) -> u16 {
        be16(self.bytes(), field::PAYLOAD_LENGTH)
    }

    /// Bytes of the packet.
    pub fn total_len(&self) -> usize {
        HEADER_LEN + usize::from(self.payload_len())
    }

    /// The next header: an extension header or the transport protocol.
    pub fn next_header(&self) -> u8 {
        byte(self.bytes(), field::NEXT_HEADER)
    }

    /// The hop limit.
    pub fn hop_limit(&self) -> u8 {
        byte(self.bytes(), field::HOP_LIMIT)
    }

    /// The source address.
    pub fn source(&self) -> Ipv6Addr {
        Ipv6Addr::from(array::<16>(self.bytes(), field::SOURCE))
    }

    /// The destination address.
    pub fn destination(&self) -> Ipv6Addr {
        Ipv6Addr::from(array::<16>(self.bytes(), field::DESTINATION))
    }

    /// What lies behind the extension headers.
    ///
    /// # Errors
    /// [`ParseError::ExtensionHeaders`], see [`walk`].
    pub fn upper(&self) -> Result<Upper, ParseError> {
        walk(self.bytes().get(..self.total_len()).unwrap_or(self.bytes()))
    }

    /// What follows the header, extension headers included.
    pub fn payload(&self) -> &[u8] {
        let bytes = self.bytes();
        tail(bytes.get(..self.total_len()).unwrap_or(bytes), HEADER_LEN)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    fn put(&mut self, at: usize, value: &[u8]) {
        put(self.buffer.as_mut(), at, value);
    }

    /// Sets DSCP and ECN.
    pub fn set_traffic_class(&mut self, value: u8) {
        let word = be16(self.bytes(), field::VERSION_CLASS_FLOW) & 0xf00f | u16::from(value) << 4;
        self.put(field::VERSION_CLASS_FLOW, &word.to_be_bytes());
    }

    /// Sets the payload length.
    pub fn set_payload_len(&mut self, value: u16) {
        self.put(field::PAYLOAD_LENGTH, &value.to_be_bytes());
    }

    /// Sets the next header.
    pub fn set_next_header(&mut self, value: u8) {
        self.put(field::NEXT_HEADER, &[value]);
    }

    /// Sets the hop limit.
    pub fn set_hop_limit(&mut self, value: u8) {
        self.put(field::HOP_LIMIT, &[value]);
    }

    /// Sets the source address.
    pub fn set_source(&mut self, value: Ipv6Addr) {
        self.put(field::SOURCE, &value.octets());
    }

    /// Sets the destination address.
    pub fn set_destination(&mut self, value: Ipv6Addr) {
        self.put(field::DESTINATION, &value.octets());
    }

    /// What follows the header, to be changed.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let end = self.total_len();
        self.buffer.as_mut().get_mut(HEADER_LEN..end).unwrap_or(&mut [])
    }
}

/// A header without extension headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repr {
    /// The source address.
    pub source: Ipv6Addr,
    /// The destination address.
    pub destination: Ipv6Addr,
    /// The next header.
    pub next_header: u8,
    /// The hop limit.
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// The flow label; 20 bits.
    pub flow_label: u32,
    /// Bytes that follow the header.
    pub payload_len: u16,
}

impl Repr {
    /// Reads a checked view.
    #[must_use]
    pub fn parse<T: AsRef<[u8]>>(packet: &Packet<T>) -> Self {
        Self {
            source: packet.source(),
            destination: packet.destination(),
            next_header: packet.next_header(),
            hop_limit: packet.hop_limit(),
            traffic_class: packet.traffic_class(),
            flow_label: packet.flow_label(),
            payload_len: packet.payload_len(),
        }
    }

    /// Writes the header. Gives its length, or `None` when `buffer` is too small or the flow label
    /// too large.
    #[must_use]
    pub fn emit(&self, buffer: &mut [u8]) -> Option<usize> {
        let header = buffer.first_chunk_mut::<HEADER_LEN>()?;
        if self.flow_label > 0x000f_ffff {
            return None;
        }
        let word = 6 << 28 | u32::from(self.traffic_class) << 20 | self.flow_label;
        let mut packet = Packet::new_unchecked(&mut header[..]);
        packet.put(field::VERSION_CLASS_FLOW, &word.to_be_bytes());
        packet.set_payload_len(self.payload_len);
        packet.set_next_header(self.next_header);
        packet.set_hop_limit(self.hop_limit);
        packet.set_source(self.source);
        packet.set_destination(self.destination);
        Some(HEADER_LEN)
    }

    /// The sum of the pseudo-header of the transport protocol.
    #[must_use]
    pub fn pseudo_header(&self) -> u32 {
        let (source, destination) = (IpAddr::V6(self.source), IpAddr::V6(self.destination));
        checksum::pseudo_header(source, destination, self.next_header, u32::from(self.payload_len))
    }
}
