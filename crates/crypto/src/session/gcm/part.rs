//! What is left of a packet and does not fill a register: less than two blocks, in few steps, since calling
//! for a copy would take longer than encrypting it.

use core::arch::x86_64::{
    __m128i, __m256i, _mm_cvtsi128_si64, _mm_extract_epi64, _mm_set_epi64x, _mm256_set_m128i,
    _mm256_setzero_si256,
};

use super::wide::{self, BLOCK, REGISTER};

/// What fits a register, with zeros behind it.
#[inline]
#[target_feature(enable = "vaes")]
pub(super) fn load(bytes: &[u8]) -> __m256i {
    let (first, second) = bytes.split_at(bytes.len().min(BLOCK));
    _mm256_set_m128i(block(read(second)), block(read(first)))
}

/// Writes as many bytes of a register as there are.
#[inline]
#[target_feature(enable = "vaes")]
pub(super) fn store(bytes: &mut [u8], value: __m256i) {
    let (first, second) = bytes.split_at_mut(bytes.len().min(BLOCK));
    let [low, high] = wide::halves(value);
    write(first, number(low));
    write(second, number(high));
}

/// What leaves so many bytes of a register and makes the others zero.
#[inline]
#[target_feature(enable = "vaes")]
pub(super) fn mask(bytes: usize) -> __m256i {
    const ONES_THEN_ZEROS: [u8; 2 * REGISTER] = {
        let mut both = [0; 2 * REGISTER];
        let mut at = 0;
        while at < REGISTER {
            both[at] = u8::MAX;
            at += 1;
        }
        both
    };
    let mask = ONES_THEN_ZEROS[REGISTER - bytes.min(REGISTER)..].first_chunk();
    if let Some(mask) = mask { wide::load(mask) } else { _mm256_setzero_si256() }
}

/// A block as a number, its first byte lowest.
#[inline]
#[target_feature(enable = "vaes")]
pub(super) fn number(block: __m128i) -> u128 {
    let (low, high) = (_mm_cvtsi128_si64(block), _mm_extract_epi64::<1>(block));
    u128::from(high as u64) << 64 | u128::from(low as u64)
}

#[inline]
#[target_feature(enable = "vaes")]
fn block(number: u128) -> __m128i {
    _mm_set_epi64x((number >> 64) as i64, number as i64)
}

/// At most 16 bytes, with zeros behind them.
#[inline]
fn read(bytes: &[u8]) -> u128 {
    let length = bytes.len();
    // Both ends, which overlap or meet.
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let (first, last) = (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
        return u128::from(first) | u128::from(last) << (8 * (length - 8));
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return u128::from(first) | u128::from(last) << (8 * (length - 4));
    }
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// Writes as many bytes as there are, at most 16.
#[inline]
fn write(bytes: &mut [u8], number: u128) {
    let length = bytes.len();
    if let Some(first) = bytes.first_chunk_mut() {
        *first = (number as u64).to_le_bytes();
        if let Some(last) = bytes.last_chunk_mut() {
            *last = ((number >> (8 * (length - 8))) as u64).to_le_bytes();
        }
    } else if let Some(first) = bytes.first_chunk_mut() {
        *first = (number as u32).to_le_bytes();
        if let Some(last) = bytes.last_chunk_mut() {
            *last = ((number >> (8 * (length - 4))) as u32).to_le_bytes();
        }
    } else {
        bytes.iter_mut().zip(number.to_le_bytes()).for_each(|(place, byte)| *place = byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_is_read_and_written_as_a_number() {
        let number = 0x1f1e_1d1c_1b1a_1918_1716_1514_1312_1110;
        let bytes: [u8; 16] = core::array::from_fn(|at| 0x10 + at as u8);
        for length in 0..=16 {
            let mut expected = [0; 16];
            expected[..length].copy_from_slice(&bytes[..length]);
            assert_eq!(read(&bytes[..length]), u128::from_le_bytes(expected));
            let mut written = [0; 18];
            write(&mut written[1..=length], number);
            assert_eq!(written[1..=length], bytes[..length]);
            assert_eq!((written[0], written[length + 1]), (0, 0));
        }
    }
}
