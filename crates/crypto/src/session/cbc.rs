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

use super::keys::{Forged, Sealing, Tag};
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
        self.prepare(counter, piece).and_then(|blocks| self.encrypt_one(blocks)).ok_or(CryptoError)?;
        self.authenticate.append(piece.associated, piece.block).ok_or(CryptoError)
    }

    /// Encrypts a packet in place under its first block.
    fn encrypt_one(&self, blocks: &mut [[u8; IV_LENGTH]]) -> Option<()> {
        let (iv, payload) = blocks.split_first_mut()?;
        let iv = EncryptionContext::Iv128(FixedLength::from(&*iv));
        self.encrypt.less_safe_encrypt(payload.as_flattened_mut(), iv).ok().map(drop)
    }

    /// Writes what [`encrypt_all`] and a tag are to follow.
    pub(super) fn begin(&self, counter: u64, piece: &mut Sealing<'_>) -> Option<()> {
        self.prepare(counter, piece).map(drop)
    }

    /// Whether several packets at once are sealed faster than one after the other.
    pub(super) const fn has_lanes(&self) -> bool {
        self.lanes.is_some()
    }

    pub(super) const fn tag_key(&self) -> &TagKey {
        &self.authenticate
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

    #[inline]
    fn encrypt_block(&self, block: &mut Block) {
        match self {
            Self::Aes128(key) => key.encrypt_block(block),
            Self::Aes256(key) => key.encrypt_block(block),
        }
    }

    fn encrypt_blocks(&self, blocks: &mut [Block]) {
        match self {
            Self::Aes128(key) => key.encrypt_blocks(blocks),
            Self::Aes256(key) => key.encrypt_blocks(blocks),
        }
    }
}

/// Encrypts up to [`LANES`] packets that were begun, each with its key.
pub(super) fn encrypt_all<'a, 'b: 'a>(
    keys: &[&Cbc],
    pieces: impl Iterator<Item = &'a mut Sealing<'b>>,
) -> Option<()> {
    let mut packets: [&mut [[u8; IV_LENGTH]]; LANES] = Default::default();
    let mut count = 0;
    for (packet, piece) in packets.iter_mut().zip(pieces) {
        let end = piece.block.len().checked_sub(TAG_LENGTH)?;
        *packet = piece.block.get_mut(..end)?.as_chunks_mut().0;
        count += 1;
    }
    if let ([key], [packet, ..]) = (keys, &mut packets) {
        return key.encrypt_one(packet);
    }
    let first = keys.first()?.lanes.as_ref()?;
    let mut lanes = [first; LANES];
    for (lane, key) in lanes.iter_mut().zip(keys) {
        *lane = key.lanes.as_ref()?;
    }
    encrypt_chains(lanes.get(..keys.len())?, packets.get_mut(..count)?);
    Some(())
}

/// Encrypts packets in place, each under its first block.
fn encrypt_chains(keys: &[&Lanes], packets: &mut [&mut [[u8; IV_LENGTH]]]) {
    let mut chain = [Block::default(); LANES];
    let mut longest = 0;
    for (link, packet) in chain.iter_mut().zip(packets.iter()) {
        let Some(iv) = packet.first() else { continue };
        (*link, longest) = (Array(*iv), packet.len().max(longest));
    }
    let chain = &mut chain[..packets.len().min(LANES)];
    let alike = keys.windows(2).all(|pair| core::ptr::eq(pair[0], pair[1]));
    for number in 1..longest {
        for (link, packet) in chain.iter_mut().zip(packets.iter()) {
            if let Some(plain) = packet.get(number) {
                link.0 = (u128::from_ne_bytes(link.0) ^ u128::from_ne_bytes(*plain)).to_ne_bytes();
            }
        }
        match keys.first() {
            Some(key) if alike => key.encrypt_blocks(chain),
            _ => chain.iter_mut().zip(keys).for_each(|(link, key)| key.encrypt_block(link)),
        }
        // A packet that has ended takes nothing any more.
        for (link, packet) in chain.iter().zip(packets.iter_mut()) {
            if let Some(place) = packet.get_mut(number) {
                *place = link.0;
            }
        }
    }
}

fn counter_block(counter: u64) -> [u8; IV_LENGTH] {
    u128::from(counter).to_be_bytes()
}
