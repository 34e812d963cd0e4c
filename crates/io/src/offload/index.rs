//! From a tuple and a device to the slot of a flow: a table in memory that workers and programs share, so
//! that a worker enters and removes a flow without a system call. A short connection would pay four.
//!
//! The table has buckets of one cache line with eight places. A place holds a slot and half of the
//! tuple's hash, in one word of 64 bits that is written at once; the slot holds the whole tuple. Two tuples
//! with the same half of the hash never share a bucket, so a program compares one tuple at most. What
//! finds no place is refused, and stays with its worker.
//!
//! The hash begins with a secret: senders cannot choose tuples that meet in a bucket.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

use super::MapFds;
use super::layout::slot;
use crate::classifier::asm::{Alu, Assembler, Label, Reg, Size, When};
use crate::steering::key;
use crate::sys::shared::SharedArray;

/// So many that a bucket has two of its places taken on average when there is no slot left.
const FLOWS_A_BUCKET: u32 = 2;
const PLACES: usize = 8;
const BUCKET_BYTES: usize = PLACES * 8;
/// The key in words of 64 bits, without the last one of 32.
const DOUBLES: usize = key::SIZE / 8;
const _: () = assert!(key::SIZE == DOUBLES * 8 + 4);
/// An odd number whose bits look random.
const FACTOR: i32 = 0x9e37_79b1_u32 as i32;
/// What of the hash names the bucket; the lower half is kept in the place.
const BUCKET_SHIFT: u32 = 40;

type Key = [u8; key::SIZE];

/// The table.
#[derive(Debug)]
pub(super) struct Index {
    buckets: SharedArray<BUCKET_BYTES>,
    seed: u64,
    /// Which bits of a hash name a bucket.
    mask: u32,
}

impl Index {
    /// An empty table for so many flows, a power of two.
    pub(super) fn new(flows: u32) -> io::Result<Self> {
        debug_assert!(flows.is_power_of_two() && flows >= FLOWS_A_BUCKET);
        let buckets = flows / FLOWS_A_BUCKET;
        let seed = RandomState::new().hash_one(0);
        Ok(Self { buckets: SharedArray::new("fw_index", buckets)?, seed, mask: buckets - 1 })
    }

    /// What programs are made of: the map's descriptor, where hashes begin, and how many buckets there are.
    pub(super) fn parameters(&self) -> (i32, u64, u32) {
        (self.buckets.fd(), self.seed, self.mask + 1)
    }

    /// The bucket of a key, and what of its hash is kept there, which is not zero.
    fn place(&self, key: &Key) -> (u32, u32) {
        let mut hash = self.seed;
        let mut mix = |word: u64| {
            hash = (hash ^ word).wrapping_mul(i64::from(FACTOR) as u64);
            hash ^= hash >> 32;
        };
        let (doubles, rest) = key.as_chunks::<8>();
        doubles.iter().for_each(|double| mix(u64::from_ne_bytes(*double)));
        rest.as_chunks::<4>().0.iter().for_each(|word| mix(u64::from(u32::from_ne_bytes(*word))));
        ((hash >> BUCKET_SHIFT) as u32 & self.mask, hash as u32 | 1)
    }

    /// Enters a slot, in which the key stands already. Says whether there was a place for it.
    pub(super) fn insert(&self, key: &Key, slot: u32) -> bool {
        let (bucket, kept) = self.place(key);
        let places = || (0..PLACES).map(|place| self.buckets.double(bucket, place * 8));
        if places().any(|place| (place.load(Acquire) >> 32) as u32 == kept) {
            return false;
        }
        let entry = u64::from(kept) << 32 | u64::from(slot + 1);
        places().any(|place| place.compare_exchange(0, entry, AcqRel, Relaxed).is_ok())
    }

    /// Takes out what stands for a key, if it is this slot.
    pub(super) fn remove(&self, key: &Key, slot: u32) {
        let (bucket, kept) = self.place(key);
        let entry = u64::from(kept) << 32 | u64::from(slot + 1);
        for place in 0..PLACES {
            let _ = self.buckets.double(bucket, place * 8).compare_exchange(entry, 0, Release, Relaxed);
        }
    }
}

/// R7 = the slot of the flow whose key is on the stack at `at`, its number on the stack at `number`. Goes
/// on to `other` if there is none. Loses R0 to R5.
pub(super) fn find(asm: &mut Assembler, maps: MapFds, at: i16, number: i16, other: Label) {
    hash(asm, maps.seed, at);
    asm.alu_reg(Alu::Move, Reg::R7, Reg::R1);
    asm.move64(Reg::R2, u64::from(u32::MAX));
    asm.alu_reg(Alu::And, Reg::R7, Reg::R2);
    asm.alu(Alu::Or, Reg::R7, 1);
    asm.alu(Alu::ShiftRight, Reg::R1, BUCKET_SHIFT as i32);
    asm.alu(Alu::And, Reg::R1, (maps.buckets - 1) as i32);
    asm.store(Size::Word, Reg::R10, number, Reg::R1);
    asm.lookup(maps.index, number);
    asm.jump_if(Reg::R0, When::Equal, 0, other);
    let found = asm.label();
    for place in 0..PLACES {
        asm.load(Size::Word, Reg::R1, Reg::R0, (place * 8) as i16);
        asm.load(Size::Word, Reg::R2, Reg::R0, (place * 8 + 4) as i16);
        asm.jump_if_reg(Reg::R2, When::Equal, Reg::R7, found);
    }
    asm.jump(other);
    asm.place(found);
    // A place that was given up meanwhile leads to no slot, or to one with another key.
    asm.alu(Alu::Subtract, Reg::R1, 1);
    asm.store(Size::Word, Reg::R10, number, Reg::R1);
    asm.lookup(maps.slots, number);
    asm.jump_if(Reg::R0, When::Equal, 0, other);
    asm.alu_reg(Alu::Move, Reg::R7, Reg::R0);
    for word in 0..=DOUBLES {
        let size = if word < DOUBLES { Size::Double } else { Size::Word };
        asm.load(size, Reg::R1, Reg::R7, (slot::KEY + word * 8) as i16);
        asm.load(size, Reg::R2, Reg::R10, at + (word * 8) as i16);
        asm.jump_if_reg(Reg::R1, When::NotEqual, Reg::R2, other);
    }
}

/// R1 = the hash of the key on the stack at `at`.
fn hash(asm: &mut Assembler, seed: u64, at: i16) {
    asm.move64(Reg::R1, seed);
    for word in 0..=DOUBLES {
        let size = if word < DOUBLES { Size::Double } else { Size::Word };
        asm.load(size, Reg::R2, Reg::R10, at + (word * 8) as i16);
        asm.alu_reg(Alu::ExclusiveOr, Reg::R1, Reg::R2);
        asm.alu(Alu::Multiply, Reg::R1, FACTOR);
        asm.alu_reg(Alu::Move, Reg::R2, Reg::R1);
        asm.alu(Alu::ShiftRight, Reg::R2, 32);
        asm.alu_reg(Alu::ExclusiveOr, Reg::R1, Reg::R2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn key(random: &mut Random) -> Key {
        std::array::from_fn(|_| random.next() as u8)
    }

    #[test]
    fn a_key_is_entered_once_and_leaves_by_its_own_slot() {
        if !crate::sys::is_root() {
            return eprintln!("skipped: making the table needs root");
        }
        const FLOWS: u32 = 65_536;
        let index = Index::new(FLOWS).unwrap();
        let mut random = Random(0x1ade_0f5e_ed00);
        // As many as there are slots: a few find their bucket full.
        let keys: Vec<Key> = (0..FLOWS).map(|_| key(&mut random)).collect();
        let entered: Vec<bool> = (0..FLOWS).zip(&keys).map(|(slot, key)| index.insert(key, slot)).collect();
        assert!(entered.iter().filter(|entered| !**entered).count() < FLOWS as usize / 500);
        let there = (0..FLOWS).zip(&keys).zip(&entered).filter(|(_, entered)| **entered);
        for ((slot, key), _) in there.take(100) {
            assert!(!index.insert(key, slot + 1), "it is there");
            index.remove(key, slot + 1);
            assert!(!index.insert(key, slot), "another slot is none of its business");
            index.remove(key, slot);
            assert!(index.insert(key, slot));
        }
        (0..FLOWS).zip(&keys).for_each(|(slot, key)| index.remove(key, slot));
        let left = (0..=index.mask).flat_map(|bucket| (0..PLACES).map(move |place| (bucket, place)));
        let left = left.filter(|&(bucket, place)| index.buckets.double(bucket, place * 8).load(Relaxed) != 0);
        assert_eq!(left.count(), 0);
    }
}
