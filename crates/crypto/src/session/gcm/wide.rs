//! AES-256-GCM (NIST SP 800-38D) on registers of 256 bits, for processors with VAES and VPCLMULQDQ.
//!
//! Sixteen blocks are encrypted side by side, and while the processor does that it hashes sixteen that were
//! encrypted before. What is left at the end, at most fifteen blocks, is encrypted together with the block
//! that hides the hash.
#![allow(
    unsafe_code,
    reason = "code for a processor's instructions is called where it was seen to have them"
)]

use core::arch::x86_64::{
    __m128i, __m256i, _mm_set_epi8, _mm_set_epi32, _mm_set_epi64x, _mm_setzero_si128, _mm_shuffle_epi8,
    _mm_xor_si128, _mm256_add_epi32, _mm256_and_si256, _mm256_blend_epi32, _mm256_broadcastsi128_si256,
    _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_set_epi32,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_storeu_si256, _mm256_xor_si256, _mm256_zextsi128_si256,
};

use zeroize::Zeroize;

use super::aes::{self, ROUND_KEYS};
use super::ghash::{BLOCKS, POWERS, Sum, of_blocks, powers_of};
use super::part;
use super::{KEY_LENGTH, NONCE_LENGTH};
use crate::hop::TAG_LENGTH;
use crate::session::processor;

/// Bytes of a block, of a register, and of what is done side by side.
pub(super) const BLOCK: usize = 16;
pub(super) const REGISTER: usize = 2 * BLOCK;
const CHUNK: usize = BLOCKS * BLOCK;
const REGISTERS: usize = CHUNK / REGISTER;

/// Registers of a cache line, of 64 bytes.
const LINE: usize = 4;
/// Powers, and behind them the keys of rounds.
const PARTS: usize = POWERS + ROUND_KEYS;

/// A key, expanded. It is zeroed when it is dropped.
///
/// It begins where a cache line does, in memory with some to spare: what the allocator cuts off to align it stays
/// between keys that come and go, and a router under a flood would grow by a fifth.
pub(in crate::session) struct Key {
    memory: Box<[__m128i; PARTS + LINE - 1]>,
    first: usize,
}

impl Key {
    /// Expands a key; `None` where the processor has not the instructions.
    pub(super) fn new(key: &[u8; KEY_LENGTH]) -> Option<Self> {
        // SAFETY: the processor was just seen to have them.
        processor::has_gcm_on_256_bits().then(|| unsafe { Self::expand(key) })
    }

    /// All of it.
    #[inline]
    pub(super) fn parts(&self) -> &[__m128i; PARTS] {
        match self.memory[self.first % LINE..].first_chunk() {
            Some(parts) => parts,
            None => unreachable!("there is that much to spare"),
        }
    }

    /// What so many blocks are multiplied with.
    #[inline]
    fn powers(&self, blocks: usize) -> &[[__m128i; 2]] {
        match self.parts().first_chunk() {
            Some(powers) => of_blocks(powers, blocks),
            None => unreachable!("they are a part of it"),
        }
    }

    #[inline]
    fn rounds(&self) -> &[__m128i; ROUND_KEYS] {
        match self.parts().last_chunk() {
            Some(rounds) => rounds,
            None => unreachable!("they are a part of it"),
        }
    }

    /// Encrypts in place, and gives the tag.
    #[inline]
    pub(super) fn seal(
        &self,
        nonce: &[u8; NONCE_LENGTH],
        associated: &[u8],
        payload: &mut [u8],
    ) -> [u8; TAG_LENGTH] {
        // SAFETY: there is a key, so this processor has the instructions.
        unsafe { self.run::<true>(nonce, associated, payload) }
    }

    /// Decrypts in place, and gives the tag that there should be.
    #[inline]
    pub(super) fn open(
        &self,
        nonce: &[u8; NONCE_LENGTH],
        associated: &[u8],
        payload: &mut [u8],
    ) -> [u8; TAG_LENGTH] {
        // SAFETY: there is a key, so this processor has the instructions.
        unsafe { self.run::<false>(nonce, associated, payload) }
    }

    #[target_feature(enable = "vaes,vpclmulqdq")]
    fn expand(key: &[u8; KEY_LENGTH]) -> Self {
        let mut rounds = aes::expand(halves(load(key)));
        let [zeros] = aes::encrypt(&rounds, [_mm256_setzero_si256()], |_| {});
        let [point, _] = halves(_mm256_shuffle_epi8(zeros, turned()));
        let mut powers = powers_of(part::number(point));
        let mut memory = Box::new([_mm_setzero_si128(); PARTS + LINE - 1]);
        let first = memory.as_ptr().addr().wrapping_neg() / BLOCK % LINE;
        let parts = powers.iter().chain(&rounds);
        memory.iter_mut().skip(first).zip(parts).for_each(|(place, part)| *place = *part);
        rounds.zeroize();
        powers.zeroize();
        Self { memory, first }
    }

    #[target_feature(enable = "vaes,vpclmulqdq")]
    fn run<const SEALS: bool>(
        &self,
        nonce: &[u8; NONCE_LENGTH],
        associated: &[u8],
        payload: &mut [u8],
    ) -> [u8; TAG_LENGTH] {
        debug_assert!((payload.len() as u64) < (1 << 36) - 32, "the standard's limit");
        let mut counters = Counters::new(nonce);
        let hiding = counters.first();
        let mut hash = _mm_setzero_si128();
        if !associated.is_empty() {
            hash = self.hash(associated);
        }
        let lengths = _mm_set_epi64x(associated.len() as i64 * 8, payload.len() as i64 * 8);

        let (chunks, rest) = payload.as_chunks_mut::<CHUNK>();
        let blocks = rest.len().div_ceil(BLOCK);
        let has_room = blocks < BLOCKS;
        let mut chunks = chunks.iter_mut();
        let mut sealed: &[[u8; REGISTER]] = &[];
        // Written so that there is one place to encrypt, which the compiler then puts here.
        let stream = loop {
            let chunk = chunks.next();
            let mut counters = counters.next();
            if chunk.is_none() && has_room {
                counters[REGISTERS - 1] = _mm256_blend_epi32::<0xf0>(counters[REGISTERS - 1], hiding);
            }
            let hashed = if SEALS { sealed } else { chunk.as_deref().map_or(&[][..], pieces) };
            let stream = self.stream::<SEALS>(counters, hashed, &mut hash);
            let Some(chunk) = chunk else { break stream };
            for (piece, stream) in chunk.as_chunks_mut().0.iter_mut().zip(stream) {
                store(piece, _mm256_xor_si256(load(piece), stream));
            }
            if SEALS {
                sealed = pieces(chunk);
            }
        };

        let mut sum = Sum::new();
        self.cross::<SEALS>(rest, &stream, blocks + usize::from(has_room), &mut hash, &mut sum);
        let mut hidden_by = stream[REGISTERS - 1];
        if !has_room {
            [hidden_by] = aes::encrypt(self.rounds(), [hiding], |_| {});
            hash = core::mem::replace(&mut sum, Sum::new()).reduced();
        }
        let lengths = _mm256_zextsi128_si256(_mm_xor_si128(lengths, hash));
        for powers in self.powers(1) {
            sum.add(lengths, *powers);
        }
        let hash = _mm_shuffle_epi8(sum.reduced(), halves(turned())[0]);
        part::number(_mm_xor_si128(hash, halves(hidden_by)[1])).to_le_bytes()
    }

    /// Encrypts counters, and meanwhile hashes what was sealed before.
    #[inline]
    #[target_feature(enable = "vaes,vpclmulqdq")]
    fn stream<const SEALS: bool>(
        &self,
        counters: [__m256i; REGISTERS],
        hashed: &[[u8; REGISTER]],
        hash: &mut __m128i,
    ) -> [__m256i; REGISTERS] {
        let turned = turned();
        let mut sum = Sum::new();
        let mut work = hashed.iter().zip(self.powers(BLOCKS));
        if let Some((piece, powers)) = work.next() {
            let before = _mm256_zextsi128_si256(*hash);
            sum.add(_mm256_xor_si256(_mm256_shuffle_epi8(load(piece), turned), before), *powers);
        }
        let stream = aes::encrypt(self.rounds(), counters, |_| {
            if let Some((piece, powers)) = work.next() {
                sum.add(_mm256_shuffle_epi8(load(piece), turned), *powers);
            }
        });
        if !hashed.is_empty() {
            *hash = sum.reduced();
        }
        stream
    }

    /// Encrypts or decrypts less than a chunk, and adds it to a sum that has so many blocks.
    #[inline]
    #[target_feature(enable = "vaes,vpclmulqdq")]
    fn cross<const SEALS: bool>(
        &self,
        bytes: &mut [u8],
        stream: &[__m256i],
        blocks: usize,
        hash: &mut __m128i,
        sum: &mut Sum,
    ) {
        let turned = turned();
        let mut add = |sealed: __m256i, powers: &[__m128i; 2]| {
            let before = _mm256_zextsi128_si256(core::mem::replace(hash, _mm_setzero_si128()));
            sum.add(_mm256_xor_si256(_mm256_shuffle_epi8(sealed, turned), before), *powers);
        };
        let mut with = stream.iter().zip(self.powers(blocks));
        let (whole, part) = bytes.as_chunks_mut::<REGISTER>();
        for (piece, (stream, powers)) in whole.iter_mut().zip(&mut with) {
            let before = load(piece);
            let after = _mm256_xor_si256(before, *stream);
            store(piece, after);
            add(if SEALS { after } else { before }, powers);
        }
        if let (1.., Some((stream, powers))) = (part.len(), with.next()) {
            let before = part::load(part);
            let after = _mm256_and_si256(_mm256_xor_si256(before, *stream), part::mask(part.len()));
            part::store(part, after);
            add(if SEALS { after } else { before }, powers);
        }
    }

    /// The hash of what is authenticated only.
    #[inline]
    #[target_feature(enable = "vaes,vpclmulqdq")]
    fn hash(&self, associated: &[u8]) -> __m128i {
        let mut hash = _mm_setzero_si128();
        for chunk in associated.chunks(CHUNK) {
            let mut sum = Sum::new();
            let powers = self.powers(chunk.len().div_ceil(BLOCK));
            for (part, powers) in chunk.chunks(REGISTER).zip(powers) {
                let before = _mm256_zextsi128_si256(core::mem::replace(&mut hash, _mm_setzero_si128()));
                let blocks = _mm256_shuffle_epi8(part::load(part), turned());
                sum.add(_mm256_xor_si256(blocks, before), *powers);
            }
            hash = sum.reduced();
        }
        hash
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.memory.zeroize();
    }
}

/// What is encrypted to be combined with payload: the nonce and the number of the block, in each half of a
/// register, with the bytes turned around.
struct Counters(__m256i);

impl Counters {
    #[inline]
    #[target_feature(enable = "vaes,vpclmulqdq")]
    fn new(nonce: &[u8; NONCE_LENGTH]) -> Self {
        let word = |at: usize| i32::from_be_bytes([nonce[at], nonce[at + 1], nonce[at + 2], nonce[at + 3]]);
        let (a, b, c) = (word(0), word(4), word(8));
        Self(_mm256_set_epi32(a, b, c, 3, a, b, c, 2))
    }

    /// The block before the first one of the payload, in both halves.
    #[inline]
    #[target_feature(enable = "vaes,vpclmulqdq")]
    fn first(&self) -> __m256i {
        let [first, _] = halves(self.0);
        let first = _mm_xor_si128(first, _mm_set_epi32(0, 0, 0, 2 ^ 1));
        _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(first), turned())
    }

    /// The next blocks, as they are to be encrypted.
    #[inline]
    #[target_feature(enable = "vaes,vpclmulqdq")]
    fn next(&mut self) -> [__m256i; REGISTERS] {
        let (turned, two) = (turned(), _mm256_set_epi32(0, 0, 0, 2, 0, 0, 0, 2));
        let mut blocks = [_mm256_setzero_si256(); REGISTERS];
        for block in &mut blocks {
            *block = _mm256_shuffle_epi8(self.0, turned);
            self.0 = _mm256_add_epi32(self.0, two);
        }
        blocks
    }
}

/// A chunk by registers.
const fn pieces(chunk: &[u8; CHUNK]) -> &[[u8; REGISTER]] {
    chunk.as_chunks().0
}

/// The order of bytes that turns blocks around.
#[inline]
#[target_feature(enable = "vaes")]
fn turned() -> __m256i {
    _mm256_broadcastsi128_si256(_mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))
}

#[inline]
#[target_feature(enable = "vaes")]
pub(super) fn halves(both: __m256i) -> [__m128i; 2] {
    [_mm256_castsi256_si128(both), _mm256_extracti128_si256::<1>(both)]
}

#[inline]
#[target_feature(enable = "vaes")]
pub(super) fn load(bytes: &[u8; REGISTER]) -> __m256i {
    // SAFETY: as many bytes are read as there are.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "vaes")]
fn store(bytes: &mut [u8; REGISTER], value: __m256i) {
    // SAFETY: as many bytes are written as there are.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), value) }
}
