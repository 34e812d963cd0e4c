//! Asking for memory before it is needed.
#![allow(unsafe_code, reason = "the compiler takes the hint for something that could fail")]

/// Bytes of a cache line.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Has all of a value brought into the cache. Nothing waits for it.
#[inline]
pub(super) fn bring<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    for offset in (0..size_of::<T>()).step_by(LINE) {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = core::ptr::from_ref(value).cast::<i8>().wrapping_add(offset);
        // SAFETY: a hint reads nothing and cannot fail, whatever the address is; this one is inside of
        // `value`.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}
