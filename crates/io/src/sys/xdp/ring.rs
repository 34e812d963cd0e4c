//! The rings that an AF_XDP socket shares with the kernel (Documentation/networking/af_xdp.rst).
//!
//! Each has one writer and one reader, of whom one is the kernel. Indices only rise and wrap around; an
//! entry belongs to the writer until the writer's index has passed it, and then to the reader until the
//! reader's has. An index that the kernel may not have written (too far ahead) is cut to what the ring
//! can hold, so nothing here reads or writes beyond it.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use super::memory::Mapping;

/// What a ring holds: plain data that the kernel writes and reads.
pub(super) trait Entry: Copy {}

impl Entry for u64 {}
impl Entry for libc::xdp_desc {}

/// Where the parts of a ring are in its mapping, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) producer: usize,
    pub(super) consumer: usize,
    pub(super) entries: usize,
    pub(super) flags: usize,
}

/// A ring in memory that is shared with the kernel.
#[derive(Debug)]
struct Ring<T> {
    mapping: Mapping,
    layout: Layout,
    /// A power of two.
    size: u32,
    kind: PhantomData<T>,
}

// SAFETY: the mapping is owned, and stays where it is; entries are plain data. The indices are atomic,
// and everything that touches entries takes the ring exclusively.
unsafe impl<T: Entry> Send for Ring<T> {}

impl<T: Entry> Ring<T> {
    /// A ring of `size` entries, a power of two, or `None` when the mapping has no room for it.
    fn new(mapping: Mapping, layout: Layout, size: u32) -> Option<Self> {
        let end = layout.entries.checked_add(size_of::<T>().checked_mul(size as usize)?)?;
        let aligned = layout.entries.is_multiple_of(align_of::<T>());
        let word = |at: usize| at.is_multiple_of(4) && at + 4 <= mapping.length();
        let words = word(layout.producer) && word(layout.consumer) && word(layout.flags);
        let fits = end <= mapping.length() && aligned && words && size.is_power_of_two();
        fits.then_some(Self { mapping, layout, size, kind: PhantomData })
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        // SAFETY: `new` has checked that an aligned word lies there, inside the mapping, which lives as
        // long as `self`; the kernel and this process access it atomically only.
        unsafe { AtomicU32::from_ptr(self.mapping.start().add(at).cast().as_ptr()) }
    }

    fn entry(&self, index: u32) -> NonNull<T> {
        let at = (index & (self.size - 1)) as usize;
        // SAFETY: `at` is less than `size`, and `new` has checked that so many aligned entries lie inside
        // the mapping.
        unsafe { self.mapping.start().add(self.layout.entries).cast::<T>().add(at) }
    }

    fn needs_wakeup(&self) -> bool {
        self.word(self.layout.flags).load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

/// A ring that the kernel reads.
#[derive(Debug)]
pub(super) struct Producer<T> {
    ring: Ring<T>,
    /// Our index, with what was pushed and not published yet.
    next: u32,
    /// Entries that are certainly free.
    free: u32,
}

impl<T: Entry> Producer<T> {
    pub(super) fn new(mapping: Mapping, layout: Layout, size: u32) -> Option<Self> {
        let ring = Ring::new(mapping, layout, size)?;
        let next = ring.word(layout.producer).load(Ordering::Relaxed);
        Some(Self { ring, next, free: 0 })
    }

    /// How many entries the kernel has not read yet, those that are not published included.
    pub(super) fn waiting(&self) -> u32 {
        let read = self.ring.word(self.ring.layout.consumer).load(Ordering::Acquire);
        self.next.wrapping_sub(read).min(self.ring.size)
    }

    /// Writes an entry; false, and nothing is written, when the ring is full. [`Self::publish`] makes
    /// it the kernel's.
    pub(super) fn push(&mut self, entry: T) -> bool {
        if self.free == 0 {
            self.free = self.ring.size - self.waiting();
            if self.free == 0 {
                return false;
            }
        }
        // SAFETY: the kernel has read this entry, as `waiting` found, and reads it again only after
        // the index has passed it; the ring is taken exclusively.
        unsafe { self.ring.entry(self.next).write(entry) };
        self.next = self.next.wrapping_add(1);
        self.free -= 1;
        true
    }

    /// Gives what was pushed to the kernel.
    pub(super) fn publish(&mut self) {
        self.ring.word(self.ring.layout.producer).store(self.next, Ordering::Release);
    }

    /// Whether the kernel has to be told of what was published.
    pub(super) fn needs_wakeup(&self) -> bool {
        self.ring.needs_wakeup()
    }
}

/// A ring that the kernel writes.
#[derive(Debug)]
pub(super) struct Consumer<T> {
    ring: Ring<T>,
    /// Our index, with what was popped and not released yet.
    next: u32,
    /// Entries that are certainly there.
    there: u32,
}

impl<T: Entry> Consumer<T> {
    pub(super) fn new(mapping: Mapping, layout: Layout, size: u32) -> Option<Self> {
        let ring = Ring::new(mapping, layout, size)?;
        let next = ring.word(layout.consumer).load(Ordering::Relaxed);
        Some(Self { ring, next, there: 0 })
    }

    /// The next entry; [`Self::release`] gives its place back.
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.there == 0 {
            let written = self.ring.word(self.ring.layout.producer).load(Ordering::Acquire);
            self.there = written.wrapping_sub(self.next).min(self.ring.size);
            if self.there == 0 {
                return None;
            }
        }
        // SAFETY: the kernel has written this entry, and writes it again only after the index has passed
        // it; any bytes are a value of an `Entry`.
        let entry = unsafe { self.ring.entry(self.next).read() };
        self.next = self.next.wrapping_add(1);
        self.there -= 1;
        Some(entry)
    }

    /// Gives the places of what was popped back to the kernel.
    pub(super) fn release(&mut self) {
        self.ring.word(self.ring.layout.consumer).store(self.next, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { producer: 0, consumer: 64, flags: 128, entries: 192 };

    /// Both ends of one ring, over the same memory, as the kernel and this process have it.
    fn both(size: u32, start: u32) -> (Producer<u64>, Consumer<u64>) {
        let memory = Mapping::anonymous(4096).unwrap();
        let ring = |mapping| Ring::<u64>::new(mapping, LAYOUT, size).unwrap();
        let first = ring(memory.same_memory());
        for at in [LAYOUT.producer, LAYOUT.consumer] {
            first.word(at).store(start, Ordering::Relaxed);
        }
        let writer = Producer::new(memory.same_memory(), LAYOUT, size).unwrap();
        (writer, Consumer::new(memory, LAYOUT, size).unwrap())
    }

    #[test]
    fn what_is_published_arrives_in_order_across_the_end_of_the_indices() {
        let (mut writer, mut reader) = both(8, u32::MAX - 3);
        let (mut wrote, mut read) = (0, 0);
        for _ in 0..5 {
            while writer.push(wrote) {
                wrote += 1;
            }
            assert_eq!(reader.pop(), None, "not published");
            writer.publish();
            for _ in 0..5 {
                assert_eq!(reader.pop(), Some(read));
                read += 1;
            }
            assert!(!writer.push(0), "not released");
            reader.release();
            while let Some(entry) = reader.pop() {
                assert_eq!(entry, read);
                read += 1;
            }
            reader.release();
            assert_eq!((wrote, writer.waiting()), (read, 0));
        }
        assert_eq!(wrote, 40);
    }

    #[test]
    fn an_index_that_cannot_be_is_cut_to_the_ring() {
        let (writer, mut reader) = both(4, 0);
        writer.ring.word(LAYOUT.producer).store(1 << 31, Ordering::Relaxed);
        assert_eq!((0..100).map_while(|_| reader.pop()).take(100).count(), 100);
        assert!(writer.waiting() <= 4);
    }

    #[test]
    fn a_ring_that_does_not_fit_its_mapping_is_refused() {
        let make = |size| Ring::<u64>::new(Mapping::anonymous(4096).unwrap(), LAYOUT, size).is_some();
        assert!(make(256));
        assert!(!make(512), "longer than the mapping");
        assert!(!make(100), "no power of two");
    }
}
