//! The kernel's interfaces, one file each: every `unsafe` block of the project's packet I/O is here.
//!
//! The modules give the rest of the crate safe functions over file descriptors; they decide nothing.
#![allow(unsafe_code)] // System calls; the kernel's own structures can't be filled without.

pub(crate) mod bpf;
pub(crate) mod caps;
pub(crate) mod netlink;
pub(crate) mod packet;
pub(crate) mod poll;
pub(crate) mod process;
pub mod rights;
pub(crate) mod seccomp;
pub(crate) mod shared;
pub(crate) mod tun;
pub(crate) mod xdp;

use std::io;

/// Turns the result of a system call into a `Result`.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// [`check`] for calls that return a size.
pub(crate) fn check_size(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Whether this process runs as root.
#[cfg(test)]
pub(crate) fn is_root() -> bool {
    process::user() == 0
}

/// Moves the calling thread into a named network namespace (those of `ip netns`).
#[cfg(test)]
pub(crate) fn enter_namespace(name: &str) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let file = std::fs::File::open(format!("/run/netns/{name}"))?;
    // SAFETY: the descriptor is open for the length of the call, and no memory is passed.
    check(unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}

/// Keeps the calling thread on the first CPU.
#[cfg(test)]
pub(crate) fn stay_on_this_cpu() -> io::Result<()> {
    let first: u64 = 1;
    // SAFETY: a set of 64 CPUs, live for the call.
    check(unsafe { libc::sched_setaffinity(0, size_of::<u64>(), (&raw const first).cast()) }).map(drop)
}
