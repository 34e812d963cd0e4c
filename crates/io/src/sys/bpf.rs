//! bpf(2): maps, programs, test runs and tcx.
//!
//! The attribute structures are the leading parts of `union bpf_attr` (include/uapi/linux/bpf.h) that
//! each command reads; the kernel takes what is missing as zero.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::classifier::asm::Instruction;

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP: libc::c_long = 1;
const MAP_UPDATE: libc::c_long = 2;
const MAP_DELETE: libc::c_long = 3;
const PROG_LOAD: libc::c_long = 5;
const PROG_TEST_RUN: libc::c_long = 10;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const PROG_QUERY: libc::c_long = 16;
const LINK_CREATE: libc::c_long = 28;

/// Frames of a test run go where the program sends them (`BPF_F_TEST_XDP_LIVE_FRAMES`).
const LIVE_FRAMES: u32 = 1 << 1;
/// Such frames that the kernel hands over together; the most it takes is 256.
const LIVE_BATCH: u32 = 64;

const MAP_TYPE_HASH: u32 = 1;
const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_PROG_ARRAY: u32 = 3;
const MAP_TYPE_PERCPU_ARRAY: u32 = 6;
const MAP_TYPE_XSKMAP: u32 = 17;
const MMAPABLE: u32 = 1 << 10;
const NO_PREALLOC: u32 = 1;
const TCX_INGRESS: u32 = 46;
const XDP: u32 = 37;
const REPLACE: u32 = 1 << 2;
const NO_EXIST: u64 = 1;
/// Programs looked at on one device.
const MOST_ATTACHED: usize = 64;
const LOG_BYTES: usize = 256 * 1024;

/// What a program is loaded for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProgramKind {
    /// `BPF_PROG_TYPE_SOCKET_FILTER`.
    SocketFilter,
    /// `BPF_PROG_TYPE_SCHED_CLS`.
    SchedCls,
    /// `BPF_PROG_TYPE_XDP`.
    Xdp,
}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
}
const _: () = assert!(size_of::<MapCreate>() == 44);

#[repr(C)]
#[derive(Default)]
struct MapElement {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}
const _: () = assert!(size_of::<MapElement>() == 32);

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    name: [u8; 16],
}
const _: () = assert!(size_of::<ProgLoad>() == 64);

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

#[repr(C)]
#[derive(Default)]
struct ProgAttach {
    target_ifindex: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
    relative: u32,
    expected_revision: u64,
}
const _: () = assert!(size_of::<ProgAttach>() == 32);

#[repr(C)]
#[derive(Default)]
struct ProgQuery {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    padding: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}
const _: () = assert!(size_of::<ProgQuery>() == 64);

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}
const _: () = assert!(size_of::<LinkCreate>() == 16);

#[repr(C)]
#[derive(Default)]
struct FdById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}
const _: () = assert!(size_of::<FdById>() == 12);

#[repr(C)]
#[derive(Default)]
struct InfoByFd {
    fd: u32,
    length: u32,
    info: u64,
}
const _: () = assert!(size_of::<InfoByFd>() == 16);

/// The leading part of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
struct ProgInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    jited_len: u32,
    xlated_len: u32,
    jited: u64,
    xlated: u64,
    load_time: u64,
    uid: u32,
    map_count: u32,
    map_ids: u64,
    name: [u8; 16],
}
const _: () = assert!(size_of::<ProgInfo>() == 80);

#[cfg(test)]
thread_local! {
    /// Whether the kernel is as if before Linux 6.6 to this thread: without tcx.
    pub(crate) static WITHOUT_TCX: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_int> {
    #[cfg(test)]
    if WITHOUT_TCX.get() && [PROG_QUERY, PROG_ATTACH, PROG_DETACH].contains(&command) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: `attributes` is one of the structures above, live and writable for the call, and its
    // size is passed; the addresses inside point to memory that the callers keep alive.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}

fn owned(fd: libc::c_int) -> OwnedFd {
    // SAFETY: only called with a descriptor that bpf(2) has just made; nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn raw(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd() as u32
}

fn object_name(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (to, from) in bytes.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    bytes
}

/// A map with keys of `K` and values of `V` bytes.
#[derive(Debug)]
pub(crate) struct Map<const K: usize, const V: usize> {
    fd: OwnedFd,
}

impl<const K: usize, const V: usize> Map<K, V> {
    /// A hash map.
    pub(crate) fn hash(name: &str, entries: u32) -> io::Result<Self> {
        Self::create(MAP_TYPE_HASH, name, entries, NO_PREALLOC)
    }

    /// An array with a value for each CPU; keys are four bytes.
    pub(crate) fn per_cpu_array(name: &str, entries: u32) -> io::Result<Self> {
        Self::create(MAP_TYPE_PERCPU_ARRAY, name, entries, 0)
    }

    /// An array that can be mapped into memory; keys are four bytes.
    pub(crate) fn shared_array(name: &str, entries: u32) -> io::Result<Self> {
        Self::create(MAP_TYPE_ARRAY, name, entries, MMAPABLE)
    }

    /// An array; keys are four bytes, and all values zero at first.
    pub(crate) fn array(name: &str, entries: u32) -> io::Result<Self> {
        Self::create(MAP_TYPE_ARRAY, name, entries, 0)
    }

    /// An array of AF_XDP sockets; keys and values are four bytes.
    pub(crate) fn xdp_sockets(name: &str, entries: u32) -> io::Result<Self> {
        Self::create(MAP_TYPE_XSKMAP, name, entries, 0)
    }

    /// An array of programs, to go on in; keys and values are four bytes. The kernel empties it when the last
    /// process that has its descriptor is gone.
    ///
    /// What a process leaves open, the kernel closes from the highest descriptor down, and sockets and devices take
    /// it their time. So this one is high: it is emptied before.
    pub(crate) fn programs(name: &str, entries: u32) -> io::Result<Self> {
        const HIGH: libc::c_int = 512;
        let map = Self::create(MAP_TYPE_PROG_ARRAY, name, entries, 0)?;
        // SAFETY: the descriptor is open for the length of the call, and no memory is passed.
        match super::check(unsafe { libc::fcntl(map.fd(), libc::F_DUPFD_CLOEXEC, HIGH) }) {
            Ok(high) => Ok(Self { fd: owned(high) }),
            // Where fewer descriptors are allowed, any will do.
            Err(_) => Ok(map),
        }
    }

    /// An array of devices, which frames can be redirected to like to sockets.
    #[cfg(test)]
    pub(crate) fn devices(name: &str, entries: u32) -> io::Result<Self> {
        const MAP_TYPE_DEVMAP: u32 = 14;
        Self::create(MAP_TYPE_DEVMAP, name, entries, 0)
    }

    fn create(map_type: u32, name: &str, max_entries: u32, map_flags: u32) -> io::Result<Self> {
        let mut attributes = MapCreate {
            map_type,
            key_size: K as u32,
            value_size: V as u32,
            max_entries,
            map_flags,
            name: object_name(name),
            ..MapCreate::default()
        };
        Ok(Self { fd: owned(bpf(MAP_CREATE, &mut attributes)?) })
    }

    fn element(&self, key: &[u8; K], value: *mut u8) -> MapElement {
        MapElement {
            map_fd: raw(&self.fd),
            key: key.as_ptr() as u64,
            value: value as u64,
            ..MapElement::default()
        }
    }

    /// Inserts or replaces.
    pub(crate) fn insert(&self, key: &[u8; K], value: &[u8; V]) -> io::Result<()> {
        bpf(MAP_UPDATE, &mut self.element(key, value.as_ptr().cast_mut())).map(drop)
    }

    /// Inserts what is absent; says whether it was.
    pub(crate) fn insert_absent(&self, key: &[u8; K], value: &[u8; V]) -> io::Result<bool> {
        let mut element = self.element(key, value.as_ptr().cast_mut());
        element.flags = NO_EXIST;
        match bpf(MAP_UPDATE, &mut element) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes; says whether it was there.
    pub(crate) fn remove(&self, key: &[u8; K]) -> io::Result<bool> {
        match bpf(MAP_DELETE, &mut self.element(key, std::ptr::null_mut())) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The sum over all CPUs of the 64-bit value at `index` of a per-CPU array.
    pub(crate) fn sum(&self, index: u32, cpus: usize) -> io::Result<u64> {
        let mut values = vec![0u64; cpus.max(1)];
        let mut key = [0; K];
        key.iter_mut().zip(index.to_ne_bytes()).for_each(|(to, from)| *to = from);
        bpf(MAP_LOOKUP, &mut self.element(&key, values.as_mut_ptr().cast()))?;
        Ok(values.iter().sum())
    }

    /// The descriptor, to be named in programs.
    pub(crate) fn fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

/// How many CPUs the kernel may ever use: per-CPU values have as many parts.
pub(crate) fn possible_cpus() -> usize {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
    let highest = text.trim().rsplit(['-', ',']).next().and_then(|last| last.parse::<usize>().ok());
    // Too much room is harmless, too little would let the kernel write past the buffer.
    highest.map_or(8192, |last| last + 1)
}

/// Where a program for XDP runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum XdpPlace {
    /// In the driver, before the kernel makes a packet of the frame.
    Driver,
    /// At the entrance of the network stack, for drivers that can't.
    Stack,
}

/// A program at work on a device; dropping this takes it off.
#[derive(Debug)]
pub(crate) struct XdpAttachment {
    _link: OwnedFd,
}

/// A loaded program.
#[derive(Debug)]
pub(crate) struct Program {
    fd: OwnedFd,
}

impl Program {
    /// Loads a program. When the verifier refuses it, its log comes with the error.
    pub(crate) fn load(
        kind: ProgramKind,
        name: &str,
        code: &[Instruction],
    ) -> Result<Self, (io::Error, String)> {
        let license = CString::from(c"Apache-2.0");
        let mut attributes = ProgLoad {
            prog_type: match kind {
                ProgramKind::SocketFilter => 1,
                ProgramKind::SchedCls => 3,
                ProgramKind::Xdp => 6,
            },
            insn_cnt: code.len() as u32,
            insns: code.as_ptr() as u64,
            license: license.as_ptr() as u64,
            name: object_name(name),
            ..ProgLoad::default()
        };
        // Without a log first: it is quicker, and a log is wanted only when something is wrong.
        let first = match bpf(PROG_LOAD, &mut attributes) {
            Ok(fd) => return Ok(Self { fd: owned(fd) }),
            Err(error) => error,
        };
        let mut log = vec![0u8; LOG_BYTES];
        attributes.log_level = 1;
        attributes.log_size = LOG_BYTES as u32;
        attributes.log_buf = log.as_mut_ptr() as u64;
        if let Ok(fd) = bpf(PROG_LOAD, &mut attributes) {
            return Ok(Self { fd: owned(fd) });
        }
        let end = log.iter().position(|&byte| byte == 0).unwrap_or(0);
        log.truncate(end);
        let text = String::from_utf8_lossy(&log).into_owned();
        Err((first, text))
    }

    /// Attaches to XDP of a device (Linux 5.9), in its driver or in front of the network stack. It goes
    /// with what this returns, and so with this process, however it ends.
    pub(crate) fn attach_xdp(&self, ifindex: u32, place: XdpPlace) -> io::Result<XdpAttachment> {
        let mut attributes = LinkCreate {
            prog_fd: raw(&self.fd),
            target_ifindex: ifindex,
            attach_type: XDP,
            flags: match place {
                XdpPlace::Stack => 1 << 1,
                XdpPlace::Driver => 1 << 2,
            },
        };
        bpf(LINK_CREATE, &mut attributes).map(|fd| XdpAttachment { _link: owned(fd) })
    }

    /// Attaches to the tcx ingress of a device (Linux 6.6), in the place of `old` if there is one: no
    /// packet passes between the two. It stays when this process ends.
    pub(crate) fn attach_tcx(&self, ifindex: u32, old: Option<&Program>) -> io::Result<()> {
        let mut attributes = ProgAttach {
            target_ifindex: ifindex,
            attach_bpf_fd: raw(&self.fd),
            attach_type: TCX_INGRESS,
            attach_flags: if old.is_some() { REPLACE } else { 0 },
            replace_bpf_fd: old.map_or(0, |old| raw(&old.fd)),
            ..ProgAttach::default()
        };
        bpf(PROG_ATTACH, &mut attributes).map(drop)
    }

    /// Takes this program off the tcx ingress of a device.
    pub(crate) fn detach_tcx(&self, ifindex: u32) -> io::Result<()> {
        let mut attributes = ProgAttach {
            target_ifindex: ifindex,
            attach_bpf_fd: raw(&self.fd),
            attach_type: TCX_INGRESS,
            ..ProgAttach::default()
        };
        bpf(PROG_DETACH, &mut attributes).map(drop)
    }

    /// The programs of this name at the tcx ingress of a device.
    pub(crate) fn attached(ifindex: u32, name: &str) -> io::Result<Vec<Self>> {
        let mut ids = [0u32; MOST_ATTACHED];
        let mut query = ProgQuery {
            target_ifindex: ifindex,
            attach_type: TCX_INGRESS,
            prog_ids: ids.as_mut_ptr() as u64,
            count: MOST_ATTACHED as u32,
            ..ProgQuery::default()
        };
        bpf(PROG_QUERY, &mut query)?;
        let wanted = object_name(name);
        let mut found = Vec::new();
        for &id in ids.iter().take(query.count as usize) {
            let mut by_id = FdById { id, ..FdById::default() };
            let program = Self { fd: owned(bpf(PROG_GET_FD_BY_ID, &mut by_id)?) };
            if program.name()? == wanted {
                found.push(program);
            }
        }
        Ok(found)
    }

    fn name(&self) -> io::Result<[u8; 16]> {
        let mut info = ProgInfo::default();
        let mut attributes = InfoByFd {
            fd: raw(&self.fd),
            length: size_of::<ProgInfo>() as u32,
            info: std::ptr::from_mut(&mut info) as u64,
        };
        bpf(OBJ_GET_INFO_BY_FD, &mut attributes)?;
        Ok(info.name)
    }

    /// Another descriptor of the same program.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { fd: self.fd.try_clone()? })
    }

    /// The descriptor.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Runs the program once on `frame`, with so much of the context (`struct __sk_buff`) given, or none. Returns
    /// what it returned, and frame and context as it left them.
    #[cfg(test)]
    pub(crate) fn run_whole(&self, frame: &[u8], context: &[u8]) -> io::Result<(u32, Vec<u8>, Vec<u8>)> {
        let (mut out, mut context_out) = (vec![0u8; frame.len() + 64], context.to_vec());
        let mut attributes = TestRun {
            prog_fd: raw(&self.fd),
            data_size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            data_size_out: out.len() as u32,
            data_out: out.as_mut_ptr() as u64,
            ctx_in: if context.is_empty() { 0 } else { context.as_ptr() as u64 },
            ctx_size_in: context.len() as u32,
            ctx_out: if context.is_empty() { 0 } else { context_out.as_mut_ptr() as u64 },
            ctx_size_out: context_out.len() as u32,
            repeat: 1,
            ..TestRun::default()
        };
        bpf(PROG_TEST_RUN, &mut attributes)?;
        out.truncate(attributes.data_size_out as usize);
        Ok((attributes.retval, out, context_out))
    }

    /// Runs the program once on `frame` and returns what it returned.
    #[cfg(test)]
    pub(crate) fn run(&self, frame: &[u8]) -> io::Result<u32> {
        Ok(self.repeat(frame, 1)?.0)
    }

    /// Runs the program for XDP on so many frames, each of which begins as a copy of `frame` or as what the
    /// program made of one before; frames that it redirects go out (Linux 5.18).
    pub(crate) fn send(&self, frame: &[u8], times: u32) -> io::Result<()> {
        let mut attributes = TestRun {
            prog_fd: raw(&self.fd),
            data_size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            repeat: times,
            flags: LIVE_FRAMES,
            batch_size: LIVE_BATCH,
            ..TestRun::default()
        };
        bpf(PROG_TEST_RUN, &mut attributes).map(drop)
    }

    /// Runs the program again and again on `frame`, and returns what it returned and how long it took
    /// each time, in nanoseconds.
    #[cfg(test)]
    pub(crate) fn repeat(&self, frame: &[u8], times: u32) -> io::Result<(u32, u32)> {
        let mut attributes = TestRun {
            prog_fd: raw(&self.fd),
            data_size_in: frame.len() as u32,
            data_in: frame.as_ptr() as u64,
            repeat: times,
            ..TestRun::default()
        };
        bpf(PROG_TEST_RUN, &mut attributes)?;
        Ok((attributes.retval, attributes.duration))
    }
}
