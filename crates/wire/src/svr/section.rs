//! Walking and writing a section of TLVs.

use super::MetadataError;
use super::choices::{MAX_TLVS, TLV_HEADER_LEN};
use crate::bytes::be16;

/// Reads the TLVs of a section one by one and refuses what runs over or repeats.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    count: usize,
    seen: Seen,
}

impl<'a> Reader<'a> {
    pub(super) fn new(section: &'a [u8]) -> Self {
        Self { rest: section, count: 0, seen: Seen { standard: 0, own: 0, others: [0; MAX_TLVS], used: 0 } }
    }

    /// The next type and value, or `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u16, &'a [u8])>, MetadataError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (head, rest) = self.rest.split_at_checked(TLV_HEADER_LEN).ok_or(MetadataError::TlvOverrun)?;
        let (kind, length) = (be16(head, 0), usize::from(be16(head, 2)));
        let (value, rest) = rest.split_at_checked(length).ok_or(MetadataError::TlvOverrun)?;
        self.count += 1;
        if self.count > MAX_TLVS {
            return Err(MetadataError::TlvOverrun);
        }
        if !self.seen.insert(kind) {
            return Err(MetadataError::TlvDuplicate);
        }
        self.rest = rest;
        Ok(Some((kind, value)))
    }
}

/// The types met in a section: one bit each for the two ranges in use, a list for all others.
struct Seen {
    standard: u64,
    own: u64,
    others: [u16; MAX_TLVS],
    used: usize,
}

impl Seen {
    /// Adds a type; false if it was there already, or the list is full.
    fn insert(&mut self, kind: u16) -> bool {
        let bit = 1u64 << (kind & 63);
        let mask = match kind >> 6 {
            0 => &mut self.standard,
            0x200 => &mut self.own,
            _ => return self.insert_other(kind),
        };
        let new = *mask & bit == 0;
        *mask |= bit;
        new
    }

    fn insert_other(&mut self, kind: u16) -> bool {
        if self.others.iter().take(self.used).any(|&other| other == kind) {
            return false;
        }
        let Some(slot) = self.others.get_mut(self.used) else { return false };
        *slot = kind;
        self.used += 1;
        true
    }
}

/// Writes TLVs into a buffer, or only measures them.
pub(super) struct Writer<'a> {
    buffer: Option<&'a mut [u8]>,
    len: usize,
    failed: bool,
}

impl<'a> Writer<'a> {
    pub(super) fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer: Some(buffer), len: 0, failed: false }
    }

    pub(super) fn measuring() -> Self {
        Self { buffer: None, len: 0, failed: false }
    }

    /// Bytes written or measured.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes written, or `None` when something did not fit.
    pub(super) fn finish(self) -> Option<usize> {
        (!self.failed).then_some(self.len)
    }

    /// Notes that a value cannot be written.
    pub(super) fn fail(&mut self) {
        self.failed = true;
    }

    /// Adds a TLV whose value is the given parts in order.
    pub(super) fn tlv(&mut self, kind: u16, parts: &[&[u8]]) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let Ok(length) = u16::try_from(length) else { return self.fail() };
        self.bytes(&kind.to_be_bytes());
        self.bytes(&length.to_be_bytes());
        for part in parts {
            self.bytes(part);
        }
    }

    /// Adds a TLV without a value, if `present`.
    pub(super) fn flag(&mut self, kind: u16, present: bool) {
        if present {
            self.tlv(kind, &[]);
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        if let Some(buffer) = &mut self.buffer {
            match buffer.get_mut(self.len..end) {
                Some(room) => room.copy_from_slice(bytes),
                None => self.failed = true,
            }
        }
        self.len = end;
    }
}

/// The value as an array of the one length its type has.
pub(super) fn exact<const N: usize>(value: &[u8]) -> Result<[u8; N], MetadataError> {
    value.try_into().map_err(|_| MetadataError::TlvLength)
}

/// True, if the value is empty as its type demands.
pub(super) fn empty(value: &[u8]) -> Result<bool, MetadataError> {
    if value.is_empty() { Ok(true) } else { Err(MetadataError::TlvLength) }
}

/// Puts a value into its field; an error if the field is taken.
pub(super) fn once<T>(field: &mut Option<T>, value: T) -> Result<(), MetadataError> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(MetadataError::TlvDuplicate),
    }
}
