//! Metadata on its way out: written between transport header and payload, encrypted if the path's
//! policy says so, signed.

use fairway_crypto::{Sender, slot};
use fairway_types::{Checksum, DropReason, Now, Slot};
use fairway_wire::svr::{self, HeaderTlvs, PathMetrics, PayloadTlvs};
use rand_chacha::ChaCha12Rng;
use rand_core::RngCore;

use crate::headers;
use crate::key::FlowKey;

/// What sealing needs of a hop.
pub(crate) struct Seal<'a> {
    pub(crate) sender: &'a Sender,
    pub(crate) encrypt: bool,
    pub(crate) rng: &'a mut ChaCha12Rng,
    pub(crate) now: Now,
}

/// The lengths of a metadata block.
#[derive(Clone, Copy)]
struct Lengths {
    header: usize,
    payload: usize,
}

impl Seal<'_> {
    /// The header TLVs every metadata packet has, with those of this one.
    fn header(&mut self, extra: HeaderTlvs) -> HeaderTlvs {
        const MILLISECONDS: u64 = (1 << 28) - 1;
        let metrics = PathMetrics {
            tx_color: 0,
            tx_time: (self.now.mono.as_millis() & MILLISECONDS) as u32,
            rx_color: 0,
            rx_time: 0,
            drop: false,
            previous_rx_color_count: 0,
        };
        HeaderTlvs {
            security_id: Some(self.sender.security_id()),
            path_metrics: Some(metrics),
            key_salt: Some(*self.sender.salt()),
            sequence: Some(self.sender.next_sequence()),
            metadata_encrypted: self.encrypt,
            ..extra
        }
    }

    /// Puts metadata into a packet whose headers are final but for lengths and checksum. The
    /// transport header begins at `transport`, its payload at `payload`; `to` is the leg it leaves
    /// by.
    pub(crate) fn attach(
        mut self,
        packet: &mut Slot,
        (transport, payload): (usize, usize),
        to: &FlowKey,
        extra: HeaderTlvs,
        tlvs: &PayloadTlvs<'_>,
    ) -> Result<(), DropReason> {
        // A false-positive header has no payload section at all, and nothing to encrypt.
        let clear = tlvs.encoded_len();
        self.encrypt &= clear > 0;
        let header = self.header(extra);
        let lengths = Lengths {
            header: svr::HEADER_LEN + header.encoded_len(),
            payload: if self.encrypt { svr::encrypted_len(clear) } else { clear },
        };
        let size = lengths.header + lengths.payload;
        let buffer = &mut packet.packet;
        if !buffer.grow_front(size) || !buffer.grow_back(svr::TAG_LEN) {
            return Err(DropReason::TooBig);
        }
        let bytes = buffer.bytes_mut();
        bytes.copy_within(size..size + payload, 0);
        let end = bytes.len() - svr::TAG_LEN;
        let (signed, tag) = bytes.split_at_mut(end);
        let signed = &mut signed[payload..];
        self.write(signed, lengths, &header, tlvs).ok_or(DropReason::TooBig)?;
        tag.copy_from_slice(&self.sender.keys().tag(signed, slot(self.now.unix)));
        packet.checksum = Checksum::Valid;
        headers::finish(buffer, transport, to)
    }

    fn write(
        &mut self,
        block: &mut [u8],
        lengths: Lengths,
        header: &HeaderTlvs,
        tlvs: &PayloadTlvs<'_>,
    ) -> Option<()> {
        svr::emit_header(block, header, lengths.payload)?;
        let section = block.get_mut(lengths.header..lengths.header + lengths.payload)?;
        if !self.encrypt {
            tlvs.emit(section)?;
            return Some(());
        }
        let (iv, section) = section.split_first_chunk_mut::<{ svr::IV_LEN }>()?;
        self.rng.fill_bytes(iv);
        let length = tlvs.emit(section)?;
        self.sender.keys().encrypt_metadata(iv, section, length)?;
        Some(())
    }
}
