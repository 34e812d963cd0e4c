//! seccomp(2): a program that judges each system call of this process.

use std::io;

use super::check;

/// One instruction of classic BPF.
pub(crate) type Instruction = libc::sock_filter;
const _: () = assert!(size_of::<Instruction>() == 8);

/// What the kernel calls the machine in `seccomp_data.arch`; `None` where nobody tried.
pub(crate) const MACHINE: Option<u32> = if cfg!(target_arch = "x86_64") {
    Some(0xc000_003e)
} else if cfg!(target_arch = "aarch64") {
    Some(0xc000_00b7)
} else {
    None
};

/// Offsets in `struct seccomp_data`.
pub(crate) const NUMBER: u32 = 0;
pub(crate) const ARCHITECTURE: u32 = 4;

/// The offset of the lower half of an argument; both machines are little-endian.
pub(crate) const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

/// Makes the program judge this thread, all others of the process, and what they start. The kernel's
/// log tells of a process that is ended; what is refused is not logged, since libraries try new calls as
/// a matter of course.
pub(crate) fn install(program: &[Instruction]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    let flags = libc::SECCOMP_FILTER_FLAG_TSYNC;
    // SAFETY: `program` and the instructions it points to are live for the call; the kernel copies
    // them and writes nothing.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    match check(libc::c_int::try_from(result).unwrap_or(-1))? {
        0 => Ok(()),
        // The id of a thread that has a filter of its own.
        thread => Err(io::Error::other(format!("thread {thread} has another filter"))),
    }
}

/// Makes a system call whose arguments are numbers, or pointers to nothing.
#[cfg(test)]
pub(crate) fn call(number: libc::c_long, arguments: [libc::c_long; 4]) -> io::Result<libc::c_long> {
    let [first, second, third, fourth] = arguments;
    // SAFETY: tests pass numbers and null: the kernel finds no memory to read or write there.
    let result = unsafe { libc::syscall(number, first, second, third, fourth) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
