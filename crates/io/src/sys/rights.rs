//! Descriptors that are handed from one process to another over a Unix socket (unix(7), SCM_RIGHTS).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, RawFd};

use super::check_size;

/// Room for a control message with one descriptor, aligned as its header is.
#[repr(C, align(8))]
struct Control([u8; 32]);
const _: () = assert!(align_of::<libc::cmsghdr>() <= align_of::<Control>());

/// Sends a datagram and, if there is one, a descriptor with it.
///
/// # Errors
/// Those of sendmsg(2).
pub fn send_with_file(socket: BorrowedFd<'_>, bytes: &[u8], file: Option<&File>) -> io::Result<()> {
    let mut vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = Control([0; 32]);
    let mut message = message(&mut vector, &mut control);
    match file {
        None => (message.msg_control, message.msg_controllen) = (std::ptr::null_mut(), 0),
        Some(file) => {
            // SAFETY: both only compute with a number.
            let (space, length) = unsafe { (libc::CMSG_SPACE(SIZE), libc::CMSG_LEN(SIZE)) };
            message.msg_controllen = space as _;
            // SAFETY: `message` names a control buffer that is aligned for a header and has room for it
            // and one descriptor, so that both pointers are inside.
            unsafe {
                let header = libc::CMSG_FIRSTHDR(&raw const message);
                (*header).cmsg_level = libc::SOL_SOCKET;
                (*header).cmsg_type = libc::SCM_RIGHTS;
                (*header).cmsg_len = length as _;
                libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(file.as_raw_fd());
            }
        }
    }
    // SAFETY: the message points to buffers that live for the call; the kernel only reads them.
    check_size(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) }).map(drop)
}

/// Receives a datagram and the descriptor that came with it, if one did. Zero bytes are the end.
///
/// # Errors
/// Those of recvmsg(2); [`io::ErrorKind::InvalidData`] when there was more than fits.
pub fn receive_with_file(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<(usize, Option<File>)> {
    let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut control = Control([0; 32]);
    let mut message = message(&mut vector, &mut control);
    // SAFETY: it only computes with a number.
    message.msg_controllen = unsafe { libc::CMSG_SPACE(SIZE) } as _;
    let flags = libc::MSG_CMSG_CLOEXEC;
    // SAFETY: the message points to buffers that are borrowed exclusively for the call.
    let length = check_size(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) })?;
    // SAFETY: the kernel filled the control buffer up to its new length; the header, if there is one,
    // and a descriptor behind it are inside.
    let file = unsafe {
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let descriptor = !header.is_null()
            && (*header).cmsg_level == libc::SOL_SOCKET
            && (*header).cmsg_type == libc::SCM_RIGHTS
            && (*header).cmsg_len as usize == libc::CMSG_LEN(SIZE) as usize;
        // The kernel has just made this descriptor; nobody else owns it.
        descriptor.then(|| File::from_raw_fd(libc::CMSG_DATA(header).cast::<RawFd>().read_unaligned()))
    };
    if message.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok((length, file))
}

/// Bytes of one descriptor.
const SIZE: libc::c_uint = size_of::<RawFd>() as libc::c_uint;

fn message(vector: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    // SAFETY: msghdr is plain data; all zero means no name, no vectors and no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vector;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_file_arrives_with_the_bytes() {
        let (here, there) = UnixDatagram::pair().unwrap();
        // Every process may make one of these.
        let path = std::env::temp_dir().join(format!("fairway-rights-{}", std::process::id()));
        let mut file =
            File::options().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(b"inside").unwrap();
        file.rewind().unwrap();
        send_with_file(here.as_fd(), b"one", Some(&file)).unwrap();
        send_with_file(here.as_fd(), b"none", None).unwrap();
        drop(file);
        let mut bytes = [0; 8];
        let (length, received) = receive_with_file(there.as_fd(), &mut bytes).unwrap();
        let mut text = String::new();
        received.unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((&bytes[..length], text.as_str()), (b"one".as_slice(), "inside"));
        let (length, received) = receive_with_file(there.as_fd(), &mut bytes).unwrap();
        assert_eq!((&bytes[..length], received.is_none()), (b"none".as_slice(), true));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let (here, there) = UnixDatagram::pair().unwrap();
        send_with_file(here.as_fd(), b"too long", None).unwrap();
        assert!(receive_with_file(there.as_fd(), &mut [0; 4]).is_err());
    }
}
