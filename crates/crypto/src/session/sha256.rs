//! SHA-256 (FIPS 180-4) of sixteen messages at once, one in each lane.
//!
//! For vectors it is written once, in plain Rust, and compiled for the registers there are: each operation
//! is one on sixteen numbers, which the compiler makes one or two instructions of. With instructions for
//! SHA-256, lanes go in pairs.
#![allow(
    unsafe_code,
    reason = "code for a processor's instructions is called where it was seen to have them"
)]

use super::processor::Hashing;

/// Messages at once.
pub(super) const LANES: usize = 16;
/// Bytes of a block.
pub(super) const BLOCK: usize = 64;

/// A number of each lane.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Lanes([u32; LANES]);

/// What a hash is after some blocks.
pub(super) type State = [u32; 8];

/// What all lanes' hashes are after some blocks.
#[derive(Clone)]
pub(super) struct States([Lanes; 8]);

/// A state before the first block.
pub(super) const START: State =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

const ROUNDS: [u32; 64] = [
    0x428a_2f98,
    0x7137_4491,
    0xb5c0_fbcf,
    0xe9b5_dba5,
    0x3956_c25b,
    0x59f1_11f1,
    0x923f_82a4,
    0xab1c_5ed5,
    0xd807_aa98,
    0x1283_5b01,
    0x2431_85be,
    0x550c_7dc3,
    0x72be_5d74,
    0x80de_b1fe,
    0x9bdc_06a7,
    0xc19b_f174,
    0xe49b_69c1,
    0xefbe_4786,
    0x0fc1_9dc6,
    0x240c_a1cc,
    0x2de9_2c6f,
    0x4a74_84aa,
    0x5cb0_a9dc,
    0x76f9_88da,
    0x983e_5152,
    0xa831_c66d,
    0xb003_27c8,
    0xbf59_7fc7,
    0xc6e0_0bf3,
    0xd5a7_9147,
    0x06ca_6351,
    0x1429_2967,
    0x27b7_0a85,
    0x2e1b_2138,
    0x4d2c_6dfc,
    0x5338_0d13,
    0x650a_7354,
    0x766a_0abb,
    0x81c2_c92e,
    0x9272_2c85,
    0xa2bf_e8a1,
    0xa81a_664b,
    0xc24b_8b70,
    0xc76c_51a3,
    0xd192_e819,
    0xd699_0624,
    0xf40e_3585,
    0x106a_a070,
    0x19a4_c116,
    0x1e37_6c08,
    0x2748_774c,
    0x34b0_bcb5,
    0x391c_0cb3,
    0x4ed8_aa4a,
    0x5b9c_ca4f,
    0x682e_6ff3,
    0x748f_82ee,
    0x78a5_636f,
    0x84c8_7814,
    0x8cc7_0208,
    0x90be_fffa,
    0xa450_6ceb,
    0xbef9_a3f7,
    0xc671_78f2,
];

impl Lanes {
    #[inline(always)]
    fn of(mut self, change: impl Fn(u32) -> u32) -> Self {
        self.0.iter_mut().for_each(|value| *value = change(*value));
        self
    }

    #[inline(always)]
    fn with(mut self, other: Self, join: impl Fn(u32, u32) -> u32) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(value, other)| *value = join(*value, other));
        self
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self.with(other, u32::wrapping_add)
    }
}

impl States {
    /// The same state in every lane.
    pub(super) fn all(state: &State) -> Self {
        Self(state.map(|word| Lanes([word; LANES])))
    }

    /// Gives a lane another state.
    pub(super) fn set(&mut self, lane: usize, state: &State) {
        self.0.iter_mut().zip(state).for_each(|(words, word)| words.0[lane] = *word);
    }

    /// One lane's state.
    pub(super) fn lane(&self, lane: usize) -> State {
        self.0.map(|words| words.0[lane])
    }

    /// Takes in one block of each of the first `lanes` lanes at least; what the states of the others are
    /// afterwards is not said.
    #[inline]
    pub(super) fn take(&mut self, hashing: Hashing, blocks: &[[u8; BLOCK]; LANES], lanes: usize) {
        debug_assert!(hashing.is_possible());
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Processor` has seen that this processor can do what it says in `hashing`.
        unsafe {
            match hashing {
                Hashing::Pairs => pairs::take(self, blocks, lanes),
                Hashing::Bits256 => on_256_bits(self, blocks),
                Hashing::Bits512 => on_512_bits(self, blocks),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        compress(self, blocks);
        let _ = lanes;
    }
}

/// One message's state after one more block.
pub(super) fn take_one(state: &State, block: &[u8; BLOCK]) -> State {
    let mut states = States::all(state);
    compress(&mut states, &[*block; LANES]);
    states.lane(0)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn on_256_bits(states: &mut States, blocks: &[[u8; BLOCK]; LANES]) {
    compress(states, blocks);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn on_512_bits(states: &mut States, blocks: &[[u8; BLOCK]; LANES]) {
    compress(states, blocks);
}

/// FIPS 180-4, section 6.2.2, with the schedule made on the way.
#[inline(always)]
fn compress(states: &mut States, blocks: &[[u8; BLOCK]; LANES]) {
    let mut schedule = [Lanes([0; LANES]); 16];
    for (lane, block) in blocks.iter().enumerate() {
        for (words, bytes) in schedule.iter_mut().zip(block.as_chunks::<4>().0) {
            words.0[lane] = u32::from_be_bytes(*bytes);
        }
    }
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = states.0;
    for (round, constant) in ROUNDS.into_iter().enumerate() {
        let at = |back: usize| (round + 16 - back) % 16;
        if round >= 16 {
            let (early, late) = (schedule[at(15)], schedule[at(2)]);
            let early = early.of(|w| w.rotate_right(7) ^ w.rotate_right(18) ^ (w >> 3));
            let late = late.of(|w| w.rotate_right(17) ^ w.rotate_right(19) ^ (w >> 10));
            schedule[at(16)] = schedule[at(16)].plus(early).plus(schedule[at(7)]).plus(late);
        }
        let sum = e.of(|w| w.rotate_right(6) ^ w.rotate_right(11) ^ w.rotate_right(25));
        let choice = g.with(e.with(f.with(g, |f, g| f ^ g), |e, both| e & both), |g, chosen| g ^ chosen);
        let first = h.plus(sum).plus(choice).plus(schedule[at(16)]).of(|w| w.wrapping_add(constant));
        let sum = a.of(|w| w.rotate_right(2) ^ w.rotate_right(13) ^ w.rotate_right(22));
        let either = a.with(b, |a, b| a | b).with(c, |either, c| either & c);
        let majority = either.with(a.with(b, |a, b| a & b), |either, both| either | both);
        let second = sum.plus(majority);
        (h, g, f, e) = (g, f, e, d.plus(first));
        (d, c, b, a) = (c, b, a, first.plus(second));
    }
    for (state, words) in states.0.iter_mut().zip([a, b, c, d, e, f, g, h]) {
        *state = state.plus(words);
    }
}

#[cfg(target_arch = "x86_64")]
mod pairs {
    use core::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi32, _mm_set_epi64x,
        _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8,
        _mm_shuffle_epi32,
    };

    use super::{BLOCK, LANES, ROUNDS, States};

    /// Lanes that are worked on together.
    const PAIR: usize = 2;

    /// Half a state of each lane: A, B, E and F, or C, D, G and H, the first one highest.
    type Half = [__m128i; PAIR];

    /// Takes in one block of each of the first lanes.
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    pub(super) fn take(states: &mut States, blocks: &[[u8; BLOCK]; LANES], lanes: usize) {
        for first in (0..lanes.min(LANES)).step_by(PAIR) {
            let lanes = [first, first + 1];
            let (abef, cdgh) = (half(states, lanes, [0, 1, 4, 5]), half(states, lanes, [2, 3, 6, 7]));
            let (abef, cdgh) = compress(abef, cdgh, lanes.map(|lane| &blocks[lane]));
            add(states, lanes, [0, 1, 4, 5], abef);
            add(states, lanes, [2, 3, 6, 7], cdgh);
        }
    }

    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn half(states: &States, lanes: [usize; PAIR], words: [usize; 4]) -> Half {
        let mut half = [_mm_set_epi64x(0, 0); PAIR];
        for (half, lane) in half.iter_mut().zip(lanes) {
            let [a, b, c, d] = words.map(|word| states.0[word].0[lane] as i32);
            *half = _mm_set_epi32(a, b, c, d);
        }
        half
    }

    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn add(states: &mut States, lanes: [usize; PAIR], words: [usize; 4], halves: Half) {
        for (half, lane) in halves.into_iter().zip(lanes) {
            let values = [
                _mm_extract_epi32::<3>(half),
                _mm_extract_epi32::<2>(half),
                _mm_extract_epi32::<1>(half),
                _mm_extract_epi32::<0>(half),
            ];
            for (word, value) in words.into_iter().zip(values) {
                let sum = &mut states.0[word].0[lane];
                *sum = sum.wrapping_add(value as u32);
            }
        }
    }

    /// The states after all rounds, not added to what they were before.
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn compress(mut abef: Half, mut cdgh: Half, blocks: [&[u8; BLOCK]; PAIR]) -> (Half, Half) {
        // The last sixteen words of the schedule of each lane, four in each register.
        let mut words = [[_mm_set_epi64x(0, 0); PAIR]; 4];
        for group in 0..4 {
            for four in 0..4 {
                let constants = load(&ROUNDS_AS_BYTES[4 * group + four]);
                for lane in 0..PAIR {
                    let next = if group == 0 {
                        _mm_shuffle_epi8(load(&blocks[lane].as_chunks().0[four]), order())
                    } else {
                        let [w0, w1, w2, w3] = [0, 1, 2, 3].map(|back| words[(four + back) % 4][lane]);
                        let early = _mm_sha256msg1_epu32(w0, w1);
                        let middle = _mm_alignr_epi8::<4>(w3, w2);
                        _mm_sha256msg2_epu32(_mm_add_epi32(early, middle), w3)
                    };
                    words[four][lane] = next;
                    let sum = _mm_add_epi32(next, constants);
                    cdgh[lane] = _mm_sha256rnds2_epu32(cdgh[lane], abef[lane], sum);
                    let sum = _mm_shuffle_epi32::<0x0e>(sum);
                    abef[lane] = _mm_sha256rnds2_epu32(abef[lane], cdgh[lane], sum);
                }
            }
        }
        (abef, cdgh)
    }

    /// Sixteen bytes, the first one lowest.
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn load(bytes: &[u8; 16]) -> __m128i {
        let both = u128::from_le_bytes(*bytes);
        _mm_set_epi64x((both >> 64) as i64, both as i64)
    }

    /// Turns the bytes of each word around.
    #[inline]
    #[target_feature(enable = "sha,sse4.1,ssse3")]
    fn order() -> __m128i {
        _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203)
    }

    /// [`ROUNDS`], four in each row, as they are in a register.
    const ROUNDS_AS_BYTES: [[u8; 16]; 16] = {
        let mut rows = [[0; 16]; 16];
        let mut at = 0;
        while at < 256 {
            rows[at / 16][at % 16] = ROUNDS[at / 4].to_le_bytes()[at % 4];
            at += 1;
        }
        rows
    };
}
