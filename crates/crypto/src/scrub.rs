//! Overwriting what computing with secrets leaves on the stack.
//!
//! Keys are zeroed where they are kept. On the way there they are values that functions return and pass
//! on, and moving a value leaves its bytes behind. Whoever calls deep into this crate calls
//! [`scrub_stack`] when it is back: what is below is dead then, and is overwritten.

use core::cell::Cell;
use core::hint::black_box;

/// How much is overwritten, in bytes: deeper than anything that handles keys.
const DEPTH: usize = 64 * 1024;

thread_local! {
    /// Whether keys were made or dropped on this thread since the last time.
    static USED: Cell<bool> = const { Cell::new(false) };
}

/// Takes note that secrets were on the stack.
pub(crate) fn note() {
    USED.set(true);
}

/// Overwrites the stack below its caller, if keys were made or dropped on this thread since the last
/// time.
#[inline]
pub fn scrub_stack() {
    if USED.replace(false) {
        overwrite();
    }
}

#[cold]
#[inline(never)]
fn overwrite() {
    let mut below = [0u8; DEPTH];
    black_box(&mut below);
}
