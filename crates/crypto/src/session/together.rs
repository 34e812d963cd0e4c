//! Payloads of several sessions, sealed or verified side by side.
//!
//! Each has a counter and keys before that, and is opened after it, one after the other and in order:
//! here nothing is decided. Keys stay as long as something is to be done with them, even if their
//! session has others by then, or is gone.

use std::sync::Arc;

use super::cbc::{self, Cbc};
use super::keys::{Sealing, Tag, write_counter};
use super::sha256::LANES;
use super::tag::{self, TagKey};
use crate::hop::CryptoError;

/// Keys of a session that work on several payloads at once.
#[derive(Clone)]
pub(super) enum Shared {
    Cbc(Arc<Cbc>),
    Hmac(Arc<TagKey>),
}

impl Shared {
    fn tag_key(&self) -> &TagKey {
        match self {
            Self::Cbc(cbc) => cbc.tag_key(),
            Self::Hmac(key) => key,
        }
    }

    /// Writes what [`finish_group`] is to follow: a counter, and padding where there is any.
    pub(super) fn begin(&self, counter: u64, piece: &mut Sealing<'_>) -> Option<()> {
        match self {
            Self::Cbc(cbc) => cbc.begin(counter, piece),
            Self::Hmac(_) => write_counter(counter, piece),
        }
    }
}

/// A payload that is sealed but for what is done with several at once: it must not be sent yet.
#[must_use]
pub struct Unfinished {
    pub(super) keys: Shared,
}

impl Unfinished {
    /// Finishes payloads, each with the piece that [`super::End::begin_seal`] was given.
    ///
    /// # Errors
    /// [`CryptoError`] where a piece is another one; none of them is to be sent then.
    pub fn finish_all(unfinished: &[&Self], pieces: &mut [Sealing<'_>]) -> Result<(), CryptoError> {
        if unfinished.len() != pieces.len() {
            return Err(CryptoError);
        }
        for (unfinished, pieces) in unfinished.chunks(LANES).zip(pieces.chunks_mut(LANES)) {
            let Some(first) = unfinished.first() else { continue };
            let mut keys = [&first.keys; LANES];
            keys.iter_mut().zip(unfinished).for_each(|(keys, unfinished)| *keys = &unfinished.keys);
            finish_group(&keys[..pieces.len()], pieces).ok_or(CryptoError)?;
        }
        Ok(())
    }
}

/// Encrypts up to [`LANES`] pieces that were begun, where that is due, and signs them.
pub(super) fn finish_group(keys: &[&Shared], pieces: &mut [Sealing<'_>]) -> Option<()> {
    let ciphers = || keys.iter().map(|keys| if let Shared::Cbc(cbc) = keys { Some(&**cbc) } else { None });
    if let Some(first) = ciphers().flatten().next() {
        let mut lanes = [first; LANES];
        let mut count = 0;
        for (lane, cipher) in lanes.iter_mut().zip(ciphers().flatten()) {
            (*lane, count) = (cipher, count + 1);
        }
        let encrypted = pieces.iter_mut().zip(ciphers()).filter(|(_, cipher)| cipher.is_some());
        cbc::encrypt_all(lanes.get(..count)?, encrypted.map(|(piece, _)| piece))?;
    }
    let mut signing = [keys.first()?.tag_key(); LANES];
    signing.iter_mut().zip(keys).for_each(|(key, keys)| *key = keys.tag_key());
    tag::append_all(signing.get(..pieces.len())?, pieces.iter_mut())
}

/// What is known of a payload before its turn to be opened comes.
pub struct Checked {
    pub(super) keys: Shared,
    pub(super) counter: u64,
    pub(super) tag: Tag,
}

impl Checked {
    /// Verifies the tags of payloads, each with what is authenticated with it. Whether a payload is new is
    /// only seen when it is opened.
    pub fn verify_all(checked: &mut [Self], blocks: &[[&[u8]; 2]]) {
        for (checked, blocks) in checked.chunks_mut(LANES).zip(blocks.chunks(LANES)) {
            let Some(first) = checked.first() else { continue };
            let mut keys = [first.keys.tag_key(); LANES];
            keys.iter_mut().zip(checked.iter()).for_each(|(key, one)| *key = one.keys.tag_key());
            let tags = tag::verify_all(&keys[..checked.len()], blocks.iter().copied());
            checked.iter_mut().zip(tags).for_each(|(checked, tag)| checked.tag = tag);
        }
    }
}

#[cfg(test)]
mod tests;
