//! GHASH (NIST SP 800-38D, section 6.4): a polynomial of the blocks over GF(2^128), at a point that is
//! part of the key.
//!
//! Elements of the field have their bits turned around, as the standard writes them, so a product of two
//! numbers is one bit short; the point is multiplied by x beforehand to make up for it. Blocks are
//! multiplied two in each register with powers of the point, by Karatsuba's method, and only the sum of
//! the products is reduced.

use core::arch::x86_64::{
    __m128i, __m256i, _mm_clmulepi64_si128, _mm_set_epi64x, _mm_setzero_si128, _mm_shuffle_epi32,
    _mm_xor_si128, _mm256_castsi256_si128, _mm256_clmulepi64_epi128, _mm256_extracti128_si256,
    _mm256_set_m128i, _mm256_setzero_si256, _mm256_shuffle_epi32, _mm256_xor_si256,
};

/// Blocks whose products are reduced together, at most.
pub(super) const BLOCKS: usize = 16;

/// How many of [`powers_of`] there are.
pub(super) const POWERS: usize = BLOCKS + 1;

/// The powers of a point, the highest first, and a zero. The point is what the cipher makes of a block of
/// zeros, as a number.
#[target_feature(enable = "vpclmulqdq,avx2")]
pub(super) fn powers_of(point: u128) -> [__m128i; POWERS] {
    // By x; what falls out at the top comes back as the other terms of the polynomial.
    let fallen = (point >> 127) * POLYNOMIAL;
    let point = (point << 1) ^ fallen;
    let point = _mm_set_epi64x((point >> 64) as i64, point as i64);
    let (mut powers, mut power) = ([_mm_setzero_si128(); POWERS], point);
    for place in powers[..BLOCKS].iter_mut().rev() {
        *place = power;
        power = product(power, point);
    }
    powers
}

/// What so many blocks are multiplied with, by pairs; a last one without a partner has a zero.
#[inline]
pub(super) fn of_blocks(powers: &[__m128i; POWERS], blocks: usize) -> &[[__m128i; 2]] {
    powers[BLOCKS.saturating_sub(blocks)..].as_chunks().0
}

/// x^128 = x^127 + x^126 + x^121 + 1, with the bits turned around and the highest left out.
const POLYNOMIAL: u128 = 0xc200_0000_0000_0000_0000_0000_0000_0001;

/// A sum of products that was not reduced: its low, middle and high parts, two of each.
#[derive(Clone, Copy)]
pub(super) struct Sum {
    low: __m256i,
    middle: __m256i,
    high: __m256i,
}

impl Sum {
    #[inline]
    #[target_feature(enable = "vpclmulqdq,avx2")]
    pub(super) fn new() -> Self {
        let zero = _mm256_setzero_si256();
        Self { low: zero, middle: zero, high: zero }
    }

    /// Adds the products of two blocks and two powers.
    #[inline]
    #[target_feature(enable = "vpclmulqdq,avx2")]
    pub(super) fn add(&mut self, blocks: __m256i, powers: [__m128i; 2]) {
        let powers = _mm256_set_m128i(powers[1], powers[0]);
        self.low = _mm256_xor_si256(self.low, _mm256_clmulepi64_epi128::<0x00>(blocks, powers));
        self.high = _mm256_xor_si256(self.high, _mm256_clmulepi64_epi128::<0x11>(blocks, powers));
        let (blocks, powers) = (folded(blocks), folded(powers));
        self.middle = _mm256_xor_si256(self.middle, _mm256_clmulepi64_epi128::<0x00>(blocks, powers));
    }

    /// The sum as an element of the field.
    #[inline]
    #[target_feature(enable = "vpclmulqdq,avx2")]
    pub(super) fn reduced(self) -> __m128i {
        let (low, middle, high) = (joined(self.low), joined(self.middle), joined(self.high));
        reduce(low, _mm_xor_si128(middle, _mm_xor_si128(low, high)), high)
    }
}

/// The sum of both halves of a register.
#[inline]
#[target_feature(enable = "vpclmulqdq,avx2")]
fn joined(both: __m256i) -> __m128i {
    _mm_xor_si128(_mm256_castsi256_si128(both), _mm256_extracti128_si256::<1>(both))
}

/// The sum of both halves of each block, in its lower half.
#[inline]
#[target_feature(enable = "vpclmulqdq,avx2")]
fn folded(blocks: __m256i) -> __m256i {
    _mm256_xor_si256(blocks, _mm256_shuffle_epi32::<0x4e>(blocks))
}

#[target_feature(enable = "vpclmulqdq,avx2")]
fn product(a: __m128i, b: __m128i) -> __m128i {
    let (low, high) = (_mm_clmulepi64_si128::<0x00>(a, b), _mm_clmulepi64_si128::<0x11>(a, b));
    let middle = _mm_xor_si128(_mm_clmulepi64_si128::<0x01>(a, b), _mm_clmulepi64_si128::<0x10>(a, b));
    reduce(low, middle, high)
}

/// A product of 256 bits, the middle part still to be added to both others, modulo the polynomial: twice
/// the lowest 64 bits are made zero by adding a multiple of it.
#[inline]
#[target_feature(enable = "vpclmulqdq,avx2")]
fn reduce(low: __m128i, middle: __m128i, high: __m128i) -> __m128i {
    let polynomial = _mm_set_epi64x((POLYNOMIAL >> 64) as i64, 1);
    let step = |low: __m128i| {
        let swapped = _mm_shuffle_epi32::<0x4e>(low);
        _mm_xor_si128(swapped, _mm_clmulepi64_si128::<0x01>(polynomial, low))
    };
    let middle = _mm_xor_si128(middle, step(low));
    _mm_xor_si128(high, step(middle))
}
