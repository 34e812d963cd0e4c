//! setresuid(2), prctl(2), setrlimit(2): who the process is, and who may look into it.

use std::io;

use super::check;

/// Makes the process somebody else, who is in no other group, and keeps the permitted capabilities;
/// the effective ones are gone. All threads follow: the C library sees to it.
pub(crate) fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: prctl takes these arguments by value.
    check(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0) })?;
    // SAFETY: no group is read from a list of none.
    check(unsafe { libc::setgroups(0, std::ptr::null()) })?;
    // SAFETY: setresgid takes its arguments by value.
    check(unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: setresuid takes its arguments by value.
    check(unsafe { libc::setresuid(uid, uid, uid) })?;
    // SAFETY: prctl takes these arguments by value.
    check(unsafe { libc::prctl(libc::PR_SET_KEEPCAPS, 0, 0, 0, 0) }).map(drop)
}

/// The effective user.
pub(crate) fn user() -> u32 {
    // SAFETY: geteuid takes no arguments and cannot fail.
    unsafe { libc::geteuid() }
}

/// Whether the process is root, in part or whole, or could be again.
pub(crate) fn is_root_in_part() -> io::Result<bool> {
    let (mut real, mut effective, mut saved) = (0, 0, 0);
    // SAFETY: the three are live and writable.
    check(unsafe { libc::getresuid(&raw mut real, &raw mut effective, &raw mut saved) })?;
    Ok([real, effective, saved].contains(&0))
}

/// Memory of this process never gets into a core file.
pub(crate) fn no_core_files() -> io::Result<()> {
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `none` is live for the call, which only reads it.
    check(unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) }).map(drop)
}

/// As much memory may be locked as there is.
pub(crate) fn no_lock_limit() -> io::Result<()> {
    let all = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `all` is live for the call, which only reads it.
    check(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const all) }).map(drop)
}

/// No process of the same user may trace this one or read its memory (ptrace(2), "not dumpable").
pub(crate) fn not_dumpable() -> io::Result<()> {
    // SAFETY: prctl takes these arguments by value.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) }).map(drop)
}
