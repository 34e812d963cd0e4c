//! Metadata made by hand, in the name of a router whose key is known, or is not.

use fairway_crypto::{HopKeys, PeerKey, security_id, slot};
use fairway_wire::svr::{HEADER_LEN, HeaderTlvs, PayloadTlvs, TAG_LEN, emit_header, tlv};

/// Signs metadata as one router does for another.
pub struct Forger {
    keys: HopKeys,
    id: u32,
    salt: [u8; 16],
    sequence: u64,
}

impl Forger {
    /// A forger that speaks to `peer` in the name of `own`. A salt is to be used once.
    ///
    /// # Panics
    /// When the keys cannot be derived.
    #[must_use]
    pub fn new(key: &PeerKey, own: &str, peer: &str, salt: [u8; 16]) -> Self {
        let Ok(keys) = HopKeys::derive(key, &salt, own, peer) else { unreachable!("memory is plenty") };
        Self { keys, id: security_id(peer, own), salt, sequence: 0 }
    }

    /// The header TLVs of the next message.
    pub fn header(&mut self) -> HeaderTlvs {
        self.sequence += 1;
        HeaderTlvs {
            security_id: Some(self.id),
            key_salt: Some(self.salt),
            sequence: Some(self.sequence),
            ..HeaderTlvs::default()
        }
    }

    /// A message in the clear: header, payload section, the session's payload, tag.
    #[must_use]
    pub fn seal(&self, header: &HeaderTlvs, tlvs: &PayloadTlvs<'_>, rest: &[u8], unix: u64) -> Vec<u8> {
        self.seal_section(header, &section(tlvs), rest, unix)
    }

    /// The same with a payload section of any bytes.
    #[must_use]
    pub fn seal_section(&self, header: &HeaderTlvs, section: &[u8], rest: &[u8], unix: u64) -> Vec<u8> {
        let mut block = vec![0; HEADER_LEN + header.encoded_len()];
        let written = emit_header(&mut block, header, section.len());
        assert!(written.is_some(), "the header fits");
        block.extend_from_slice(section);
        block.extend_from_slice(rest);
        self.sign(block, unix)
    }

    /// Adds the tag to anything.
    #[must_use]
    pub fn sign(&self, mut block: Vec<u8>, unix: u64) -> Vec<u8> {
        let tag = self.keys.tag(&block, slot(unix));
        block.extend_from_slice(&tag);
        block
    }
}

/// The bytes of a payload section.
#[must_use]
pub fn section(tlvs: &PayloadTlvs<'_>) -> Vec<u8> {
    let mut bytes = vec![0; tlvs.encoded_len()];
    let written = tlvs.emit(&mut bytes);
    assert!(written.is_some(), "the section fits");
    bytes
}

/// One TLV with any length field.
#[must_use]
pub fn raw_tlv(kind: u16, length: u16, value: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &length.to_be_bytes(), value].concat()
}

/// A copy of a message with its tag taken off, to be changed and signed again.
#[must_use]
pub fn unsigned(message: &[u8]) -> Vec<u8> {
    message[..message.len() - TAG_LEN].to_vec()
}

/// Where the value of a header TLV begins in a message.
#[must_use]
pub fn header_value(message: &[u8], wanted: u16) -> Option<usize> {
    let length = usize::from(u16::from_be_bytes([message[8], message[9]]) & 0x0fff);
    let mut at = HEADER_LEN;
    while at + 4 <= length {
        let kind = u16::from_be_bytes([message[at], message[at + 1]]);
        if kind == wanted {
            return Some(at + 4);
        }
        at += 4 + usize::from(u16::from_be_bytes([message[at + 2], message[at + 3]]));
    }
    None
}

/// TLV types of the header that every message needs.
pub const NEEDED: [u16; 3] = [tlv::SECURITY_ID, tlv::KEY_SALT, tlv::METADATA_SEQUENCE];
