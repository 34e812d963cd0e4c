//! The tag of a block: the first 16 bytes of HMAC-SHA256 (RFC 2104) over what is authenticated with it
//! and the block; of several blocks at once where the processor is faster that way.

use aws_lc_rs::{constant_time, hmac};
use zeroize::Zeroize;

use super::keys::{Forged, Opening, Sealing, Tag};
use super::processor::Hashing;
use super::sha256::{BLOCK, LANES, START, State, States, take_one};
use crate::hop::TAG_LENGTH;

/// A key, and where it leaves both hashes.
pub(super) struct TagKey {
    key: hmac::Key,
    lanes: Option<Lanes>,
}

/// What sixteen messages at once begin with.
struct Lanes {
    hashing: Hashing,
    inner: State,
    outer: State,
}

/// A message in two parts: what is authenticated with a block, and the block.
pub(super) type Message<'a> = [&'a [u8]; 2];

type Bytes = [u8; TAG_LENGTH];

impl TagKey {
    pub(super) fn new(key: &[u8], hashing: Option<Hashing>) -> Self {
        Self {
            lanes: hashing.map(|hashing| Lanes::new(key, hashing)),
            key: hmac::Key::new(hmac::HMAC_SHA256, key),
        }
    }

    /// The tag of one message.
    pub(super) fn tag(&self, message: Message<'_>) -> Bytes {
        let mut context = hmac::Context::with_key(&self.key);
        message.iter().for_each(|part| context.update(part));
        shortened(context.sign().as_ref())
    }

    /// The tags of up to [`LANES`] messages, in their order; beyond them, nothing that means anything.
    pub(super) fn tags(&self, messages: &[Message<'_>]) -> [Bytes; LANES] {
        match &self.lanes {
            Some(lanes) if are_worth_it(messages) => lanes.tags(messages),
            _ => {
                let mut tags = [[0; TAG_LENGTH]; LANES];
                tags.iter_mut().zip(messages).for_each(|(tag, message)| *tag = self.tag(*message));
                tags
            }
        }
    }

    /// [`Self::append`] for up to [`LANES`] pieces.
    pub(super) fn append_all(&self, pieces: &mut [Sealing<'_>]) -> Option<()> {
        let messages = signed(pieces.iter().map(|piece| [piece.associated, &*piece.block]))?;
        let tags = self.tags(messages.get(..pieces.len())?);
        for (piece, tag) in pieces.iter_mut().zip(tags) {
            *piece.block.last_chunk_mut()? = tag;
        }
        Some(())
    }

    /// Fills the last bytes of a block with the tag of what is before them.
    pub(super) fn append(&self, associated: &[u8], block: &mut [u8]) -> Option<()> {
        let (signed, place) = block.split_last_chunk_mut::<TAG_LENGTH>()?;
        *place = self.tag([associated, signed]);
        Some(())
    }

    /// What is known of the tags of up to [`LANES`] blocks: nothing, where they are not verified faster
    /// at once.
    pub(super) fn verify_all(&self, blocks: &[Opening<'_>]) -> [Tag; LANES] {
        let mut known = [Tag::Unknown; LANES];
        let messages = signed(blocks.iter().map(|sealed| [sealed.associated, &*sealed.block]));
        let Some(messages) = messages.as_ref().and_then(|all| all.get(..blocks.len())) else { return known };
        let Some(lanes) = self.lanes.as_ref().filter(|_| are_worth_it(messages)) else { return known };
        for ((known, expected), sealed) in known.iter_mut().zip(lanes.tags(messages)).zip(blocks) {
            let found = sealed.block.last_chunk::<TAG_LENGTH>();
            let equal =
                found.is_some_and(|found| constant_time::verify_slices_are_equal(&expected, found).is_ok());
            *known = if equal { Tag::Right } else { Tag::Wrong };
        }
        known
    }

    /// How many bytes of a block are in front of its tag, if that is right.
    pub(super) fn verify(&self, associated: &[u8], block: &[u8], known: Tag) -> Result<usize, Forged> {
        let (signed, found) = block.split_last_chunk::<TAG_LENGTH>().ok_or(Forged)?;
        match known {
            Tag::Right => {}
            Tag::Wrong => return Err(Forged),
            Tag::Unknown => {
                let expected = self.tag([associated, signed]);
                constant_time::verify_slices_are_equal(&expected, found).map_err(|_| Forged)?;
            }
        }
        Ok(signed.len())
    }
}

/// What is signed of up to [`LANES`] blocks, each with what is authenticated with it: all but the tag.
fn signed<'a>(blocks: impl Iterator<Item = Message<'a>>) -> Option<[Message<'a>; LANES]> {
    let mut messages = [[&[][..]; 2]; LANES];
    for (message, [associated, block]) in messages.iter_mut().zip(blocks) {
        let (signed, _) = block.split_last_chunk::<TAG_LENGTH>()?;
        *message = [associated, signed];
    }
    Some(messages)
}

/// Whether messages are of one length, and enough of them that lanes are not wasted.
fn are_worth_it(messages: &[Message<'_>]) -> bool {
    let length = |message: &Message<'_>| message[0].len() + message[1].len();
    messages.len() > LANES / 2 && messages.windows(2).all(|pair| length(&pair[0]) == length(&pair[1]))
}

impl Lanes {
    fn new(key: &[u8], hashing: Hashing) -> Self {
        // Keys here are shorter than a block: no key needs to be hashed first.
        let mut block = [0; BLOCK];
        let length = key.len().min(BLOCK);
        block[..length].copy_from_slice(&key[..length]);
        let after = |pad: u8| {
            let mut padded = block.map(|byte| byte ^ pad);
            let state = take_one(&START, &padded);
            padded.zeroize();
            state
        };
        let (inner, outer) = (after(0x36), after(0x5c));
        block.zeroize();
        Self { hashing, inner, outer }
    }

    /// The tags of up to [`LANES`] messages of one length; those of lanes without a message mean nothing.
    fn tags(&self, messages: &[Message<'_>]) -> [Bytes; LANES] {
        let length = messages.first().map_or(0, |message| message[0].len() + message[1].len());
        let mut states = States::all(&self.inner);
        let mut blocks = [[0; BLOCK]; LANES];
        // The message, a mark, and its length behind that of the key's block.
        for number in 0..(length + 1 + 8).div_ceil(BLOCK) {
            for (block, message) in blocks.iter_mut().zip(messages) {
                fill(block, message, number * BLOCK, length);
            }
            states.take(self.hashing, &blocks);
        }
        for (lane, block) in blocks.iter_mut().enumerate() {
            *block = digest_block(&states.lane(lane));
        }
        let mut states = States::all(&self.outer);
        states.take(self.hashing, &blocks);
        core::array::from_fn(|lane| {
            let mut tag = [0; TAG_LENGTH];
            for (bytes, word) in tag.as_chunks_mut::<4>().0.iter_mut().zip(states.lane(lane)) {
                *bytes = word.to_be_bytes();
            }
            tag
        })
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.inner.zeroize();
        self.outer.zeroize();
    }
}

/// The block of a padded message that begins at an offset.
#[inline]
fn fill(block: &mut [u8; BLOCK], [front, back]: &Message<'_>, from: usize, length: usize) {
    if let Some(whole) = from.checked_sub(front.len()).and_then(|at| back.get(at..)?.first_chunk()) {
        *block = *whole;
        return;
    }
    block.fill(0);
    copy(block, from, front, 0);
    copy(block, from, back, front.len());
    if let Some(mark) = length.checked_sub(from).and_then(|at| block.get_mut(at)) {
        *mark = 0x80;
    }
    // The last block has room for the length.
    if from + BLOCK >= length + 1 + 8 {
        block[BLOCK - 8..].copy_from_slice(&bits(length));
    }
}

/// Copies what a block, which begins at `from`, has of a part that begins at `start`.
#[inline]
fn copy(block: &mut [u8; BLOCK], from: usize, part: &[u8], start: usize) {
    let (first, end) = (from.max(start), (from + BLOCK).min(start + part.len()));
    if first < end {
        block[first - from..end - from].copy_from_slice(&part[first - start..end - start]);
    }
}

/// A digest as the only block behind the key's.
fn digest_block(state: &State) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    for (bytes, word) in block.as_chunks_mut::<4>().0.iter_mut().zip(state) {
        *bytes = word.to_be_bytes();
    }
    block[32] = 0x80;
    block[BLOCK - 8..].copy_from_slice(&bits(32));
    block
}

/// The length in bits of what was hashed, with the key's block.
const fn bits(length: usize) -> [u8; 8] {
    ((BLOCK + length) as u64 * 8).to_be_bytes()
}

fn shortened(digest: &[u8]) -> Bytes {
    let mut tag = [0; TAG_LENGTH];
    tag.iter_mut().zip(digest).for_each(|(to, from)| *to = *from);
    tag
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// In every way that this processor can; RFC 4231's vectors are the library's own.
        #[test]
        fn tags_of_many_are_those_of_each(
            key: [u8; 32],
            front in 0..80usize,
            length in 0..400usize,
            count in 0..=LANES,
            odd in any::<prop::sample::Index>(),
            bytes in prop::collection::vec(any::<u8>(), 480 + LANES),
        ) {
            for hashing in Hashing::ALL.into_iter().filter(|hashing| hashing.is_possible()) {
                let key = TagKey::new(&key, Some(hashing));
                let mut messages: Vec<Message<'_>> = (0..count)
                    .map(|number| {
                        let (front, back) = bytes[number..].split_at(front);
                        [front, &back[..length]]
                    })
                    .collect();
                // One is of another length.
                if count > 12 && length > 0 {
                    let place = odd.index(count);
                    messages[place][1] = &messages[place][1][..length - 1];
                }
                let expected: Vec<Bytes> = messages.iter().map(|message| key.tag(*message)).collect();
                prop_assert_eq!(&key.tags(&messages)[..count], &expected);
            }
        }
    }
}
