//! epoll, timerfd and eventfd: waiting for packets, for the kernel's reports, for a moment and for other threads.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::check;
use super::shared::kernel_time;

/// How many descriptors one wait reports; the others are reported by the next.
const EVENTS: usize = 64;

/// What the timer is reported as; nobody else may choose it.
const ALARM: u64 = u64::MAX;
/// How much too late a wait may end, in nanoseconds: as much as the kernel takes for itself with others.
const SLACK: u64 = 50_000;

/// A set of descriptors that are waited for together, each under a number of the caller's choice.
/// Clones are the same set.
#[derive(Clone, Debug)]
pub(crate) struct Poller {
    epoll: Arc<OwnedFd>,
    alarm: Arc<Alarm>,
}

/// A timer that is set beforehand. To give each wait a timeout of its own would have the kernel set the
/// processor's timer and take it back for every packet that wakes a worker, which costs a virtual machine
/// microseconds; what is due seldom changes in between.
#[derive(Debug)]
struct Alarm {
    timer: OwnedFd,
    /// When it will ring, by the kernel's clock in nanoseconds; zero for never.
    at: AtomicU64,
}

impl Alarm {
    fn new() -> io::Result<Self> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: no memory is passed.
        let fd = check(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
        // SAFETY: the kernel has just returned this descriptor; nobody else owns it.
        Ok(Self { timer: unsafe { OwnedFd::from_raw_fd(fd) }, at: AtomicU64::new(0) })
    }

    /// Makes sure that it rings when `timeout` has passed. It may ring before.
    fn ring_after(&self, timeout: Duration) -> io::Result<()> {
        let after = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX);
        let wanted = kernel_time().saturating_add(after);
        let present = self.at.load(Ordering::Relaxed);
        if present != 0 && present <= wanted.saturating_add(SLACK) {
            return Ok(());
        }
        let value = timespec(Duration::from_nanos(wanted));
        let setting = libc::itimerspec { it_interval: timespec(Duration::ZERO), it_value: value };
        let (fd, flags) = (self.timer.as_raw_fd(), libc::TFD_TIMER_ABSTIME);
        // SAFETY: `setting` is live for the call; what was set before is not asked for.
        check(unsafe { libc::timerfd_settime(fd, flags, &raw const setting, std::ptr::null_mut()) })?;
        self.at.store(wanted, Ordering::Relaxed);
        Ok(())
    }

    /// It has rung.
    fn rung(&self) {
        let mut count: u64 = 0;
        // SAFETY: eight bytes are written to `count`; that it has not rung is an error that means nothing.
        let _ = unsafe { libc::read(self.timer.as_raw_fd(), (&raw mut count).cast(), 8) };
        self.at.store(0, Ordering::Relaxed);
    }
}

impl Poller {
    /// An empty set.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: no memory is passed.
        let fd = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel has just returned this descriptor; nobody else owns it.
        let epoll = Arc::new(unsafe { OwnedFd::from_raw_fd(fd) });
        let poller = Self { epoll, alarm: Arc::new(Alarm::new()?) };
        poller.add(poller.alarm.timer.as_fd(), ALARM)?;
        Ok(poller)
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

    /// Waits until something is ready or `timeout` has passed, and calls `ready` with each token. It may
    /// return before, with nothing ready.
    pub(crate) fn wait(&self, timeout: Option<Duration>, mut ready: impl FnMut(u64)) -> io::Result<()> {
        let forever = timeout != Some(Duration::ZERO);
        if let Some(timeout) = timeout.filter(|_| forever) {
            self.alarm.ring_after(timeout)?;
        }
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
        // SAFETY: `events` has room for EVENTS entries.
        let result = unsafe {
            libc::epoll_wait(
                self.epoll.as_raw_fd(),
                events.as_mut_ptr(),
                EVENTS as libc::c_int,
                if forever { -1 } else { 0 },
            )
        };
        match check(result) {
            Ok(count) => {
                for event in events.iter().take(usize::try_from(count).unwrap_or(0)) {
                    match event.u64 {
                        ALARM => self.alarm.rung(),
                        token => ready(token),
                    }
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
        self.event.as_fd()
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "what waits is measured by the clock")]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_wait_ends_in_time_whatever_was_waited_for_before() {
        let poller = Poller::new().unwrap();
        // Timeouts that come earlier, later, and not at all, each waited for to its end.
        for millis in [40, 5, 20, 0, 5] {
            let timeout = Duration::from_millis(millis);
            let start = Instant::now();
            let mut waits = 0;
            while start.elapsed() < timeout || waits == 0 {
                poller.wait(Some(timeout.saturating_sub(start.elapsed())), |_| panic!("nothing")).unwrap();
                waits += 1;
            }
            assert!(waits <= 3, "{waits} for {millis} ms");
            assert!(start.elapsed() < timeout + Duration::from_secs(2));
        }
    }

    #[test]
    fn whoever_is_woken_hears_of_it_before_the_alarm() {
        let (poller, waker) = (Poller::new().unwrap(), Waker::new().unwrap());
        poller.add(waker.fd(), 7).unwrap();
        for _ in 0..3 {
            waker.wake();
            let mut seen = Vec::new();
            poller.wait(Some(Duration::from_secs(5)), |token| seen.push(token)).unwrap();
            assert_eq!(seen, [7]);
            waker.drain();
        }
    }
}
