//! The keys of one direction of a session, for one sender salt and one key phase.

use core::ops::Range;
use std::sync::Arc;

use aws_lc_rs::hkdf;
use fairway_types::Suite;
use zeroize::{Zeroize, Zeroizing};

use super::cbc::Cbc;
use super::gcm::{Gcm, KEY_LENGTH, NONCE_LENGTH};
use super::inbound::Unopened;
use super::near;
use super::processor::Processor;
use super::sha256::LANES;
use super::tag::{self, TagKey};
use super::together::{self, Shared};
use super::{COUNTER_LENGTH, Direction, SessionSecret};
use crate::hop::{CryptoError, SALT_LENGTH, TAG_LENGTH};
use crate::scrub;

/// Bytes of the part of a GCM nonce that is derived; the counter is the rest.
const NONCE_SALT_LENGTH: usize = 4;
/// The most key material that a suite needs.
const MATERIAL: usize = 96;

/// Why bytes were not those that were sealed. Nothing says more: see the caller's counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forged;

/// A payload that is to be sealed in place.
#[derive(Debug, Default)]
pub struct Sealing<'a> {
    /// What is authenticated with it.
    pub associated: &'a [u8],
    /// [`Suite::front`] bytes of room, the payload, and [`Suite::back`] bytes of room.
    pub block: &'a mut [u8],
    /// The payload's length in bytes.
    pub length: usize,
}

/// A payload that is to be opened in place.
#[derive(Debug)]
pub struct Opening<'a> {
    /// What is authenticated with it.
    pub associated: &'a [u8],
    /// What was sealed; not to be used any more where it is refused.
    pub block: &'a mut [u8],
    /// What came of it: where in the block the payload is.
    pub opened: Result<Range<usize>, Unopened>,
}

impl<'a> Opening<'a> {
    /// A payload that was not opened yet.
    pub const fn new(associated: &'a [u8], block: &'a mut [u8]) -> Self {
        Self { associated, block, opened: Err(Unopened::NoKeys) }
    }
}

impl Default for Opening<'_> {
    fn default() -> Self {
        Self::new(&[], &mut [])
    }
}

/// What is known of a block's tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    Unknown,
    Right,
    Wrong,
}

/// Keys to seal and to open with.
pub(super) enum Keys {
    Gcm { key: Gcm, nonce_salt: [u8; NONCE_SALT_LENGTH] },
    Cbc(Arc<Cbc>),
    Hmac(Arc<TagKey>),
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
        Self::derive_for(Processor::get(), of, salt, phase)
    }

    /// [`Self::derive`] in the ways that suit a processor.
    pub(super) fn derive_for(
        processor: Processor,
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
        Ok(match suite {
            Suite::HmacSha256 => Self::Hmac(Arc::new(TagKey::new(material, processor.hash))),
            Suite::Aes256Gcm => {
                let (key, rest) = material.split_first_chunk::<KEY_LENGTH>().ok_or(CryptoError)?;
                let nonce_salt = rest.first_chunk().copied().ok_or(CryptoError)?;
                Self::Gcm { key: Gcm::new(key, processor)?, nonce_salt }
            }
            Suite::Aes128Cbc | Suite::Aes256Cbc => {
                Self::Cbc(Arc::new(Cbc::of_material(suite, material, processor)?))
            }
        })
    }

    /// Brings what every packet needs of them into the cache.
    #[inline]
    pub(super) fn bring(&self) {
        match self {
            Self::Gcm { key, .. } => key.bring(),
            Self::Cbc(cbc) => near::bring(&**cbc),
            Self::Hmac(key) => near::bring(&**key),
        }
    }

    /// Seals a piece in place.
    pub(super) fn seal(&self, counter: u64, piece: &mut Sealing<'_>) -> Result<(), CryptoError> {
        match self {
            Self::Gcm { key, nonce_salt } => {
                let Sealing { associated, block, length } = piece;
                let (front, rest) = block.split_first_chunk_mut::<COUNTER_LENGTH>().ok_or(CryptoError)?;
                *front = counter.to_be_bytes();
                let (payload, tag) = rest.split_at_mut_checked(*length).ok_or(CryptoError)?;
                let tag = tag.first_chunk_mut().ok_or(CryptoError)?;
                key.seal(nonce(nonce_salt, counter), associated, payload, tag)
            }
            Self::Hmac(key) => {
                write_counter(counter, piece).ok_or(CryptoError)?;
                key.append(piece.associated, piece.block).ok_or(CryptoError)
            }
            Self::Cbc(cbc) => cbc.seal(counter, piece),
        }
    }

    /// Begins to seal a piece. Where several are sealed faster than each, all but its counter and padding
    /// is left to [`together::finish_group`], with what this gives.
    pub(super) fn begin(&self, counter: u64, piece: &mut Sealing<'_>) -> Result<Option<Shared>, CryptoError> {
        let shared = self.shared();
        match &shared {
            Some(shared) => shared.begin(counter, piece).ok_or(CryptoError)?,
            None => self.seal(counter, piece)?,
        }
        Ok(shared)
    }

    /// Seals pieces whose counters follow one another.
    pub(super) fn seal_all(&self, first: u64, pieces: &mut [Sealing<'_>]) -> Result<(), CryptoError> {
        let Some(shared) = self.shared() else {
            return (first..).zip(pieces).try_for_each(|(counter, piece)| self.seal(counter, piece));
        };
        for (first, group) in (first..).step_by(LANES).zip(pieces.chunks_mut(LANES)) {
            (first..)
                .zip(group.iter_mut())
                .try_for_each(|(counter, piece)| shared.begin(counter, piece))
                .and_then(|()| together::finish_group(&[&shared; LANES][..group.len()], group))
                .ok_or(CryptoError)?;
        }
        Ok(())
    }

    /// The same keys for what is done with payloads of several sessions, if that is faster.
    pub(super) fn shared(&self) -> Option<Shared> {
        match self {
            Self::Gcm { .. } => None,
            Self::Hmac(key) => key.has_lanes().then(|| Shared::Hmac(Arc::clone(key))),
            Self::Cbc(cbc) => cbc.has_lanes().then(|| Shared::Cbc(Arc::clone(cbc))),
        }
    }

    /// Whether these are the keys that are shared.
    pub(super) fn are(&self, shared: &Shared) -> bool {
        match (self, shared) {
            (Self::Hmac(own), Shared::Hmac(other)) => Arc::ptr_eq(own, other),
            (Self::Cbc(own), Shared::Cbc(other)) => Arc::ptr_eq(own, other),
            _ => false,
        }
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

    /// What is known of the tags of up to [`LANES`] blocks, where many are verified faster than each.
    pub(super) fn verify_all(&self, blocks: &[Opening<'_>]) -> [Tag; LANES] {
        let key = match self {
            Self::Gcm { .. } => return [Tag::Unknown; LANES],
            Self::Hmac(key) => key,
            Self::Cbc(cbc) => cbc.tag_key(),
        };
        let keys = &[key; LANES][..blocks.len().min(LANES)];
        tag::verify_all(keys, blocks.iter().map(|sealed| [sealed.associated, &*sealed.block]))
    }

    /// Verifies, unless that was done, then decrypts in place, and says where in `block` the payload is. A block that is
    /// refused is not to be used any more.
    pub(super) fn open(
        &self,
        counter: u64,
        associated: &[u8],
        block: &mut [u8],
        tag: Tag,
    ) -> Result<Range<usize>, Forged> {
        let length = block.len();
        match self {
            Self::Gcm { key, nonce_salt } => {
                let sealed = block.get_mut(COUNTER_LENGTH..).ok_or(Forged)?;
                key.open(nonce(nonce_salt, counter), associated, sealed)?;
                Ok(COUNTER_LENGTH..length - TAG_LENGTH)
            }
            Self::Hmac(key) => {
                let signed = key.verify(associated, block, tag)?;
                if signed < COUNTER_LENGTH { Err(Forged) } else { Ok(COUNTER_LENGTH..signed) }
            }
            Self::Cbc(cbc) => cbc.open(associated, block, tag),
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

pub(super) fn write_counter(counter: u64, piece: &mut Sealing<'_>) -> Option<()> {
    *piece.block.first_chunk_mut()? = counter.to_be_bytes();
    Some(())
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
