//! capset(2) and prctl(2): what the process may still do.

use std::io;

use super::check;

/// `_LINUX_CAPABILITY_VERSION_3`: 64 capabilities in two structures.
const VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}
const _: () = assert!(size_of::<Header>() == 8);

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}
const _: () = assert!(size_of::<Data>() == 12);

/// The permitted capabilities of the calling thread, one bit each.
pub(crate) fn permitted() -> io::Result<u64> {
    let mut header = Header { version: VERSION, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 writes two data structures; both arguments are live and writable.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    check(result as libc::c_int)?;
    Ok(u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32)
}

/// Makes `mask` the effective and permitted capabilities of the calling thread; none are inherited.
pub(crate) fn set(mask: u64) -> io::Result<()> {
    let mut header = Header { version: VERSION, pid: 0 };
    let half = |bits: u64| Data { effective: bits as u32, permitted: bits as u32, inheritable: 0 };
    let data = [half(mask), half(mask >> 32)];
    // SAFETY: version 3 reads two data structures; both arguments are live.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) };
    check(result as libc::c_int).map(drop)
}

/// Takes a capability out of the bounding set: no program started from here can regain it.
pub(crate) fn drop_bounding(capability: u32) -> io::Result<()> {
    // SAFETY: prctl takes these arguments by value.
    let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) };
    check(result).map(drop)
}

/// Forgets the ambient capabilities.
pub(crate) fn clear_ambient() -> io::Result<()> {
    // SAFETY: prctl takes these arguments by value.
    let result = unsafe {
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0, 0, 0)
    };
    check(result).map(drop)
}

/// No program started from here gains privileges by its file.
pub(crate) fn no_new_privileges() -> io::Result<()> {
    // SAFETY: prctl takes these arguments by value.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }).map(drop)
}
