//! A place before ordinary processes: a wire that waits for a processor adds to every delay.
#![allow(unsafe_code, reason = "the scheduler's system call takes a structure by pointer")]

use std::io;
use std::mem::zeroed;

/// The lowest real-time priority: before every ordinary process, after every other real-time one.
const PRIORITY: libc::c_int = 1;

/// Schedules the calling thread before all ordinary ones (sched(7), SCHED_RR).
///
/// # Errors
/// When the process may not, or the kernel has no time set aside for it.
pub(super) fn prefer_this_thread() -> io::Result<()> {
    // SAFETY: all-zero is a valid sched_param.
    let mut parameter: libc::sched_param = unsafe { zeroed() };
    parameter.sched_priority = PRIORITY;
    // SAFETY: the pointer is that of a live sched_param.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const parameter) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
