//! A process of its own for each attempt: it confines itself, tries, and tells what came of it.

use std::fs::{File, OpenOptions};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

use super::*;

const PROGRAM: &str = "FAIRWAY_TEST_PROGRAM";
const ATTEMPT: &str = "FAIRWAY_TEST_ATTEMPT";
/// What the child ends with where confinement is not to be had.
const UNSUPPORTED: i32 = 77;

fn call(number: libc::c_long, arguments: [libc::c_long; 4]) -> io::Result<()> {
    seccomp::call(number, arguments).map(drop)
}

/// What is tried, by name.
fn attempt(name: &str) -> io::Result<()> {
    let inet = libc::c_long::from(libc::AF_INET);
    match name {
        "run a program" => Err(Command::new("/bin/true").exec()),
        "fork" => Command::new("/bin/true").status().map(drop),
        "trace another process" => call(libc::SYS_ptrace, [libc::c_long::from(libc::PTRACE_ATTACH), 1, 0, 0]),
        "read another process" => call(libc::SYS_process_vm_readv, [1, 0, 0, 0]),
        "mount" => call(libc::SYS_mount, [0; 4]),
        "load a module" => call(libc::SYS_finit_module, [-1, 0, 0, 0]),
        "become root" => call(libc::SYS_setresuid, [0, 0, 0, 0]),
        "gain capabilities" => call(libc::SYS_capset, [0; 4]),
        "enter a namespace" => call(libc::SYS_setns, [-1, 0, 0, 0]),
        "leave a namespace" => call(libc::SYS_unshare, [libc::c_long::from(libc::CLONE_NEWUSER), 0, 0, 0]),
        "queue calls in a ring" => call(libc::SYS_io_uring_setup, [1, 0, 0, 0]),
        "an internet socket" => UdpSocket::bind("127.0.0.1:0").map(drop),
        "an internet connection" => call(libc::SYS_socket, [inet, libc::SOCK_STREAM.into(), 0, 0]),
        "connect" => UnixStream::connect("/nowhere").map(drop),
        "make a file" => File::create("/tmp/fairway-confined").map(drop),
        "write to a file" => OpenOptions::new().write(true).open("/dev/null").map(drop),
        "append to a file" => OpenOptions::new().append(true).open("/dev/null").map(drop),
        "truncate a file" => OpenOptions::new().write(true).truncate(true).open("/dev/null").map(drop),
        "memory with instructions" => {
            let (prot, flags) = (libc::PROT_EXEC | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            call(libc::SYS_mmap, [0, 4096, prot.into(), flags.into()])
        }
        "push a byte into a terminal" => call(libc::SYS_ioctl, [0, 0x5412, 0, 0]),
        "make a door" => {
            let request = libc::c_long::try_from(crate::sys::tun::SET_FILTER).map_err(io::Error::other)?;
            call(libc::SYS_ioctl, [-1, request, 0, 0])
        }
        "signal another process" => call(libc::SYS_kill, [1, 0, 0, 0]),
        "be dumpable" => call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE.into(), 1, 0, 0]),
        "a call of another kernel" => call(4000, [0; 4]),
        "clone3" => call(libc::SYS_clone3, [0; 4]),
        "read a file" => File::open("/proc/self/status").map(drop),
        "a socket for packets" => {
            call(libc::SYS_socket, [libc::AF_NETLINK.into(), libc::SOCK_RAW.into(), 0, 0])
        }
        "a thread" => {
            std::thread::Builder::new()
                .name("other".into())
                .spawn(|| {})?
                .join()
                .map_err(|_| io::ErrorKind::Other)?;
            Ok(())
        }
        _ => unreachable!("{name}"),
    }
}

/// What the child does; nothing when it is not asked for.
#[test]
fn attempted() {
    let (Ok(program), Ok(name)) = (std::env::var(PROGRAM), std::env::var(ATTEMPT)) else { return };
    let program = if program == "router" { Program::Router } else { Program::Files };
    // A thread that was there before is confined as well.
    let (ask, asked) = std::sync::mpsc::channel::<String>();
    let other = std::thread::spawn(move || attempt(&asked.recv().unwrap()));
    match confine(program) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => std::process::exit(UNSUPPORTED),
        result => result.unwrap(),
    }
    ask.send(name).unwrap();
    let result = other.join().unwrap();
    std::process::exit(result.map_or_else(|error| error.raw_os_error().unwrap_or(127), |()| 0));
}

/// What became of an attempt; nothing where confinement is not to be had.
fn outcome(program: &str, name: &str) -> Option<ExitStatus> {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "confinement::tests::attempted", "--test-threads=1"]);
    let output = child.env(PROGRAM, program).env(ATTEMPT, name).output().unwrap();
    if output.status.code() == Some(UNSUPPORTED) {
        eprintln!("skipped: this kernel has no filters of system calls");
        return None;
    }
    Some(output.status)
}

#[track_caller]
fn assert_refused(program: &str, name: &str, error: i32) {
    let Some(status) = outcome(program, name) else { return };
    assert_eq!(status.code(), Some(error), "{program}: {name}: {status}");
}

#[test]
fn what_only_an_intruder_asks_for_ends_the_process() {
    for program in ["router", "files"] {
        for name in [
            "run a program",
            "trace another process",
            "read another process",
            "mount",
            "load a module",
            "become root",
            "gain capabilities",
            "enter a namespace",
            "leave a namespace",
            "queue calls in a ring",
        ] {
            let Some(status) = outcome(program, name) else { return };
            assert_eq!(status.signal(), Some(libc::SIGSYS), "{program}: {name}: {status}");
        }
    }
}

#[test]
fn what_a_router_does_not_do_is_refused() {
    for name in [
        "an internet socket",
        "an internet connection",
        "make a file",
        "write to a file",
        "append to a file",
        "truncate a file",
        "memory with instructions",
        "push a byte into a terminal",
        "be dumpable",
        "fork",
    ] {
        assert_refused("router", name, libc::EPERM);
    }
    for name in ["an internet socket", "truncate a file", "memory with instructions", "be dumpable"] {
        assert!(
            [libc::EPERM, libc::ENOSYS]
                .contains(&outcome("files", name).map_or(libc::EPERM, |s| s.code().unwrap()))
        );
    }
}

#[test]
fn what_nobody_listed_is_as_on_a_kernel_without_it() {
    for name in ["connect", "a call of another kernel", "clone3", "signal another process"] {
        assert_refused("router", name, libc::ENOSYS);
    }
}

#[test]
fn what_a_router_needs_works() {
    for name in ["read a file", "a socket for packets", "a thread"] {
        assert_refused("router", name, 0);
    }
    assert_refused("files", "append to a file", 0);
    // There is no such descriptor, but it was looked for.
    assert_refused("router", "make a door", libc::EBADF);
}

/// What the filter costs a call of a packet's way: `cargo test -p fairway-io cost_of_a_call -- --ignored`.
#[test]
#[ignore = "measures"]
#[expect(clippy::disallowed_methods, reason = "it measures")]
fn cost_of_a_call() {
    const CALLS: u32 = 1_000_000;
    let measure = || {
        let began = std::time::Instant::now();
        for _ in 0..CALLS {
            let _ = call(libc::SYS_recvmmsg, [-1, 0, 0, 0]);
        }
        began.elapsed().as_nanos() / u128::from(CALLS)
    };
    let free = [measure(), measure(), measure()];
    confine(Program::Router).unwrap();
    eprintln!("ns without the filter {free:?}, with it {:?}", [measure(), measure(), measure()]);
}
