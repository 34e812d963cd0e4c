//! epoll and eventfd: waiting for packets, for the kernel's reports and for other threads.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::check;

/// How many descriptors one wait reports; the others are reported by the next.
const EVENTS: usize = 64;

/// A set of descriptors that are waited for together, each under a number of the caller's choice.
/// Clones are the same set.
#[derive(Clone, Debug)]
pub(crate) struct Poller {
    epoll: Arc<OwnedFd>,
}

impl Poller {
    /// An empty set.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no memory is passed.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel has just returned this descriptor; nobody else owns it.
        Ok(Self { epoll: Arc::new(unsafe { OwnedFd::from_raw_fd(fd) }) })
    }

    /// Reports `fd` as `token` while it can be read. It leaves the set when it is closed.
    pub(crate) fn add(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: token };
        // SAFETY: both descriptors are open, and `event` outlives the call.
        let result = unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &raw mut event)
        };
        check(result).map(drop)
    }

    /// Reports `fd` no longer; one that is not in the set is no error.
    pub(crate) fn remove(&self, fd: BorrowedFd<'_>) {
        // SAFETY: both descriptors are open, and no memory is passed. The only error that can come is
        // that the descriptor is not in the set.
        let _ = unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_DEL, fd.as_raw_fd(), std::ptr::null_mut())
        };
    }

    /// Waits until something is ready or `timeout` has passed, and calls `ready` with each token. An
    /// interrupted wait reports nothing.
    pub(crate) fn wait(&self, timeout: Option<Duration>, mut ready: impl FnMut(u64)) -> io::Result<()> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
        let spec = timeout.map(timespec);
        let spec = spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: `events` has room for EVENTS entries; `spec` is null or points to a live timespec;
        // a null signal mask is allowed.
        let result = unsafe {
            libc::epoll_pwait2(
                self.epoll.as_raw_fd(),
                events.as_mut_ptr(),
                EVENTS as libc::c_int,
                spec,
                std::ptr::null(),
            )
        };
        match check(result) {
            Ok(count) => {
                for event in events.iter().take(usize::try_from(count).unwrap_or(0)) {
                    ready(event.u64);
                }
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(duration.subsec_nanos()),
    }
}

/// Waits until `fd` can be written or `timeout` has passed; says whether it can.
pub(crate) fn writable(fd: RawFd, timeout: Duration) -> bool {
    let mut entry = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
    let millis = libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: `entry` is one pollfd and outlives the call.
    let result = unsafe { libc::poll(&raw mut entry, 1, millis) };
    result > 0 && entry.revents & libc::POLLOUT != 0
}

/// Ends the wait of the worker that owns a [`crate::Ports`], from any thread. Clones wake the same
/// worker; a wake-up is remembered until the worker waits.
#[derive(Clone, Debug)]
pub struct Waker {
    event: Arc<OwnedFd>,
}

impl Waker {
    /// Something to wake a worker with.
    ///
    /// # Errors
    /// When the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no memory is passed.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the kernel has just returned this descriptor; nobody else owns it.
        Ok(Self { event: Arc::new(unsafe { OwnedFd::from_raw_fd(fd) }) })
    }

    /// Wakes the worker.
    pub fn wake(&self) {
        let one: u64 = 1;
        // SAFETY: eight bytes are read from `one`. It can only fail when the counter is full, and
        // then the worker has been woken already.
        let _ = unsafe { libc::write(self.event.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    /// Forgets past wake-ups.
    pub(crate) fn drain(&self) {
        let mut count: u64 = 0;
        // SAFETY: eight bytes are written to `count`; an empty counter is an error that means nothing.
        let _ = unsafe { libc::read(self.event.as_raw_fd(), (&raw mut count).cast(), 8) };
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        use std::os::fd::AsFd;
        self.event.as_fd()
    }
}
