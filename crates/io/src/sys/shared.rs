//! Array maps whose values this process and eBPF programs have in common (BPF_F_MMAPABLE, Linux 5.5).

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

use super::bpf::Map;

/// An array of values of `V` bytes, mapped into memory. Reading and writing costs no system call.
///
/// Programs and threads change values at any time, so all access is atomic.
#[derive(Debug)]
pub(crate) struct SharedArray<const V: usize> {
    map: Map<4, V>,
    memory: NonNull<u8>,
    entries: usize,
}

// SAFETY: the memory is that of the map, which is as good in one thread as in another, and it is only
// touched through atomics.
unsafe impl<const V: usize> Send for SharedArray<V> {}
// SAFETY: as above.
unsafe impl<const V: usize> Sync for SharedArray<V> {}

impl<const V: usize> SharedArray<V> {
    /// An array of so many values, all zero. `V` must be a multiple of eight.
    pub(crate) fn new(name: &str, entries: u32) -> io::Result<Self> {
        const { assert!(V.is_multiple_of(8)) };
        let map = Map::shared_array(name, entries)?;
        let entries = entries as usize;
        // SAFETY: a new mapping of the map, at an address of the kernel's choice.
        let memory = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                entries * V,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd(),
                0,
            )
        };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { map, memory, entries })
    }

    /// The descriptor, to be named in programs.
    pub(crate) fn fd(&self) -> i32 {
        self.map.fd()
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.entries
    }

    fn place(&self, index: u32, offset: usize, size: usize) -> NonNull<u8> {
        let index = index as usize;
        assert!(
            index < self.entries && offset.is_multiple_of(size) && offset + size <= V,
            "inside the array"
        );
        // SAFETY: the place is inside the mapping, as was just checked.
        unsafe { self.memory.add(index * V + offset) }
    }

    /// The two bytes at an even `offset` of a value.
    pub(crate) fn half(&self, index: u32, offset: usize) -> &AtomicU16 {
        let place = self.place(index, offset, 2);
        // SAFETY: it is aligned and inside the mapping, which lives as long as `self`, and every access
        // to it in this process is atomic.
        unsafe { AtomicU16::from_ptr(place.as_ptr().cast()) }
    }

    /// The four bytes at an `offset` of a value that is a multiple of four.
    pub(crate) fn word(&self, index: u32, offset: usize) -> &AtomicU32 {
        let place = self.place(index, offset, 4);
        // SAFETY: as in `half`.
        unsafe { AtomicU32::from_ptr(place.as_ptr().cast()) }
    }

    /// The eight bytes at an `offset` of a value that is a multiple of eight.
    pub(crate) fn double(&self, index: u32, offset: usize) -> &AtomicU64 {
        let place = self.place(index, offset, 8);
        // SAFETY: as in `half`.
        unsafe { AtomicU64::from_ptr(place.as_ptr().cast()) }
    }
}

impl<const V: usize> Drop for SharedArray<V> {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new`, and nothing borrowed from it outlives `self`.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), self.entries * V) };
    }
}

/// The clock that programs read (CLOCK_MONOTONIC), in nanoseconds.
pub(crate) fn kernel_time() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is live and writable for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}
