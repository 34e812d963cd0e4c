//! Telling threads that wait in poll(2) to end.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// A descriptor that becomes readable once, and stays so; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<(EventFd, AtomicBool)>);

impl Stop {
    pub(crate) fn new() -> nix::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self(Arc::new((event, AtomicBool::new(false)))))
    }

    /// Makes it readable.
    pub(crate) fn tell(&self) {
        self.0.1.store(true, Ordering::Release);
        // It fails only when it is readable already.
        let _ = self.0.0.write(1);
    }

    /// Whether it was made readable.
    pub(crate) fn is_told(&self) -> bool {
        self.0.1.load(Ordering::Acquire)
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

/// Tells when it is dropped: however a thread ends, whoever waits for it hears of it.
pub(crate) struct TellOnDrop(pub(crate) Stop);

impl Drop for TellOnDrop {
    fn drop(&mut self) {
        self.0.tell();
    }
}
