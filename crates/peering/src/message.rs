//! The signed message around a BFD packet: written and read, nothing decided.

use fairway_crypto::{HopKeys, IV_LENGTH, Keyring, Sender, TAG_LENGTH, slot};
use fairway_types::{DropReason, Now, PeerId};
use fairway_wire::bfd;
use fairway_wire::svr::{Header, HeaderTlvs, PayloadTlvs, emit_header, encrypted_len};

use crate::reason::{unbelievable, unreadable};

/// What a message says.
pub(crate) struct Outgoing<'a> {
    pub(crate) source_router: &'a str,
    pub(crate) pathway: &'a str,
    pub(crate) boot_id: u64,
    pub(crate) bfd: bfd::Repr,
    /// An unpredictable IV if the metadata is to be encrypted.
    pub(crate) iv: Option<[u8; IV_LENGTH]>,
}

/// What a genuine message said.
pub(crate) struct Incoming {
    pub(crate) peer: PeerId,
    /// Whether it was sent under the peer's present key salt, not one from before its restart.
    pub(crate) present: bool,
    pub(crate) boot_id: u64,
    pub(crate) bfd: bfd::Repr,
}

/// Writes and signs a message. Gives its length, or `None` if `out` is too small.
pub(crate) fn write(now: Now, sender: &Sender, message: &Outgoing<'_>, out: &mut [u8]) -> Option<usize> {
    let header = HeaderTlvs {
        security_id: Some(sender.security_id()),
        key_salt: Some(*sender.salt()),
        sequence: Some(sender.next_sequence()),
        metadata_encrypted: message.iv.is_some(),
        ..HeaderTlvs::default()
    };
    let payload = PayloadTlvs {
        source_router: Some(message.source_router),
        pathway: Some(message.pathway.as_bytes()),
        boot_id: Some(message.boot_id),
        ..PayloadTlvs::default()
    };
    let clear_len = payload.encoded_len();
    let payload_len = if message.iv.is_some() { encrypted_len(clear_len) } else { clear_len };
    let header_len = emit_header(out, &header, payload_len)?;
    let metadata_len = header_len + payload_len;
    let section = out.get_mut(header_len..metadata_len)?;
    match &message.iv {
        None => payload.emit(section)?,
        Some(iv) => write_encrypted(sender.keys(), iv, &payload, section)?,
    };
    let signed_len = metadata_len + message.bfd.emit(out.get_mut(metadata_len..)?)?;
    let (signed, rest) = out.split_at_mut_checked(signed_len)?;
    *rest.first_chunk_mut::<TAG_LENGTH>()? = sender.keys().tag(signed, slot(now.unix));
    Some(signed_len + TAG_LENGTH)
}

fn write_encrypted(
    keys: &HopKeys,
    iv: &[u8; IV_LENGTH],
    payload: &PayloadTlvs<'_>,
    section: &mut [u8],
) -> Option<usize> {
    let (start, ciphertext) = section.split_first_chunk_mut::<IV_LENGTH>()?;
    *start = *iv;
    let clear_len = payload.emit(ciphertext)?;
    keys.encrypt_metadata(iv, ciphertext, clear_len)
}

/// Verifies and reads a message, which is decrypted in place.
pub(crate) fn read(now: Now, keyring: &Keyring, bytes: &mut [u8]) -> Result<Incoming, DropReason> {
    let header = Header::parse(bytes).map_err(unreadable)?;
    let (header_len, metadata_len) = (header.header_len(), header.metadata_len());
    let tlvs = HeaderTlvs::parse(header.header_tlvs()).map_err(unreadable)?;
    let (Some(security_id), Some(salt), Some(sequence)) = (tlvs.security_id, tlvs.key_salt, tlvs.sequence)
    else {
        return Err(DropReason::TlvMissing);
    };
    let (signed, tag) = bytes.split_last_chunk_mut::<TAG_LENGTH>().ok_or(DropReason::MetadataLength)?;
    if signed.len() < metadata_len {
        return Err(DropReason::MetadataLength);
    }
    let (peer, mut receiver) = keyring.receiver_by_id(security_id).ok_or(DropReason::UnknownSecurityId)?;
    let accepted = receiver.accept(&salt, sequence, signed, tag, now).map_err(unbelievable)?;
    let section = signed.get_mut(header_len..metadata_len).ok_or(DropReason::MetadataLength)?;
    let section = if tlvs.metadata_encrypted { decrypt(accepted.keys, section)? } else { section };
    let payload = PayloadTlvs::parse(section).map_err(unreadable)?;
    let (Some(source_router), Some(_), Some(boot_id)) =
        (payload.source_router, payload.pathway, payload.boot_id)
    else {
        return Err(DropReason::TlvMissing);
    };
    if source_router != receiver.peer() {
        return Err(DropReason::TlvValue);
    }
    let packet = signed.get(metadata_len..).unwrap_or_default();
    let packet = bfd::Packet::new_checked(packet).map_err(|_| DropReason::BfdInvalid)?;
    // RFC 5880, section 6.8.6: authentication that is not in use.
    if packet.authentication_present() {
        return Err(DropReason::BfdInvalid);
    }
    Ok(Incoming { peer, present: receiver.salt() == Some(&salt), boot_id, bfd: bfd::Repr::parse(&packet) })
}

fn decrypt<'a>(keys: &HopKeys, section: &'a mut [u8]) -> Result<&'a mut [u8], DropReason> {
    let (iv, ciphertext) =
        section.split_first_chunk_mut::<IV_LENGTH>().ok_or(DropReason::MetadataDecryption)?;
    let length = keys.decrypt_metadata(iv, ciphertext).map_err(|_| DropReason::MetadataDecryption)?;
    ciphertext.get_mut(..length).ok_or(DropReason::MetadataDecryption)
}
