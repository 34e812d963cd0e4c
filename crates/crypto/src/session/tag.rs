//! The tag of a block: the first 16 bytes of HMAC-SHA256 (RFC 2104) over what is authenticated with it
//! and the block; of several blocks at once where the processor is faster that way.

use aws_lc_rs::{constant_time, hmac};
use zeroize::Zeroize;

use super::keys::{Forged, Sealing, Tag};
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

    /// Fills the last bytes of a block with the tag of what is before them.
    pub(super) fn append(&self, associated: &[u8], block: &mut [u8]) -> Option<()> {
        let (signed, place) = block.split_last_chunk_mut::<TAG_LENGTH>()?;
        *place = self.tag([associated, signed]);
        Some(())
    }

    /// Whether several tags at once are made faster than one after the other.
    pub(super) const fn has_lanes(&self) -> bool {
        self.lanes.is_some()
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

/// The tags of up to [`LANES`] messages, each under its key, in their order; beyond them, nothing that
/// means anything.
pub(super) fn tags(keys: &[&TagKey], messages: &[Message<'_>]) -> [Bytes; LANES] {
    if let Some((lanes, hashing)) = lanes_of(keys, messages) {
        return lanes_tags(hashing, &lanes[..messages.len()], messages);
    }
    let mut tags = [[0; TAG_LENGTH]; LANES];
    let all = tags.iter_mut().zip(keys).zip(messages);
    all.for_each(|((tag, key), message)| *tag = key.tag(*message));
    tags
}

/// [`TagKey::append`] for up to [`LANES`] blocks, each with its key and what is authenticated with it.
pub(super) fn append_all<'a, 'b: 'a>(
    keys: &[&TagKey],
    pieces: impl Iterator<Item = &'a mut Sealing<'b>>,
) -> Option<()> {
    let mut messages = [[&[][..]; 2]; LANES];
    let mut places: [&mut [u8]; LANES] = Default::default();
    let mut count = 0;
    for ((message, place), piece) in messages.iter_mut().zip(&mut places).zip(pieces) {
        let (signed, tag) = piece.block.split_last_chunk_mut::<TAG_LENGTH>()?;
        (*message, *place) = ([piece.associated, signed], tag);
        count += 1;
    }
    let tags = tags(keys, messages.get(..count)?);
    places.iter_mut().take(count).zip(tags).for_each(|(place, tag)| place.copy_from_slice(&tag));
    Some(())
}

/// What is known of the tags of up to [`LANES`] blocks: nothing, where they are not verified faster at
/// once. A block comes with what is authenticated with it.
pub(super) fn verify_all<'a>(keys: &[&TagKey], blocks: impl Iterator<Item = Message<'a>>) -> [Tag; LANES] {
    let mut known = [Tag::Unknown; LANES];
    let mut messages = [[&[][..]; 2]; LANES];
    let mut found = [&[0; TAG_LENGTH]; LANES];
    let mut count = 0;
    for ((message, found), [associated, block]) in messages.iter_mut().zip(&mut found).zip(blocks) {
        let Some((signed, tag)) = block.split_last_chunk() else { return known };
        (*message, *found) = ([associated, signed], tag);
        count += 1;
    }
    let Some((lanes, hashing)) = lanes_of(keys, &messages[..count]) else { return known };
    let expected = lanes_tags(hashing, &lanes[..count], &messages[..count]);
    for ((known, expected), found) in known.iter_mut().zip(expected).zip(found).take(count) {
        let equal = constant_time::verify_slices_are_equal(&expected, found).is_ok();
        *known = if equal { Tag::Right } else { Tag::Wrong };
    }
    known
}

/// What messages under these keys begin with, if hashing them at once is worth it.
fn lanes_of<'a>(keys: &[&'a TagKey], messages: &[Message<'_>]) -> Option<([&'a Lanes; LANES], Hashing)> {
    let first = keys.first()?.lanes.as_ref()?;
    let mut lanes = [first; LANES];
    for (lane, key) in lanes.iter_mut().zip(keys) {
        *lane = key.lanes.as_ref().filter(|lanes| lanes.hashing == first.hashing)?;
    }
    let blocks = || messages.iter().map(|message| blocks_of(length_of(message)));
    let worth_it = keys.len() == messages.len()
        && match first.hashing {
            Hashing::Pairs => messages.len() > 1,
            // Lanes that have nothing to do cost as much as others.
            Hashing::Bits256 | Hashing::Bits512 => {
                blocks().sum::<usize>() * 2 > blocks().max().unwrap_or(0) * LANES
            }
        };
    worth_it.then_some((lanes, first.hashing))
}

fn length_of([front, back]: &Message<'_>) -> usize {
    front.len() + back.len()
}

/// How many blocks a message has, behind that of the key: itself, a mark, and its length.
const fn blocks_of(length: usize) -> usize {
    (length + 1 + 8).div_ceil(BLOCK)
}

/// The tags of messages of any lengths; those of lanes without a message mean nothing.
fn lanes_tags(hashing: Hashing, keys: &[&Lanes], messages: &[Message<'_>]) -> [Bytes; LANES] {
    let mut lengths = [0; LANES];
    lengths.iter_mut().zip(messages).for_each(|(length, message)| *length = length_of(message));
    let mut counts = lengths.map(blocks_of);
    counts[messages.len()..].fill(0);
    let mut states = starting(keys, |lanes| &lanes.inner);
    let mut hashes = [State::default(); LANES];
    let mut blocks = [[0; BLOCK]; LANES];
    for number in 0..counts.iter().copied().max().unwrap_or(0) {
        // The last one that goes on; shorter ones among them idle.
        let active = counts.iter().rposition(|&count| count > number).map_or(0, |last| last + 1);
        for (lane, message) in messages.iter().enumerate().take(active) {
            if counts[lane] > number {
                fill(&mut blocks[lane], message, number * BLOCK, lengths[lane]);
            }
        }
        states.take(hashing, &blocks, active);
        for lane in 0..active {
            if counts[lane] == number + 1 {
                hashes[lane] = states.lane(lane);
            }
        }
    }
    blocks.iter_mut().zip(&hashes).for_each(|(block, hash)| *block = digest_block(hash));
    let mut states = starting(keys, |lanes| &lanes.outer);
    states.take(hashing, &blocks, messages.len());
    core::array::from_fn(|lane| {
        let mut tag = [0; TAG_LENGTH];
        for (bytes, word) in tag.as_chunks_mut::<4>().0.iter_mut().zip(states.lane(lane)) {
            *bytes = word.to_be_bytes();
        }
        tag
    })
}

/// What each lane's key makes of it at the start.
fn starting(keys: &[&Lanes], of: impl Fn(&Lanes) -> &State) -> States {
    let mut states = States::all(&State::default());
    keys.iter().enumerate().for_each(|(lane, key)| states.set(lane, of(key)));
    states
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
            secrets in prop::collection::vec(any::<[u8; 32]>(), 1..4),
            fronts in prop::collection::vec(0..80usize, LANES),
            alike in any::<bool>(),
            lengths in prop::collection::vec(0..400usize, LANES),
            count in 0..=LANES,
            wrong in any::<prop::sample::Index>(),
            bytes in prop::collection::vec(any::<u8>(), 480 + LANES),
        ) {
            for hashing in Hashing::ALL.into_iter().filter(|hashing| hashing.is_possible()) {
                let several: Vec<_> = secrets.iter().map(|key| TagKey::new(key, Some(hashing))).collect();
                let keys: Vec<&TagKey> = several.iter().cycle().take(count).collect();
                let messages: Vec<Message<'_>> = (0..count)
                    .map(|number| {
                        let place = if alike { 0 } else { number };
                        let (front, back) = bytes[number..].split_at(fronts[place]);
                        [front, &back[..lengths[place]]]
                    })
                    .collect();
                let each: Vec<Bytes> =
                    keys.iter().zip(&messages).map(|(key, message)| key.tag(*message)).collect();
                prop_assert_eq!(&tags(&keys, &messages)[..count], &each);
                let mut blocks: Vec<_> =
                    messages.iter().zip(&each).map(|([_, back], tag)| [*back, &tag[..]].concat()).collect();
                if count > 0 {
                    blocks[wrong.index(count)][lengths[0] % 16] ^= 1;
                }
                let with: Vec<Message<'_>> =
                    messages.iter().zip(&blocks).map(|([front, _], block)| [*front, &block[..]]).collect();
                for (number, tag) in verify_all(&keys, with.iter().copied()).into_iter().take(count).enumerate() {
                    let right = number != wrong.index(count);
                    prop_assert!(tag == Tag::Unknown || right == (tag == Tag::Right));
                }
            }
        }
    }
}
