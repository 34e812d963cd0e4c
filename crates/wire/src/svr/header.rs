//! The metadata header: cookie, version, lengths.

use super::choices::{BLOCK_LEN, COOKIE, HEADER_LEN, IV_LEN, MAX_HEADER_LEN, VERSION};
use super::{HeaderTlvs, MetadataError};
use crate::bytes::be16;

mod field {
    pub(super) const VERSION_LENGTH: usize = 8;
    pub(super) const PAYLOAD_LENGTH: usize = 10;
}

/// Whether a transport payload begins with the cookie.
#[inline]
#[must_use]
pub fn starts_with_cookie(payload: &[u8]) -> bool {
    payload.first_chunk::<8>() == Some(&COOKIE)
}

/// A view of metadata at the start of a transport payload, with its lengths checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    bytes: &'a [u8],
    header_len: usize,
    payload_len: usize,
}

impl<'a> Header<'a> {
    /// Reads the header of a transport payload that starts with the cookie. The TLVs are not
    /// looked at.
    ///
    /// # Errors
    /// [`MetadataError::Truncated`], [`MetadataError::Version`] or [`MetadataError::Length`].
    #[inline]
    pub fn parse(l4_payload: &'a [u8]) -> Result<Self, MetadataError> {
        if l4_payload.len() < HEADER_LEN || !starts_with_cookie(l4_payload) {
            return Err(MetadataError::Truncated);
        }
        let word = be16(l4_payload, field::VERSION_LENGTH);
        if word >> 12 != u16::from(VERSION) {
            return Err(MetadataError::Version);
        }
        let header_len = usize::from(word & 0x0fff);
        let payload_len = usize::from(be16(l4_payload, field::PAYLOAD_LENGTH));
        if header_len < HEADER_LEN || header_len + payload_len > l4_payload.len() {
            return Err(MetadataError::Length);
        }
        Ok(Self { bytes: l4_payload, header_len, payload_len })
    }

    /// Bytes from the cookie to the end of the header TLVs (HL).
    #[inline]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        self.header_len
    }

    /// Bytes of the payload section, IV and padding included (PL).
    #[inline]
    #[must_use]
    pub const fn payload_len(&self) -> usize {
        self.payload_len
    }

    /// HL + PL: where the session's own payload starts.
    #[inline]
    #[must_use]
    pub const fn metadata_len(&self) -> usize {
        self.header_len + self.payload_len
    }

    /// Whether this is an empty header, put before a payload that itself begins with the cookie.
    #[inline]
    #[must_use]
    pub const fn is_false_positive(&self) -> bool {
        self.header_len == HEADER_LEN && self.payload_len == 0
    }

    /// The header TLVs.
    #[inline]
    #[must_use]
    pub fn header_tlvs(&self) -> &'a [u8] {
        self.bytes.get(HEADER_LEN..self.header_len).unwrap_or(&[])
    }

    /// The payload section: TLVs in the clear, or IV and ciphertext.
    #[inline]
    #[must_use]
    pub fn payload_section(&self) -> &'a [u8] {
        self.bytes.get(self.header_len..self.metadata_len()).unwrap_or(&[])
    }

    /// What follows the metadata: the session's payload as sent, and the tag.
    #[inline]
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.metadata_len()..).unwrap_or(&[])
    }
}

/// Writes cookie, version, lengths and header TLVs; `payload_len` is that of the payload section
/// that will follow, IV and padding included.
///
/// Gives the header length, or `None` when `buffer` is too small or a length does not fit its field.
#[must_use]
pub fn emit_header(buffer: &mut [u8], header_tlvs: &HeaderTlvs, payload_len: usize) -> Option<usize> {
    let payload_len = u16::try_from(payload_len).ok()?;
    let (fixed, section) = buffer.split_at_mut_checked(HEADER_LEN)?;
    let header_len = HEADER_LEN + header_tlvs.emit(section)?;
    if header_len > MAX_HEADER_LEN {
        return None;
    }
    let word = u16::from(VERSION) << 12 | u16::try_from(header_len).ok()?;
    let (cookie, lengths) = fixed.split_at_mut_checked(COOKIE.len())?;
    cookie.copy_from_slice(&COOKIE);
    let (first, second) = lengths.split_at_mut_checked(field::PAYLOAD_LENGTH - field::VERSION_LENGTH)?;
    first.copy_from_slice(&word.to_be_bytes());
    second.copy_from_slice(&payload_len.to_be_bytes());
    Some(header_len)
}

/// Bytes of the payload section when `clear_len` bytes of TLVs are encrypted: IV, ciphertext and
/// PKCS#7 padding.
#[inline]
#[must_use]
pub const fn encrypted_len(clear_len: usize) -> usize {
    IV_LEN + (clear_len / BLOCK_LEN + 1) * BLOCK_LEN
}
