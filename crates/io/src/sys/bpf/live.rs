//! XDP programs that make frames: test runs whose frames go where the program sends them
//! (`BPF_F_TEST_XDP_LIVE_FRAMES`, Linux 5.18).

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;

use super::{PROG_LOAD, ProgLoad, bpf, object_name, owned, raw};
use crate::classifier::asm::Instruction;

const PROG_TEST_RUN: libc::c_long = 10;
const PROG_TYPE_XDP: u32 = 6;
const LIVE_FRAMES: u32 = 1 << 1;
/// Frames that the kernel hands over together; the most it takes is 256.
const BATCH: u32 = 64;

/// The part of `union bpf_attr` that test runs read.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}
const _: () = assert!(size_of::<TestRun>() == 80);

/// A loaded program that is only ever run like this.
#[derive(Debug)]
pub(crate) struct FrameMaker {
    fd: OwnedFd,
}

impl FrameMaker {
    /// Loads it.
    pub(crate) fn load(name: &str, code: &[Instruction]) -> io::Result<Self> {
        let license = CString::from(c"Apache-2.0");
        let mut log = vec![0u8; super::LOG_BYTES];
        let mut attributes = ProgLoad {
            prog_type: PROG_TYPE_XDP,
            insn_cnt: code.len() as u32,
            insns: code.as_ptr() as u64,
            license: license.as_ptr() as u64,
            log_level: 1,
            log_size: log.len() as u32,
            log_buf: log.as_mut_ptr() as u64,
            name: object_name(name),
            ..ProgLoad::default()
        };
        match bpf(PROG_LOAD, &mut attributes) {
            Ok(fd) => Ok(Self { fd: owned(fd) }),
            Err(error) => {
                let end = log.iter().position(|&byte| byte == 0).unwrap_or(0);
                let text = String::from_utf8_lossy(log.get(..end).unwrap_or_default()).into_owned();
                Err(io::Error::new(error.kind(), format!("{error}: {text}")))
            }
        }
    }

    /// Runs it on so many frames, each of which begins as a copy of `frame` or as what the program made
    /// of one before.
    pub(crate) fn run(&self, frame: &[u8], times: u32) -> io::Result<()> {
        let mut attributes = TestRun {
            prog_fd: raw(&self.fd),
            data_size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            repeat: times,
            flags: LIVE_FRAMES,
            batch_size: BATCH,
            ..TestRun::default()
        };
        bpf(PROG_TEST_RUN, &mut attributes).map(drop)
    }
}
