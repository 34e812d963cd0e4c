//! Metadata on its way in: parsed, verified, decrypted. Nothing here changes a session.

use core::net::IpAddr;

use fairway_crypto::Keyring;
use fairway_peering::reason::{unbelievable, unreadable};
use fairway_types::{Checksum, DropReason, Now, PeerId, Slot};
use fairway_wire::ip::Parsed;
use fairway_wire::svr::{self, Header, HeaderTlvs};

use crate::headers;

/// The longest payload section that is looked at.
pub(crate) const MAX_PAYLOAD_SECTION: usize = 4096;

/// Metadata that is genuine and new.
pub(crate) struct Opened {
    pub(crate) peer: PeerId,
    pub(crate) header: HeaderTlvs,
    /// Bytes of header and payload section in front of P′.
    pub(crate) metadata_len: usize,
}

/// Verifies the metadata of a packet and puts its payload section, decrypted, into `section`.
pub(crate) fn open(
    keyring: &Keyring,
    now: Now,
    packet: &Slot,
    parsed: &Parsed,
    section: &mut Vec<u8>,
) -> Result<Opened, DropReason> {
    if parsed.payload_end != parsed.total_len {
        return Err(DropReason::MalformedTransport);
    }
    let payload = parsed.payload(packet.packet.bytes());
    let view = Header::parse(payload).map_err(unreadable)?;
    let header = HeaderTlvs::parse(view.header_tlvs()).map_err(unreadable)?;
    let (Some(id), Some(salt), Some(sequence)) = (header.security_id, header.key_salt, header.sequence)
    else {
        return Err(DropReason::TlvMissing);
    };
    if view.rest().len() < svr::TAG_LEN {
        return Err(DropReason::MetadataTruncated);
    }
    if view.payload_section().len() > MAX_PAYLOAD_SECTION {
        return Err(DropReason::MetadataLength);
    }
    // The tag does not cover the transport header, and stripping computes its checksum anew.
    headers::check_checksum(packet, parsed)?;
    let Some((signed, tag)) = payload.split_last_chunk::<{ svr::TAG_LEN }>() else {
        return Err(DropReason::MetadataTruncated);
    };
    let (peer, mut receiver) = keyring.receiver_by_id(id).ok_or(DropReason::UnknownSecurityId)?;
    let accepted = if packet.genuine {
        receiver.recognise(&salt, signed, tag, now)
    } else {
        receiver.accept(&salt, sequence, signed, tag, now)
    };
    let accepted = accepted.map_err(unbelievable)?;
    section.clear();
    if header.metadata_encrypted {
        let (iv, sealed) = view
            .payload_section()
            .split_first_chunk::<{ svr::IV_LEN }>()
            .ok_or(DropReason::MetadataDecryption)?;
        section.extend_from_slice(sealed);
        let length =
            accepted.keys.decrypt_metadata(iv, section).map_err(|_| DropReason::MetadataDecryption)?;
        section.truncate(length);
    } else {
        section.extend_from_slice(view.payload_section());
    }
    Ok(Opened { peer, header, metadata_len: view.metadata_len() })
}

/// Takes verified metadata and its tag out of a packet. Lengths and checksum are as if it had never
/// been there. `transport` and `payload` are offsets in the packet.
pub(crate) fn strip(
    packet: &mut Slot,
    parsed: &Parsed,
    metadata_len: usize,
    arrived: &crate::key::FlowKey,
) -> Result<(), DropReason> {
    let payload = usize::from(parsed.payload_offset);
    let buffer = &mut packet.packet;
    buffer.bytes_mut().copy_within(..payload, metadata_len);
    buffer.shrink_front(metadata_len);
    buffer.truncate(buffer.len() - svr::TAG_LEN);
    packet.checksum = Checksum::Valid;
    // The packet still bears the tuple it arrived with.
    headers::finish(buffer, usize::from(parsed.header_len), &arrived.reversed())
}

/// Whether both addresses of a tuple may appear in a forwarded packet.
pub(crate) fn is_routable(source: IpAddr, destination: IpAddr) -> bool {
    let martian = |address: IpAddr| {
        address.is_loopback()
            || address.is_unspecified()
            || address.is_multicast()
            || match address {
                IpAddr::V4(v4) => v4.is_broadcast() || v4.octets()[0] == 0 || v4.octets()[0] >= 240,
                IpAddr::V6(v6) => v6.is_unicast_link_local(),
            }
    };
    !martian(source) && !martian(destination)
}
