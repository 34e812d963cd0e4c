//! AES-256-GCM (NIST SP 800-38D), by a library or by code of our own.
//!
//! `aws-lc-rs` is fastest where the processor has AVX-512. Without that it uses registers of 128 bits. Where
//! the processor knows AES and carry-less multiplication on those of 256 (VAES, VPCLMULQDQ), `wide` does:
//! 1400 bytes take half the time then, 64 bytes a third.

#[cfg(target_arch = "x86_64")]
use core::hint::black_box;

use aws_lc_rs::aead;

use super::keys::Forged;
use super::near;
use super::processor::Processor;
use crate::hop::{CryptoError, TAG_LENGTH};

#[cfg(target_arch = "x86_64")]
mod aes;
#[cfg(target_arch = "x86_64")]
mod ghash;
#[cfg(target_arch = "x86_64")]
mod part;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod wide;

pub(super) const KEY_LENGTH: usize = 32;
pub(super) const NONCE_LENGTH: usize = 12;

/// A key, expanded.
pub(super) enum Gcm {
    Library(aead::LessSafeKey),
    #[cfg(target_arch = "x86_64")]
    Wide(wide::Key),
}

impl Gcm {
    pub(super) fn new(key: &[u8; KEY_LENGTH], processor: Processor) -> Result<Self, CryptoError> {
        #[cfg(target_arch = "x86_64")]
        if processor.gcm_on_256_bits
            && let Some(key) = wide::Key::new(key)
        {
            return Ok(Self::Wide(key));
        }
        let _ = processor;
        let key = aead::UnboundKey::new(&aead::AES_256_GCM, key).map_err(|_| CryptoError)?;
        Ok(Self::Library(aead::LessSafeKey::new(key)))
    }

    /// Brings the key into the cache.
    #[inline]
    pub(super) fn bring(&self) {
        match self {
            Self::Library(key) => near::bring(key),
            #[cfg(target_arch = "x86_64")]
            Self::Wide(key) => near::bring(key.parts()),
        }
    }

    /// Encrypts `payload` in place, and writes its tag. A nonce must never come twice.
    #[inline]
    pub(super) fn seal(
        &self,
        nonce: [u8; NONCE_LENGTH],
        associated: &[u8],
        payload: &mut [u8],
        tag: &mut [u8; TAG_LENGTH],
    ) -> Result<(), CryptoError> {
        match self {
            Self::Library(key) => {
                let nonce = aead::Nonce::assume_unique_for_key(nonce);
                let made = key.seal_in_place_separate_tag(nonce, aead::Aad::from(associated), payload);
                tag.copy_from_slice(made.map_err(|_| CryptoError)?.as_ref());
            }
            #[cfg(target_arch = "x86_64")]
            Self::Wide(key) => *tag = key.seal(&nonce, associated, payload),
        }
        Ok(())
    }

    /// Verifies payload and tag, and decrypts the payload in place. What is refused is zeroed.
    #[inline]
    pub(super) fn open(
        &self,
        nonce: [u8; NONCE_LENGTH],
        associated: &[u8],
        sealed: &mut [u8],
    ) -> Result<(), Forged> {
        match self {
            Self::Library(key) => {
                let nonce = aead::Nonce::assume_unique_for_key(nonce);
                key.open_in_place(nonce, aead::Aad::from(associated), sealed).map(drop).map_err(|_| Forged)
            }
            #[cfg(target_arch = "x86_64")]
            Self::Wide(key) => {
                let (payload, tag) = sealed.split_last_chunk_mut::<TAG_LENGTH>().ok_or(Forged)?;
                let expected = key.open(&nonce, associated, payload);
                // All bits are compared before anything depends on one of them.
                let difference = u128::from_ne_bytes(expected) ^ u128::from_ne_bytes(*tag);
                if black_box(difference) == 0 {
                    return Ok(());
                }
                payload.fill(0);
                Err(Forged)
            }
        }
    }
}

/// The library leaves keys as they are when they are dropped: they are overwritten with those of a key that
/// is none.
impl Drop for Gcm {
    fn drop(&mut self) {
        const NONE: [u8; KEY_LENGTH] = [0; KEY_LENGTH];
        if let Self::Library(key) = self
            && let Ok(none) = aead::UnboundKey::new(&aead::AES_256_GCM, &NONE)
        {
            *key = aead::LessSafeKey::new(none);
        }
    }
}
