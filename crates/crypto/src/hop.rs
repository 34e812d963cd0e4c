//! The keys of one hop: derivation, signature in time slots, encryption of metadata.
//!
//! The tag is HMAC-SHA256-128 over the signed bytes and the number of the current two-second slot,
//! which is not sent: an old packet cannot be replayed to a router that has forgotten it.

use core::fmt;

use aws_lc_rs::cipher::{
    AES_256, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{constant_time, digest, hkdf, hmac};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::peer_key::PeerKey;
use crate::scrub;

/// Bytes of a hop tag.
pub const TAG_LENGTH: usize = 16;
/// Bytes of a key salt.
pub const SALT_LENGTH: usize = 16;
/// Bytes of the initialisation vector before encrypted metadata.
pub const IV_LENGTH: usize = 16;
/// Seconds of one time slot.
pub const SLOT_SECONDS: u64 = 2;

const BLOCK_LENGTH: usize = 16;

/// The time slot of a wall clock second.
#[must_use]
pub const fn slot(unix: u64) -> u64 {
    unix / SLOT_SECONDS
}

/// How long `length` bytes become with PKCS#7 padding: the next whole block, at least one byte more.
#[must_use]
pub const fn padded_length(length: usize) -> usize {
    length - length % BLOCK_LENGTH + BLOCK_LENGTH
}

/// The value of TLV 16 in what `sender` sends to `receiver`: the first four bytes of
/// SHA-256("fairway security id v1" ‖ 0 ‖ receiver ‖ 0 ‖ sender).
#[must_use]
pub fn security_id(receiver: &str, sender: &str) -> u32 {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [b"fairway security id v1".as_slice(), &[0], receiver.as_bytes(), &[0], sender.as_bytes()] {
        context.update(part);
    }
    let digest = context.finish();
    digest.as_ref().first_chunk().copied().map_or(0, u32::from_be_bytes)
}

/// The cryptographic library failed, for lack of memory: no keys were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the cryptographic library could not set up keys")]
pub struct CryptoError;

/// Why a tag was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TagError {
    /// Another key, another time, or changed bytes.
    #[error("the tag does not match")]
    Mismatch,
    /// The tag is genuine, but older than the first slot that is accepted.
    #[error("signed before the first slot that is accepted")]
    BeforeStart,
}

/// Why metadata did not decrypt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecryptError {
    /// The length is zero or not a multiple of the block length.
    #[error("not a whole number of blocks")]
    Length,
    /// The padding is not that of PKCS#7.
    #[error("bad padding")]
    Padding,
}

/// The keys of one direction between two routers, for one key salt.
pub struct HopKeys {
    sign: hmac::Key,
    encrypt: EncryptingKey,
    decrypt: DecryptingKey,
}

impl HopKeys {
    /// Derives the keys for what `sender` sends to `receiver`: HKDF-SHA256 (RFC 5869) with the peer
    /// key as input, the sender's key salt as salt, and info "fairway hop v1" ‖ 0 ‖ purpose ‖ 0 ‖
    /// sender ‖ 0 ‖ receiver, purpose being "sign" or "encrypt"; 32 bytes each.
    ///
    /// Names must not contain a zero byte; the configuration guarantees that.
    ///
    /// # Errors
    /// [`CryptoError`] when the library has no memory left.
    pub fn derive(
        key: &PeerKey,
        salt: &[u8; SALT_LENGTH],
        sender: &str,
        receiver: &str,
    ) -> Result<Self, CryptoError> {
        scrub::note();
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(key.bytes());
        let expand = |purpose: &[u8]| {
            let info: [&[u8]; 7] =
                [b"fairway hop v1", &[0], purpose, &[0], sender.as_bytes(), &[0], receiver.as_bytes()];
            let mut derived = Zeroizing::new([0; 32]);
            secret
                .expand(&info, hkdf::HKDF_SHA256)
                .and_then(|material| material.fill(derived.as_mut_slice()))
                .map_err(|_| CryptoError)?;
            Ok(derived)
        };
        let sign = expand(b"sign")?;
        let encrypt = expand(b"encrypt")?;
        let cipher_key = || UnboundCipherKey::new(&AES_256, encrypt.as_slice()).map_err(|_| CryptoError);
        Ok(Self {
            sign: hmac::Key::new(hmac::HMAC_SHA256, sign.as_slice()),
            encrypt: EncryptingKey::cbc(cipher_key()?).map_err(|_| CryptoError)?,
            decrypt: DecryptingKey::cbc(cipher_key()?).map_err(|_| CryptoError)?,
        })
    }

    /// The tag of `bytes` in a time slot: the first 16 bytes of
    /// HMAC-SHA256(`bytes` ‖ slot as big-endian u64).
    #[must_use]
    pub fn tag(&self, bytes: &[u8], slot: u64) -> [u8; TAG_LENGTH] {
        let mut context = hmac::Context::with_key(&self.sign);
        context.update(bytes);
        finish(context, slot)
    }

    /// Verifies a tag made in the present slot, the one before or the one after, and says which.
    /// `unix` is the wall clock in seconds; tags of slots below `not_before_slot` are refused.
    ///
    /// # Errors
    /// [`TagError::Mismatch`] unless one of the three slots fits, [`TagError::BeforeStart`] when the
    /// one that fits is below `not_before_slot`.
    pub fn verify(
        &self,
        bytes: &[u8],
        tag: &[u8; TAG_LENGTH],
        unix: u64,
        not_before_slot: u64,
    ) -> Result<u64, TagError> {
        let present = slot(unix);
        let mut context = hmac::Context::with_key(&self.sign);
        context.update(bytes);
        for candidate in [present, present.wrapping_sub(1), present.wrapping_add(1)] {
            let expected = finish(context.clone(), candidate);
            if constant_time::verify_slices_are_equal(&expected, tag).is_ok() {
                return if candidate < not_before_slot { Err(TagError::BeforeStart) } else { Ok(candidate) };
            }
        }
        Err(TagError::Mismatch)
    }

    /// Encrypts the first `length` bytes of `buffer` in place with AES-256-CBC and PKCS#7 padding
    /// and returns their new length, [`padded_length`]. The caller writes the IV, which must be
    /// unpredictable, before them.
    ///
    /// `None`, with the buffer unchanged in its first `length` bytes, when it has no room for the
    /// padding.
    #[must_use]
    pub fn encrypt_metadata(&self, iv: &[u8; IV_LENGTH], buffer: &mut [u8], length: usize) -> Option<usize> {
        if length > buffer.len() {
            return None;
        }
        let padded = padded_length(length);
        let blocks = buffer.get_mut(..padded)?;
        let padding = padded - length;
        blocks.get_mut(length..)?.fill(padding as u8);
        self.encrypt.less_safe_encrypt(blocks, EncryptionContext::Iv128(FixedLength::from(iv))).ok()?;
        Some(padded)
    }

    /// Decrypts the whole of `buffer` in place and returns the length of the plain text at its
    /// start. The tag must have been verified before.
    ///
    /// # Errors
    /// [`DecryptError`] when the buffer is no whole number of blocks, or its padding is wrong.
    pub fn decrypt_metadata(&self, iv: &[u8; IV_LENGTH], buffer: &mut [u8]) -> Result<usize, DecryptError> {
        if buffer.is_empty() || !buffer.len().is_multiple_of(BLOCK_LENGTH) {
            return Err(DecryptError::Length);
        }
        let plain = self
            .decrypt
            .decrypt(buffer, DecryptionContext::Iv128(FixedLength::from(iv)))
            .map_err(|_| DecryptError::Length)?;
        let padding = plain.last().copied().unwrap_or(0);
        if padding == 0 || usize::from(padding) > BLOCK_LENGTH {
            return Err(DecryptError::Padding);
        }
        let length = plain.len().checked_sub(usize::from(padding)).ok_or(DecryptError::Padding)?;
        let (_, end) = plain.split_at(length);
        if end.iter().any(|&byte| byte != padding) {
            return Err(DecryptError::Padding);
        }
        Ok(length)
    }
}

impl fmt::Debug for HopKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HopKeys(redacted)")
    }
}

fn finish(mut context: hmac::Context, slot: u64) -> [u8; TAG_LENGTH] {
    context.update(&slot.to_be_bytes());
    let mut tag = [0; TAG_LENGTH];
    for (to, from) in tag.iter_mut().zip(context.sign().as_ref()) {
        *to = *from;
    }
    tag
}

#[cfg(test)]
mod tests;
