//! Which system calls are allowed, and which end the process.

use libc::c_long;

use super::Program;
use crate::sys::tun::SET_FILTER;

/// What becomes of a system call.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    Allow(c_long),
    /// Only with this argument.
    AllowIf(c_long, u32, Test),
    /// It ends the process.
    Kill(c_long),
}

/// What the lower 32 bits of an argument must be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Test {
    Among(&'static [u32]),
    /// `argument & mask == value`.
    Masked {
        mask: u32,
        value: u32,
    },
    Is(u32),
}

/// Calls of every program: memory, threads, time, what is open already.
const COMMON: &[c_long] = &[
    libc::SYS_futex,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_getrandom,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_sigaltstack,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getcwd,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_readlinkat,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What a router asks beside.
const ROUTER: &[c_long] = &[
    libc::SYS_recvmmsg,
    libc::SYS_sendmmsg,
    libc::SYS_epoll_pwait2,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_ctl,
    libc::SYS_timerfd_settime,
    libc::SYS_ppoll,
    libc::SYS_eventfd2,
    libc::SYS_accept4,
    libc::SYS_accept,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_bind,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_bpf,
];

/// What is asked beside to open files for a router, and to remove its socket.
const FILES: &[c_long] = &[
    libc::SYS_unlinkat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
];

/// Calls with other names on x86-64 alone, which its C library still makes.
#[cfg(target_arch = "x86_64")]
const OLDER: &[c_long] = &[
    libc::SYS_poll,
    libc::SYS_epoll_wait,
    libc::SYS_readlink,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[c_long] = &[];

/// What only somebody asks who took the program over.
const FORBIDDEN: &[c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_capset,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_open_by_handle_at,
    libc::SYS_io_uring_setup,
    libc::SYS_personality,
];

/// Another thread of this process, in no namespace of its own.
const A_THREAD: Test = {
    let thread = libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
    let apart = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_PTRACE;
    Test::Masked { mask: (thread | apart) as u32, value: thread as u32 }
};
/// Memory that holds no instructions.
const NOT_EXECUTABLE: Test = Test::Masked { mask: libc::PROT_EXEC as u32, value: 0 };
/// A file that is there, to be read.
const TO_READ: Test =
    Test::Masked { mask: (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | UNNAMED) as u32, value: 0 };
/// The bit of O_TMPFILE that is its own.
const UNNAMED: libc::c_int = libc::O_TMPFILE & !libc::O_DIRECTORY;
/// A file that is there, or is made, for lines to be added to.
const TO_READ_OR_APPEND: Test = Test::Masked { mask: (libc::O_TRUNC | UNNAMED) as u32, value: 0 };

/// The rules of a program, the calls of a packet's way first: without the kernel's memory, order is time.
pub(super) fn rules(program: Program) -> Vec<Rule> {
    let allow = |calls: &[c_long]| calls.iter().copied().map(Rule::Allow).collect::<Vec<_>>();
    let mut rules = match program {
        Program::Router => allow(ROUTER),
        Program::Files => allow(FILES),
    };
    rules.extend(allow(COMMON));
    rules.extend(allow(OLDER));
    let open = if program == Program::Files { TO_READ_OR_APPEND } else { TO_READ };
    rules.extend([
        Rule::AllowIf(libc::SYS_mmap, 2, NOT_EXECUTABLE),
        Rule::AllowIf(libc::SYS_mprotect, 2, NOT_EXECUTABLE),
        Rule::AllowIf(libc::SYS_openat, 2, open),
        Rule::AllowIf(libc::SYS_clone, 0, A_THREAD),
        Rule::AllowIf(libc::SYS_prctl, 0, Test::Among(&[libc::PR_SET_NAME as u32, libc::PR_SET_VMA as u32])),
        Rule::AllowIf(
            libc::SYS_fcntl,
            1,
            Test::Among(&[
                libc::F_GETFD as u32,
                libc::F_SETFD as u32,
                libc::F_GETFL as u32,
                libc::F_SETFL as u32,
                libc::F_DUPFD_CLOEXEC as u32,
            ]),
        ),
        // abort(3), of this process.
        Rule::AllowIf(libc::SYS_tgkill, 0, Test::Is(std::process::id())),
    ]);
    if program == Program::Router {
        rules.extend([
            Rule::AllowIf(
                libc::SYS_socket,
                0,
                Test::Among(&[
                    libc::AF_NETLINK as u32,
                    libc::AF_PACKET as u32,
                    libc::AF_XDP as u32,
                    libc::AF_UNIX as u32,
                ]),
            ),
            Rule::AllowIf(
                libc::SYS_ioctl,
                1,
                Test::Among(&[
                    libc::FIONBIO as u32,
                    libc::SIOCGIFINDEX as u32,
                    libc::TUNSETIFF as u32,
                    libc::TUNSETOFFLOAD as u32,
                    SET_FILTER as u32,
                ]),
            ),
        ]);
    }
    rules.extend(FORBIDDEN.iter().copied().map(Rule::Kill));
    rules
}
