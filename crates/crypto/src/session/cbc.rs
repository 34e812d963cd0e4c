//! AES-CBC (NIST SP 800-38A) with a tag over IV and ciphertext: the suites aes-128-cbc and aes-256-cbc
//! with hmac-sha256-128.
//!
//! The IV is the counter, encrypted under a key of its own, so that nobody can predict it (SP 800-38A,
//! appendix C) and the receiver can still read the counter.
//!
//! Within a packet each block waits for the one before it. Several packets are encrypted side by side, a
//! block of each at a time.

use core::ops::Range;

use aes::cipher::{Array, BlockCipherEncrypt, KeyInit, consts::U16};
use aes::{Aes128Enc, Aes256Enc};
use aws_lc_rs::cipher::{
    AES_128, AES_256, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use fairway_types::Suite;

use super::keys::{Forged, Opening, Sealing, Tag};
use super::processor::Processor;
use super::sha256::LANES;
use super::tag::TagKey;
use crate::hop::{CryptoError, IV_LENGTH, TAG_LENGTH};

type Block = Array<u8, U16>;

/// What CBC needs.
pub(super) struct Cbc {
    encrypt: EncryptingKey,
    decrypt: DecryptingKey,
    hide_counter: EncryptingKey,
    read_counter: DecryptingKey,
    authenticate: TagKey,
    /// The key to encrypt again, where the processor can do several blocks at once.
    lanes: Option<Lanes>,
}

/// A key that encrypts several blocks at once.
enum Lanes {
    Aes128(Aes128Enc),
    Aes256(Aes256Enc),
}

impl Cbc {
    /// Cuts the material into the key to encrypt, the one for counters, and that of the tag.
    pub(super) fn of_material(
        suite: Suite,
        material: &[u8],
        processor: Processor,
    ) -> Result<Self, CryptoError> {
        let (algorithm, length) = if suite == Suite::Aes128Cbc { (&AES_128, 16) } else { (&AES_256, 32) };
        let (encrypt, rest) = material.split_at_checked(length).ok_or(CryptoError)?;
        let (counter, mac) = rest.split_at_checked(length).ok_or(CryptoError)?;
        let cipher = |key: &[u8]| UnboundCipherKey::new(algorithm, key).map_err(|_| CryptoError);
        Ok(Self {
            encrypt: EncryptingKey::cbc(cipher(encrypt)?).map_err(|_| CryptoError)?,
            decrypt: DecryptingKey::cbc(cipher(encrypt)?).map_err(|_| CryptoError)?,
            hide_counter: EncryptingKey::ecb(cipher(counter)?).map_err(|_| CryptoError)?,
            read_counter: DecryptingKey::ecb(cipher(counter)?).map_err(|_| CryptoError)?,
            authenticate: TagKey::new(mac, processor.hash),
            lanes: if processor.aes { Some(Lanes::new(encrypt)?) } else { None },
        })
    }

    pub(super) fn seal(&self, counter: u64, piece: &mut Sealing<'_>) -> Result<(), CryptoError> {
        let (iv, payload) =
            self.prepare(counter, piece).and_then(<[_]>::split_first_mut).ok_or(CryptoError)?;
        self.encrypt
            .less_safe_encrypt(payload.as_flattened_mut(), EncryptionContext::Iv128(FixedLength::from(&*iv)))
            .map_err(|_| CryptoError)?;
        self.authenticate.append(piece.associated, piece.block).ok_or(CryptoError)
    }

    /// Seals up to [`LANES`] pieces, whose counters follow one another.
    pub(super) fn seal_all(&self, first: u64, pieces: &mut [Sealing<'_>]) -> Result<(), CryptoError> {
        let Some(lanes) = &self.lanes else {
            return (first..).zip(pieces).try_for_each(|(counter, piece)| self.seal(counter, piece));
        };
        let mut prepared: [&mut [[u8; IV_LENGTH]]; LANES] = Default::default();
        for ((place, piece), counter) in prepared.iter_mut().zip(pieces.iter_mut()).zip(first..) {
            *place = self.prepare(counter, piece).ok_or(CryptoError)?;
        }
        lanes.encrypt(&mut prepared);
        self.authenticate.append_all(pieces).ok_or(CryptoError)
    }

    /// Writes IV and padding: all blocks, the first of which is the IV.
    fn prepare<'a>(&self, counter: u64, piece: &'a mut Sealing<'_>) -> Option<&'a mut [[u8; IV_LENGTH]]> {
        let end = piece.block.len().checked_sub(TAG_LENGTH)?;
        let blocks = piece.block.get_mut(..end)?;
        let (iv, payload) = blocks.split_first_chunk_mut::<IV_LENGTH>()?;
        *iv = counter_block(counter);
        self.hide_counter.less_safe_encrypt(iv, EncryptionContext::None).ok()?;
        let padding = payload.len().checked_sub(piece.length)?;
        payload.get_mut(piece.length..)?.fill(padding as u8);
        Some(blocks.as_chunks_mut().0)
    }

    /// The counter of a packet; `None` where it was sealed under another key.
    pub(super) fn counter(&self, block: &[u8]) -> Option<u64> {
        let mut iv = *block.first_chunk::<IV_LENGTH>()?;
        self.read_counter.decrypt(&mut iv, DecryptionContext::None).ok()?;
        // Only under the right key are the first eight bytes zero again.
        u64::try_from(u128::from_be_bytes(iv)).ok()
    }

    /// See [`super::keys::Keys::reveal`].
    pub(super) fn reveal(&self, block: &[u8], shown: &mut [u8]) -> usize {
        let Some((iv, sealed)) = block.split_first_chunk::<IV_LENGTH>() else { return 0 };
        let length = sealed.len().min(shown.len()) / IV_LENGTH * IV_LENGTH;
        let shown = &mut shown[..length];
        shown.copy_from_slice(&sealed[..length]);
        let iv = DecryptionContext::Iv128(FixedLength::from(iv));
        if length == 0 || self.decrypt.decrypt(shown, iv).is_err() { 0 } else { length }
    }

    pub(super) fn verify_all(&self, blocks: &[Opening<'_>]) -> [Tag; LANES] {
        self.authenticate.verify_all(blocks)
    }

    /// Verifies, then decrypts in place; where the payload is.
    pub(super) fn open(&self, associated: &[u8], block: &mut [u8], tag: Tag) -> Result<Range<usize>, Forged> {
        let signed = self.authenticate.verify(associated, block, tag)?;
        let body = block.get_mut(..signed).ok_or(Forged)?;
        let (iv, payload) = body.split_first_chunk_mut::<IV_LENGTH>().ok_or(Forged)?;
        let iv = DecryptionContext::Iv128(FixedLength::from(&*iv));
        if payload.is_empty() || !payload.len().is_multiple_of(IV_LENGTH) {
            return Err(Forged);
        }
        let plain = self.decrypt.decrypt(payload, iv).map_err(|_| Forged)?;
        // The tag is right: whatever the padding is, the sender wrote it.
        let padding = usize::from(plain.last().copied().unwrap_or(0));
        let length = plain.len().checked_sub(padding).ok_or(Forged)?;
        if padding == 0 || padding > IV_LENGTH { Err(Forged) } else { Ok(IV_LENGTH..IV_LENGTH + length) }
    }
}

impl Lanes {
    fn new(key: &[u8]) -> Result<Self, CryptoError> {
        Ok(match key.len() {
            16 => Self::Aes128(Aes128Enc::new_from_slice(key).map_err(|_| CryptoError)?),
            _ => Self::Aes256(Aes256Enc::new_from_slice(key).map_err(|_| CryptoError)?),
        })
    }

    /// Encrypts packets in place, each under its first block. Empty ones are behind the others.
    fn encrypt(&self, packets: &mut [&mut [[u8; IV_LENGTH]]; LANES]) {
        let mut chain = [Block::default(); LANES];
        let (mut count, mut longest) = (0, 0);
        for (link, packet) in chain.iter_mut().zip(packets.iter()) {
            let Some(iv) = packet.first() else { break };
            *link = Array(*iv);
            (count, longest) = (count + 1, packet.len().max(longest));
        }
        let (chain, packets) = (&mut chain[..count], &mut packets[..count]);
        for number in 1..longest {
            for (link, packet) in chain.iter_mut().zip(packets.iter()) {
                if let Some(plain) = packet.get(number) {
                    link.0 = (u128::from_ne_bytes(link.0) ^ u128::from_ne_bytes(*plain)).to_ne_bytes();
                }
            }
            match self {
                Self::Aes128(key) => key.encrypt_blocks(chain),
                Self::Aes256(key) => key.encrypt_blocks(chain),
            }
            // A packet that has ended takes nothing any more.
            for (link, packet) in chain.iter().zip(packets.iter_mut()) {
                if let Some(place) = packet.get_mut(number) {
                    *place = link.0;
                }
            }
        }
    }
}

fn counter_block(counter: u64) -> [u8; IV_LENGTH] {
    u128::from(counter).to_be_bytes()
}
