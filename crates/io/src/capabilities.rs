//! Giving up privileges after start: capabilities, and being root.

use std::io;

use crate::sys::{caps, process};

/// A capability that a running router needs (capabilities(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Capability {
    /// Netlink requests, tc links, TUN devices.
    NetAdmin = 12,
    /// Packet sockets.
    NetRaw = 13,
    /// Loading programs and changing maps.
    Bpf = 39,
}

/// Whom a process goes on as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The user's id.
    pub uid: u32,
    /// The id of the user's group.
    pub gid: u32,
}

impl Capability {
    /// What [`crate::Ports`] needs for as long as it runs: devices come back, addresses change.
    pub const FOR_PORTS: &[Self] = &[Self::NetAdmin, Self::NetRaw, Self::Bpf];
}

/// Lets this process lock any amount of memory, for AF_XDP sockets that are opened when it is not root any
/// more. Needs CAP_SYS_RESOURCE where there is a limit.
///
/// # Errors
/// Those of the kernel.
pub fn lift_lock_limit() -> io::Result<()> {
    process::no_lock_limit()
}

/// Gives up every capability but those in `keep`, for this thread and all that it starts later, and
/// forbids programs started from here to gain any. Call it before starting threads: others keep what
/// they have.
///
/// # Errors
/// Those of the kernel; some capabilities may be gone then.
pub fn drop_capabilities(keep: &[Capability]) -> io::Result<()> {
    give_up(keep, None)
}

/// Gives up what [`drop_capabilities`] does, and goes on as another user, who is in no other group. The
/// capabilities in `keep` are kept. The process must have one thread.
///
/// # Errors
/// Those of the kernel; whatever was given up is gone then, and the process must end.
pub fn become_user(keep: &[Capability], user: User) -> io::Result<()> {
    give_up(keep, Some(user))?;
    if process::is_root_in_part()? && user.uid != 0 {
        return Err(io::Error::other("the process is still root"));
    }
    Ok(())
}

/// Whether this process runs as root.
#[must_use]
pub fn is_root() -> bool {
    process::user() == 0
}

fn give_up(keep: &[Capability], user: Option<User>) -> io::Result<()> {
    let wanted = keep.iter().fold(0u64, |mask, &capability| mask | 1 << capability as u8);
    let permitted = caps::permitted()?;
    for capability in (0..64).filter(|bit| wanted & (1u64 << bit) == 0) {
        match caps::drop_bounding(capability) {
            // Beyond the last capability this kernel knows.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => break,
            // Without CAP_SETPCAP the set can't shrink; no_new_privs below closes the way back.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => break,
            result => result?,
        }
    }
    caps::clear_ambient()?;
    if let Some(User { uid, gid }) = user {
        process::become_user(uid, gid)?;
    }
    caps::set(permitted & wanted)?;
    caps::no_new_privileges()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_kept_remains() {
        if !crate::sys::is_root() {
            eprintln!("skipped: dropping capabilities needs some");
            return;
        }
        // A thread of its own: capabilities belong to threads.
        let left = std::thread::spawn(|| {
            drop_capabilities(&[Capability::NetRaw]).unwrap();
            std::fs::read_to_string("/proc/thread-self/status").unwrap()
        });
        let status = left.join().unwrap();
        let line =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
            assert_eq!(u64::from_str_radix(&line(set), 16).unwrap(), 1 << 13, "{set}");
        }
        assert_eq!(line("NoNewPrivs:"), "1");
    }
}
