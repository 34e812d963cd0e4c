//! TCP as UDP, and what is authenticated of a TCP header (wire specification, section 7;
//! `docs/wire.md`, section 11).
//!
//! ```text
//!  TCP   ports 4 | sequence 4        | ack, offset, flags, window 8 | checksum 2, urgent 2 | options
//!  UDP   ports 4 | length 2, check 2 | ack, offset, flags, window 8 | sequence 4           | options
//! ```

use crate::bytes::byte;

/// Bytes of a TCP header without options.
const TCP_LEN: usize = 20;
/// Bytes of a UDP header.
const UDP_LEN: usize = 8;
/// The longest TCP header.
const MAX_TCP_LEN: usize = 60;
/// Where a carried header has its sequence number.
pub const CARRIED_SEQUENCE: usize = 16;
/// Where the flags of a carried header are, counted from the UDP payload.
pub const CARRIED_FLAGS: usize = 5;
/// The most that is authenticated of a header.
pub const MAX_ASSOCIATED: usize = MAX_TCP_LEN - 8;

/// The length of a TCP header, carried or not, if it is whole. `segment` begins with the ports.
#[must_use]
pub fn tcp_header_len(segment: &[u8]) -> Option<usize> {
    let length = usize::from(byte(segment, 12) >> 4) * 4;
    (length >= TCP_LEN && length <= segment.len()).then_some(length)
}

/// The length of what a datagram that carries a TCP segment has of its header, behind that of UDP, if it
/// is whole.
#[must_use]
pub fn carried_header_len(datagram: &[u8]) -> Option<usize> {
    let length = usize::from(byte(datagram, 12 - UDP_LEN) >> 4) * 4;
    (length >= TCP_LEN && length - UDP_LEN <= datagram.len()).then(|| length - UDP_LEN)
}

/// What is authenticated with the payload of a TCP segment: acknowledgement, offset, flags, window,
/// sequence number and options, in the order of a carried header. `header` is a whole TCP header,
/// `carried` says which form it has. Copied to `buffer`; nothing for a header that is none.
#[must_use]
pub fn associated<'a>(header: &'a [u8], carried: bool, buffer: &'a mut [u8; MAX_ASSOCIATED]) -> &'a [u8] {
    if header.len() < TCP_LEN || header.len() > MAX_TCP_LEN {
        return &[];
    }
    if carried {
        return header.get(8..).unwrap_or_default();
    }
    let parts = [header.get(8..16), header.get(4..8), header.get(TCP_LEN..)];
    let mut length = 0;
    for part in parts.into_iter().flatten() {
        if let Some(place) = buffer.get_mut(length..length + part.len()) {
            place.copy_from_slice(part);
            length += part.len();
        }
    }
    buffer.get(..length).unwrap_or_default()
}

/// The TCP header that a carried one stands for, without ports and checksum: those of `header` stay.
pub fn restore(header: &mut [u8]) {
    if header.len() < TCP_LEN {
        return;
    }
    header.copy_within(CARRIED_SEQUENCE..CARRIED_SEQUENCE + 4, 4);
    if let Some(place) = header.get_mut(CARRIED_SEQUENCE..TCP_LEN) {
        place.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn both_forms_of_a_header_authenticate_the_same() {
        let mut header: [u8; 28] = core::array::from_fn(|index| index as u8);
        header[12] = 7 << 4;
        let mut native = [0; MAX_ASSOCIATED];
        let native: Vec<u8> = associated(&header, false, &mut native).into();
        let mut carried = header;
        carried.copy_within(4..8, CARRIED_SEQUENCE);
        carried[4..8].fill(0xee);
        let mut buffer = [0; MAX_ASSOCIATED];
        assert_eq!(associated(&carried, true, &mut buffer), native);
        restore(&mut carried);
        assert_eq!(carried[4..16], header[4..16]);
        assert_eq!(carried[16..20], [0; 4]);
        assert_eq!(tcp_header_len(&carried), Some(28));
        assert_eq!(tcp_header_len(&carried[..27]), None);
        assert_eq!(carried_header_len(&carried[8..]), Some(20));
        assert_eq!(carried_header_len(&carried[8..27]), None);
        assert_eq!(associated(&[0; 19], true, &mut [0; MAX_ASSOCIATED]), &[0u8; 0]);
    }
}
