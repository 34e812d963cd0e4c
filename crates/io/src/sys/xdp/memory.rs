//! Memory that is shared with the kernel: mappings, and the frames of an AF_XDP socket.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;

/// Mapped memory, which goes when the last of those who use it does.
#[derive(Clone, Debug)]
pub(super) struct Mapping(Arc<Mapped>);

#[derive(Debug)]
struct Mapped {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory is owned by this value and stays where it is; what lies in it is accessed by those
// who hold the parts of it, each under its own rule.
unsafe impl Send for Mapped {}
// SAFETY: as above; the value itself never changes.
unsafe impl Sync for Mapped {}

impl Mapping {
    /// New memory, all zero.
    pub(super) fn anonymous(length: usize) -> io::Result<Self> {
        Self::map(length, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE, -1, 0)
    }

    /// A part of what stands behind a descriptor.
    pub(super) fn of(fd: BorrowedFd<'_>, offset: libc::off_t, length: usize) -> io::Result<Self> {
        Self::map(length, libc::MAP_SHARED | libc::MAP_POPULATE, fd.as_raw_fd(), offset)
    }

    fn map(length: usize, flags: libc::c_int, fd: libc::c_int, offset: libc::off_t) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: no address is asked for, so nothing that is mapped already is touched.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), length, access, flags, fd, offset) };
        match NonNull::new(start.cast::<u8>()).filter(|_| start != libc::MAP_FAILED) {
            Some(start) => Ok(Self(Arc::new(Mapped { start, length }))),
            None => Err(io::Error::last_os_error()),
        }
    }

    pub(super) fn start(&self) -> NonNull<u8> {
        self.0.start
    }

    pub(super) fn length(&self) -> usize {
        self.0.length
    }

    /// The same memory once more, for the other end of a ring.
    #[cfg(test)]
    pub(super) fn same_memory(&self) -> Self {
        self.clone()
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that was made, and nobody has a part of it any more. Nothing can be
        // done about an error.
        let _ = unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// One frame of a [`Umem`], and the right to read and write it. There is one for each frame, and it is
/// given away when the kernel has the frame.
#[derive(Debug)]
pub(crate) struct Frame {
    /// Its number.
    number: u32,
    /// Where its data begins, from the start of the frame, and how long it is.
    offset: u32,
    length: u32,
}

/// The memory of packets: frames of one size.
#[derive(Debug)]
pub(crate) struct Umem {
    memory: Mapping,
    frame_bytes: u32,
}

impl Umem {
    /// Memory for `count` frames of `frame_bytes` bytes, a power of two, and the right to each of them.
    pub(super) fn new(count: u32, frame_bytes: u32) -> io::Result<(Self, Vec<Frame>)> {
        let length = (count as usize).checked_mul(frame_bytes as usize).ok_or(io::ErrorKind::OutOfMemory)?;
        let memory = Mapping::anonymous(length)?;
        let frames = (0..count).map(|number| Frame { number, offset: 0, length: 0 }).collect();
        Ok((Self { memory, frame_bytes }, frames))
    }

    pub(super) fn registration(&self) -> libc::xdp_umem_reg {
        libc::xdp_umem_reg {
            addr: self.memory.start().as_ptr() as u64,
            len: self.memory.length() as u64,
            chunk_size: self.frame_bytes,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        }
    }

    /// The address that the kernel knows a frame by.
    pub(super) fn address(&self, frame: &Frame) -> u64 {
        u64::from(frame.number) * u64::from(self.frame_bytes)
    }

    pub(super) fn descriptor(&self, frame: &Frame) -> libc::xdp_desc {
        let addr = self.address(frame) + u64::from(frame.offset);
        libc::xdp_desc { addr, len: frame.length, options: 0 }
    }

    /// The frame that the kernel gives back. Each that was given to it comes back once; the kernel keeps
    /// that rule, and `None` is what it would have to break others for.
    pub(super) fn returned(&self, address: u64, length: u32) -> Option<Frame> {
        let size = u64::from(self.frame_bytes);
        let frames = self.memory.length() as u64 / size;
        let (number, offset) = (address / size, (address % size) as u32);
        let fits = number < frames && u64::from(offset) + u64::from(length) <= size;
        fits.then_some(Frame { number: number as u32, offset, length })
    }

    /// What the kernel wrote into a frame.
    pub(crate) fn bytes(&self, frame: &Frame) -> &[u8] {
        let at = frame.number as usize * self.frame_bytes as usize + frame.offset as usize;
        // SAFETY: frames are made by `new` and `returned`, inside the memory, and only for this umem. The
        // one who holds the frame has it alone, and writing it takes the frame exclusively.
        unsafe { std::slice::from_raw_parts(self.memory.start().add(at).as_ptr(), frame.length as usize) }
    }

    /// Gives a frame `length` bytes of data from its start on, to be written; `None` when it is longer.
    pub(crate) fn fill<'a>(&'a self, frame: &'a mut Frame, length: usize) -> Option<&'a mut [u8]> {
        (frame.offset, frame.length) = (0, u32::try_from(length).ok().filter(|&l| l <= self.frame_bytes)?);
        let at = frame.number as usize * self.frame_bytes as usize;
        // SAFETY: as for `bytes`; the frame is borrowed exclusively for as long as the slice lives.
        Some(unsafe { std::slice::from_raw_parts_mut(self.memory.start().add(at).as_ptr(), length) })
    }
}
