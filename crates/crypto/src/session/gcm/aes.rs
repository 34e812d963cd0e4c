//! AES-256 (FIPS 197), encryption of counters only, two blocks in each register.

use core::arch::x86_64::{
    __m128i, __m256i, _mm_aeskeygenassist_si128, _mm_setzero_si128, _mm_shuffle_epi32, _mm_slli_si128,
    _mm_xor_si128, _mm256_aesenc_epi128, _mm256_aesenclast_epi128, _mm256_broadcastsi128_si256,
    _mm256_xor_si256,
};

/// Keys of the rounds, and what is done before the first one.
pub(super) const ROUND_KEYS: usize = 15;

/// Expands the two halves of a key (section 5.2).
#[target_feature(enable = "vaes")]
pub(super) fn expand(halves: [__m128i; 2]) -> [__m128i; ROUND_KEYS] {
    let mut keys = [_mm_setzero_si128(); ROUND_KEYS];
    let [mut even, mut odd] = halves;
    (keys[0], keys[1]) = (even, odd);
    // The constant of a round is part of its instruction.
    macro_rules! even {
        ($at:literal, $constant:literal) => {
            even = next(even, _mm_shuffle_epi32::<0xff>(_mm_aeskeygenassist_si128::<$constant>(odd)));
            keys[$at] = even;
        };
    }
    macro_rules! both {
        ($at:literal, $constant:literal) => {
            even!($at, $constant);
            odd = next(odd, _mm_shuffle_epi32::<0xaa>(_mm_aeskeygenassist_si128::<0>(even)));
            keys[$at + 1] = odd;
        };
    }
    both!(2, 0x01);
    both!(4, 0x02);
    both!(6, 0x04);
    both!(8, 0x08);
    both!(10, 0x10);
    both!(12, 0x20);
    even!(14, 0x40);
    keys
}

/// Encrypts blocks side by side, and calls `beside` after each round but the last with its number:
/// for other work that the processor can do at the same time.
#[inline]
#[target_feature(enable = "vaes")]
pub(super) fn encrypt<const N: usize>(
    keys: &[__m128i; ROUND_KEYS],
    mut blocks: [__m256i; N],
    mut beside: impl FnMut(usize),
) -> [__m256i; N] {
    let [first, middle @ .., last] = keys;
    let key = _mm256_broadcastsi128_si256(*first);
    for block in &mut blocks {
        *block = _mm256_xor_si256(*block, key);
    }
    for (round, key) in middle.iter().enumerate() {
        let key = _mm256_broadcastsi128_si256(*key);
        for block in &mut blocks {
            *block = _mm256_aesenc_epi128(*block, key);
        }
        beside(round);
    }
    let key = _mm256_broadcastsi128_si256(*last);
    for block in &mut blocks {
        *block = _mm256_aesenclast_epi128(*block, key);
    }
    blocks
}

/// A round key from the one two before and what the last one adds to it.
#[inline]
#[target_feature(enable = "vaes")]
fn next(mut key: __m128i, added: __m128i) -> __m128i {
    key = _mm_xor_si128(key, _mm_slli_si128::<4>(key));
    key = _mm_xor_si128(key, _mm_slli_si128::<8>(key));
    _mm_xor_si128(key, added)
}
