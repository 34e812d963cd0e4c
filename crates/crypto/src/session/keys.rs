//! The keys of one direction of a session, for one sender salt and one key phase.

use core::ops::Range;

use aws_lc_rs::cipher::{
    AES_128, AES_256, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{constant_time, hkdf, hmac};
use fairway_types::Suite;
use zeroize::{Zeroize, Zeroizing};

use super::gcm::{Gcm, KEY_LENGTH, NONCE_LENGTH};
use super::{COUNTER_LENGTH, Direction, SessionSecret};
use crate::hop::{CryptoError, IV_LENGTH, SALT_LENGTH, TAG_LENGTH};
use crate::scrub;

/// Bytes of the part of a GCM nonce that is derived; the counter is the rest.
const NONCE_SALT_LENGTH: usize = 4;
/// The most key material that a suite needs.
const MATERIAL: usize = 96;

/// Why bytes were not those that were sealed. Nothing says more: see the caller's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forged;

/// Keys to seal and to open with.
pub(super) enum Keys {
    Gcm { key: Gcm, nonce_salt: [u8; NONCE_SALT_LENGTH] },
    Cbc(Box<Cbc>),
    Hmac(Box<hmac::Key>),
}

/// What CBC needs: the IV is the counter, encrypted under a key of its own, so that nobody can
/// predict it (NIST SP 800-38A, appendix C) and the receiver can still read the counter.
pub(super) struct Cbc {
    encrypt: EncryptingKey,
    decrypt: DecryptingKey,
    hide_counter: EncryptingKey,
    read_counter: DecryptingKey,
    authenticate: hmac::Key,
}

/// A length of key material.
struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// What keys are derived from, beside salt and phase.
#[derive(Clone, Copy)]
pub(super) struct Derivation<'a> {
    pub(super) suite: Suite,
    pub(super) secret: &'a SessionSecret,
    pub(super) direction: Direction,
}

impl Keys {
    /// HKDF-SHA256 (RFC 5869): the secret as input, the sender salt as salt, and info
    /// "fairway session v1" ‖ 0 ‖ suite ‖ 0 ‖ direction ‖ 0 ‖ phase as one byte. The material is cut
    /// in this order: key to encrypt; key to encrypt counters (CBC) or nonce salt (GCM); key to
    /// authenticate.
    pub(super) fn derive(
        of: &Derivation<'_>,
        salt: &[u8; SALT_LENGTH],
        phase: u8,
    ) -> Result<Self, CryptoError> {
        scrub::note();
        let Derivation { suite, secret, direction } = *of;
        let mut material = Zeroizing::new([0; MATERIAL]);
        let material = &mut material[..material_length(suite)];
        let info: [&[u8]; 7] = [
            b"fairway session v1",
            &[0],
            suite.name().as_bytes(),
            &[0],
            direction.name().as_bytes(),
            &[0],
            &[phase],
        ];
        hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
            .extract(secret.bytes())
            .expand(&info, Length(material.len()))
            .and_then(|okm| okm.fill(material))
            .map_err(|_| CryptoError)?;
        Self::of_material(suite, material)
    }

    fn of_material(suite: Suite, material: &[u8]) -> Result<Self, CryptoError> {
        let authenticate = |key: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, key);
        Ok(match suite {
            Suite::HmacSha256 => Self::Hmac(Box::new(authenticate(material))),
            Suite::Aes256Gcm => {
                let (key, rest) = material.split_first_chunk::<KEY_LENGTH>().ok_or(CryptoError)?;
                let nonce_salt = rest.first_chunk().copied().ok_or(CryptoError)?;
                Self::Gcm { key: Gcm::new(key)?, nonce_salt }
            }
            Suite::Aes128Cbc | Suite::Aes256Cbc => {
                let (algorithm, length) =
                    if suite == Suite::Aes128Cbc { (&AES_128, 16) } else { (&AES_256, 32) };
                let (encrypt, rest) = material.split_at(length);
                let (counter, mac) = rest.split_at(length);
                let cipher = |key: &[u8]| UnboundCipherKey::new(algorithm, key).map_err(|_| CryptoError);
                Self::Cbc(Box::new(Cbc {
                    encrypt: EncryptingKey::cbc(cipher(encrypt)?).map_err(|_| CryptoError)?,
                    decrypt: DecryptingKey::cbc(cipher(encrypt)?).map_err(|_| CryptoError)?,
                    hide_counter: EncryptingKey::ecb(cipher(counter)?).map_err(|_| CryptoError)?,
                    read_counter: DecryptingKey::ecb(cipher(counter)?).map_err(|_| CryptoError)?,
                    authenticate: authenticate(mac),
                }))
            }
        })
    }

    /// Seals in place. `block` is [`Suite::front`] bytes of room, the payload, and [`Suite::back`]
    /// bytes of room; `length` is that of the payload.
    pub(super) fn seal(
        &self,
        counter: u64,
        associated: &[u8],
        block: &mut [u8],
        length: usize,
    ) -> Result<(), CryptoError> {
        match self {
            Self::Gcm { key, nonce_salt } => {
                let (front, rest) = block.split_first_chunk_mut::<COUNTER_LENGTH>().ok_or(CryptoError)?;
                *front = counter.to_be_bytes();
                let (payload, tag) = rest.split_at_mut_checked(length).ok_or(CryptoError)?;
                let tag = tag.first_chunk_mut().ok_or(CryptoError)?;
                key.seal(nonce(nonce_salt, counter), associated, payload, tag)?;
            }
            Self::Hmac(key) => {
                let (front, _) = block.split_first_chunk_mut::<COUNTER_LENGTH>().ok_or(CryptoError)?;
                *front = counter.to_be_bytes();
                append_tag(key, associated, block).ok_or(CryptoError)?;
            }
            Self::Cbc(cbc) => cbc.seal(counter, associated, block, length)?,
        }
        Ok(())
    }

    /// The counter of a packet, before anything of it is verified; `None` where there is none, or
    /// where it shows already that the packet was sealed with other keys.
    pub(super) fn counter(&self, block: &[u8]) -> Option<u64> {
        match self {
            Self::Gcm { .. } | Self::Hmac(_) => block.first_chunk().copied().map(u64::from_be_bytes),
            Self::Cbc(cbc) => cbc.counter(block),
        }
    }

    /// What the start of a block is in the clear, as far as it is there: `shown` gets up to its length.
    /// Nothing is verified. Answers how many bytes are known.
    pub(super) fn reveal(&self, block: &[u8], shown: &mut [u8]) -> usize {
        let front = block.get(COUNTER_LENGTH..).unwrap_or_default();
        let length = front.len().min(shown.len());
        let shown = &mut shown[..length];
        match self {
            Self::Hmac(_) => shown.copy_from_slice(&front[..length]),
            Self::Gcm { key, nonce_salt } => {
                // What zeros are encrypted to is what payload is combined with.
                shown.fill(0);
                let Some(counter) = self.counter(block) else { return 0 };
                if key.seal(nonce(nonce_salt, counter), &[], shown, &mut [0; TAG_LENGTH]).is_err() {
                    return 0;
                }
                shown.iter_mut().zip(front).for_each(|(byte, sealed)| *byte ^= sealed);
            }
            Self::Cbc(cbc) => return cbc.reveal(block, shown),
        }
        length
    }

    /// Verifies, then decrypts in place, and says where in `block` the payload is. A block that is
    /// refused is not to be used any more.
    pub(super) fn open(
        &self,
        counter: u64,
        associated: &[u8],
        block: &mut [u8],
    ) -> Result<Range<usize>, Forged> {
        let length = block.len();
        match self {
            Self::Gcm { key, nonce_salt } => {
                let sealed = block.get_mut(COUNTER_LENGTH..).ok_or(Forged)?;
                key.open(nonce(nonce_salt, counter), associated, sealed)?;
                Ok(COUNTER_LENGTH..length - TAG_LENGTH)
            }
            Self::Hmac(key) => {
                let signed = verify_tag(key, associated, block)?;
                if signed < COUNTER_LENGTH { Err(Forged) } else { Ok(COUNTER_LENGTH..signed) }
            }
            Self::Cbc(cbc) => cbc.open(associated, block),
        }
    }
}

/// The library zeroes keys for CBC and HMAC when they are dropped; see [`Gcm`] for the others.
impl Drop for Keys {
    fn drop(&mut self) {
        scrub::note();
        if let Self::Gcm { nonce_salt, .. } = self {
            nonce_salt.zeroize();
        }
    }
}

impl Cbc {
    fn seal(
        &self,
        counter: u64,
        associated: &[u8],
        block: &mut [u8],
        length: usize,
    ) -> Result<(), CryptoError> {
        let (body, _) = block.split_at_mut_checked(block.len() - TAG_LENGTH).ok_or(CryptoError)?;
        let (iv, payload) = body.split_first_chunk_mut::<IV_LENGTH>().ok_or(CryptoError)?;
        *iv = counter_block(counter);
        self.hide_counter.less_safe_encrypt(iv, EncryptionContext::None).map_err(|_| CryptoError)?;
        let padding = payload.len() - length;
        payload.get_mut(length..).ok_or(CryptoError)?.fill(padding as u8);
        self.encrypt
            .less_safe_encrypt(payload, EncryptionContext::Iv128(FixedLength::from(&*iv)))
            .map_err(|_| CryptoError)?;
        append_tag(&self.authenticate, associated, block).ok_or(CryptoError)
    }

    fn counter(&self, block: &[u8]) -> Option<u64> {
        let mut iv = *block.first_chunk::<IV_LENGTH>()?;
        self.read_counter.decrypt(&mut iv, DecryptionContext::None).ok()?;
        // Only under the right key are the first eight bytes zero again.
        u64::try_from(u128::from_be_bytes(iv)).ok()
    }

    fn reveal(&self, block: &[u8], shown: &mut [u8]) -> usize {
        let Some((iv, sealed)) = block.split_first_chunk::<IV_LENGTH>() else { return 0 };
        let length = sealed.len().min(shown.len()) / IV_LENGTH * IV_LENGTH;
        let shown = &mut shown[..length];
        shown.copy_from_slice(&sealed[..length]);
        let iv = DecryptionContext::Iv128(FixedLength::from(iv));
        if length == 0 || self.decrypt.decrypt(shown, iv).is_err() { 0 } else { length }
    }

    fn open(&self, associated: &[u8], block: &mut [u8]) -> Result<Range<usize>, Forged> {
        let signed = verify_tag(&self.authenticate, associated, block)?;
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

const fn material_length(suite: Suite) -> usize {
    match suite {
        Suite::HmacSha256 => 32,
        Suite::Aes128Cbc => 16 + 16 + 32,
        Suite::Aes256Cbc => 32 + 32 + 32,
        Suite::Aes256Gcm => 32 + NONCE_SALT_LENGTH,
    }
}

fn nonce(salt: &[u8; NONCE_SALT_LENGTH], counter: u64) -> [u8; NONCE_LENGTH] {
    let mut nonce = [0; NONCE_LENGTH];
    let (front, back) = nonce.split_at_mut(NONCE_SALT_LENGTH);
    front.copy_from_slice(salt);
    back.copy_from_slice(&counter.to_be_bytes());
    nonce
}

fn counter_block(counter: u64) -> [u8; IV_LENGTH] {
    u128::from(counter).to_be_bytes()
}

/// The tag of `associated` ‖ `signed`: the first 16 bytes of HMAC-SHA256.
fn tag(key: &hmac::Key, associated: &[u8], signed: &[u8]) -> [u8; TAG_LENGTH] {
    let mut context = hmac::Context::with_key(key);
    context.update(associated);
    context.update(signed);
    let mut tag = [0; TAG_LENGTH];
    tag.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
    tag
}

/// Fills the last bytes of a block with the tag of what is before them.
fn append_tag(key: &hmac::Key, associated: &[u8], block: &mut [u8]) -> Option<()> {
    let (signed, place) = block.split_last_chunk_mut::<TAG_LENGTH>()?;
    *place = tag(key, associated, signed);
    Some(())
}

/// How many bytes of a block are in front of its tag, if that is right.
fn verify_tag(key: &hmac::Key, associated: &[u8], block: &[u8]) -> Result<usize, Forged> {
    let (signed, found) = block.split_last_chunk::<TAG_LENGTH>().ok_or(Forged)?;
    let expected = tag(key, associated, signed);
    constant_time::verify_slices_are_equal(&expected, found).map_err(|_| Forged)?;
    Ok(signed.len())
}
