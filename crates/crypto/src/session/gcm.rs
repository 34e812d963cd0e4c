//! AES-256-GCM (NIST SP 800-38D), by the faster of two libraries.
//!
//! `aws-lc-rs` is fastest where the processor has AVX-512. Without that it uses registers of 128 bits,
//! where `ring` uses those of 256 if the processor knows AES and carry-less multiplication on them
//! (VAES, VPCLMULQDQ): 1400 bytes take two thirds of the time then, 64 bytes half of it.

use aws_lc_rs::aead as usual;
#[cfg(target_arch = "x86_64")]
use ring::aead as wide;

use super::keys::Forged;
use super::near;
use super::processor::Processor;
use crate::hop::{CryptoError, TAG_LENGTH};

pub(super) const KEY_LENGTH: usize = 32;
pub(super) const NONCE_LENGTH: usize = 12;

/// A key, expanded.
pub(super) enum Gcm {
    Usual(usual::LessSafeKey),
    #[cfg(target_arch = "x86_64")]
    Wide(Box<wide::LessSafeKey>),
}

impl Gcm {
    pub(super) fn new(key: &[u8; KEY_LENGTH], processor: Processor) -> Result<Self, CryptoError> {
        #[cfg(target_arch = "x86_64")]
        if processor.gcm_on_256_bits {
            return Self::wide(key);
        }
        let _ = processor;
        Self::usual(key)
    }

    fn usual(key: &[u8; KEY_LENGTH]) -> Result<Self, CryptoError> {
        let key = usual::UnboundKey::new(&usual::AES_256_GCM, key).map_err(|_| CryptoError)?;
        Ok(Self::Usual(usual::LessSafeKey::new(key)))
    }

    #[cfg(target_arch = "x86_64")]
    fn wide(key: &[u8; KEY_LENGTH]) -> Result<Self, CryptoError> {
        let key = wide::UnboundKey::new(&wide::AES_256_GCM, key).map_err(|_| CryptoError)?;
        Ok(Self::Wide(Box::new(wide::LessSafeKey::new(key))))
    }

    /// Brings the key into the cache.
    #[inline]
    pub(super) fn bring(&self) {
        match self {
            Self::Usual(key) => near::bring(key),
            #[cfg(target_arch = "x86_64")]
            Self::Wide(key) => near::bring(&**key),
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
            Self::Usual(key) => {
                let nonce = usual::Nonce::assume_unique_for_key(nonce);
                let made = key.seal_in_place_separate_tag(nonce, usual::Aad::from(associated), payload);
                tag.copy_from_slice(made.map_err(|_| CryptoError)?.as_ref());
            }
            #[cfg(target_arch = "x86_64")]
            Self::Wide(key) => {
                let nonce = wide::Nonce::assume_unique_for_key(nonce);
                let made = key.seal_in_place_separate_tag(nonce, wide::Aad::from(associated), payload);
                tag.copy_from_slice(made.map_err(|_| CryptoError)?.as_ref());
            }
        }
        Ok(())
    }

    /// Verifies payload and tag, and decrypts the payload in place. What is refused is not to be used.
    #[inline]
    pub(super) fn open(
        &self,
        nonce: [u8; NONCE_LENGTH],
        associated: &[u8],
        sealed: &mut [u8],
    ) -> Result<(), Forged> {
        match self {
            Self::Usual(key) => {
                let nonce = usual::Nonce::assume_unique_for_key(nonce);
                key.open_in_place(nonce, usual::Aad::from(associated), sealed).map(drop).map_err(|_| Forged)
            }
            #[cfg(target_arch = "x86_64")]
            Self::Wide(key) => {
                let nonce = wide::Nonce::assume_unique_for_key(nonce);
                key.open_in_place(nonce, wide::Aad::from(associated), sealed).map(drop).map_err(|_| Forged)
            }
        }
    }
}

/// Both libraries leave keys as they are when they are dropped: they are overwritten with those of a
/// key that is none.
impl Drop for Gcm {
    fn drop(&mut self) {
        const NONE: [u8; KEY_LENGTH] = [0; KEY_LENGTH];
        match self {
            Self::Usual(key) => {
                if let Ok(none) = usual::UnboundKey::new(&usual::AES_256_GCM, &NONE) {
                    *key = usual::LessSafeKey::new(none);
                }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Wide(key) => {
                if let Ok(none) = wide::UnboundKey::new(&wide::AES_256_GCM, &NONE) {
                    **key = wide::LessSafeKey::new(none);
                }
            }
        }
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whichever library a router uses, its peer may use the other.
        #[test]
        fn both_libraries_seal_alike_and_open_each_others(
            key: [u8; KEY_LENGTH],
            nonce: [u8; NONCE_LENGTH],
            associated in prop::collection::vec(any::<u8>(), 0..48),
            payload in prop::collection::vec(any::<u8>(), 0..2000),
            flip in any::<prop::sample::Index>(),
        ) {
            let both = [Gcm::usual(&key).unwrap(), Gcm::wide(&key).unwrap()];
            let sealed = both.each_ref().map(|gcm| {
                let (mut sealed, mut tag) = (payload.clone(), [0; TAG_LENGTH]);
                gcm.seal(nonce, &associated, &mut sealed, &mut tag).unwrap();
                sealed.extend_from_slice(&tag);
                sealed
            });
            prop_assert_eq!(&sealed[0], &sealed[1]);
            for gcm in &both {
                let mut opened = sealed[0].clone();
                prop_assert_eq!(gcm.open(nonce, &associated, &mut opened), Ok(()));
                prop_assert_eq!(&opened[..payload.len()], &payload);
                let mut forged = sealed[0].clone();
                forged[flip.index(sealed[0].len())] ^= 1;
                prop_assert_eq!(gcm.open(nonce, &associated, &mut forged), Err(Forged));
            }
        }
    }
}
